"""Kinds of dropout, by the names that recipes use; drawn from torch's global generator, in training alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class LockedDropout(nn.Module):
    """Zeroes a channel in all frames of an utterance, and scales up the others.

    One mask for the whole of a sequence is Gal and Ghahramani's variational dropout (2016); for convolutions it is
    Tompson et al.'s spatial dropout (2015).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, time[, bins]) to the same."""
        return torch.feature_dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """What `print` shows in brackets."""
        return f"p={self.p}"


DROPOUTS: dict[str, Callable[[float], nn.Module]] = {
    "ordinary": nn.Dropout,  # each value by itself: Srivastava et al. 2014
    "locked": LockedDropout,
    "alpha": nn.AlphaDropout,  # keeps SELU's zero mean and unit variance: Klambauer et al. 2017
}
