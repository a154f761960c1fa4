"""N-gram language models as automata that back off, for questions from compiled functions.

A state is the longest end of the words so far that can still matter. The answer to (state, word) is the n-gram
that extends the state by the word or, where there is none, the state's back-off weight and the answer of its next
shorter state (Katz 1987, "Estimation of probabilities from sparse data"; for the states, Heafield 2011, "KenLM:
faster and smaller language model queries").
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.cache import cache_folder
from asr.compiled import compiled, kernel
from asr.errors import ConfigError, DataError, DiskFullError, refuse_newer_format
from asr.hashing import EMPTY, Table, arc, find
from asr.text import arpa, compact
from asr.text.arpa import UNKNOWN, Entries

START, END = "<s>", "</s>"
SPECIAL = (UNKNOWN, START, END)
SMALLEST = 1e-99
"""In place of a probability of 0, which has no logarithm."""
SUFFIX = ".ngram"
_KIND = "asr n-gram"
FORMAT_VERSION = 1
"""Of the compact form; raised whenever an older asr could not read, or would misread, what is written."""

# The arrays of a compact file, with logarithms in 32 and in 16 bits.
_WHOLE = {
    "keys": np.int64,
    "values": np.int32,
    "log_prob": np.float32,
    "next_state": np.int32,
    "backoff": np.float32,
    "fallback": np.int32,
}
_HALF = {"parent": np.int32, "last": np.int32, "log_prob": np.float16, "backoff": np.float16}


class Ngram(NamedTuple):
    """The automaton, in flat arrays with an element for each n-gram.

    N-gram 0 is the empty one, n-gram 1 + word the unigram of that word; longer ones follow, by length. A state is
    an n-gram that longer ones begin with or that has a back-off weight; state 0 is the empty context.

    Attributes:
        arcs: `arc(state, word)` to the n-gram that is longer by that word, for two words and more.
        log_prob: natural logarithm of its probability.
        next_state: the state after it: itself, or the longest end of it that is one.
        backoff: natural logarithm of its back-off weight as a state.
        fallback: the state that is asked next: the longest of its ends, but for itself, that is one.
    """

    arcs: Table
    log_prob: NDArray[np.float32]
    next_state: NDArray[np.int32]
    backoff: NDArray[np.float32]
    fallback: NDArray[np.int32]


@kernel
def score(ngram: Ngram, state: int, word: int) -> tuple[float, int]:
    """Natural log-probability of a word in a state, and the state after it."""
    total = 0.0
    while state != 0:
        longer = find(ngram.arcs, arc(state, word))
        if longer >= 0:
            return total + ngram.log_prob[longer], int(ngram.next_state[longer])
        total += ngram.backoff[state]
        state = int(ngram.fallback[state])
    return total + ngram.log_prob[1 + word], int(ngram.next_state[1 + word])


@dataclass(frozen=True, eq=False)
class NgramModel:
    """An n-gram language model.

    Attributes:
        order: words in its longest n-grams.
        words: its vocabulary; a word's number is its place in it. <s> begins a sentence, </s> ends it, and <unk>,
            which is always there, stands for every other word.
        ngram: its n-grams.
    """

    order: int
    words: tuple[str, ...]
    ngram: Ngram

    @cached_property
    def start(self) -> int:
        """The state at the beginning of a sentence; that of no context where there is no <s>."""
        return int(self.ngram.next_state[1 + self._ids[START]]) if START in self else 0

    @cached_property
    def end(self) -> int:
        """The number of </s>, or -1."""
        return self._ids.get(END, -1)

    @cached_property
    def unknown(self) -> int:
        """The number of <unk>."""
        return self._ids[UNKNOWN]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def id(self, word: str) -> int:
        """The number of a word; that of <unk> for one outside the vocabulary."""
        return self._ids.get(word, self.unknown)

    def log_probs(self, words: Sequence[str], bos: bool = True, eos: bool = True) -> NDArray[np.float64]:
        """Natural log-probability of each word after those before it.

        Args:
            words: of a sentence, or a part of one.
            bos: it is the beginning: <s> stands before it.
            eos: it is the end: </s> counts as one more word, where the model has it.
        """
        ids = [self.id(word) for word in words]
        if eos and self.end >= 0:
            ids.append(self.end)
        return _scores(self.ngram, self.start if bos else 0, np.array(ids, np.int64))

    def scored(self, texts: Iterable[str]) -> Iterator[tuple[list[str], NDArray[np.float64]]]:
        """The words of sentences, and what `log_probs` says of them."""
        for text in texts:
            words = text.split()
            yield words, self.log_probs(words)

    def log_prob(self, words: Sequence[str], bos: bool = True, eos: bool = True) -> float:
        """Natural log-probability of a sentence; the arguments are those of `log_probs`."""
        return float(self.log_probs(words, bos, eos).sum())


def log_probabilities(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Natural logarithms of probabilities, which rounding may have taken a little above 1: never positive."""
    return np.minimum(np.log(np.maximum(values, SMALLEST)), 0)


