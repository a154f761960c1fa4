"""What decoders hear in a batch, in flat arrays, and as hypotheses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.compiled import Records
from asr.decoding.spelling import Spelling
from asr.decoding.types import Hypothesis, Word

if TYPE_CHECKING:
    from asr.decoding.automaton import Automaton

HEARD = np.dtype(
    [(name, "f8") for name in ("score", "acoustic", "lm", "path", "confidence")]
    + [(name, "i8") for name in ("utterance", "first_token", "last_token", "first_word", "last_word")],
    align=True,
)
"""A text that was heard: the utterance; the logarithms of what it is worth, of its probability as the acoustic
model sees it, of the language model's part, and of its best path; from 0 to 1, how sure it is; its tokens and
words, from the first, up to the last but without it."""

TIMED = np.dtype([("start", "i8"), ("end", "i8"), ("confidence", "f8")])
"""A word: its first frame, the frame after its last, and how sure it is."""


class Found(NamedTuple):
    """What was heard: HEARD, the texts of each utterance best first; the tokens of all and the first frame of each;
    the words of all, TIMED."""

    texts: Records
    tokens: NDArray[np.int32]
    frames: NDArray[np.int64]
    words: Records


def hypotheses(
    spelling: Spelling,
    parts: Iterable[Found],
    count: int,
    timestamps: bool = True,
    grammar: Automaton | None = None,
) -> list[Hypothesis]:
    """The best hypothesis for each utterance, with the others as its alternatives.

    Args:
        spelling: of the tokens.
        parts: what was heard in some of the utterances each.
        count: of all utterances.
        timestamps: whether words and frames were asked for.
        grammar: whose sentences were searched for.
    """
    heard: list[list[Hypothesis]] = [[] for _ in range(count)]
    for found in parts:
        texts = spelling.texts(found.tokens, found.texts["last_token"])
        tokens = found.tokens.tolist()
        frames, words = (found.frames.tolist(), found.words.tolist()) if timestamps else ([], [])
        for text, record in zip(texts, found.texts.tolist(), strict=True):
            score, acoustic, lm, path, confidence, utterance, first_token, last_token, first_word, last_word = (
                record
            )
            spelled = text.split(" ") if text else []  # other white space may be a letter of a token
            timed = zip(spelled, words[first_word:last_word], strict=True) if timestamps else ()
            heard[utterance].append(
                Hypothesis(
                    text,
                    tuple(tokens[first_token:last_token]),
                    tuple(frames[first_token:last_token]),
                    tuple([Word(word, *times) for word, times in timed]),
                    score,
                    confidence,
                    acoustic,
                    lm,
                    score - acoustic - lm,
                    grammar.slots(text) if grammar else (),
                    max(0.0, -path) / max(last_token - first_token, 1) if grammar else None,
                )
            )
    return [_best(ranked, grammar) for ranked in heard]


def _best(ranked: Sequence[Hypothesis], grammar: Automaton | None) -> Hypothesis:
    """The first hypothesis, which has the others as its alternatives."""
    if not ranked:
        nothing = math.inf if grammar else None
        return Hypothesis("", (), (), (), -math.inf, confidence=0.0, acoustic=-math.inf, rejection=nothing)
    return replace(ranked[0], alternatives=tuple(ranked[1:])) if len(ranked) > 1 else ranked[0]
