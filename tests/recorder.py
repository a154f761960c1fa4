"""A reporter that remembers, and interrupts where it is told to."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from asr.reporting import Advance, Silent


class Recorder(Silent):
    """Keeps what is said, counts the steps of trainings, and sends this process a signal after so many in all."""

    def __init__(self, interrupt_after: int | None = None, by: signal.Signals = signal.SIGINT) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.steps = 0
        self.interrupt_after, self.by = interrupt_after, by

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)

    @contextmanager
    def progress(self, name: str, total: int | None = None) -> Iterator[Advance]:
        def advance(done: int, note: str = "") -> None:
            if "epoch" in name:
                self.steps += 1
                self.step_done()

        yield advance

    def step_done(self) -> None:
        if self.steps == self.interrupt_after:
            signal.raise_signal(self.by)
