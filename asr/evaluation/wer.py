"""Word and character error rates with confidence intervals.

Texts are compared as they are, apart from white space: normalise both alike before. Alignments are jiwer's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jiwer
import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError

NO_VALUE = "(none)"  # how `breakdown` names a field that is missing, null or empty


@dataclass(frozen=True)
class Answer:
    """What a recogniser heard in one recording, beside what was said.

    Args:
        id: what the reader knows it by, such as its file.
        reference: what was said; may be empty.
        hypothesis: what was heard; may be empty.
        fields: what else is known of it; "speaker" is the one that confidence intervals look at.
    """

    id: str
    reference: str
    hypothesis: str
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """Error rates of a set of utterances, as fractions.

    Args:
        utterances: their number.
        words: in the references.
        characters: in the references, single spaces between words among them.
        substitutions: words heard as others.
        deletions: words not heard.
        insertions: words heard where none was said.
        wer: word errors over words.
        cer: character errors over characters.
        ci_low: lower end of the word error rate's confidence interval.
        ci_high: upper end.
        sentence_error_rate: share of the utterances with an error.
        confidence: of the interval.
        resampled: what the bootstrap drew, speakers or utterances.
    """

    utterances: int
    words: int
    characters: int
    substitutions: int
    deletions: int
    insertions: int
    wer: float
    cer: float
    ci_low: float
    ci_high: float
    sentence_error_rate: float
    confidence: float = 0.95
    resampled: Literal["speakers", "utterances"] = "utterances"

    @property
    def errors(self) -> int:
        """Word errors."""
        return self.substitutions + self.deletions + self.insertions


class Edit(NamedTuple):
    """A step of an alignment.

    Args:
        kind: C correct, S substituted, D deleted, I inserted.
        reference: the word, "" where it was inserted.
        hypothesis: the word, "" where it was deleted.
    """

    kind: Literal["C", "S", "D", "I"]
    reference: str
    hypothesis: str


def align(reference: str, hypothesis: str) -> list[Edit]:
    """Align the words of two texts with the fewest errors."""
    output = jiwer.process_words(_single_spaced(reference), _single_spaced(hypothesis))
    said, heard = output.references[0], output.hypotheses[0]
    edits: list[Edit] = []
    for chunk in output.alignments[0]:
        before = said[chunk.ref_start_idx : chunk.ref_end_idx]
        after = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
        match chunk.type:
            case "delete":
                edits.extend(Edit("D", word, "") for word in before)
            case "insert":
                edits.extend(Edit("I", "", word) for word in after)
            case kind:
                mark: Literal["C", "S"] = "C" if kind == "equal" else "S"
                edits.extend(Edit(mark, *pair) for pair in zip(before, after, strict=True))
    return edits


def score(answers: Sequence[Answer], bootstrap: int = 1000, confidence: float = 0.95, seed: int = 0) -> Score:
    """Word and character error rate over all utterances together, none left out.

    The confidence interval is the bootstrap's percentile interval of the word error rate (Bisani & Ney 2004).
    Words of one speaker succeed and fail together, so whole speakers are drawn where every utterance has a
    "speaker" and there are at least two; else utterances are.

    Args:
        answers: an empty reference counts what was heard as insertions.
        bootstrap: number of resamples.
        confidence: probability that the interval is to cover, between 0 and 1.
        seed: of the resampling.

    Raises:
        DataError: no reference holds a word.
    """
    refuse_wordless([answer.reference for answer in answers])
    return _score(answers, bootstrap, confidence, seed)


def refuse_wordless(references: Sequence[str]) -> None:
    """Refuse to measure where nothing was said.

    Raises:
        DataError: no reference holds a word.
    """
    if not any(reference.split() for reference in references):
        raise DataError(
            f"no words in the references of {len(references)} utterances",
            expected="at least one: an error rate is errors per word that was said",
        )


def breakdown(
    answers: Sequence[Answer],
    field: str,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Score]:
    """Scores apart for each value of a field, in the order of the values: numbers, then texts, then "(none)".

    Where a value's references hold no words at all, its rates are numbers of errors, which is jiwer's convention.

    Args:
        answers: each counts for one value; for "(none)" where the field is missing, null or empty.
        field: a key of `Answer.fields`.
        bootstrap: as in `score`, and so are the others.
    """
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(_value(answer, field), []).append(answer)
    return {value: _score(groups[value], bootstrap, confidence, seed) for value in sorted(groups, key=_rank)}


def count_words(answers: Iterable[Answer]) -> NDArray[np.int64]:
    """Words and errors of each answer.

    Returns:
        (answers, 4) numbers of words said, substituted, deleted and inserted.
    """
    kinds = [[edit.kind for edit in align(a.reference, a.hypothesis)] for a in answers]
    return np.array(
        [(len(k) - k.count("I"), k.count("S"), k.count("D"), k.count("I")) for k in kinds], dtype=np.int64
    )


def _score(answers: Sequence[Answer], bootstrap: int, confidence: float, seed: int) -> Score:
    counts = count_words(answers)
    words, substitutions, deletions, insertions = (int(total) for total in counts.sum(axis=0))
    errors = counts[:, 1:].sum(axis=1)
    characters = jiwer.process_characters(
        [_single_spaced(answer.reference) for answer in answers],
        [_single_spaced(answer.hypothesis) for answer in answers],
    )
    speakers = _speakers(answers)
    draws = np.arange(len(answers)) if speakers is None else speakers
    low, high = _interval(draws, errors, counts[:, 0], bootstrap, confidence, np.random.default_rng(seed))
    return Score(
        utterances=len(answers),
        words=words,
        characters=characters.hits + characters.substitutions + characters.deletions,
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        wer=float(errors.sum() / max(words, 1)),
        cer=float(characters.cer),
        ci_low=low,
        ci_high=high,
        sentence_error_rate=float((errors > 0).mean()),
        confidence=confidence,
        resampled="utterances" if speakers is None else "speakers",
    )


def _interval(
    groups: NDArray[np.intp],
    errors: NDArray[np.int64],
    words: NDArray[np.int64],
    bootstrap: int,
    confidence: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """The percentile interval of errors per word, groups being drawn with replacement.

    Draws of groups that say nothing have no such rate, and do not count, unless there are no others.

    Args:
        groups: (utterances,) the group of each, from 0.
        errors: (utterances,)
        words: (utterances,)
        bootstrap: number of resamples.
        confidence: share of the resamples that lie in the interval.
        rng: draws them.
    """
    group_errors, group_words = np.bincount(groups, errors), np.bincount(groups, words)
    size = len(group_errors)
    drawn_errors, drawn_words = [], []
    at_once = max(1, 2**20 // size)  # bounds the memory: 8 MB of draws
    for first in range(0, bootstrap, at_once):
        drawn = rng.integers(size, size=(min(at_once, bootstrap - first), size))
        drawn_errors.append(group_errors[drawn].sum(axis=1))
        drawn_words.append(group_words[drawn].sum(axis=1))
    totals = np.concatenate(drawn_words)
    rates = np.concatenate(drawn_errors) / np.maximum(totals, 1)
    rates = rates[totals > 0] if totals.any() else rates
    low, high = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _speakers(answers: Sequence[Answer]) -> NDArray[np.intp] | None:
    """The number of each utterance's speaker, or None where they aren't all known or there is only one."""
    names = [_value(answer, "speaker") for answer in answers]
    speakers, numbers = np.unique(names, return_inverse=True)
    return None if NO_VALUE in names or len(speakers) < 2 else numbers


def _value(answer: Answer, field: str) -> str:
    value = answer.fields.get(field)
    return NO_VALUE if value is None or value == "" else str(value)


def _rank(value: str) -> tuple[int, float, str]:
    """Where a value stands in a breakdown."""
    if value == NO_VALUE:
        return 2, 0.0, value
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    return (0, number, value) if math.isfinite(number) else (1, 0.0, value)


def _single_spaced(text: str) -> str:
    return " ".join(text.split())