def from_entries(entries: Entries) -> NgramModel:
    """A model of n-grams that are listed one by one."""
    next_state, fallback = _link(entries.arcs, entries.parent, entries.last, entries.backoff)
    ngram = Ngram(entries.arcs, entries.log_prob, next_state, entries.backoff, fallback)
    return NgramModel(len(entries.counts), entries.words, ngram)


def to_entries(model: NgramModel) -> Entries:
    """List a model's n-grams."""
    arcs = model.ngram.arcs
    occupied = arcs.keys != EMPTY
    parent, last = (np.zeros(len(model.ngram.log_prob), np.int32) for _ in range(2))
    last[1 : 1 + len(model.words)] = np.arange(len(model.words))
    longer = arcs.values[occupied]
    parent[longer] = arcs.keys[occupied] >> 32
    last[longer] = arcs.keys[occupied] & 0x7FFFFFFF
    counts = _counts(parent, len(model.words), model.order)
    return Entries(model.words, counts, arcs, parent, last, model.ngram.log_prob, model.ngram.backoff)


def _counts(parent: NDArray[np.int32], words: int, order: int) -> tuple[int, ...]:
    """The number of n-grams of each length: they are longer by one than their parents, and sorted by length."""
    counts, begin = [words], 1
    for _ in range(1, order):
        end = begin + counts[-1]
        counts.append(int(np.count_nonzero((parent >= begin) & (parent < end))))
        begin = end
    return tuple(counts)


def load(path: str | Path) -> NgramModel:
    """Read a language model: an ARPA file of any tool, compressed by gzip or not, or the compact form.

    The compact form of an ARPA file is kept in the user's cache folder (that of platformdirs, or `ASR_CACHE` of
    the environment), one for each path, so that the next time the model is there at once.

    Raises:
        DataError: there is no such file, or it is wrong: where, and what it should hold.
    """
    path = Path(path)
    if not path.is_file():
        there = "this is a folder" if path.is_dir() else "this is a pipe or a device"
        what = there if path.exists() else "there is no such file"
        raise DataError(what, where=path, expected="an n-gram language model, as ARPA or in asr's compact form")
    return _load_compact(path) if compact.is_compact(path) else _load_arpa(path)


def save(model: NgramModel, path: str | Path, half: bool = False) -> None:
    """Write a model, atomically: as ARPA where the name ends in .arpa or .arpa.gz, in the compact form in .ngram.

    Args:
        model: the model.
        path: of the file to make.
        half: store logarithms in 16 bits, an error of at most 0.05 %, and leave out what can be computed while
            loading: a quarter of the size, but a tenth of a second to load a million n-grams.

    Raises:
        ConfigError: the name ends in something else, or means ARPA, which has no half precision.
    """
    path = Path(path)
    check_name(path, half)
    if path.suffix != SUFFIX:
        arpa.write(to_entries(model), path)
    elif half:
        _save_half(model, path)
    else:
        _save_whole(model, path, {})


def check_name(path: Path, half: bool = False) -> None:
    """Refuse what `save` would refuse.

    Raises:
        ConfigError: the name does not end in .ngram or, but for half precision, .arpa or .arpa.gz.
    """
    if half and path.suffix != SUFFIX:
        raise ConfigError("only the compact form has half precision", where=path, expected=f"*{SUFFIX}")
    if not path.name.endswith((SUFFIX, ".arpa", ".arpa.gz")):
        expected = f"a name that ends in {SUFFIX} (compact), .arpa or .arpa.gz"
        raise ConfigError("this name does not say how the model is to be written", where=path, expected=expected)


def _load_arpa(path: Path) -> NgramModel:
    kept = cache_folder() / "ngram" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}{SUFFIX}"
    state = path.stat()
    stamp = {"source": f"{state.st_size} bytes, {state.st_mtime_ns} ns"}
    try:
        return _load_compact(kept, stamp)
    except (OSError, DataError):
        model = from_entries(arpa.read(path))
    with suppress(OSError, DiskFullError):  # a cache that can't be written costs time, not the answer
        _save_whole(model, kept, stamp)
    return model


def _save_whole(model: NgramModel, path: Path, metadata: Mapping[str, str]) -> None:
    """Write all arrays as they are in memory."""
    arrays = model.ngram._asdict() | model.ngram.arcs._asdict()
    del arrays["arcs"]
    compact.save(path, arrays | _spelled(model), _described(model) | dict(metadata))


def _save_half(model: NgramModel, path: Path) -> None:
    """Write n-grams one by one."""
    entries = to_entries(model)
    arrays = {"parent": entries.parent, "last": entries.last}
    halves = {"log_prob": entries.log_prob.astype(np.float16), "backoff": entries.backoff.astype(np.float16)}
    compact.save(path, arrays | halves | _spelled(model), _described(model))


def _spelled(model: NgramModel) -> dict[str, NDArray[Any]]:
    return {"words": np.frombuffer("\n".join(model.words).encode(), np.uint8)}


def _described(model: NgramModel) -> dict[str, str]:
    return {"format": f"{_KIND} {FORMAT_VERSION}", "order": str(model.order)}


