"""The learning-rate range test: what becomes of the loss while the rate grows from too small to too large."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice
from typing import Any, NamedTuple

import torch

from asr.reporting import Advance
from asr.training import loop
from asr.training.task import Task

LAG = 1 / 15
"""The share of the steps by which the moving average of the loss lags, and before which it is one of too few."""
DIVERGED = 4.0
"""The test ends when the smoothed loss is so many times its least, as in fastai."""
SAFETY = 10.0
"""How far the proposed rate is below that of the least loss."""
FALL = 0.9
"""The smoothed loss fell if it came below so much of where it began; likewise, it rose."""


class Point(NamedTuple):
    """A step: the learning rate, the loss before it, and that loss smoothed."""

    rate: float
    loss: float
    smoothed: float


@dataclass(frozen=True)
class RangeTest:
    """What a range test found.

    Attributes:
        points: of its steps, the rates in rising order.
        diverged: whether the loss rose again before the end.
        lag: steps by which the smoothed loss lags behind the loss.
    """

    points: tuple[Point, ...]
    diverged: bool
    lag: int

    @property
    def lowest(self) -> Point:
        """That of the least smoothed loss."""
        return min(self._settled, key=lambda point: point.smoothed)

    @property
    def learnt(self) -> bool:
        """Whether the loss fell at all, without which there is nothing to propose."""
        return self.lowest.smoothed < FALL * self._settled[0].smoothed

    @property
    def proposed(self) -> float | None:
        """A tenth of the rate at the least loss, to two digits (Gugger 2018, and fastai's rule).

        None where the loss did not fall, or had not risen again at the highest rate: its least tells nothing then.
        """
        return float(f"{self.lowest.rate / SAFETY:.1e}") if self.learnt and self.diverged else None

    @property
    def _settled(self) -> tuple[Point, ...]:
        return self.points[min(self.lag, len(self.points) // 4) :]


def range_test(
    task: Task[Any, Any],
    settings: loop.Settings,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 300,
    advance: Advance = lambda done, note="": None,
) -> RangeTest:
    """Train a little while the learning rate grows by the same factor in each step (Smith 2017).

    The optimiser and all else are as in a training, but for schedule and warm-up, which there are none of.

    Args:
        task: its model's weights are changed in place, and are of no use afterwards.
        settings: of the training that a learning rate is wanted for.
        lowest, highest: the rates to begin and to end with.
        steps: as many as there are rates to try, if the loss does not diverge before the last.
        advance: called after each step.
    """
    torch.set_num_threads(settings.threads or loop.CORES)
    optimization = loop.optimization(task.model, replace(settings, learning_rate=1.0))
    points: list[Point] = []
    mean, least, lag = 0.0, math.inf, max(round(LAG * steps), 1)
    keep = 1 - 1 / lag  # what the moving average keeps of itself
    optimization.prepare_model()
    for step, batch in enumerate(islice(_batches(task), steps)):
        rate = lowest * (highest / lowest) ** (step / max(steps - 1, 1))
        loss, _ = optimization.learn(partial(task.loss, batch, optimization.autocast), rate)
        value = loss.mean.item()
        mean = keep * mean + (1 - keep) * value
        smoothed = mean / (1 - keep ** (step + 1))
        if points and not smoothed <= DIVERGED * least:  # it may not be a number
            return RangeTest(tuple(points), diverged=True, lag=lag)
        least = min(least, smoothed)
        points.append(Point(rate, value, smoothed))
        advance(step + 1, f"rate {rate:.1e}, loss {smoothed:.3f}")
    return RangeTest(tuple(points), diverged=least < FALL * smoothed, lag=lag)


def _batches(task: Task[Any, Any]) -> Iterator[Any]:
    """Those of one epoch after the other."""
    for number in count(1):
        yield from task.epoch(number, 0).batches
