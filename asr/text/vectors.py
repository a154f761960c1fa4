"""Word vectors: which words are alike, and what is to one word as another is to a third.

Alike means a large cosine of the angle between two vectors, throughout.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.errors import ConfigError

Method = Literal["add", "multiply"]

_EPSILON = 0.001  # Levy & Goldberg's, against division by zero
_SUGGESTED = 3
_SEARCHED = 50_000  # for similar spellings, which takes about 4 µs for each


class Neighbour(NamedTuple):
    """A word, and how near it is; the nearer the higher."""

    word: str
    score: float


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Vectors of words.

    Attributes:
        words: the vocabulary, usually the most frequent first; no word twice.
        vectors: (words, dim), a row for each word.
    """

    words: tuple[str, ...]
    vectors: NDArray[np.float32]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def _lengths(self) -> NDArray[np.float32]:
        return _nonzero(np.linalg.norm(self.vectors, axis=1))

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def id(self, word: str) -> int:
        """The place of a word in the vocabulary.

        Raises:
            ConfigError: it is not there; with words that are spelled similarly.
        """
        if word not in self._ids:
            what = f"“{word}” is not among the {len(self.words):,} words that have vectors"
            raise ConfigError(what, hint=", ".join(self._similarly_spelled(word)) or None)
        return self._ids[word]

    def _similarly_spelled(self, word: str) -> list[str]:
        spelled = {each.casefold(): each for each in reversed(self.words[:_SEARCHED])}
        return [spelled[near] for near in difflib.get_close_matches(word.casefold(), spelled, _SUGGESTED)]

    def cosines(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The cosines of the angles between vectors and those of all words; 0 with a vector of zeros.

        Args:
            vectors: (..., dim).

        Returns:
            (..., words), from -1 to 1.
        """
        lengths = _nonzero(np.linalg.norm(vectors, axis=-1, keepdims=True))
        cosines = (vectors / lengths) @ self.vectors.T / self._lengths
        return np.clip(cosines, np.float32(-1), np.float32(1))

    def similarity(self, a: str, b: str) -> float:
        """The cosine of the angle between the vectors of two words.

        Raises:
            ConfigError: a word is outside the vocabulary.
        """
        one, other = self._units(np.array([self.id(a), self.id(b)]))
        return float(np.clip(one @ other, -1, 1))

    def neighbours(self, of: str | NDArray[np.float32], count: int = 10) -> list[Neighbour]:
        """The words nearest to a word, but for itself, or to a vector, with their cosines.

        Raises:
            ConfigError: the word is outside the vocabulary.
        """
        if not isinstance(of, str):
            return self._best(self.cosines(of), count)
        word = self.id(of)
        scores = self.cosines(self.vectors[word])
        scores[word] = -np.inf
        return self._best(scores, count)

    def analogy(self, a: str, b: str, c: str, count: int = 10, method: Method = "add") -> list[Neighbour]:
        """The words that are to c as b is to a: man, king, woman gives queen.

        Args:
            a, b, c: words; none of them is an answer.
            count: how many answers.
            method: as in `analogy_scores`.

        Raises:
            ConfigError: a word is outside the vocabulary.
        """
        question = np.array([[self.id(word) for word in (a, b, c)]])
        return self._best(self.analogy_scores(question, method)[0], count)

    def analogy_scores(self, questions: NDArray[np.int64], method: Method = "add") -> NDArray[np.float32]:
        """How well each word answers each question "b is to a as what is to c?".

        Args:
            questions: (questions, 3), the words a, b and c by their places in the vocabulary.
            method: "add" for 3CosAdd, the cosine with b - a + c, all of length 1 (Mikolov, Yih & Zweig 2013,
                "Linguistic regularities in continuous space word representations"); "multiply" for 3CosMul, the
                similarity with b times that with c over that with a, where a similarity is a cosine that has been
                moved to between 0 and 1 (Levy & Goldberg 2014, "Linguistic regularities in sparse and explicit
                word representations").

        Returns:
            (questions, words); -inf for the words of the question.
        """
        a, b, c = np.moveaxis(self._units(questions), 1, 0)
        scores = self.cosines(b - a + c) if method == "add" else self._products(a, b, c)
        np.put_along_axis(scores, questions, -np.inf, axis=1)
        return scores

    def only(self, words: Iterable[str]) -> WordVectors:
        """The vectors of some words, in their order.

        Raises:
            ConfigError: a word is outside the vocabulary.
        """
        chosen = tuple(dict.fromkeys(words))
        return WordVectors(chosen, self.vectors[[self.id(word) for word in chosen]])

    def _products(
        self, a: NDArray[np.float32], b: NDArray[np.float32], c: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """3CosMul's scores."""
        to_a, to_b, to_c = ((self.cosines(word) + 1) / 2 for word in (a, b, c))
        return np.divide(to_b * to_c, to_a + _EPSILON, dtype=np.float32)

    def _units(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of words, at length 1."""
        units: NDArray[np.float32] = self.vectors[ids] / self._lengths[ids][..., None]
        return units

    def _best(self, scores: NDArray[np.float32], count: int) -> list[Neighbour]:
        """The words of the highest scores, but for those of -inf."""
        count = min(count, int(np.count_nonzero(scores > -np.inf)))
        best = np.sort(np.argpartition(-scores, count - 1)[:count])
        ranked = best[np.argsort(-scores[best], kind="stable")]
        return [Neighbour(self.words[word], float(scores[word])) for word in ranked]


def _nonzero(lengths: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lengths to divide by: a vector of zeros stays one."""
    return np.where(lengths > 0, lengths, np.float32(1))
