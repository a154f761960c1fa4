"""A moving average of a model's weights while it is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage:
    """Exponential moving average of parameters (Polyak and Juditsky 1992; Tarvainen and Valpola 2017).

    Without the weights that training began with: the t-th of n sets of weights counts as decay^(n - t), and the
    counts sum to 1, as the bias correction of Adam has it.

    Args:
        parameters: which training changes in place.
        decay: what the average keeps of itself with each set of weights, below 1.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.decay = decay
        self.count = 0
        self.means = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def add(self) -> None:
        """Take the present weights into the average."""
        self.count += 1
        share = (1 - self.decay) / (1 - self.decay**self.count)
        torch._foreach_lerp_(self.means, self.parameters, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it, the parameters are the average; after it, they are exactly what they were."""
        before = [parameter.detach().clone() for parameter in self.parameters]
        self._set(self.means)
        try:
            yield
        finally:
            self._set(before)

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on exactly here."""
        return {"count": self.count, "means": self.means}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.count = state["count"]
        for mean, saved in zip(self.means, state["means"], strict=True):
            mean.copy_(saved)

    @torch.no_grad()
    def _set(self, values: Iterable[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
