"""Several processes that train one model together, each on its share of every batch.

The processes are started by `launch` or by torchrun, which tell them in their environments who they are. Messages
between them go over gloo; gradients too on a CPU, over NCCL on GPUs. Where there is one process only, nothing here
does anything.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from asr.errors import AsrError, ConfigError
from asr.model.normalization import MaskedBatchNorm
from asr.training.launch import world_size

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long processes wait for the first one while it prepares a corpus or measures a model."""


class LostProcessError(AsrError):
    """Another of the processes ended, so this one can't go on."""


@dataclass(frozen=True)
class World:
    """The processes that train together, as one of them sees them. All must make the same calls in the same order.

    Attributes:
        rank: this process's number, from 0 to size - 1.
        size: how many there are.
        local_rank, local_size: the same among those on this machine.
        patient: a process group in which to wait for long.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    patient: Any = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and talks to the user."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of a sequence: every `size`-th item, so that parts of a sorted one are alike."""
        return items[self.rank :: self.size]

    def cores(self, all_of_them: int) -> int:
        """This process's part of a machine's cores, unless the user has set the threads of each process."""
        return all_of_them if "OMP_NUM_THREADS" in os.environ else max(all_of_them // self.local_size, 1)

    def device(self, wanted: torch.device) -> torch.device:
        """This process's device: of CUDA devices, each has its own.

        Raises:
            ConfigError: there are not enough.
        """
        if self.size == 1 or wanted.type != "cuda":
            return wanted
        if not dist.is_nccl_available():
            raise ConfigError(
                "training in several processes on GPUs takes NCCL, which torch has on Linux only",
                hint="training.device=cpu, or one process",
            )
        there = torch.cuda.device_count()
        if self.local_size > there:
            raise ConfigError(
                f"{self.local_size} processes on a machine with {there} CUDA devices",
                expected="a device for each process",
                hint=f"--nproc {there}, or training.device=cpu",
            )
        if wanted.index is not None and self.local_size > 1:
            raise ConfigError(f"{self.local_size} processes on the device {wanted}", expected="device=cuda or auto")
        device = torch.device("cuda", self.local_rank if wanted.index is None else wanted.index)
        torch.cuda.set_device(device)
        return device

    def sum(self, values: Mapping[str, Tensor | float]) -> Mapping[str, Tensor | float]:
        """The sums of numbers over all processes; of one process, what it was given."""
        if self.size == 1:
            return values
        sums = torch.tensor([float(value) for value in values.values()], dtype=torch.double)
        dist.all_reduce(sums)
        return dict(zip(values, sums.tolist(), strict=True))

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set in any process."""
        sums = self.sum({str(place): float(flag) for place, flag in enumerate(flags)})
        return tuple(bool(count) for count in sums.values())

    def all(self, flag: bool) -> bool:
        """Whether a flag is set in all processes."""
        return not self.any(not flag)[0]

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """The first process's value."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, group=self.patient)
        return values[0]

    def first(self, work: Callable[[], T]) -> T:
        """What the first process's work, which no other process does, comes to."""
        return self.broadcast(work() if self.leads else None)  # type: ignore[return-value]

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.size > 1:
            dist.barrier(self.patient)

    def parallel(self, model: nn.Module) -> nn.Module:
        """A model of which each backward pass averages the gradients of all processes, as soon as each is there.

        It starts with the first process's weights. Its masked batch normalisations see all processes' frames.
        """
        if self.size == 1:
            return model
        device = next(model.parameters()).device
        group = self._nccl if device.type == "cuda" else dist.group.WORLD
        for module in model.modules():
            if isinstance(module, MaskedBatchNorm):
                module.total = partial(all_reduce, group=group)
        return DistributedDataParallel(
            model,
            device_ids=None if device.index is None else [device.index],
            process_group=group,
            broadcast_buffers=False,  # each process computes the same ones
            gradient_as_bucket_view=True,
        )

    @cached_property
    def _nccl(self) -> dist.ProcessGroup:
        """The group of GPUs: made once, as torch keeps each until the end; its own timeout would be ten minutes."""
        group: dist.ProcessGroup = dist.new_group(backend="nccl", timeout=dist.default_pg_timeout)
        return group


ALONE = World()


@contextmanager
def joined(raised_by_all: type[AsrError]) -> Iterator[World]:
    """Join the other processes, if there are any, until the block ends.

    An error that ends one process ends the others as well; only the first process to fail tells the user.

    Args:
        raised_by_all: what all processes raise together, and then wait for one another before they end.

    Raises:
        LostProcessError: another process ended without a word.
        SystemExit: another process ended with an error, and has said why.
    """
    if world_size() == 1:
        yield ALONE
        return
    store, rank, size = next(rendezvous("env://"))
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    stopped = None
    try:
        world = World(
            rank=rank,
            size=size,
            local_rank=int(os.environ.get("LOCAL_RANK", rank)),
            local_size=int(os.environ.get("LOCAL_WORLD_SIZE", size)),
            # While one process still waits for this group, another may have ended with an error.
            patient=dist.new_group(backend="gloo", timeout=PATIENCE),
        )
        try:
            yield world
        except raised_by_all as error:
            stopped = error
        world.wait()
    except BaseException as error:
        lost = _is_of_a_lost_process(error)
        code = LostProcessError.exit_code if lost else _exit_code(error)
        atexit.register(_end_at_once, code)
        if (lost or isinstance(error, AsrError)) and _somebody_has_failed(store):
            raise SystemExit(code) from None
        if lost:
            raise LostProcessError(
                "another process of this training has ended",
                hint="see what it wrote; was it killed for want of memory?",
            ) from None
        raise
    dist.destroy_process_group()
    if stopped is not None:
        if _somebody_has_failed(store):
            raise SystemExit(stopped.exit_code) from None
        raise stopped


def _is_of_a_lost_process(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or "gloo" in str(error))


def _exit_code(error: BaseException) -> int:
    return error.exit_code if isinstance(error, AsrError) else 130 if isinstance(error, KeyboardInterrupt) else 1


def _end_at_once(code: int) -> None:
    """End this process, but not its groups: their threads wait for the others, and those perhaps for this process.

    At Python's usual end they would be waited for; or one of them, done at that moment, would abort the process.
    """
    atexit.unregister(_end_at_once)
    atexit._run_exitfuncs()  # all that is yet to come
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _somebody_has_failed(store: Any) -> bool:
    """Whether another process has asked this before, or is so far gone that it can't be asked."""
    try:
        return int(store.add("failures", 1)) > 1
    except RuntimeError:
        return True
