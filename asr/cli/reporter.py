"""A reporter for the terminal: messages and bars on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from asr.reporting import Advance


class TerminalReporter:
    """Messages on standard error; bars too, where that is a terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

    def say(self, message: str) -> None:
        """Print a message."""
        self._print(message)

    def warn(self, message: str) -> None:
        """Print a warning."""
        self._print(f"warning: {message}", style="yellow")

    def _print(self, message: str, style: str | None = None) -> None:
        with suppress(OSError):  # of a terminal that was closed: it is no reason not to save what was learnt
            self.console.print(message, markup=False, style=style)

    @contextmanager
    def progress(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Show a bar with the time left; nothing is drawn into a file or a pipe."""
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(
            *columns,
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            redirect_stdout=sys.stdout.isatty(),  # text for a file or a pipe must not end up on the terminal
        ) as bars:
            task = bars.add_task(name, total=total, note="")
            yield lambda done, note="": bars.update(task, completed=done, note=note)
