"""The largest of some numbers, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from asr.compiled import kernel


@kernel
def keep_largest(items: NDArray[np.int32], values: NDArray[np.float64], count: int, wanted: int) -> int:
    """Keep the items with the largest values, in their order.

    Args:
        items: the first `count` count; they are moved to the front.
        values: (at least 2 count,) values[i] is that of items[i]; the rest is room to work.
        count: how many there are.
        wanted: how many to keep, fewer than there are.

    Returns:
        `wanted`.
    """
    for i in range(count):
        values[count + i] = values[i]
    limit = _nth_largest(values[count : 2 * count], wanted)
    ties = wanted
    for i in range(count):
        ties -= values[i] > limit
    kept = 0
    for i in range(count):
        if values[i] > limit or (values[i] == limit and ties > 0):
            ties -= values[i] == limit
            items[kept] = items[i]
            kept += 1
    return kept


@kernel
def _nth_largest(values: NDArray[np.float64], n: int) -> float:
    """The n-th largest value, counted from 1; the values are put out of order. Hoare 1961, algorithm 65."""
    low, high, wanted = 0, len(values) - 1, n - 1
    while low < high:
        a, b, c = values[low], values[(low + high) >> 1], values[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    return float(values[wanted])
