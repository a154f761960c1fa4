"""What the engines of word2vec train, and by which objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.compiled import compiled
from asr.text import huffman
from asr.text.huffman import Paths

Objective = Literal["negative", "hierarchical", "sampled"]

NEGATIVE, HIERARCHICAL, SAMPLED = range(3)
OBJECTIVES: dict[Objective, int] = {"negative": NEGATIVE, "hierarchical": HIERARCHICAL, "sampled": SAMPLED}

POWER = 0.75  # of the counts of words, for the probability of being drawn (Mikolov et al. 2013)


class Noise(NamedTuple):
    """A distribution over words, as Walker's alias table.

    To draw, take any index, and there the index itself with probability `share`, or else `other`.
    """

    share: NDArray[np.float32]
    other: NDArray[np.int32]


class Model(NamedTuple):
    """The parameters, and what to do with them.

    The hidden vector h is the input vector of a context word (skip-gram), or the mean of those of all context words
    (CBOW). With output vectors v, the loss at the centre word c is

        negative:      -log σ(h·v[c]) - Σ log σ(-h·v[n]) over words n that are drawn, those equal to c left out
        hierarchical:  -Σ log σ(±h·v[node]) over the nodes on the way to c, + where it turns to child 1
        sampled:       -log softmax over c and the words drawn, of h·v - log(expected draws), at c

    and skip-gram sums it over the context words, which share what is drawn for a centre word.

    Each vector moves against its gradient, but for the inputs of CBOW: each context word moves against the gradient
    of h, not against its share of that, as in the word2vec program.
    """

    inputs: NDArray[np.float32]  # (words, dim)
    outputs: NDArray[np.float32]  # (words, dim), of words or of inner nodes
    cbow: bool
    objective: int
    window: int
    samples: int
    noise: Noise
    log_expected: NDArray[np.float32]  # (words,), of how often each is drawn for a centre word
    paths: Paths


class Piece(NamedTuple):
    """A piece of text to learn from.

    Attributes:
        ids: words, and `SEPARATOR` between sentences.
        rate: the learning rate.
        seed: for what is drawn.
    """

    ids: NDArray[np.int32]
    rate: float
    seed: int


Learn = Callable[[Iterable[Piece]], None]
"""Takes pieces as they are needed, which need not be there all at once."""


def initial(
    counts: NDArray[np.int64],
    dim: int,
    cbow: bool,
    objective: Objective,
    window: int,
    samples: int,
    generator: np.random.Generator,
) -> Model:
    """A model before training: inputs uniform in ±0.5 / dim, outputs 0.

    Args:
        counts: (words,), how often each word occurs.
        dim: numbers in a vector.
        cbow: whether the mean of the context is the input, else each word of it.
        objective: what is learnt by.
        window: most words on either side of a centre word.
        samples: words drawn for a centre word.
        generator: for the inputs.
    """
    inputs = ((generator.random((len(counts), dim), np.float32) - 0.5) / dim).astype(np.float32)
    weights = counts.astype(np.float64) ** POWER
    return Model(
        inputs,
        np.zeros_like(inputs),
        cbow,
        OBJECTIVES[objective],
        window,
        samples,
        noise(weights),
        np.log(samples * weights / weights.sum()).astype(np.float32),
        huffman.paths(counts if objective == "hierarchical" else counts[:1]),
    )


def noise(weights: NDArray[np.float64]) -> Noise:
    """The distribution that is proportional to weights (Vose 1991)."""
    share = weights * (len(weights) / weights.sum())
    other = np.arange(len(weights), dtype=np.int32)
    _balance(share, other)
    return Noise(share.astype(np.float32), other)


@compiled
def _balance(share: NDArray[np.float64], other: NDArray[np.int32]) -> None:
    """Fill up each share below 1 from one above."""
    small, large = np.flatnonzero(share < 1), np.flatnonzero(share >= 1)
    below, above = np.empty_like(share, np.int64), len(large)
    below[: len(small)] = small
    size = len(small)
    while size and above:
        size -= 1
        poor, rich = below[size], large[above - 1]
        other[poor] = rich
        share[rich] -= 1 - share[poor]
        if share[rich] < 1:
            below[size] = rich
            size += 1
            above -= 1
