"""The signals that ask a program to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ALL = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""From Ctrl-C, from `kill` or a cluster, and from a terminal that is closed, which Windows has no signal for."""


def heeded() -> list[signal.Signals]:
    """All of them; but for that of a closed terminal where it is ignored, as `nohup` has it."""
    return [number for number in ALL if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def handled_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Within the block, have a function called with the number of each signal that is heeded, in place of stopping.

    Only the main thread may ask for signals.
    """
    before = {number: signal.signal(number, handler) for number in heeded()}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
