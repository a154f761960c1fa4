"""A map from integers to integers, for compiled functions: open addressing with linear probing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.compiled import kernel

EMPTY = -1
_MULTIPLIER = np.int64(-7046029254386353131)  # 2^64 / golden ratio, odd: Fibonacci hashing (Knuth, TAOCP 6.4)


class Table(NamedTuple):
    """Keys and their values, both at least 0, in arrays whose length is a power of two."""

    keys: NDArray[np.int64]
    values: NDArray[np.int32]


def table(entries: int) -> Table:
    """An empty table with room for so many entries, which then fill at most half of it."""
    capacity = 1 << max(2 * entries - 1, 3).bit_length()
    return Table(np.full(capacity, EMPTY, np.int64), np.zeros(capacity, np.int32))


@kernel
def arc(state: int, symbol: int) -> int:
    """The key of what leads from a state by a symbol, each below 2^31."""
    return int(np.int64(state) << 32 | np.int64(symbol))


@kernel
def put(table: Table, key: int, value: int) -> None:
    """Enter a value, in place of one that is there."""
    slot = _slot(table, key)
    table.keys[slot] = key
    table.values[slot] = value


@kernel
def find(table: Table, key: int) -> int:
    """The value of a key, or -1."""
    slot = _slot(table, key)
    return int(table.values[slot]) if table.keys[slot] == key else -1


@kernel
def setdefault(table: Table, key: int, value: int) -> int:
    """The value of a key, which is entered with the one given if it is not there."""
    slot = _slot(table, key)
    if table.keys[slot] != key:
        table.keys[slot] = key
        table.values[slot] = value
    return int(table.values[slot])


@kernel
def copy(source: Table, target: Table) -> None:
    """Enter all that one table holds into another one, with room for it."""
    for slot in range(len(source.keys)):
        if source.keys[slot] != EMPTY:
            put(target, source.keys[slot], source.values[slot])


@kernel
def _slot(table: Table, key: int) -> int:
    """Where a key is, or would be entered."""
    mask = len(table.keys) - 1
    mixed = key * _MULTIPLIER
    slot = int((mixed ^ (mixed >> 29)) & mask)
    while table.keys[slot] != key and table.keys[slot] != EMPTY:
        slot = (slot + 1) & mask
    return slot
