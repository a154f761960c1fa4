"""Linear mixtures of n-gram models: a little text of what will be said, and much of everything else.

Jelinek & Mercer 1980; the weights by expectation maximisation. A mixture is one n-gram model again, with the
n-grams of all parts, as SRILM's `ngram -mix-lm` makes it (Stolcke 2002, "SRILM – an extensible language modeling
toolkit").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from asr.compiled import compiled, kernel
from asr.errors import ConfigError, DataError
from asr.hashing import Table, arc, find
from asr.text import ngram
from asr.text.arpa import Entries, connected
from asr.text.ngram import (
    SMALLEST,
    SPECIAL,
    START,
    Ngram,
    NgramModel,
    log_probabilities,
    longest_end,
    score,
)

ROUNDS = 200
"""Of expectation maximisation, at most."""
SETTLED = 1e-6
"""Weights that change by less in a round are left alone."""

_NOTHING = 1e-12  # what rounding leaves of a probability that is used up


def mix(models: Sequence[NgramModel], weights: Sequence[float]) -> NgramModel:
    """Mix models: the probability of a word is the weighted mean of theirs.

    That holds exactly for every n-gram that one of them has; the others back off. A word that a model does not
    know has a probability of 0 in it: its <unk> stands for words that no model knows.

    Args:
        models: with <s> and </s>, of the same kind of words.
        weights: of each, positive; their proportions count.

    Raises:
        ConfigError: there is not one positive weight for each model.
        DataError: a model has no <s> or </s>.
    """
    positive = all(weight > 0 for weight in weights) and sum(weights) < np.inf
    if not models or len(weights) != len(models) or not positive:
        raise ConfigError(f"weights {list(weights)} of {len(models)} models", expected="a positive one of each")
    _refuse_parts_of_sentences(models)
    words = tuple(dict.fromkeys((*SPECIAL, *(word for model in models for word in model.words))))
    numbers = {word: number for number, word in enumerate(words)}
    counts, parent, last = _united(
        [ngram.to_entries(model) for model in models],
        [np.array([numbers[word] for word in model.words]) for model in models],
    )
    probability = np.zeros(len(parent))
    for model, weight in zip(models, weights, strict=True):
        known = np.array([word in model for word in words])
        ids = np.array([model.id(word) for word in words])
        probability += weight / sum(weights) * _probabilities(model.ngram, ids, known, parent, last)
    probability[1 + numbers[START]] = 1  # so that <s> may be scored with its sentence
    log_prob, nothing = log_probabilities(probability).astype(np.float32), np.zeros(len(parent), np.float32)
    united = connected(words, counts, parent, last, log_prob, nothing)
    by_parent = np.argsort(parent, kind="stable")
    begins = np.searchsorted(parent[by_parent], np.arange(len(parent) + 1))
    weight_left = _backoff_weights(united.arcs, parent, last, probability, by_parent, begins)
    backoff = np.log(np.maximum(weight_left, SMALLEST)).astype(np.float32)  # which may well be above 0
    return ngram.from_entries(replace(united, backoff=backoff))


def fitting_weights(models: Sequence[NgramModel], texts: Iterable[str]) -> list[float]:
    """The weights with which a mixture foresees a text best.

    Args:
        models: as for `mix`.
        texts: sentences that none of the models has learnt from, such as the transcripts of a dev set.

    Returns:
        Positive numbers that add up to 1.

    Raises:
        DataError: the text has no words, or a model no <s> or </s>.
    """
    _refuse_parts_of_sentences(models)
    rows = [_foreseen(models, text.split()) for text in texts if text.split()]
    if not rows:
        raise DataError("the text has no words", expected="a sentence to a line")
    foreseen = np.concatenate(rows, axis=1)
    weights = np.full(len(models), 1 / len(models))
    for _ in range(ROUNDS):
        shares = weights[:, None] * foreseen
        before, weights = weights, (shares / shares.sum(0)).mean(1)
        if np.abs(weights - before).max() < SETTLED:
            break
    weights = np.maximum(weights, SETTLED)
    return [float(weight) for weight in weights / weights.sum()]


def _refuse_parts_of_sentences(models: Sequence[NgramModel]) -> None:
    if any(word not in model for model in models for word in SPECIAL):
        raise DataError("a model without <s> or </s>", expected="models of whole sentences")


def _foreseen(models: Sequence[NgramModel], words: Sequence[str]) -> NDArray[np.float64]:
    """The probability that each model gives to each word of a sentence, and its end: (models, words + 1)."""
    found = np.exp([model.log_probs(words) for model in models])
    known = np.array([[word in model for word in words] for model in models])
    found[:, :-1][~known & known.any(0)] = 0
    return found


def _united(
    lists: Sequence[Entries], numbers: Sequence[NDArray[np.int64]]
) -> tuple[tuple[int, ...], NDArray[np.int32], NDArray[np.int32]]:
    """The n-grams that any list has, by length: their counts, parents and last words.

    Args:
        lists: of each model.
        numbers: for each of its words, the word's number in the mixture.
    """
    words = 1 + max(int(each.max()) for each in numbers)
    counts, parents, lasts = [words], [np.zeros(1 + words, np.int64)], [np.arange(-1, words).clip(0)]
    united = [
        np.concatenate([[0], 1 + number, np.zeros(sum(each.counts[1:]), np.int64)])
        for each, number in zip(lists, numbers, strict=True)
    ]
    begins = [1 + len(each.words) for each in lists]
    for length in range(1, max(len(each.counts) for each in lists)):
        ranges = [
            slice(begin, begin + sum(each.counts[length : length + 1]))
            for each, begin in zip(lists, begins, strict=True)
        ]
        keys = [
            to[each.parent[place]] << 32 | number[each.last[place]]
            for each, number, to, place in zip(lists, numbers, united, ranges, strict=True)
        ]
        every = np.unique(np.concatenate(keys))
        for to, place, key in zip(united, ranges, keys, strict=True):
            to[place] = 1 + sum(counts) + np.searchsorted(every, key)
        counts.append(len(every))
        parents.append(every >> 32)
        lasts.append(every & 0x7FFFFFFF)
        begins = [place.stop for place in ranges]
    return tuple(counts), np.concatenate(parents).astype(np.int32), np.concatenate(lasts).astype(np.int32)


@compiled
def _probabilities(
    model: Ngram,
    ids: NDArray[np.int64],
    known: NDArray[np.bool_],
    parent: NDArray[np.int32],
    last: NDArray[np.int32],
) -> NDArray[np.float64]:
    """What a model says of the n-grams of a mixture, whose words have these numbers in the model."""
    states = np.zeros(len(parent), np.int64)
    found = np.zeros(len(parent))
    for entry in range(1, len(parent)):
        log_prob, states[entry] = score(model, states[parent[entry]], ids[last[entry]])
        if known[last[entry]]:
            found[entry] = np.exp(log_prob)
    return found


@compiled
def _backoff_weights(
    arcs: Table,
    parent: NDArray[np.int32],
    last: NDArray[np.int32],
    probability: NDArray[np.float64],
    by_parent: NDArray[np.int64],
    begins: NDArray[np.int64],
) -> NDArray[np.float64]:
    """What n-grams, as contexts, leave for the words that do not extend them, over what shorter ones give these."""
    weight = np.ones(len(parent))
    suffix = np.zeros(len(parent), np.int32)
    for entry in range(1, len(parent)):
        suffix[entry] = longest_end(arcs, suffix, parent[entry], last[entry])
        taken, given = 0.0, 0.0
        for place in range(begins[entry], begins[entry + 1]):
            longer = by_parent[place]
            taken += probability[longer]
            given += _backed_off(arcs, suffix, weight, probability, suffix[entry], last[longer])
        if begins[entry] < begins[entry + 1] and given < 1 - _NOTHING:
            weight[entry] = max(1 - taken, 0.0) / (1 - given)
    return weight


@kernel
def _backed_off(
    arcs: Table,
    suffix: NDArray[np.int32],
    weight: NDArray[np.float64],
    probability: NDArray[np.float64],
    context: int,
    word: int,
) -> float:
    """The probability of a word after a context whose weight, and those of its ends, are known."""
    factor = 1.0
    while context != 0:
        longer = find(arcs, arc(context, word))
        if longer >= 0:
            return factor * float(probability[longer])
        factor *= float(weight[context])
        context = int(suffix[context])
    return factor * float(probability[1 + word])
