"""Word vectors of a text: word2vec.

Mikolov et al. 2013, "Efficient estimation of word representations in vector space", and "Distributed
representations of words and phrases and their compositionality".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from asr.errors import ConfigError, DataError
from asr.text import phrases, spool
from asr.text.spool import SEPARATOR, NumberedText
from asr.text.vectors import WordVectors
from asr.text.word2vec_model import Learn, Model, Objective, Piece, initial

Architecture = Literal["skip-gram", "cbow"]
Engine = Literal["numba", "torch"]

RATES: dict[Architecture, float] = {"skip-gram": 0.025, "cbow": 0.05}
"""The learning rates at the start, as in the word2vec program."""

_LOWEST = 1e-4  # of the learning rate, at the end
_DROPPED = -2


def train(
    texts: Iterable[str],
    *,
    dim: int = 100,
    architecture: Architecture = "skip-gram",
    objective: Objective = "negative",
    window: int = 5,
    negatives: int = 5,
    min_count: int = 5,
    subsample: float = 1e-3,
    epochs: int = 5,
    learning_rate: float | None = None,
    phrase_passes: int = 0,
    phrase_threshold: float = 100.0,
    threads: int | None = None,
    seed: int = 1,
    engine: Engine = "numba",
    device: str = "cpu",
    on_progress: Callable[[int, int], None] | None = None,
) -> WordVectors:
    """Learn vectors of the words of a text.

    The text is read once; the numbers of its words are kept in a temporary file, 4 bytes each. Memory goes by the
    number of different words.

    Args:
        texts: sentences, their words apart by white space.
        dim: numbers in a vector.
        architecture: whether a word is told from each word around it (skip-gram), or from all together (CBOW).
        objective: negative sampling, hierarchical softmax or sampled softmax.
        window: most words on either side that count as around; for each word, any number up to it is as likely.
        negatives: words drawn for each word, by their counts to the power of 0.75; not for hierarchical softmax.
        min_count: words that occur less often are left out.
        subsample: of words with a greater share of the text than this, some are left out, as in the word2vec
            program; 0: none.
        epochs: how often the text is gone through.
        learning_rate: at the start, from where it falls in a line; by default `RATES`.
        phrase_passes: how often to join words to phrases, such as New_York, first. Each may double their length.
        phrase_threshold: how much more often than by chance they are to stand together: see `asr.text.phrases`.
        threads: of the numba engine; by default as many as there are cores. The outcome varies a little with more
            than one.
        seed: for the same vectors again, on a CPU with one thread; a GPU adds numbers up in any order.
        engine: numba, for the CPU; or torch, which learns from large batches, for a GPU.
        device: of the torch engine, as PyTorch names it.
        on_progress: called with the number of words that are done, and of all, those of later epochs included.

    Returns:
        The vectors, not normalised, of words from the most frequent on.

    Raises:
        ConfigError: an argument makes no sense, or there is no such device.
        DataError: there are no words, or none occurs often enough.
    """
    _check(architecture, objective, engine)
    _check_device(engine, device)
    workers = os.cpu_count() or 1 if threads is None else threads
    sizes = {"dim": dim, "window": window, "negatives": negatives, "min_count": min_count, "epochs": epochs}
    _check_sizes({**sizes, "threads": workers})
    text = spool.read(texts)
    for _ in range(phrase_passes):
        text = phrases.join(text, phrase_threshold, discount=min_count)
    vocabulary = _vocabulary(text, min_count, subsample)
    generator = np.random.default_rng(seed)
    cbow = architecture == "cbow"
    model = initial(vocabulary.counts, dim, cbow, objective, window, negatives, generator)
    rate = RATES[architecture] if learning_rate is None else learning_rate
    size, training = _engine(engine, model, workers, device, rate)
    with training as learn:
        learn(_pieces(text, vocabulary, _Schedule(rate, size, epochs), generator, on_progress))
    return WordVectors(vocabulary.words, model.inputs)


def warm(engine: Engine = "numba") -> None:
    """Compile what `train` needs, or load it where that has been done before."""
    train(["a"], dim=1, min_count=1, epochs=1, phrase_passes=1, threads=1, engine=engine)


def _check(architecture: str, objective: str, engine: str) -> None:
    for name, value, choices in (
        ("architecture", architecture, get_args(Architecture)),
        ("objective", objective, get_args(Objective)),
        ("engine", engine, get_args(Engine)),
    ):
        if value not in choices:
            raise ConfigError(f"the {name} “{value}”", expected=" or ".join(choices))


def _check_device(engine: Engine, device: str) -> None:
    if engine == "torch":
        from asr.text import word2vec_torch

        word2vec_torch.check(device)
    elif device != "cpu":
        raise ConfigError(f"the numba engine can't use the device “{device}”", hint="the torch engine can")


def _check_sizes(sizes: dict[str, int]) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise ConfigError(f"{name} is {value}", expected="at least 1")


@dataclass(frozen=True, eq=False)
class _Vocabulary:
    """The words that get vectors, the most frequent first.

    Attributes:
        words, counts: of each word.
        numbers: of each word of the text, its place here or `_DROPPED`; and at the end, which is at `SEPARATOR`,
            the latter itself.
        kept: with which probability each occurrence of a word is kept; and at the end, for `SEPARATOR`, 1.
    """

    words: tuple[str, ...]
    counts: NDArray[np.int64]
    numbers: NDArray[np.int32]
    kept: NDArray[np.float32]


def _vocabulary(text: NumberedText, min_count: int, subsample: float) -> _Vocabulary:
    order = np.argsort(-text.counts, kind="stable")
    order = order[text.counts[order] >= min_count]
    if not len(order):
        most = f"“{text.words[text.counts.argmax()]}”, the most frequent, occurs {text.counts.max()} times"
        hint = "a lower minimum count (--min-count), or more text"
        raise DataError(f"no word occurs {min_count} times", expected=most, hint=hint)
    numbers = np.full(len(text.words) + 1, _DROPPED, np.int32)
    numbers[order] = np.arange(len(order))
    numbers[SEPARATOR] = SEPARATOR
    counts = text.counts[order]
    words = tuple(text.words[index] for index in order.tolist())
    kept = np.append(shares_kept(counts, subsample), np.float32(1))
    return _Vocabulary(words, counts, numbers, kept)


def shares_kept(counts: NDArray[np.int64], subsample: float) -> NDArray[np.float32]:
    """The shares of words' occurrences that are kept, as in the word2vec program.

    It keeps more than the paper says, which has the square root alone.
    """
    if subsample == 0:
        return np.ones(len(counts), np.float32)
    ratio = subsample * counts.sum() / counts
    kept: NDArray[np.float32] = np.minimum(np.sqrt(ratio) + ratio, 1).astype(np.float32)
    return kept


@dataclass(frozen=True)
class _Schedule:
    """How the text is gone through.

    Attributes:
        rate: the learning rate at the start.
        size: words in a piece, before some are left out.
        epochs: times.
    """

    rate: float
    size: int
    epochs: int


def _engine(
    engine: Engine, model: Model, threads: int, device: str, rate: float
) -> tuple[int, AbstractContextManager[Learn]]:
    """The size of pieces, and what learns from them."""
    if engine == "numba":
        from asr.text import word2vec_numba

        return word2vec_numba.PIECE, word2vec_numba.training(model, threads)
    from asr.text import word2vec_torch

    return word2vec_torch.piece(len(model.inputs)), word2vec_torch.training(model, device, rate)


def _pieces(
    text: NumberedText,
    vocabulary: _Vocabulary,
    schedule: _Schedule,
    generator: np.random.Generator,
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[Piece]:
    """What is to be learnt, all epochs, while the learning rate falls; and word of each piece that is done."""
    total = int(vocabulary.counts.sum()) * schedule.epochs
    done = 0
    for _ in range(schedule.epochs):
        for block in text.blocks:
            for begin in range(0, len(block), schedule.size):
                ids = vocabulary.numbers[block[begin : begin + schedule.size]]
                rate = schedule.rate * max(1 - done / total, _LOWEST)
                yield Piece(thin(ids, vocabulary.kept, generator), rate, int(generator.integers(1, 1 << 63)))
                done += int(np.count_nonzero(ids >= 0))
                if on_progress:
                    on_progress(done, total)


def thin(ids: NDArray[np.int32], kept: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.int32]:
    """Leave out words that have no vector, and some of the frequent ones.

    Args:
        ids: words, `SEPARATOR`, and what has no vector.
        kept: the share of each word's occurrences to keep; and at the end, which is at `SEPARATOR`, 1.
        generator: draws them.
    """
    ids = ids[ids != _DROPPED]
    return ids[generator.random(len(ids), np.float32) < kept[ids]]
