"""Huffman codes of words: the more frequent, the shorter (Huffman 1952)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.compiled import compiled


class Paths(NamedTuple):
    """The ways from the root of a Huffman tree to each word.

    Word w passes the inner nodes `nodes[offsets[w] : offsets[w + 1]]`, root first, and turns at each as `turns`
    says. The inner nodes are numbered from 0, and there is one less than there are words.
    """

    offsets: NDArray[np.int64]
    nodes: NDArray[np.int32]
    turns: NDArray[np.int8]


def paths(counts: NDArray[np.int64]) -> Paths:
    """The Huffman tree of words that occur so often.

    Args:
        counts: (words,), at least one word.
    """
    parents, turns = _tree(np.argsort(counts, kind="stable"), counts)
    offsets = np.zeros(len(counts) + 1, np.int64)
    _measure(parents, offsets)
    found = Paths(offsets, np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.int8))
    _walk(parents, turns, found)
    return found


@compiled
def _tree(order: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """The parent of each node, -1 for the root's, and which child of it the node is; words come before inner nodes.

    Inner nodes come about with the rarest first. So the two rarest nodes are at the fronts of two queues: words
    from the rarest, and inner nodes from the oldest.
    """
    words = len(counts)
    total = np.zeros(2 * words - 1, np.int64)
    total[:words] = counts
    parents, turns = np.full(2 * words - 1, -1, np.int32), np.zeros(2 * words - 1, np.int8)
    word, inner = 0, words
    for node in range(words, 2 * words - 1):
        for turn in range(2):
            if word < words and (inner >= node or total[order[word]] <= total[inner]):
                child = order[word]
                word += 1
            else:
                child = inner
                inner += 1
            parents[child], turns[child] = node, turn
            total[node] += total[child]
    return parents, turns


@compiled
def _measure(parents: NDArray[np.int32], offsets: NDArray[np.int64]) -> None:
    for word in range(len(offsets) - 1):
        length, node = 0, parents[word]
        while node >= 0:
            length, node = length + 1, parents[node]
        offsets[word + 1] = offsets[word] + length


@compiled
def _walk(parents: NDArray[np.int32], turns: NDArray[np.int8], paths: Paths) -> None:
    words = len(paths.offsets) - 1
    for word in range(words):
        node = np.int32(word)
        for step in range(paths.offsets[word + 1] - 1, paths.offsets[word] - 1, -1):
            paths.turns[step] = turns[node]
            node = parents[node]
            paths.nodes[step] = node - words
