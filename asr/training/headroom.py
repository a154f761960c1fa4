"""How much more memory a process can have, and a limit that turns more into an error.

Linux promises memory that it does not have, and ends a process that takes it at its word: without a message, and
without a chance to take less the next time. Containers and clusters limit it further, in control groups.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KEPT = 0.25
"""The share of what is there that is kept: a training fragments its memory, and has neighbours."""
READER = 150 * 2**20
"""Bytes that a process which reads batches takes for itself, about: less at first, when it shares nearly all with
its parent, until that writes."""
READERS = 2 / 3
"""The share of what is left then that they may have at most: so many more of them need not be so large."""
_CONTROLLED = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""A control group's files, of version 2 and 1: limit, use, and what of that the kernel gives up at need."""


def available(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process can have besides what it has; None where the system does not tell.

    Args:
        proc, groups: where Linux shows processes, and control groups.
    """
    try:
        found = [_field(proc / "meminfo", "MemAvailable") * 1024]
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                own = groups / controllers / path.lstrip("/")
                found += (left for group in (own, *own.parents) if (left := _left(group)) is not None)
    except (OSError, ValueError):
        return None
    return max(min(found), 0)


def _left(group: Path) -> int | None:
    """What a control group has left; None where it has no limit."""
    for most, used, reclaimable in _CONTROLLED:
        if (group / most).is_file() and (limit := (group / most).read_text().strip()).isdecimal():
            return int(limit) - int((group / used).read_text()) + _field(group / "memory.stat", reclaimable)
    return None


def _field(path: Path, name: str) -> int:
    """The number after a name, in a file that has one to a line."""
    for line in path.read_text().splitlines():
        key, *values = line.split()
        if key.rstrip(":") == name:
            return int(values[0])
    raise ValueError(f"{path} has no {name}")


@contextmanager
def limited(processes: int = 1, readers: int = 0) -> Iterator[None]:
    """Within the block, allocations fail that there is no memory for, where the system tells how much there is.

    Args:
        processes: how many of this machine do so at the same time, and share what there is.
        readers: how many processes each of them will start to read batches.
    """
    left, has = available(), None
    with suppress(OSError, ValueError):
        has = _field(Path("/proc/self/status"), "VmData")
    if left is None or has is None or sys.platform == "win32":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    free = int((1 - KEPT) * left / processes)
    free -= min(readers * READER, int(READERS * free))
    limit = has * 1024 + free
    if before[0] != resource.RLIM_INFINITY and limit >= before[0]:
        yield
        return
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
        _give_back()


def _give_back() -> None:
    """Return what was freed to the system: else processes that are forked have it too, and a write copies it."""
    with suppress(OSError, AttributeError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)
