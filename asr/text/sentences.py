"""Text files of any size, a sentence to a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from asr.errors import DataError
from asr.files import unpacked, unreadable_in_words


def read(sources: Iterable[Path | BinaryIO]) -> Iterator[str]:
    """The lines of files that hold more than white space, one after another.

    Args:
        sources: files in UTF-8, compressed by gzip or not; or streams of bytes.

    Raises:
        DataError: a file is missing, damaged, or a line of it is not in UTF-8.
    """
    for source in sources:
        if not isinstance(source, Path):
            yield from _lines(source, getattr(source, "name", "standard input"))
            continue
        with unreadable_in_words(source, "a text file"), unpacked(source) as file:
            yield from _lines(file, source)


def _lines(file: Iterable[bytes], name: object) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").replace("\0", " ").strip()
        except UnicodeDecodeError:
            raise DataError("not UTF-8", where=f"{name}, line {number}", hint="save it as UTF-8") from None
        if text:
            yield text
