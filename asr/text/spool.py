"""Texts of any size as numbers of their words, kept in a temporary file."""

from __future__ import annotations

import tempfile
import weakref
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError

SEPARATOR = -1
"""What stands after each sentence."""

_BLOCK = 1 << 20  # numbers, about


class Spool:
    """Blocks of numbers, which may be read many times. The file goes away with it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the spool
        weakref.finalize(self, self._file.close)
        self._sizes: list[int] = []

    def append(self, block: NDArray[np.int32]) -> None:
        """Write a block after the others."""
        self._file.write(block.tobytes())
        self._sizes.append(block.nbytes)

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        begin = 0
        for size in self._sizes:
            self._file.seek(begin)
            yield np.frombuffer(self._file.read(size), np.int32)
            begin += size


@dataclass(frozen=True, eq=False)
class NumberedText:
    """A text as numbers of its words.

    Attributes:
        words: the words, in the order in which they first occur.
        counts: (words,), how often each occurs.
        blocks: the numbers of whole sentences, each sentence with `SEPARATOR` after it.
    """

    words: list[str]
    counts: NDArray[np.int64]
    blocks: Spool


def read(texts: Iterable[str]) -> NumberedText:
    """Number the words of sentences, which are read once and not kept in memory.

    Args:
        texts: sentences, their words apart by white space.

    Raises:
        DataError: there are no words.
    """
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    blocks = Spool()
    for block in _blocks(texts, numbers):
        blocks.append(block)
    if not numbers:
        raise DataError("the text has no words", expected="a sentence to a line")
    words = list(numbers)
    return NumberedText(words, occurrences(blocks, len(words)), blocks)


def occurrences(blocks: Iterable[NDArray[np.int32]], words: int) -> NDArray[np.int64]:
    """How often each of so many words occurs in blocks."""
    counts = np.zeros(words, np.int64)
    for block in blocks:
        counts += np.bincount(block[block != SEPARATOR], minlength=words)
    return counts


def _blocks(texts: Iterable[str], numbers: defaultdict[str, int]) -> Iterator[NDArray[np.int32]]:
    found = array("i")
    for text in texts:
        found.extend(map(numbers.__getitem__, text.split()))
        found.append(SEPARATOR)
        if len(found) >= _BLOCK:
            yield np.array(found, np.int32)
            found = array("i")
    if found:
        yield np.array(found, np.int32)
