"""Does the longest batch fit into memory: tried once, before hours are spent on shorter ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch

from asr.data.batching import Sample
from asr.errors import DataError
from asr.reporting import Reporter

LOWERED = 2 / 3
"""What is left of a budget that was too large."""

_OUT_OF_MEMORY = re.compile("out of memory|can't allocate|not enough memory|alloc_failed", re.IGNORECASE)


def fitting_budget(
    budget: float,
    longest: Callable[[float], Sequence[Sample]],
    attempt: Callable[[Sequence[Sample]], None],
    reporter: Reporter,
    everywhere: Callable[[bool], bool] = bool,
) -> float:
    """The largest of a few budgets, the wanted one first, with which the longest batch fits into memory.

    Args:
        budget: wanted seconds of audio in a batch.
        longest: the batch that needs most memory, with a budget.
        attempt: forward and backward pass of a batch.
        reporter: told when the budget is lowered.
        everywhere: whether it fits in all processes, given whether it fits in this one.

    Raises:
        DataError: a single utterance does not fit.
    """
    samples = longest(budget)
    while not everywhere(_fits(attempt, samples)):
        if len(samples) == 1:
            raise DataError(
                f"these {samples[0].duration:.0f} seconds alone do not fit into memory",
                where=samples[0].name,
                hint="cut the recording into pieces, or leave it out; a smaller model",
            )
        lowered, seconds = budget * LOWERED, max(sample.duration for sample in samples)
        reporter.warn(
            f"out of memory with training.batch_seconds={budget:.4g}, in a batch of {len(samples)} utterances of "
            f"up to {seconds:.1f} s; going on with {lowered:.4g}"
        )
        budget, samples = lowered, longest(lowered)
    return budget


def _fits(attempt: Callable[[Sequence[Sample]], None], samples: Sequence[Sample]) -> bool:
    try:
        attempt(samples)
    except (RuntimeError, MemoryError) as error:
        if not is_lack_of_memory(error):
            raise
    else:
        return True
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # only now: the error held on to the tensors
    return False


def is_lack_of_memory(error: Exception) -> bool:
    """Whether there was too little memory, for which torch has several kinds of RuntimeError."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def padded_seconds(samples: Sequence[Sample]) -> float:
    """Seconds of a batch, padding included: what memory goes by."""
    return len(samples) * max(sample.duration for sample in samples)
