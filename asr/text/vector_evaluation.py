"""How well word vectors agree with people: word pairs that have been rated, and analogies.

The files are those that the field shares: WordSim-353 (Finkelstein et al. 2002), SimLex-999 (Hill, Reichart &
Korhonen 2015) and others of their kind; and questions-words.txt (Mikolov et al. 2013, "Efficient estimation of word
representations in vector space").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr.errors import DataError
from asr.files import read_text
from asr.text.vectors import Method, WordVectors

_SCORES_AT_ONCE = 1 << 24  # 64 MiB
_COMMENTS = ("#", "//")
_SEPARATORS = ("\t", ";", ",", None)


@dataclass(frozen=True)
class Agreement:
    """How similarities agree with people's ratings.

    Attributes:
        correlation: Spearman's, of the pairs that are covered; NaN where there are fewer than two of them, or all
            are rated the same.
        covered: pairs whose words both have vectors.
        pairs: all of them.
    """

    correlation: float
    covered: int
    pairs: int


@dataclass(frozen=True)
class Section:
    """How many analogies of a kind are answered correctly.

    Attributes:
        name: of the section.
        correct: questions whose best answer is the right one.
        questions: those whose words all have vectors.
        unknown: the others, which count neither as right nor as wrong.
    """

    name: str
    correct: int
    questions: int
    unknown: int

    @property
    def accuracy(self) -> float:
        """The share of correct answers; NaN where there are no questions."""
        return self.correct / self.questions if self.questions else math.nan


def total(name: str, sections: Sequence[Section]) -> Section:
    """Sections taken together."""
    return Section(
        name,
        sum(section.correct for section in sections),
        sum(section.questions for section in sections),
        sum(section.unknown for section in sections),
    )


def holds_analogies(path: Path) -> bool:
    """Whether a file holds sections of analogies, rather than rated pairs.

    Raises:
        DataError: it can't be read, or is empty.
    """
    return _lines(path)[0][1].startswith(":")


def rate(vectors: WordVectors, path: Path) -> Agreement:
    """Compare cosines with ratings.

    A word that has no vector as it is written stands for the first that differs by capital letters only.

    Args:
        vectors: the vectors.
        path: a file with two words and a rating to a line, which tabs, semicolons, commas or spaces separate; the
            rating is the first column after the words that is a number. The first line may be a header. Lines that
            begin with # say nothing.

    Raises:
        DataError: the file is not like that.
    """
    pairs = _pairs(path)
    known = _Spellings(vectors)
    covered = [(known.id(a), known.id(b), rating) for a, b, rating in pairs if a in known and b in known]
    cosines = [vectors.similarity(vectors.words[a], vectors.words[b]) for a, b, _ in covered]
    return Agreement(spearman(cosines, [rating for *_, rating in covered]), len(covered), len(pairs))


def answer(vectors: WordVectors, path: Path, method: Method = "add") -> list[Section]:
    """Answer analogies.

    Capital letters make no difference, neither for which word is meant (as in `rate`) nor for whether an answer is
    right.

    Args:
        vectors: the vectors.
        path: a file of sections, each under a line “: name”, with four words to a line, of which the last is to be
            found from the others.
        method: as in `WordVectors.analogy_scores`.

    Raises:
        DataError: the file is not like that.
    """
    known = _Spellings(vectors)
    sections = []
    for name, questions in _sections(path).items():
        ids = [[known.id(word) for word in words] for words in questions if all(word in known for word in words)]
        correct = _correct(vectors, np.array(ids, np.int64).reshape(-1, 4), method)
        sections.append(Section(name, correct, len(ids), len(questions) - len(ids)))
    return sections


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation, where equal values share the mean of their ranks.

    Args:
        a, b: values, as many of one as of the other.

    Returns:
        From -1 to 1; NaN where all values of one are the same, or there are none.
    """
    one, other = (ranks - (len(ranks) + 1) / 2 for ranks in (_ranks(a), _ranks(b)))
    spread = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / spread if spread else math.nan


def _ranks(values: ArrayLike) -> NDArray[np.float64]:
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


class _Spellings:
    """The words of vectors, where capital letters decide between them but keep none out."""

    def __init__(self, vectors: WordVectors) -> None:
        self._vectors = vectors
        self._folded: dict[str, int] = {}
        for number, word in enumerate(vectors.words):
            self._folded.setdefault(word.casefold(), number)

    def __contains__(self, word: str) -> bool:
        return word.casefold() in self._folded

    def id(self, word: str) -> int:
        return self._vectors.id(word) if word in self._vectors else self._folded[word.casefold()]


def _correct(vectors: WordVectors, questions: NDArray[np.int64], method: Method) -> int:
    """How many questions, four words each, are answered with the fourth."""
    correct = 0
    at_once = max(1, _SCORES_AT_ONCE // len(vectors.words))
    for begin in range(0, len(questions), at_once):
        some = questions[begin : begin + at_once]
        best = vectors.analogy_scores(some[:, :3], method).argmax(axis=1)
        for found, right in zip(best.tolist(), some[:, 3].tolist(), strict=True):
            correct += vectors.words[found].casefold() == vectors.words[right].casefold()
    return correct


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that say something, and their numbers."""
    expected = "rated pairs of words, or analogies"
    numbered = enumerate(map(str.strip, read_text(path, expected).split("\n")), start=1)
    lines = [(number, line) for number, line in numbered if line and not line.startswith(_COMMENTS)]
    if not lines:
        raise DataError("the file is empty", where=path, expected=expected)
    return lines


def _pairs(path: Path) -> list[tuple[str, str, float]]:
    lines = _lines(path)
    separator = next(mark for mark in _SEPARATORS if mark is None or mark in lines[-1][1])
    rows = [[field.strip() for field in line.split(separator)] for _, line in lines]
    column = next((place for place, field in enumerate(rows[-1]) if place > 1 and _is_number(field)), 2)
    header = not _is_number(_field(rows[0], column))
    pairs = []
    for (number, line), row in list(zip(lines, rows, strict=True))[header:]:
        if not _is_number(_field(row, column)):
            raise DataError(f"“{line}”", where=f"{path}, line {number}", expected="two words and a rating")
        pairs.append((row[0], row[1], float(row[column])))
    if not pairs:
        raise DataError("there are no pairs", where=path, expected="two words and a rating on each line")
    return pairs


def _field(row: Sequence[str], column: int) -> str:
    return row[column] if column < len(row) else ""


def _is_number(field: str) -> bool:
    try:
        return math.isfinite(float(field))
    except ValueError:
        return False


def _sections(path: Path) -> dict[str, list[list[str]]]:
    sections: dict[str, list[list[str]]] = {}
    name = ""
    for number, line in _lines(path):
        if line.startswith(":"):
            name = line[1:].strip()
            continue
        words = line.split()
        if len(words) != 4:
            raise DataError(f"“{line}”", where=f"{path}, line {number}", expected="four words, or : and a name")
        sections.setdefault(name, []).append(words)
    return sections
