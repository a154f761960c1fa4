"""N-gram models of a text, by interpolated modified Kneser-Ney smoothing.

Chen & Goodman 1998, "An empirical study of smoothing techniques for language modeling", with what KenLM's `lmplz`
decides where they leave a choice (Heafield et al. 2013, "Scalable modified Kneser-Ney language model estimation"):
unigrams are interpolated with a uniform distribution that includes <unk>, n-grams that begin with <s> keep their
counts, and the probability of n-grams that are pruned goes to the shorter ones.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr import hashing
from asr.compiled import compiled
from asr.errors import ConfigError, DataError
from asr.hashing import Table, arc, setdefault
from asr.text import ngram
from asr.text.arpa import Entries, connected
from asr.text.ngram import SPECIAL, NgramModel, log_probabilities

FALLBACK = (0.5, 1.0, 1.5)
"""The discounts where a text has too few counts to derive them; lmplz's."""

_UNKNOWN, _START, _END = range(3)  # their numbers
_CHUNK = 1 << 20  # tokens that are counted at once

Discounts = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A model, and how it came about.

    Attributes:
        model: the model.
        sentences, tokens: of the text; <s> and </s> are no tokens.
        discounts: for each length of n-grams, what is taken from counts of one, two, and three or more.
        derived: for each length, whether the text gave the discounts; else they are `FALLBACK`.
    """

    model: NgramModel
    sentences: int
    tokens: int
    discounts: tuple[Discounts, ...]
    derived: tuple[bool, ...]


def build(
    texts: Iterable[str], order: int, prune: Sequence[int] = (), vocabulary: int | Iterable[str] | None = None
) -> Estimate:
    """Estimate a model.

    The texts are read once and not kept: memory goes by the number of different n-grams.

    Args:
        texts: sentences, their words apart by white space. Those without words are left out.
        order: words in the longest n-grams. The model's is less where no sentence is so long.
        prune: for each length, n-grams that occur so often or less are left out. The last number holds for all
            longer ones. None may be smaller than the one before it.
        vocabulary: which of the text's words the model is to know, or how many, the most frequent ones; by default
            all.

    Raises:
        ConfigError: an argument makes no sense.
        DataError: there are no words, or none that the model is to know; or <s>, </s> or <unk> is among them.
    """
    thresholds = _thresholds(order, prune)
    if isinstance(vocabulary, int) and vocabulary < 1:
        raise ConfigError(f"a vocabulary of {vocabulary} words", expected="at least 1")
    words, levels = _count(texts, order)
    counts = _adjusted(levels)
    derived = [_derived(each) for each in counts]
    discounts = [FALLBACK if each is None else each for each in derived]
    kept = _kept(levels, thresholds, _known(words, levels[0], vocabulary))
    if kept[0].sum() == len(SPECIAL):
        raise DataError(
            "the model would know no word",
            expected="words in the text that are in the vocabulary, and occur more often than what is left out",
            hint="--model, for a list of words and a text that differ in letter case",
        )
    entries = _entries(words, levels, _smooth(levels, counts, discounts, kept), kept)
    sentences = int(levels[0].raw[_START])
    tokens = int(levels[0].raw.sum()) - 2 * sentences
    return Estimate(
        ngram.from_entries(entries),
        sentences,
        tokens,
        tuple(discounts),
        tuple(each is not None for each in derived),
    )


def _thresholds(order: int, prune: Sequence[int]) -> list[int]:
    if order < 1:
        raise ConfigError(f"n-grams of {order} words", expected="at least 1")
    if len(prune) > order:
        raise ConfigError(f"{len(prune)} thresholds for n-grams of {order} words", expected=f"at most {order}")
    if any(number < 0 for number in prune) or sorted(prune) != list(prune):
        shown = " ".join(map(str, prune))
        raise ConfigError(
            f"the thresholds {shown}", expected="numbers of 0 or more, none smaller than the one before"
        )
    return [*prune, *[prune[-1] if prune else 0] * (order - len(prune))]


# Counting


class _Level(NamedTuple):
    """The n-grams of one length, in arrays with room for more."""

    size: NDArray[np.int64]  # one number: how many there are
    arcs: Table  # `arc(shorter, word)` to the n-gram that is longer than a shorter one by that word
    parent: NDArray[np.int32]  # the shorter n-gram of all words but the last
    last: NDArray[np.int32]  # the last word
    suffix: NDArray[np.int32]  # the shorter n-gram of all words but the first
    raw: NDArray[np.int32]  # how often it occurs
    extensions: NDArray[np.int32]  # how many different words stand before it


class _Counted(NamedTuple):
    """A level when all is counted."""

    parent: NDArray[np.int32]
    last: NDArray[np.int32]
    suffix: NDArray[np.int32]
    raw: NDArray[np.int32]
    extensions: NDArray[np.int32]


def _count(texts: Iterable[str], order: int) -> tuple[list[str], list[_Counted]]:
    """The words of texts, and their n-grams of each length. Unigrams are numbered as words are."""
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    for word in SPECIAL:
        numbers[word]
    levels = [_level(0) for _ in range(order)]
    for tokens in _chunks(texts, numbers):
        levels[0] = _with_words(levels[0], len(numbers))
        _count_words(tokens, levels[0])
        windows = tokens
        for length in range(1, order):
            levels[length] = _with_room(levels[length], len(tokens))
            windows = _count_longer(tokens, windows, levels[length], levels[length - 1])
    if not levels[0].size[0]:
        raise DataError("the text has no words", expected="a sentence to a line")
    counted = [_Counted(*(part[: level.size[0]] for part in level[2:])) for level in levels if level.size[0]]
    return list(numbers), counted


def _chunks(texts: Iterable[str], numbers: defaultdict[str, int]) -> Iterator[NDArray[np.int32]]:
    """The numbers of words, whole sentences from <s> to </s>, about as many as are counted at once."""
    tokens = array("i")
    for text in texts:
        words = text.split()
        if not words:
            continue
        begin = len(tokens)
        tokens.append(_START)
        tokens.extend(map(numbers.__getitem__, words))
        if min(tokens[begin + 1 :]) <= _END:
            expected = f"text without {', '.join(SPECIAL)}, which are added to a model"
            raise DataError(f"a special word in “{text.strip()}”", expected=expected)
        tokens.append(_END)
        if len(tokens) >= _CHUNK:
            yield np.array(tokens, np.int32)
            tokens = array("i")
    if tokens:
        yield np.array(tokens, np.int32)


def _level(entries: int) -> _Level:
    return _Level(np.zeros(1, np.int64), hashing.table(entries), *(np.zeros(entries, np.int32) for _ in range(5)))


def _with_words(level: _Level, words: int) -> _Level:
    """The level of unigrams, for so many words; they need no arcs."""
    level = level if words <= len(level.raw) else _resized(level, words + words // 2)
    level.size[0] = words
    return level


def _with_room(level: _Level, entries: int) -> _Level:
    """A level with room for so many more n-grams."""
    needed = int(level.size[0]) + entries
    if needed <= len(level.raw):
        return level
    level = _resized(level, needed + needed // 2)
    arcs = hashing.table(len(level.raw))
    hashing.copy(level.arcs, arcs)
    return level._replace(arcs=arcs)


def _resized(level: _Level, entries: int) -> _Level:
    return _Level(level.size, level.arcs, *(np.pad(part, (0, entries - len(part))) for part in level[2:]))


@compiled
def _count_words(tokens: NDArray[np.int32], level: _Level) -> None:
    for token in tokens:
        level.last[token] = token
        level.raw[token] += 1


@compiled
def _count_longer(
    tokens: NDArray[np.int32], windows: NDArray[np.int32], level: _Level, shorter: _Level
) -> NDArray[np.int32]:
    """Count the n-grams of a level.

    Args:
        tokens: whole sentences.
        windows: the shorter n-gram that ends at each token, or -1 where the sentence has not got so far.
        level: that of the n-grams.
        shorter: that of the shorter ones.

    Returns:
        The n-gram that ends at each token, or -1.
    """
    longer = np.full(len(tokens), -1, np.int32)
    for position in range(1, len(tokens)):
        if tokens[position] == _START or windows[position - 1] < 0:
            continue
        entry = setdefault(level.arcs, arc(windows[position - 1], tokens[position]), level.size[0])
        if entry == level.size[0]:
            level.size[0] += 1
            level.parent[entry] = windows[position - 1]
            level.last[entry] = tokens[position]
            level.suffix[entry] = windows[position]
            shorter.extensions[windows[position]] += 1
        level.raw[entry] += 1
        longer[position] = entry
    return longer


def _known(words: Sequence[str], unigrams: _Counted, vocabulary: int | Iterable[str] | None) -> NDArray[np.bool_]:
    """Which words the model is to know."""
    known = np.ones(len(words), np.bool_)
    regular = slice(len(SPECIAL), None)
    if isinstance(vocabulary, int):
        frequent = np.argsort(-unigrams.raw[regular], kind="stable")[:vocabulary]
        known[regular] = False
        known[frequent + len(SPECIAL)] = True
    elif vocabulary is not None:
        wanted = frozenset(vocabulary)
        known[regular] = [word in wanted for word in words[len(SPECIAL) :]]
    return known


# Estimation


class _Smoothed(NamedTuple):
    """The n-grams of one length, smoothed."""

    probability: NDArray[np.float64]
    backoff: NDArray[np.float64]  # the weights of those one word shorter


def _adjusted(levels: Sequence[_Counted]) -> list[NDArray[np.int32]]:
    """The counts that Kneser-Ney goes by: for all but the longest n-grams, of different words before them.

    Those that begin with <s> have none before them, and keep how often they occur.
    """
    counts = [np.where(level.extensions > 0, level.extensions, level.raw) for level in levels]
    counts[0][[_UNKNOWN, _START]] = 0
    return counts


def _derived(counts: NDArray[np.int32]) -> Discounts | None:
    """The discounts of equation 26 in Chen & Goodman, or None where the counts do not give them."""
    one, two, three, four = np.bincount(counts[counts <= 4], minlength=5)[1:].tolist()
    if not (one and two and three):
        return None
    share = one / (one + 2 * two)
    discounts = (1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three)
    in_range = all(0 <= discount <= number for number, discount in enumerate(discounts, start=1))
    return discounts if in_range else None


def _kept(
    levels: Sequence[_Counted], thresholds: Sequence[int], known: NDArray[np.bool_]
) -> list[NDArray[np.bool_]]:
    """Which n-grams are kept; with one its beginning and its end, because these occur as often, or more."""
    words = known & (levels[0].raw > thresholds[0])
    words[: len(SPECIAL)] = True
    kept = [words]
    for level, threshold in zip(levels[1:], thresholds[1:], strict=False):
        kept.append((level.raw > threshold) & kept[-1][level.parent] & words[level.last])
    while not kept[-1].any():
        kept.pop()
    return kept


def _smoothed(
    level: _Counted,
    counts: NDArray[np.int32],
    discounts: Discounts,
    kept: NDArray[np.bool_],
    shorter: NDArray[np.float64],
) -> _Smoothed:
    """Interpolate the n-grams of a level with the probabilities of the shorter ones."""
    amounts = np.array((0.0, *discounts))[np.minimum(counts, 3)]
    total = np.bincount(level.parent, counts, len(shorter))
    freed = np.bincount(level.parent, np.where(kept, amounts, counts), len(shorter))
    weights = np.divide(freed, total, out=np.ones(len(shorter)), where=total > 0)
    own = (counts - amounts) / total[level.parent]
    return _Smoothed(own + weights[level.parent] * shorter[level.suffix], weights)


def _smooth(
    levels: Sequence[_Counted],
    counts: Sequence[NDArray[np.int32]],
    discounts: Sequence[Discounts],
    kept: Sequence[NDArray[np.bool_]],
) -> list[_Smoothed]:
    shorter = np.array([1 / (np.count_nonzero(kept[0]) - 1)])  # uniform over all words but <s>
    smoothed = []
    for level in zip(levels, counts, discounts, kept, strict=False):
        smoothed.append(_smoothed(*level, shorter))
        shorter = smoothed[-1].probability
    smoothed[0].probability[_START] = 1  # so that <s> may be scored with its sentence
    return smoothed


def _entries(
    words: Sequence[str],
    levels: Sequence[_Counted],
    smoothed: Sequence[_Smoothed],
    kept: Sequence[NDArray[np.bool_]],
) -> Entries:
    """List what is kept."""
    counts = tuple(int(np.count_nonzero(chosen)) for chosen in kept)
    parent, last = (np.zeros(1 + sum(counts), np.int32) for _ in range(2))
    log_prob, backoff = (np.zeros(1 + sum(counts), np.float32) for _ in range(2))
    ids, shorter = _ids(kept), np.zeros(1, np.int32)
    for index, (level, chosen, mine) in enumerate(zip(levels, kept, ids, strict=False)):
        entries = mine[chosen]
        parent[entries] = shorter[level.parent[chosen]]
        last[entries] = ids[0][level.last[chosen]] - 1
        log_prob[entries] = log_probabilities(smoothed[index].probability[chosen])
        if index + 1 < len(kept):
            backoff[entries] = log_probabilities(smoothed[index + 1].backoff[chosen])
        shorter = mine
    vocabulary = tuple(word for word, chosen in zip(words, kept[0].tolist(), strict=True) if chosen)
    return connected(vocabulary, counts, parent, last, log_prob, backoff)


def _ids(kept: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.int32]]:
    """The entries of n-grams that are kept; the others' mean nothing."""
    first, ids = 1, []
    for chosen in kept:
        ids.append((first - 1 + np.cumsum(chosen)).astype(np.int32))
        first += int(np.count_nonzero(chosen))
    return ids
