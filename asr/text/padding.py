"""Sentences of different lengths in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

STEP = 8
"""Units. Batches are padded to a multiple of it, so that the same few shapes come again and again: the CPU's
recurrent kernels are compiled for each new one."""

NOTHING = -1
"""The target where there is none."""


def fill_batches(lengths: Sequence[float], budget: int) -> list[list[int]]:
    """Put sentences of similar length together.

    Args:
        lengths: of the sentences.
        budget: most units in a batch, padding included; a longer sentence has a batch of its own.

    Returns:
        The places of each batch's sentences, shortest first.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches: list[list[int]] = []
    # From the longest down: the longest decides how many fit.
    while order:
        size = max(budget // padded(lengths[order[-1]]), 1)
        batches.append(order[-size:])
        del order[-size:]
    return batches[::-1]


def consecutive_batches(lengths: Sequence[int], most: int, budget: int) -> Iterator[slice]:
    """Put sentences that stand together together, in their order.

    Args:
        lengths: of the sentences.
        most: sentences in a batch.
        budget: most units in a batch, padding included; a longer sentence has a batch of its own.

    Yields:
        The places of each batch's sentences.
    """
    begin = longest = 0
    for end, length in enumerate(lengths):
        longest = max(longest, length)
        rows = end + 1 - begin
        if rows > most or (rows > 1 and rows * longest > budget):
            yield slice(begin, end)
            begin, longest = end, length
    if lengths:
        yield slice(begin, len(lengths))


def padded(length: float) -> int:
    """A length with its padding."""
    return -int(-length // STEP) * STEP


def pad(sentences: Sequence[ArrayLike]) -> tuple[Tensor, Tensor]:
    """Units to read and units to predict, from those of sentences with what stands before and after them.

    Returns:
        inputs: (batch, time), 0 where nothing is to be read.
        targets: (batch, time), each the unit after that in `inputs`; `NOTHING` where nothing is to be predicted.
    """
    rows = [torch.as_tensor(np.asarray(sentence)) for sentence in sentences]
    time = padded(max(map(len, rows)) - 1)
    inputs = torch.zeros(len(rows), time, dtype=torch.long)
    targets = torch.full_like(inputs, NOTHING)
    for row, numbers in enumerate(rows):
        inputs[row, : len(numbers) - 1] = numbers[:-1]
        targets[row, : len(numbers) - 1] = numbers[1:]
    return inputs, targets
