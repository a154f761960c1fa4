"""Words that belong together, such as New York, made one word.

Mikolov et al. 2013, "Distributed representations of words and phrases and their compositionality", section 4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from asr import hashing
from asr.compiled import compiled
from asr.hashing import EMPTY, Table, arc, find, put
from asr.text.spool import SEPARATOR, NumberedText, Spool, occurrences


def join(text: NumberedText, threshold: float, discount: int) -> NumberedText:
    """Write pairs of neighbours that occur together more often than by chance as one word, with `_` between them.

    That may be a word which the text has already, or which another pair becomes too.

    A pair is joined where (count(a b) - discount) / (count(a) × count(b)) × words of the text > threshold, as in
    the word2phrase program. From left to right, a word joins one pair at most; longer phrases take another pass.

    Args:
        text: the text.
        threshold: the score to exceed.
        discount: what is taken from the count of a pair, so that rare pairs are left alone.
    """
    pairs, words = _chosen(text, threshold, discount)
    blocks = Spool()
    for block in text.blocks:
        blocks.append(_joined(block, pairs))
    return NumberedText(words, occurrences(blocks, len(words)), blocks)


def _chosen(text: NumberedText, threshold: float, discount: int) -> tuple[Table, list[str]]:
    """Pairs that are joined, to the numbers of the words that they become; and all words then."""
    counted = _pairs(text, discount)
    filled = np.flatnonzero(counted.keys != EMPTY)
    keys, together = counted.keys[filled], counted.values[filled]
    first, second = keys >> 32, keys & 0xFFFFFFFF
    scores = (together - discount) / (text.counts[first] * text.counts[second]) * text.counts.sum()
    chosen = keys[scores > threshold]
    chosen.sort()
    table = hashing.table(len(chosen))
    numbers = {word: number for number, word in enumerate(text.words)}
    for key in chosen.tolist():
        name = f"{text.words[key >> 32]}_{text.words[key & 0xFFFFFFFF]}"
        put(table, key, numbers.setdefault(name, len(numbers)))
    return table, list(numbers)


def _pairs(text: NumberedText, discount: int) -> Table:
    """How often pairs of neighbours occur, without those of which a word is too rare for any score above 0."""
    size = np.zeros(1, np.int64)
    table = hashing.table(0)
    for block in text.blocks:
        needed = int(size[0]) + len(block)
        if 2 * needed > len(table.keys):
            larger = hashing.table(needed + needed // 2)
            hashing.copy(table, larger)
            table = larger
        _count(block, text.counts > discount, table, size)
    return table


@compiled
def _count(block: NDArray[np.int32], frequent: NDArray[np.bool_], table: Table, size: NDArray[np.int64]) -> None:
    for position in range(1, len(block)):
        first, second = block[position - 1], block[position]
        if first != SEPARATOR and second != SEPARATOR and frequent[first] and frequent[second]:
            key = arc(first, second)
            count = find(table, key)
            size[0] += count < 0
            put(table, key, max(count, 0) + 1)


@compiled
def _joined(block: NDArray[np.int32], pairs: Table) -> NDArray[np.int32]:
    joined = np.empty_like(block)
    size = position = 0
    while position < len(block):
        joined[size] = block[position]
        if position + 1 < len(block) and block[position] != SEPARATOR and block[position + 1] != SEPARATOR:
            phrase = find(pairs, arc(block[position], block[position + 1]))
            if phrase >= 0:
                joined[size] = phrase
                position += 1
        size += 1
        position += 1
    return joined[:size]
