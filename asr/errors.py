"""What went wrong, said for the person at the keyboard.

Every error that a user can cause is an `AsrError`: it says what was found, where, what was expected and what to
do next. The command line prints it without a traceback and exits with its `exit_code`.
"""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Iterable, Sequence

MOST_SHOWN = 30
"""Lines of a listing."""


def how_to_install(extra: str) -> str:
    """The command for one of the optional parts; with these quotes the shells of Windows take it, too."""
    return f'pip install -e ".[{extra}]"'


class AsrError(Exception):
    """An error for the user.

    Args:
        what: what is wrong, as a sentence without a final full stop.
        where: the file, the recipe key or the argument in question.
        expected: what would have been right.
        hint: what to do next, usually a command.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, where: object = None, expected: str | None = None, hint: str | None = None
    ) -> None:
        self.what, self.where, self.expected, self.hint = what, where, expected, hint
        lines = [self.where_and_what]
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if hint is not None:
            lines.append(f"  try: {hint}")
        super().__init__("\n".join(lines))

    @property
    def where_and_what(self) -> str:
        """What is wrong, and where, without what to do about it."""
        return self.what if self.where is None else f"{self.where}: {self.what}"


class ConfigError(AsrError):
    """A recipe or an argument is wrong; nothing has been run."""

    exit_code = 2


class AudioError(AsrError):
    """A sound file can't be used."""


class DataError(AsrError):
    """A manifest, a corpus or a text is wrong."""


class ModelError(AsrError):
    """A saved model can't be used."""


class MissingDependencyError(AsrError):
    """An optional package is needed and not installed."""


class DiskFullError(AsrError):
    """A file can't be written: there is no room left for it, or the user may use no more."""


class ExhaustedError(AsrError):
    """Memory has run out in a training, or so it seems; the same again goes on from its last checkpoint."""


def refuse_newer_format(
    found: int, newest: int, what: str, where: object, writer: str = "", error: type[AsrError] = DataError
) -> None:
    """Refuse a file in a format that this asr does not know yet.

    Args:
        found: the version that the file says it has.
        newest: the one that this asr writes; it reads all before it, from 1 on.
        what: the file holds.
        where: the file is.
        writer: the version of asr that wrote it, where that is known.
        error: what to raise.
    """
    if not 1 <= found <= newest:
        raise error(
            f"this {what} is in format {found}" + (f", written by asr {writer}" if writer else ""),
            where=where,
            expected=f"at most format {newest}, which is what this asr reads",
            hint="a newer asr (git pull in its folder, then pip install -e .)",
        )


def listing(items: Iterable[object], most: int = MOST_SHOWN) -> str:
    """Items one to a line, the first of many."""
    lines = [f"  {item}" for item in items]
    rest = len(lines) - most
    return "\n".join(lines if rest <= 0 else [*lines[:most], f"  … and {rest} more"])


def some(names: Sequence[str], most: int = 3) -> str:
    """Names in a line, the first of many."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A question in brackets, to be put behind a complaint, if a known name is like this one; or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" (did you mean {close[0]}?)" if close else ""


def counted(number: int, noun: str, form: str = "") -> str:
    """How many there are, in a format: "1 shard", "2 shards"."""
    return f"{number:{form}} {noun}" + ("" if number == 1 else "s")


def is_or_are(number: int) -> str:
    """The verb behind `counted`."""
    return "is" if number == 1 else "are"


def quoted(word: str) -> str:
    """A word of a command line, in quotation marks where a shell needs them, which are " on Windows."""
    if sys.platform != "win32":
        return shlex.quote(word)
    return word if re.fullmatch(r"[\w.:\\/=+~-]+", word) else '"' + word.replace('"', r"\"") + '"'
