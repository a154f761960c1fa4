"""Does the longest batch fit into memory: tried once, before hours are spent on shorter ones."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from asr.data.batching import Sample
from asr.errors import DataError, ExhaustedError
from asr.files import read_json, write_json
from asr.reporting import Reporter
from asr.training import headroom
from asr.training.distributed import ALONE, World
from asr.training.optimization import OptimizationMethods, autocast_to, resolve_precision
from asr.training.optimizers import STATES

LOWERED = 2 / 3
"""What is left of a budget that was too large."""

_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate|not enough memory|alloc\w*_failed"
    r"|unable to find (an engine|a valid cudnn algorithm)"  # which a convolution's workspace would fit
    r"|could not (create|execute) a primitive",  # all that oneDNN says of it
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Budget:
    """How much audio a batch may have: what the recipe says, unless a training has found that it is too much.

    Attributes:
        key: of the recipe.
        wanted: seconds, padding included.
        folder: of the training, which remembers what was found.
    """

    key: str
    wanted: float
    folder: Path

    @property
    def record(self) -> Path:
        """The file in which a lowered budget is kept."""
        return self.folder / "batch_seconds.json"

    def fitting(
        self,
        longest: Callable[[float], Sequence[Sample]],
        attempt: Callable[[Sequence[Sample]], None],
        reporter: Reporter,
        world: World = ALONE,
    ) -> float:
        """The budget with which the longest batch fits: see `fitting_budget`. Once lowered it stays so."""
        lowered = world.first(self._lowered)
        found = fitting_budget(lowered or self.wanted, longest, attempt, reporter, world.all, self.key)
        if found != self.wanted and world.leads:
            write_json(self.record, found)
        return found

    def _lowered(self) -> float | None:
        try:
            found = read_json(self.record)
        except (FileNotFoundError, ValueError):  # where it is damaged, a trial finds it out again
            return None
        return found if type(found) in (int, float) and 0 < found < math.inf else None

    @contextmanager
    def lowered_when_exhausted(
        self, budget: float, latest: Callable[[], Sequence[Sample]] = tuple
    ) -> Iterator[None]:
        """Train with a budget; where memory runs out all the same, the next training has a lower one.

        Args:
            budget: seconds of audio in a batch.
            latest: the samples that were worked on last.

        Raises:
            ExhaustedError: memory has run out.
            DataError: it has for a single sample, to which no budget makes a difference.
        """
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_lack_of_memory(error):
                raise
            if len(samples := latest()) == 1:
                raise _too_long(samples[0]) from None
            lowered = LOWERED * budget
            write_json(self.record, lowered)
            raise ExhaustedError(
                f"out of memory with {self.key}={budget:.4g}, although a trial did fit",
                hint=f"the same command again, which goes on with {lowered:.4g}",
            ) from None


def fitting_budget(
    budget: float,
    longest: Callable[[float], Sequence[Sample]],
    attempt: Callable[[Sequence[Sample]], None],
    reporter: Reporter,
    everywhere: Callable[[bool], bool] = bool,
    key: str = "training.batch_seconds",
) -> float:
    """The largest of a few budgets, the wanted one first, with which the longest batch fits into memory.

    Args:
        budget: wanted seconds of audio in a batch.
        longest: the batch that needs most memory, with a budget.
        attempt: forward and backward pass of a batch.
        reporter: told when the budget is lowered.
        everywhere: whether it fits in all processes, given whether it fits in this one.
        key: the recipe's, for messages.

    Raises:
        DataError: a single utterance does not fit.
    """
    samples = longest(budget)
    while not everywhere(_fits(attempt, samples)):
        if len(samples) == 1:
            raise _too_long(samples[0])
        lowered = LOWERED * min(budget, padded_seconds(samples))  # the batch may have less than it could
        seconds = max(sample.duration for sample in samples)
        reporter.warn(
            f"out of memory with {key}={budget:.4g}, in a batch of {len(samples)} utterances of "
            f"up to {seconds:.1f} s; going on with {lowered:.4g}"
        )
        budget, samples = lowered, longest(lowered)
    return budget


def _too_long(sample: Sample) -> DataError:
    joined = "a smaller augment.concatenate.max_utterances; or " if len(sample.utterances) > 1 else ""
    return DataError(
        f"these {sample.duration:.0f} seconds alone do not fit into memory",
        where=sample.name,
        hint=f"{joined}cut the recording into pieces, or leave it out; a smaller model; fewer training.workers",
    )


def _fits(attempt: Callable[[Sequence[Sample]], None], samples: Sequence[Sample]) -> bool:
    try:
        attempt(samples)
    except (RuntimeError, MemoryError) as error:
        if not is_lack_of_memory(error):
            raise
        fitted = False
    else:
        fitted = True
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # NCCL can't use what torch keeps; not before: an error held on to its tensors
    return fitted


def try_step(
    model: nn.Module,
    methods: OptimizationMethods,
    precision: str,
    loss: Callable[[AbstractContextManager[Any]], Tensor],
    processes: int = 1,
    readers: int = 0,
    begun: bool = False,
) -> None:
    """Forward and backward pass of a batch, which change nothing.

    They take place beside as many numbers as the optimiser and the moving average will remember; on a CPU, without
    more memory than there is.

    Args:
        model: on the device to train on.
        methods: of the training.
        precision: the recipe's.
        loss: what is to be minimised of the batch, computed in such a precision.
        processes: how many on this machine try at the same time.
        readers: how many processes each of them will start to read batches.
        begun: whether the training has begun before, with batches that fitted; then there is no limit.

    Raises:
        RuntimeError, MemoryError: it does not fit into memory.
    """
    device = next(model.parameters()).device
    autocast = autocast_to(resolve_precision(precision, device), device)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    limited: AbstractContextManager[None] = nullcontext()
    if device.type == "cpu" and not begun:
        limited = headroom.limited(processes, 2 * readers)  # those of the training set, and those of the dev set
    with torch.random.fork_rng([device] if device.type == "cuda" else []), limited:
        try:
            copies = STATES[methods.optimizer.name] + (methods.ema is not None)
            copies += dist.is_initialized()  # of DDP, whose buckets of gradients are always there
            remembered = [torch.empty_like(weights) for weights in model.parameters() for _ in range(copies)]
            torch.autograd.backward(loss(autocast))
            del remembered
        finally:
            model.zero_grad(set_to_none=True)
            for name, buffer in model.named_buffers():
                buffer.copy_(before[name])


def is_lack_of_memory(error: Exception) -> bool:
    """Whether there was too little memory, for which torch has several kinds of RuntimeError."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def padded_seconds(samples: Sequence[Sample], processes: int = 1) -> float:
    """Seconds of a batch, padding included: what memory goes by; in each of the processes that share it."""
    return math.ceil(len(samples) / processes) * max(sample.duration for sample in samples)
