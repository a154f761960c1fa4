"""How well a language model predicts a text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError
from asr.text.arpa import UNKNOWN


@dataclass(frozen=True)
class Perplexity:
    """Sums over a text, and what follows from them.

    Attributes:
        sentences, words: of the text.
        unknown: words outside the model's vocabulary.
        predictions: the words, and the ends of sentences where the model has </s>.
        log_prob: natural log-probability of all predictions.
        log_prob_known: that without the unknown words.
    """

    sentences: int
    words: int
    unknown: int
    predictions: int
    log_prob: float
    log_prob_known: float

    @property
    def perplexity(self) -> float:
        """Perplexity: e to the mean negative log-probability of a prediction."""
        return _exp(-self.log_prob / self.predictions)

    @property
    def perplexity_known(self) -> float:
        """The same over the predictions of what the model knows; NaN where it knows nothing."""
        known = self.predictions - self.unknown
        return _exp(-self.log_prob_known / known) if known else math.nan


def _exp(value: float) -> float:
    """Infinite where it is too large for a float."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


class Scores(Protocol):
    """A language model of any kind."""

    def __contains__(self, word: object, /) -> bool:
        """Whether it knows a word."""
        ...

    def scored(self, texts: Iterable[str], /) -> Iterable[tuple[Sequence[str], NDArray[np.float64]]]:
        """The words of each sentence, and the natural log-probabilities of each and, perhaps, of the end."""
        ...


def measure(model: Scores, texts: Iterable[str]) -> Perplexity:
    """Measure a language model on sentences.

    Raises:
        DataError: there are none.
    """
    sentences = words = unknown = predictions = 0
    log_prob = log_prob_known = 0.0
    for sentence, scores in model.scored(texts):
        known = np.ones(len(scores), np.bool_)
        known[: len(sentence)] = [word in model and word != UNKNOWN for word in sentence]
        sentences += 1
        words += len(sentence)
        unknown += int(np.count_nonzero(~known))
        predictions += len(scores)
        log_prob += float(scores.sum())
        log_prob_known += float(scores[known].sum())
    if not words:
        raise DataError("the text has no words", expected="a sentence to a line")
    return Perplexity(sentences, words, unknown, predictions, log_prob, log_prob_known)
