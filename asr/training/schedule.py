"""Learning-rate schedules."""

from __future__ import annotations

import math

FINAL_FACTOR = 0.01
"""What is left of the learning rate at the end of a falling schedule."""


def learning_rate_factor(progress: float, warmup: float, kind: str) -> float:
    """What the learning rate is multiplied by.

    Rises linearly to 1 during the warm-up, then falls to `FINAL_FACTOR` (cosine: Loshchilov and Hutter 2017).

    Args:
        progress: share of the training that is done, in [0, 1].
        warmup: share of it in which the rate rises.
        kind: cosine, linear or constant.
    """
    if progress < warmup:
        return progress / warmup
    if kind == "constant":
        return 1.0
    fall = (progress - warmup) / (1 - warmup) if warmup < 1 else 1.0
    remaining = (1 + math.cos(math.pi * fall)) / 2 if kind == "cosine" else 1 - fall
    return FINAL_FACTOR + (1 - FINAL_FACTOR) * remaining
