"""What every decoder returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Word:
    """A word and where it was heard.

    Args:
        text: without spaces.
        start: its first frame.
        end: the frame after its last.
        confidence: from 0 to 1, the geometric mean of its tokens' posteriors.
    """

    text: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True)
class Hypothesis:
    """What a decoder heard in one utterance.

    Args:
        text: the words, joined by single spaces.
        tokens: without blanks and repeats.
        token_frames: the frame in which each token begins.
        words: their times are frames of the acoustic model, after its subsampling.
        score: natural log-probability of the best path.
        confidence: from 0 to 1, the geometric mean of the tokens' posteriors; where there are no tokens, that of
            the blanks' posteriors, and 1 where there are no frames either.
    """

    text: str
    tokens: tuple[int, ...]
    token_frames: tuple[int, ...]
    words: tuple[Word, ...]
    score: float
    confidence: float


def group_words(
    surfaces: Sequence[str], starts: NDArray[np.int64], ends: NDArray[np.int64], log_posteriors: NDArray[np.float64]
) -> tuple[Word, ...]:
    """Put tokens together to words.

    A token whose surface begins with a space begins a word; one that is nothing but space ends the word before
    it and belongs to none.

    Args:
        surfaces: the text of each token of the utterance.
        starts: (tokens,) the first frame of each.
        ends: (tokens,) the frame after the last of each.
        log_posteriors: (tokens,) natural logarithms.
    """
    members: list[list[int]] = []
    begins = True
    for index, surface in enumerate(surfaces):
        begins = begins or surface.startswith(" ")
        if surface.strip():
            if begins:
                members.append([])
            members[-1].append(index)
            begins = False
    return tuple(
        Word(
            text="".join(surfaces[index] for index in word).strip(),
            start=int(starts[word[0]]),
            end=int(ends[word[-1]]),
            confidence=geometric_mean(log_posteriors[word]),
        )
        for word in members
    )


def geometric_mean(log_posteriors: NDArray[np.float64]) -> float:
    """The geometric mean of at least one posterior, given their natural logarithms; at most 1 despite rounding."""
    return min(1.0, float(np.exp(log_posteriors.mean())))
