"""Kinds of dropout, by the names that recipes use; drawn from torch's global generator, in training alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero each value with probability `p`, rounded to a multiple of 2⁻¹⁶ on CPU, and scale up the others.

    `torch.nn.functional.dropout` draws a double for each value there and takes four times as long; 16 bits will do.
    """
    threshold = round(p * 2**16)
    if x.device.type != "cpu" or not 0 < threshold < 2**16:
        return F.dropout(x, p)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    # Laid out in memory as x is, for then the product is faster.
    bits = words.view(torch.int16).as_strided(x.shape, torch.empty_like(x, device="meta").stride())
    kept = (bits >= threshold - 2**15).to(x.dtype)
    return x * kept.mul_(1 / (1 - threshold / 2**16))


class Dropout(nn.Dropout):
    """Each value by itself: Srivastava et al. 2014."""

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor to one of its shape."""
        return dropout(x, self.p) if self.training else x


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
    "ordinary": Dropout,
    "locked": LockedDropout,
    "alpha": nn.AlphaDropout,  # keeps SELU's zero mean and unit variance: Klambauer et al. 2017
}
