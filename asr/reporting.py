"""How long work tells its watcher what it does, whatever the watcher is: a terminal, a log, nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Advance(Protocol):
    """Called with how much is done so far, and perhaps a note on the state such as the loss."""

    def __call__(self, done: int, note: str = "", /) -> None: ...


class Reporter(Protocol):
    """Where messages and progress go."""

    def say(self, message: str) -> None:
        """Tell what happened."""

    def warn(self, message: str) -> None:
        """Tell what may be wrong."""

    def progress(self, name: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Show a bar while the block runs."""


class Silent:
    """A reporter for nobody."""

    def say(self, message: str) -> None:
        """Say nothing."""

    def warn(self, message: str) -> None:
        """Say nothing."""

    @contextmanager
    def progress(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Show nothing."""
        yield lambda done, note="": None


@dataclass(frozen=True)
class Noted:
    """Tells another reporter, and keeps all that is said in a file; if that can't be written, it does without.

    Attributes:
        reporter: the other one.
        path: of the file, to which lines are added.
    """

    reporter: Reporter
    path: Path

    def say(self, message: str) -> None:
        """Tell what happened."""
        self._keep(message)
        self.reporter.say(message)

    def warn(self, message: str) -> None:
        """Tell what may be wrong."""
        self._keep(f"warning: {message}")
        self.reporter.warn(message)

    def progress(self, name: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Show a bar while the block runs."""
        return self.reporter.progress(name, total)

    def _keep(self, message: str) -> None:
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{message}\n")


def length_of_sound(seconds: float) -> str:
    """How long recordings are together, in a unit that suits it: "38.0 seconds", "12.5 minutes", "2.41 hours"."""
    for unit, size, digits in (("hours", 3600, 2), ("minutes", 60, 1)):
        if seconds >= 0.999 * size:  # what less would round to
            return f"{seconds / size:,.{digits}f} {unit}"
    return f"{seconds:.1f} seconds"
