"""Learning-rate schedules, and batches that grow in place of a falling rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FINAL_FACTOR = 0.01
"""What is left of the learning rate at the end of a falling schedule."""
CYCLE_START, CYCLE_RISE = 0.04, 0.3
"""Of one_cycle: its first factor, and the share in which it rises to 1 (torch's and fastai's choice)."""


@dataclass(frozen=True)
class ScheduleShape:
    """What there is to choose in schedules.

    Attributes:
        final_factor: of the schedules that fall all the time, and the least that a plateau leads to.
        step_at: shares of the training after which the schedule step falls, in rising order.
        step_factor: by which step falls each time, and plateau.
        plateau_patience: a plateau begins when so many epochs and one more were no better than the best.
        batch_growth: batches grow up to so many times before the learning rate falls; 1 for not at all.
    """

    final_factor: float = FINAL_FACTOR
    step_at: tuple[float, ...] = (0.5, 0.75)
    step_factor: float = 0.1
    plateau_patience: int = 2
    batch_growth: float = 1.0


def learning_rate_factor(progress: float, warmup: float, kind: str, shape: ScheduleShape | None = None) -> float:
    """What the learning rate is multiplied by.

    Rises linearly from 0 during the warm-up, then goes as the schedule's curve, from its start to its end.

    Args:
        progress: share of the training that is done, in [0, 1].
        warmup: share of it in which the rate rises.
        kind: one of `SCHEDULES`; plateau without its plateaus.
        shape: of the curve.

    Raises:
        KeyError: there is no such schedule.
    """
    shape = shape or ScheduleShape()
    curve = CURVES[kind]
    if progress < warmup:
        return progress / warmup * curve(0.0, shape.final_factor)
    if kind == "step":
        return math.pow(shape.step_factor, sum(progress >= place for place in shape.step_at))
    return curve((progress - warmup) / (1 - warmup) if warmup < 1 else 1.0, shape.final_factor)


def _constant(share: float, final: float) -> float:
    return 1.0


def _linear(share: float, final: float) -> float:
    return final + (1 - final) * (1 - share)


def _cosine(share: float, final: float) -> float:
    return final + (1 - final) * ((1 + math.cos(math.pi * share)) / 2)


def _exponential(share: float, final: float) -> float:
    return math.pow(final, share)


def _inverse_time(share: float, final: float) -> float:
    return 1 / (1 + (1 / final - 1) * share)


def _one_cycle(share: float, final: float) -> float:
    if share >= CYCLE_RISE:
        return _cosine((share - CYCLE_RISE) / (1 - CYCLE_RISE), final)
    return _cosine(1 - share / CYCLE_RISE, CYCLE_START)


CURVES: dict[str, Callable[[float, float], float]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "inverse_time": _inverse_time,
    "exponential": _exponential,
    "one_cycle": _one_cycle,
    "step": _constant,
    "plateau": _constant,
}
"""From the share of the time after the warm-up and the final factor to the factor, before steps and plateaus:
Loshchilov and Hutter 2017 (cosine), Robbins and Monro 1951 (inverse_time), Smith and Topin 2018 (one_cycle; its
momentum does not cycle)."""
SCHEDULES = tuple(CURVES)


class Schedule:
    """The learning rate of a training, and the size of its batches.

    Args:
        kind: one of `SCHEDULES`.
        warmup: share of the training in which the learning rate rises from zero.
        shape: of the schedule.

    Raises:
        ValueError: there is no such schedule.
    """

    def __init__(self, kind: str, warmup: float, shape: ScheduleShape | None = None) -> None:
        if kind not in SCHEDULES:
            raise ValueError(f"{kind!r} is no schedule: {', '.join(SCHEDULES)}")
        self.kind, self.warmup, self.shape = kind, warmup, shape or ScheduleShape()
        self.growth = 1.0
        self.plateau = _Plateau()

    def most_growth(self, epochs: int) -> float:
        """How many times larger batches may become in a training of so many epochs."""
        if self.kind != "plateau":
            return max(self.growth_at(epoch / epochs) for epoch in range(epochs))
        shape = self.shape
        falls = max(epochs - 2, 0) // (shape.plateau_patience + 1)  # the first epoch is the best so far
        return 1 / max(math.pow(shape.step_factor, falls), shape.final_factor, 1 / shape.batch_growth)

    def begin_epoch(self, progress: float) -> float:
        """Decide `growth_at` for an epoch, and keep to it until the next one begins."""
        self.growth = self.growth_at(progress)
        return self.growth

    def growth_at(self, progress: float) -> float:
        """How many times larger the batches of an epoch are than those of the first, as it looks now.

        Smith et al. 2018, "Don't decay the learning rate, increase the batch size": where the rate would fall to
        a half, batches become twice as large, up to `ScheduleShape.batch_growth`; the rate falls by what is left.

        Args:
            progress: share of the training that is done when the epoch begins.
        """
        rising = self.warmup + (CYCLE_RISE * (1 - self.warmup) if self.kind == "one_cycle" else 0.0)
        most = self.shape.batch_growth
        return 1.0 if progress < rising else 1 / max(self._undivided(progress), 1 / most)

    def factor(self, progress: float) -> float:
        """What the learning rate is multiplied by, in the epoch that was begun last."""
        return self._undivided(progress) * self.growth

    def end_epoch(self, rank: tuple[float, ...]) -> float:
        """Take note of how well the dev set did; smaller is better.

        Returns:
            What the learning rate is multiplied by from here on, unless batches grow instead: less than 1 at the
            end of a plateau.
        """
        before = self.plateau.factor
        if self.kind == "plateau":
            self.plateau.note(rank, self.shape)
        return self.plateau.factor / before

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on from here."""
        return vars(self.plateau).copy()

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.plateau = _Plateau(**state)

    def _undivided(self, progress: float) -> float:
        """The factor if batches did not grow."""
        return learning_rate_factor(progress, self.warmup, self.kind, self.shape) * self.plateau.factor


@dataclass
class _Plateau:
    """Where a training stands that waits for plateaus; as torch's `ReduceLROnPlateau` with a threshold of 0."""

    best: tuple[float, ...] = (math.inf,)
    waited: int = 0
    factor: float = 1.0

    def note(self, rank: tuple[float, ...], shape: ScheduleShape) -> None:
        if rank < self.best:
            self.best, self.waited = rank, 0
        else:
            self.waited += 1
        if self.waited > shape.plateau_patience:
            self.factor, self.waited = max(self.factor * shape.step_factor, shape.final_factor), 0
