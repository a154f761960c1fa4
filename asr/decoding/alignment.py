"""Where the tokens and words of a text lie in the frames, and how sure each word is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from asr.compiled import compiled, kernel
from asr.decoding.ranking import Ranking
from asr.decoding.search import Records

SPAN = np.dtype([("start", "i8"), ("end", "i8"), ("peak", "f8")])
"""A token's first frame, the frame after its last, and its highest log-probability there."""


@compiled
def align(frames: NDArray[np.float32], text: NDArray[np.int32], blank: int) -> tuple[Records, float]:
    """Viterbi alignment in the CTC topology: any number of blanks between tokens, at least one between equal ones.

    Args:
        frames: (time, vocab) log-probabilities, at least as many as the tokens need.
        text: its tokens, without blanks.
        blank: its index.

    Returns:
        The SPANs of the tokens, and the log-probability of the path, blanks included.
    """
    spans = np.empty(len(text), SPAN)
    if len(frames) == 0:
        return spans, 0.0
    # State 2 i + 1 is token i, the even ones are the blanks around them.
    states = 2 * len(text) + 1
    score = np.full(states, -np.inf)
    came_from = np.zeros((len(frames), states), np.uint8)  # how many states before
    score[0] = frames[0, blank]
    if len(text):
        score[1] = frames[0, text[0]]
    for time in range(1, len(frames)):
        # Only the tokens that can be reached by now, and from which the last one can still be reached.
        first, last = max(0, len(text) - len(frames) + time), min(len(text) - 1, time)
        _step(score, came_from[time], frames[time], text, blank, first, last)
    state = states - 1
    if states > 1 and score[states - 2] > score[states - 1]:
        state = states - 2
    total = score[state]
    previous = -1
    for time in range(len(frames) - 1, -1, -1):
        if state % 2 == 1:
            span = spans[state // 2]
            if state != previous:
                span.end = time + 1
                span.peak = -np.inf
            span.start = time
            span.peak = max(span.peak, np.float64(frames[time, text[state // 2]]))
        previous = state
        state -= came_from[time, state]
    return spans, total


@kernel
def _step(
    score: NDArray[np.float64],
    steps: NDArray[np.uint8],
    frame: NDArray[np.float32],
    text: NDArray[np.int32],
    blank: int,
    first: int,
    last: int,
) -> None:
    """The best paths to some tokens that are a frame longer.

    It goes from the last token to the first, so that the scores of those before it are still the old ones.
    """
    for i in range(last, first - 1, -1):
        before, here, after = 2 * i, 2 * i + 1, 2 * i + 2
        if score[here] > score[after]:
            score[after] = score[here]
            steps[after] = 1
        score[after] += frame[blank]
        if score[before] > score[here]:
            score[here] = score[before]
            steps[here] = 1
        if i > 0 and text[i] != text[i - 1] and score[here - 2] > score[here]:
            score[here] = score[here - 2]
            steps[here] = 2
        score[here] += frame[text[i]]
    score[0] += frame[blank]


@compiled
def confidences(ranking: Ranking, index: int, spans: Records) -> NDArray[np.float64]:
    """How sure each word of a text is.

    The geometric mean of its tokens' highest posteriors, times the probability of all those texts that have it in
    the same place, by a Levenshtein alignment.

    Args:
        ranking: the texts that are possible.
        index: which of them it is.
        spans: SPANs of its tokens.

    Returns:
        (words,) from 0 to 1.
    """
    mine = ranking.texts[index]
    words = ranking.words[mine.first_word : mine.last_word]
    sure = np.zeros(len(words))
    whole = 0.0
    for text in ranking.texts:
        share = math.exp(text.score - mine.score)
        whole += share
        _add_matches(words, ranking.words[text.first_word : text.last_word], share, sure)
    for i in range(len(words)):
        peaks = 0.0
        for position in range(words[i].first, words[i].last):
            peaks += spans[position].peak
        sure[i] = min(1.0, sure[i] / whole * math.exp(peaks / (words[i].last - words[i].first)))
    return sure


@compiled
def _add_matches(words: Records, other: Records, share: float, sure: NDArray[np.float64]) -> None:
    rows, columns = len(words) + 1, len(other) + 1
    cost = np.empty((rows, columns), np.int64)
    cost[:, 0] = np.arange(rows)
    cost[0, :] = np.arange(columns)
    for i in range(1, rows):
        for j in range(1, columns):
            substituted = cost[i - 1, j - 1] + (words[i - 1].hash != other[j - 1].hash)
            cost[i, j] = min(substituted, cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    i, j = rows - 1, columns - 1
    while i > 0 and j > 0:
        equal = words[i - 1].hash == other[j - 1].hash
        if cost[i, j] == cost[i - 1, j - 1] + (not equal):
            sure[i - 1] += share if equal else 0.0
            i, j = i - 1, j - 1
        elif cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
