"""Greedy CTC decoding: the best token of every frame, repeats merged, blanks dropped.

Graves et al. 2006, "Connectionist Temporal Classification", section 3.2, call it best path decoding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from asr.compiled import compiled, kernel
from asr.decoding.frames import BLOCK, Frames, Lengths, LogProbs, check
from asr.decoding.heard import HEARD, TIMED, Found, hypotheses
from asr.decoding.spelling import Spelling
from asr.decoding.types import Hypothesis, Options, refuse_unknown
from asr.errors import ConfigError

ALWAYS_KNOWN = ("threads", "timestamps")


class GreedyDecoder:
    """Best-path decoding.

    Args:
        tokens: the surface of each token, in which a space in front begins a word.
        blank: the index of the CTC blank.
    """

    def __init__(self, tokens: Sequence[str], blank: int = 0) -> None:
        self.tokens = tuple(tokens)
        self.blank = blank
        self._spelling = Spelling.of(self.tokens)

    def decode(self, log_probs: LogProbs, lengths: Lengths, **options: Unpack[Options]) -> list[Hypothesis]:
        """Decode a batch. What stands after an utterance's end is never looked at.

        Args:
            log_probs: (batch, time, vocab) natural log-probabilities, on any device.
            lengths: (batch,) valid frames of each utterance.
            options: those that leave a best path as it is.

        Returns:
            One hypothesis for each utterance, in order.

        Raises:
            ConfigError: an option asks for what only a beam search does, or there is no such option.
            DataError: the vocabulary has another size than `tokens`, or a valid frame holds NaN or a number that is
                no log-probability.
        """
        refuse_unknown(options)
        beyond = [name for name, value in options.items() if name not in ALWAYS_KNOWN and value and value != 1]
        if beyond:
            raise ConfigError(f"greedy decoding knows no {', '.join(beyond)}", expected="a beam search for that")
        frames = check(log_probs, lengths, len(self.tokens))
        found = _decode(self._spelling, self.blank, frames)
        return hypotheses(self._spelling, [found], len(frames.lengths), options.get("timestamps", True))


@compiled
def _decode(spelling: Spelling, blank: int, frames: Frames) -> Found:
    """The best paths of a batch."""
    room = frames.lengths.sum()
    found = Found(
        np.zeros(len(frames.lengths), HEARD),
        np.empty(room, np.int32),
        np.empty(room, np.int64),
        np.empty(room, TIMED),
    )
    path = np.empty(frames.log_probs.shape[1], np.int32)
    tokens = words = 0
    for utterance in range(len(found.texts)):
        text, length, peaks = found.texts[utterance], frames.lengths[utterance], frames.peaks[utterance]
        text.utterance, text.first_token, text.first_word = utterance, tokens, words
        text.score = _best_path(frames.log_probs[utterance], peaks, path[:length])
        text.acoustic = text.path = text.score
        tokens, words, in_tokens = _collapse(spelling, blank, path[:length], peaks, found, tokens, words)
        text.last_token, text.last_word = tokens, words
        silent = tokens == text.first_token
        text.confidence = _geometric_mean(
            text.score if silent else in_tokens, length if silent else tokens - text.first_token
        )
    return Found(found.texts, found.tokens[:tokens], found.frames[:tokens], found.words[:words])


@kernel
def _best_path(log_probs: NDArray[np.float32], peaks: NDArray[np.float32], path: NDArray[np.int32]) -> float:
    """Write the best token of each frame into the path; returns the path's log-probability."""
    score = 0.0
    for time in range(len(path)):
        path[time] = _first_equal(log_probs[time], peaks[time])
        score += np.float64(peaks[time])
    return score


@kernel
def _collapse(
    spelling: Spelling,
    blank: int,
    path: NDArray[np.int32],
    peaks: NDArray[np.float32],
    found: Found,
    tokens: int,
    words: int,
) -> tuple[int, int, float]:
    """Merge the repeats of a path, drop its blanks, and enter its tokens and words after so many others.

    Returns:
        How many tokens and words there are then, and the sum of the new tokens' highest log-probabilities.
    """
    in_word, in_tokens = 0.0, 0.0  # sums of the tokens' highest log-probabilities
    inside, spelled, time = False, 0, 0
    while time < len(path):
        token, start, highest = path[time], time, np.float64(peaks[time])
        while time < len(path) and path[time] == token:
            highest = max(highest, np.float64(peaks[time]))
            time += 1
        if token == blank:
            continue
        found.tokens[tokens], found.frames[tokens] = token, start
        tokens += 1
        in_tokens += highest
        inside = inside and not spelling.begins_word[token]
        if spelling.offsets[token] < spelling.offsets[token + 1]:
            if not inside:
                found.words[words].start = start
                words += 1
                inside, in_word, spelled = True, 0.0, 0
            in_word += highest
            spelled += 1
            found.words[words - 1].end = time
            found.words[words - 1].confidence = _geometric_mean(in_word, spelled)
    return tokens, words, in_tokens


@kernel
def _first_equal(frame: NDArray[np.float32], value: np.float32) -> int:
    """The first token that has a log-probability which one of them has."""
    block = 0
    while block + BLOCK <= len(frame):
        equal = np.int32(0)
        for offset in range(BLOCK):
            equal |= np.int32(frame[block + offset] == value)
        if equal:
            break
        block += BLOCK
    while frame[block] != value:
        block += 1
    return block


@kernel
def _geometric_mean(log_sum: float, count: int) -> float:
    return min(1.0, math.exp(log_sum / count)) if count else 1.0


def warm() -> None:
    """Compile what `GreedyDecoder` needs, or load it where that has been done before."""
    GreedyDecoder(("", "a")).decode(np.zeros((1, 1, 2), np.float32), [1])
