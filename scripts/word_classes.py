"""N-gram models of word classes, mixed with models of words: what little text does not say of a word, it may say of
words like it.

P(w | h) = P(w | c(w)) · P(c(w) | c(h)), where c are the classes (Brown et al. 1992, "Class-based n-gram models of
natural language"); here they are clusters of word vectors. The two models' probabilities are added, with a weight
that is estimated on text that neither has seen (Jelinek & Mercer 1980, "Interpolated estimation of Markov source
parameters from sparse data").

asr has no such models, as they do not lower the word error rate. On texts of 1,000 to 100,000 words, perplexity
falls by 8 % if the vectors come from more text than that, by 0 to 3 % if they do not; the word error rate, by 0.05
points at most (`measure_classes.py`).

Such a mixture gives every word a probability of its own after every other one. A back-off model would have to list
them all, or to leave out those for which there are classes; so the mixture stays as it is, and scores whole
sentences.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.compiled import compiled
from asr.errors import ConfigError
from asr.text import kneser_ney
from asr.text.ngram import Ngram, NgramModel, score
from asr.text.vectors import WordVectors

FloatArray = NDArray[np.float64]

OTHERS = "others"
"""The class of words that have no vector."""
_ENOUGH = 1e-6  # by which a weight changes when it is found
_MOST_STEPS = 1000


@dataclass(frozen=True, eq=False)
class ClassModel:
    """An n-gram model of classes.

    Attributes:
        classes: the class of each word of the vocabulary.
        shares: natural logarithm of the share of a word in the occurrences of its class.
        ngram: of the classes, by their names.
    """

    classes: Mapping[str, str]
    shares: Mapping[str, float]
    ngram: NgramModel

    def known_log_probs(self, words: Sequence[str]) -> FloatArray:
        """Natural log-probabilities of a sentence's words and of its end, where none is unknown."""
        log_probs, known = _log_probs(self.ngram, [self.classes.get(word, "") for word in words])
        log_probs[: len(words)] += [self.shares.get(word, 0.0) for word in words]
        return log_probs - known


@dataclass(frozen=True, eq=False)
class Mixture:
    """A model of words, and one of their classes.

    Unknown words have the probability that the model of words gives them: what a model of a few classes leaves
    to them means nothing.

    Attributes:
        words: the model of words.
        classes: that of their classes, from the same text.
        weight: of the classes, between 0 and 1.
    """

    words: NgramModel
    classes: ClassModel
    weight: float

    def log_probs(self, words: Sequence[str]) -> FloatArray:
        """Natural log-probabilities of a sentence's words, and of its end."""
        by_word, by_class = both_log_probs(self.words, self.classes, words)
        mixed = np.logaddexp(math.log1p(-self.weight) + by_word, math.log(self.weight) + by_class)
        is_known = [word in self.words for word in words]
        return np.where([*is_known, True], mixed, by_word)


def both_log_probs(
    words: NgramModel, classes: ClassModel, sentence: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    """What a mixture's two models say of a sentence's words and its end, the same of unknown words."""
    by_word, known = _log_probs(words, sentence)
    return by_word, classes.known_log_probs(sentence) + known


def cluster(vectors: WordVectors, count: int, seed: int = 0) -> dict[str, str]:
    """Divide words into classes, by the directions of their vectors.

    Args:
        vectors: of the words.
        count: how many classes.
        seed: of where k-means begins.

    Returns:
        The class of each word.

    Raises:
        ConfigError: there are fewer words than classes.
    """
    from sklearn.cluster import KMeans

    if not 1 <= count <= len(vectors.words):
        raise ConfigError(f"{count} classes", expected=f"from 1 to {len(vectors.words)}, the number of words")
    lengths = np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    directions = vectors.vectors / np.where(lengths > 0, lengths, 1)
    labels = KMeans(count, n_init=1, random_state=seed).fit_predict(directions)
    return {word: f"class-{label}" for word, label in zip(vectors.words, labels.tolist(), strict=True)}


def build(texts: Iterable[str], order: int, classes: Mapping[str, str]) -> ClassModel:
    """Estimate a model of classes.

    Args:
        texts: sentences, their words apart by white space. The vocabulary is theirs.
        order: classes in the longest n-grams.
        classes: of the words; those that have none become one class.

    Raises:
        DataError: as `kneser_ney.build`.
    """
    sentences = [text.split() for text in texts]
    occurrences = Counter(word for sentence in sentences for word in sentence)
    own = {word: classes.get(word, OTHERS) for word in occurrences}
    totals: Counter[str] = Counter()
    for word, count in occurrences.items():
        totals[own[word]] += count
    shares = {word: math.log(count / totals[own[word]]) for word, count in occurrences.items()}
    classed = (" ".join(own[word] for word in sentence) for sentence in sentences)
    return ClassModel(own, shares, kneser_ney.build(classed, order).model)


def estimate_weight(by_word: FloatArray, by_class: FloatArray) -> float:
    """The weight of classes under which a text is most probable, by expectation maximisation.

    Args:
        by_word, by_class: (words,) natural log-probabilities of a text that neither model has seen.
    """
    ratios = np.exp(by_class - by_word)
    weight = 0.5
    for _ in range(_MOST_STEPS):
        improved = step(ratios, weight)
        if abs(improved - weight) < _ENOUGH:
            return improved
        weight = improved
    return weight


def step(ratios: FloatArray, weight: float) -> float:
    """One step of expectation maximisation: the classes' mean share in the mixture's probabilities.

    Args:
        ratios: (words,) of the probability by classes to that by words.
        weight: of the classes.
    """
    parts = weight * ratios
    return float((parts / (parts + 1 - weight)).mean())


def _log_probs(model: NgramModel, words: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Natural log-probabilities of a sentence's words and of its end, and that no unknown word stands there."""
    numbers = np.array([*map(model.id, words), model.end], np.int64)
    scores, unknown = _scores(model.ngram, model.start, numbers, model.unknown)
    return scores, np.log1p(-np.exp(unknown))


@compiled
def _scores(
    ngram: Ngram, state: int, words: NDArray[np.int64], unknown: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scores, unknowns = np.zeros(len(words)), np.zeros(len(words))
    for index in range(len(words)):
        unknowns[index], _ = score(ngram, state, unknown)
        scores[index], state = score(ngram, state, words[index])
    return scores, unknowns
