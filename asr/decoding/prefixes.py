"""The tree of prefixes that a search has kept, on a flat array, compiled."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from asr.compiled import Records, compiled, kernel

NOT_YET = -1.0  # a factor that has not been worked out

PREFIX = np.dtype(
    [("factor", "f8"), ("end_factor", "f8")]
    + [(name, "i4") for name in ("parent", "token", "child", "sibling", "slot", "word", "lm", "phrase", "end_lm")],
    align=True,
)
"""A row of the tree of prefixes; row 0 is the empty one, parents stand before children.

slot: its place in the beam, or -1. child and sibling: its first child, and its parent's next one; -1 for none.
word: its node in the trie, -1 beyond it; or its state in the grammar. lm: its state. phrase: that of the hotwords.
factor: by which its last token was multiplied. end_factor, end_lm: factor and state if the word ended here.
"""


@compiled
def new_tree(rows: int) -> Records:
    """A tree with room for so many prefixes."""
    return np.empty(rows, PREFIX)


@kernel
def add(tree: Records, row: int, parent: int, token: int, word: int, lm: int, phrase: int, factor: float) -> None:
    """Write a row, and enter it among the children of its parent; -1 for none."""
    prefix = tree[row]
    prefix.parent, prefix.token = parent, token
    prefix.child = prefix.slot = prefix.sibling = -1
    if parent >= 0:
        prefix.sibling = tree[parent].child
        tree[parent].child = row
    prefix.word, prefix.lm, prefix.phrase = word, lm, phrase
    prefix.factor = factor
    prefix.end_factor = NOT_YET
    prefix.end_lm = lm


@kernel
def depth(tree: Records, row: int) -> int:
    """How many tokens a prefix has."""
    count = 0
    while row > 0:
        count += 1
        row = tree[row].parent
    return count


@kernel
def write_tokens(tree: Records, row: int, tokens: NDArray[np.int32]) -> None:
    """Write the tokens of a prefix into an array of their number."""
    for position in range(len(tokens) - 1, -1, -1):
        tokens[position] = tree[row].token
        row = tree[row].parent


@compiled
def tokens_of(tree: Records, row: int) -> NDArray[np.int32]:
    """The tokens of a prefix."""
    tokens = np.empty(depth(tree, row), np.int32)
    write_tokens(tree, row, tokens)
    return tokens


@kernel
def log_factors(tree: Records, row: int) -> float:
    """The logarithm of all the factors in a prefix's probability."""
    total = 0.0
    while row > 0:
        total += math.log(tree[row].factor)
        row = tree[row].parent
    return total
