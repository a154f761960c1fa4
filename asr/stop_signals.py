"""The signals that ask a program to stop."""

from __future__ import annotations

import signal

ALL = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""From Ctrl-C, from `kill` or a cluster, and from a terminal that is closed, which Windows has no signal for."""


def heeded() -> list[signal.Signals]:
    """All of them; but for that of a closed terminal where it is ignored, as `nohup` has it."""
    return [number for number in ALL if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN]
