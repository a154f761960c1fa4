"""A trie of the words that a search may build: which letters go on, where a word ends, how likely the best is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.compiled import compiled
from asr.decoding.spelling import code_points
from asr.hashing import Table, arc, setdefault, table

NO_WORD = -1


class Trie(NamedTuple):
    """Nodes are numbered, parents before children; the root is 0.

    arcs: arc(node, code point) → node.
    word: (nodes,) the number of the word that ends at a node, or NO_WORD.
    bonus: (nodes,) its bonus, or 0.
    best: (nodes,) the highest weight of all words that end at a node or below it, with its share of the bonus.
    """

    arcs: Table
    word: NDArray[np.int32]
    bonus: NDArray[np.float64]
    best: NDArray[np.float64]


def build(
    words: Sequence[str],
    numbers: NDArray[np.int32],
    weights: NDArray[np.float64],
    bonuses: NDArray[np.float64],
) -> Trie:
    """The trie of some words.

    Args:
        words: none of them empty; of equal ones the first counts.
        numbers: (words,) the number of each, which need not differ.
        weights: (words,) such as log-probabilities.
        bonuses: (words,) what is added to the weights, in proportion to the letters that have been said.
    """
    letters, ends = code_points(words)
    nodes = Trie(
        table(len(letters)),
        np.full(len(letters) + 1, NO_WORD, np.int32),
        np.zeros(len(letters) + 1),
        np.full(len(letters) + 1, -np.inf),
    )
    count = _insert(nodes, letters, ends, numbers, weights, bonuses)
    return Trie(nodes.arcs, nodes.word[:count].copy(), nodes.bonus[:count].copy(), nodes.best[:count].copy())


@compiled
def _insert(
    trie: Trie,
    letters: NDArray[np.int32],
    ends: NDArray[np.int64],
    numbers: NDArray[np.int32],
    weights: NDArray[np.float64],
    bonuses: NDArray[np.float64],
) -> int:
    """Insert words into a trie with room for them; returns the number of nodes."""
    count = 1
    start = 0
    for index in range(len(ends)):
        node = 0
        trie.best[0] = max(trie.best[0], weights[index])
        for position in range(start, ends[index]):
            node = setdefault(trie.arcs, arc(node, letters[position]), count)
            count = max(count, node + 1)
            # A bonus is held letter by letter, lest words that only begin alike crowd the beam.
            share = (position + 1 - start) / (ends[index] - start)
            trie.best[node] = max(trie.best[node], weights[index] + bonuses[index] * share)
        if trie.word[node] == NO_WORD:
            trie.word[node] = numbers[index]
            trie.bonus[node] = bonuses[index]
        start = ends[index]
    return count