def is_saved(path: Path) -> bool:
    """Whether a file that is there says that it holds n-grams in the compact form.

    Raises:
        DataError: it is damaged.
    """
    return compact.is_compact(path) and compact.metadata(path).get("format", "").startswith(_KIND)


def _load_compact(path: Path, source: Mapping[str, str] | None = None) -> NgramModel:
    """Read a compact file; what its metadata say of its source must be as given.

    Raises:
        DataError: it is damaged, from a newer asr, or of another source.
    """
    if not is_saved(path):
        raise DataError("this is no n-gram language model", where=path, expected="ARPA, or asr's compact form")
    metadata, arrays = compact.load(path)
    try:
        version = int(metadata["format"].removeprefix(_KIND))
        refuse_newer_format(version, FORMAT_VERSION, "language model", path)
        for name, value in (source or {}).items():
            if metadata.get(name) != value:
                raise ValueError(f"{name} is {metadata.get(name)}, not {value}")
        words = tuple(arrays["words"].tobytes().decode().split("\n"))
        _require(UNKNOWN in words)
        read = _from_half if "parent" in arrays else _from_whole
        return read(words, int(metadata["order"]), arrays)
    except (ValueError, KeyError) as error:
        hint = "copy or build it again"
        raise DataError(f"no n-gram model that this asr reads: {error!r}", where=path, hint=hint) from None


def _from_whole(words: tuple[str, ...], order: int, arrays: Mapping[str, NDArray[Any]]) -> NgramModel:
    keys, values, *rest = _chosen(arrays, _WHOLE)
    ngram = Ngram(Table(keys, values), *rest)
    capacity = len(keys)
    _require(len({len(array) for array in ngram[1:]}) == 1)
    _require(capacity == len(values) and capacity > 0 and capacity & (capacity - 1) == 0)
    _require(_is_sound(ngram, len(words)))
    return NgramModel(order, words, ngram)


def _from_half(words: tuple[str, ...], order: int, arrays: Mapping[str, NDArray[Any]]) -> NgramModel:
    parent, last, log_prob, backoff = _chosen(arrays, _HALF)
    unigrams = 1 + len(words)
    _require(len(parent) == len(last) == len(log_prob) == len(backoff) >= unigrams)
    _require(not parent[:unigrams].any() and np.array_equal(last[1:unigrams], np.arange(len(words))))
    _require(bool(((parent > 0) & (parent < np.arange(len(parent))))[unigrams:].all()))
    _require(bool(((last >= 0) & (last < len(words))).all()))
    counts = _counts(parent, len(words), order)
    _require(sum(counts) == len(parent) - 1)
    return from_entries(
        arpa.connected(words, counts, parent, last, *(part.astype(np.float32) for part in (log_prob, backoff)))
    )


def _chosen(arrays: Mapping[str, NDArray[Any]], dtypes: Mapping[str, type]) -> list[NDArray[Any]]:
    for name, dtype in dtypes.items():
        _require(arrays[name].dtype == dtype)
    return [arrays[name] for name in dtypes]


def _require(condition: bool) -> None:
    """Refuse arrays that would lead compiled functions outside of them, or round in circles."""
    if not condition:
        raise ValueError("arrays that contradict each other")


@compiled
def _is_sound(ngram: Ngram, words: int) -> bool:
    entries = len(ngram.log_prob)
    for state in range(entries):
        if not 0 <= ngram.next_state[state] <= state or not 0 <= ngram.fallback[state] <= max(state - 1, 0):
            return False
    free = 0
    for slot in range(len(ngram.arcs.keys)):
        free += ngram.arcs.keys[slot] == EMPTY
        if not 0 <= ngram.arcs.values[slot] < entries:
            return False
    return free > 0 and words < entries


@compiled
def _link(
    arcs: Table, parent: NDArray[np.int32], last: NDArray[np.int32], backoff: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The states after each n-gram and those to fall back to, in the way of Aho & Corasick 1975."""
    entries = len(parent)
    suffix = np.zeros(entries, np.int32)
    next_state, fallback = np.zeros_like(suffix), np.zeros_like(suffix)
    extended = np.zeros(entries, np.bool_)
    for entry in range(1, entries):
        extended[parent[entry]] = True
    for entry in range(1, entries):
        suffix[entry] = longest_end(arcs, suffix, parent[entry], last[entry])
        fallback[entry] = next_state[suffix[entry]]
        is_state = extended[entry] or backoff[entry] != 0
        next_state[entry] = entry if is_state else fallback[entry]
    return next_state, fallback


@compiled
def longest_end(arcs: Table, suffix: NDArray[np.int32], parent: int, last: int) -> int:
    """The longest end of an n-gram, but for itself, that is an n-gram too."""
    if parent == 0:
        return 0
    context = int(suffix[parent])
    while context != 0:
        found = find(arcs, arc(context, last))
        if found >= 0:
            return found
        context = int(suffix[context])
    return 1 + last


@compiled
def _scores(ngram: Ngram, state: int, words: NDArray[np.int64]) -> NDArray[np.float64]:
    scores = np.zeros(len(words))
    for index in range(len(words)):
        scores[index], state = score(ngram, state, words[index])
    return scores
