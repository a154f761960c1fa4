"""What tokens spell."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.compiled import compiled

SPACE = 32
_CODE_POINTS = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"


class Spelling(NamedTuple):
    """The surfaces of all tokens.

    Attributes:
        letters: as Unicode code points, one surface after another, without the spaces in front.
        offsets: (vocab + 1,) where the letters of each token begin, those of the next one after them.
        begins_word: (vocab,) whether a space stands in front.
    """

    letters: NDArray[np.int32]
    offsets: NDArray[np.int64]
    begins_word: NDArray[np.bool_]

    @classmethod
    def of(cls, surfaces: Sequence[str]) -> Spelling:
        """That of surfaces which have no space but in front."""
        letters, ends = code_points([surface.removeprefix(" ") for surface in surfaces])
        begins_word = np.array([surface.startswith(" ") for surface in surfaces], np.bool_)
        return cls(letters, np.concatenate((np.zeros(1, np.int64), ends)), begins_word)

    def texts(self, tokens: NDArray[np.int32], ends: NDArray[np.int64]) -> list[str]:
        """What tokens spell, with single spaces between words.

        Args:
            tokens: of several texts, one after another.
            ends: where those of each text end.
        """
        letters, last = _spell(self, tokens, ends)
        spelled = letters.tobytes().decode(_CODE_POINTS)
        stops = last.tolist()
        return [spelled[first:stop] for first, stop in zip([0, *stops], stops, strict=False)]


def code_points(texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The characters of all texts, one after another as Unicode code points, and where each text ends."""
    letters = np.frombuffer("".join(texts).encode(_CODE_POINTS), np.int32)
    return letters.copy(), np.cumsum([len(text) for text in texts], dtype=np.int64)


@compiled
def _spell(
    spelling: Spelling, tokens: NDArray[np.int32], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The letters of texts, and where those of each end."""
    room = 0
    for token in tokens:
        room += 1 + spelling.offsets[token + 1] - spelling.offsets[token]
    letters, last = np.empty(room, np.int32), np.empty(len(ends), np.int64)
    count, start = 0, 0
    for text in range(len(ends)):
        inside, empty = True, True
        for position in range(start, ends[text]):
            token = tokens[position]
            first, stop = spelling.offsets[token], spelling.offsets[token + 1]
            inside = inside and not spelling.begins_word[token]
            if first < stop:
                if not inside and not empty:
                    letters[count] = SPACE
                    count += 1
                inside, empty = True, False
                for place in range(first, stop):
                    letters[count] = spelling.letters[place]
                    count += 1
        last[text] = count
        start = ends[text]
    return letters[:count], last
