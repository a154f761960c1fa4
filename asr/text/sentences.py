"""Text files of any size, a sentence to a line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from asr.errors import DataError


def read(sources: Iterable[Path | BinaryIO]) -> Iterator[str]:
    """The lines of files that hold more than white space, one after another.

    Args:
        sources: files in UTF-8, compressed by gzip where the name ends in .gz; or streams of bytes.

    Raises:
        DataError: a file is missing, damaged, or a line of it is not in UTF-8.
    """
    for source in sources:
        if not isinstance(source, Path):
            yield from _lines(source, getattr(source, "name", "standard input"))
            continue
        try:
            with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as file:
                yield from _lines(file, source)
        except FileNotFoundError:
            raise DataError("there is no such file", where=source, expected="a text file") from None
        except IsADirectoryError:
            raise DataError("this is a folder", where=source, expected="a text file") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"gzip can't read it: {error}", where=source, hint="copy the file again") from None


def _lines(file: Iterable[bytes], name: object) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            raise DataError("not UTF-8", where=f"{name}, line {number}", hint="save it as UTF-8") from None
        if text:
            yield text
