"""Whole utterances, from log-probabilities to what was heard, without Python in between."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from asr.compiled import compiled, kernel
from asr.decoding import search
from asr.decoding.alignment import align, confidences
from asr.decoding.frames import Frames
from asr.decoding.heard import HEARD, TIMED, Found
from asr.decoding.ranking import Ranking, rank
from asr.decoding.search import GRAMMAR, Beam, Limits, Rules

COMPARED = 16  # texts at most that confidences take into account,
NEGLIGIBLE = 7.0  # and how much less likely than the best they may be


@compiled
def decode(
    rules: Rules,
    limits: Limits,
    wanted: int,
    timestamps: bool,
    frames: Frames,
    utterances: NDArray[np.int64],
) -> Found:
    """Decode some utterances of a batch.

    Args:
        rules, limits: of the search.
        wanted: how many texts there shall be of each, if there are so many.
        timestamps: whether to align the tokens, which confidences need too.
        frames: the batch.
        utterances: which of it.
    """
    longest = 0
    for utterance in utterances:
        longest = max(longest, frames.lengths[utterance])
    beam = search.new_beam(limits, longest)
    scratch = search.new_scratch(limits, frames.log_probs.shape[2])
    parts = []
    for utterance in utterances:
        length = frames.lengths[utterance]
        log_probs = frames.log_probs[utterance, :length]
        search.start(rules, beam)
        search.advance(rules, limits, beam, scratch, log_probs, frames.peaks[utterance])
        found = conclude(rules, limits, wanted, timestamps, beam, log_probs)
        for text in found.texts:
            text.utterance = utterance
        parts.append(found)
    return _joined(parts)


@compiled
def conclude(
    rules: Rules, limits: Limits, wanted: int, timestamps: bool, beam: Beam, frames: NDArray[np.float32]
) -> Found:
    """What a search has heard in an utterance.

    Args:
        rules, limits, beam: of the search, after its last frame.
        wanted: how many texts there shall be, if there are so many.
        timestamps: as for `decode`; without, there are no words, and frames and confidences mean nothing.
        frames: (time, vocab) all of the utterance.
    """
    ranking = rank(rules, beam, wanted, COMPARED if timestamps else 0, NEGLIGIBLE)
    count = min(wanted, len(ranking.texts))
    last_token = ranking.texts[count - 1].last_token if count else 0
    last_word = ranking.texts[count - 1].last_word if count and timestamps else 0
    found = Found(
        np.zeros(count, HEARD),
        ranking.tokens[:last_token],
        np.zeros(last_token, np.int64),
        np.empty(last_word, TIMED),
    )
    for index in range(count):
        text, heard = ranking.texts[index], found.texts[index]
        tokens = ranking.tokens[text.first_token : text.last_token]
        heard.first_token, heard.last_token = text.first_token, text.last_token
        heard.score, heard.acoustic = text.score, text.acoustic
        heard.lm = search.lm_log_prob(rules, tokens)
        heard.confidence = math.nan
        if timestamps:
            _time(ranking, index, frames, limits.blank, found)
        elif rules.guide == GRAMMAR:
            _, heard.path = align(frames, tokens, limits.blank)
    return found


@compiled
def _time(ranking: Ranking, index: int, frames: NDArray[np.float32], blank: int, found: Found) -> None:
    """Find out where the tokens and words of a text are, and how sure."""
    text, heard = ranking.texts[index], found.texts[index]
    spans, heard.path = align(frames, ranking.tokens[text.first_token : text.last_token], blank)
    sure = confidences(ranking, index, spans)
    for i in range(len(spans)):
        found.frames[text.first_token + i] = spans[i].start
    for i in range(len(sure)):
        word, timed = ranking.words[text.first_word + i], found.words[text.first_word + i]
        timed.start, timed.end = spans[word.first].start, spans[word.last - 1].end
        timed.confidence = sure[i]
    heard.confidence = _confidence(sure, frames, blank)
    heard.first_word, heard.last_word = text.first_word, text.last_word


@kernel
def _confidence(sure: NDArray[np.float64], frames: NDArray[np.float32], blank: int) -> float:
    """The geometric mean of the words' confidences, or else of the blank's probabilities."""
    count = len(sure) if len(sure) else len(frames)
    total = 0.0
    for i in range(count):
        total += math.log(sure[i]) if len(sure) else np.float64(frames[i, blank])
    return min(1.0, math.exp(total / count)) if count else 1.0


@compiled
def _joined(parts: list[Found]) -> Found:
    """All that was found, one after another."""
    texts = tokens = words = 0
    for part in parts:
        texts += len(part.texts)
        tokens += len(part.tokens)
        words += len(part.words)
    whole = Found(
        np.empty(texts, HEARD), np.empty(tokens, np.int32), np.empty(tokens, np.int64), np.empty(words, TIMED)
    )
    texts = tokens = words = 0
    for part in parts:
        for text in part.texts:
            text.first_token += tokens
            text.last_token += tokens
            text.first_word += words
            text.last_word += words
        whole.texts[texts : texts + len(part.texts)] = part.texts
        whole.tokens[tokens : tokens + len(part.tokens)] = part.tokens
        whole.frames[tokens : tokens + len(part.frames)] = part.frames
        whole.words[words : words + len(part.words)] = part.words
        texts += len(part.texts)
        tokens += len(part.tokens)
        words += len(part.words)
    return whole
