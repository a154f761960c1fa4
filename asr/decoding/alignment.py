"""Where the tokens and words of a text lie in the frames, and how sure each word is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from asr.compiled import Records, compiled, kernel
from asr.decoding.ranking import Ranking

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
    steps = np.empty((len(frames), len(text)), np.uint8)
    came_from_label = np.empty((len(frames), len(text)), np.bool_)
    in_label, in_blank = _forward(frames, text, blank, steps, came_from_label)
    _trace(frames, text, steps, came_from_label, in_label >= in_blank, spans)
    return spans, max(in_label, in_blank)


@compiled
def _forward(
    frames: NDArray[np.float32],
    text: NDArray[np.int32],
    blank: int,
    steps: NDArray[np.uint8],
    came_from_label: NDArray[np.bool_],
) -> tuple[float, float]:
    """Find the best paths.

    Args:
        frames, text, blank: as for `align`.
        steps: (time, tokens) is told how a token was reached: from itself, a blank, or a token;
        came_from_label: and whether the blank after it was reached from it.

    Returns:
        The log-probabilities of those that end in the last token, and in the blank after it.
    """
    # The best paths to token i - 1 and to the blank after it; 0 stands for the blank before all tokens.
    label, between = np.full(len(text) + 1, -np.inf), np.full(len(text) + 1, -np.inf)
    label_before, between_before = label.copy(), between.copy()
    between_before[0] = 0.0
    skip = np.zeros(len(text))  # what it costs to reach a token from the one before without a blank
    for i in range(len(text)):
        skip[i] = -np.inf if i == 0 or text[i] == text[i - 1] else 0.0
    for time in range(len(frames)):
        frame = frames[time]
        between[0] = between_before[0] + frame[blank]
        for i in range(len(text)):
            label[i + 1] = frame[text[i]]
        for i in range(len(text)):
            stay, from_blank, from_label = label_before[i + 1], between_before[i], label_before[i] + skip[i]
            best = max(stay, from_blank, from_label)
            steps[time, i] = 0 if best == stay else (1 if best == from_blank else 2)
            label[i + 1] += best
            came_from_label[time, i] = stay > between_before[i + 1]
            between[i + 1] = max(stay, between_before[i + 1]) + frame[blank]
        label, label_before = label_before, label
        between, between_before = between_before, between
    return label_before[-1], between_before[-1]


@kernel
def _trace(
    frames: NDArray[np.float32],
    text: NDArray[np.int32],
    steps: NDArray[np.uint8],
    came_from_label: NDArray[np.bool_],
    inside: bool,
    spans: Records,
) -> None:
    """Follow the best path back and write the spans of its tokens; `inside`: it ends in the last one."""
    token = len(text) - 1
    inside = inside and token >= 0
    for i in range(len(text)):
        spans[i].end, spans[i].peak = -1, -np.inf
    for time in range(len(frames) - 1, -1, -1):
        if not inside:
            inside = token >= 0 and came_from_label[time, token]
            continue
        span = spans[token]
        span.start, span.end = time, max(span.end, time + 1)
        span.peak = max(span.peak, np.float64(frames[time, text[token]]))
        step = steps[time, token]
        inside = step != 1
        token -= step > 0


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
