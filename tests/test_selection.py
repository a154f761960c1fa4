"""The items with the largest values, against sorting."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.selection import _nth_largest, keep_largest

# Few different ones, so that there are ties; the search also has minus infinity.
numbers = st.lists(
    st.sampled_from([-np.inf, -2.5, -1.0, 0.0, 1e-300, 3.0]) | st.floats(-9, 9), min_size=1, max_size=40
)


@given(numbers, st.data())
def test_the_nth_largest_is_that_of_the_sorted(values: list[float], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(values)))
    assert _nth_largest(np.array(values), n) == sorted(values, reverse=True)[n - 1]


@given(numbers.filter(lambda values: len(values) > 1), st.data())
def test_the_largest_are_kept_in_their_order_and_the_first_of_equals(
    values: list[float], data: st.DataObject
) -> None:
    count, wanted = len(values), data.draw(st.integers(1, len(values) - 1))
    items = np.arange(100, 100 + count, dtype=np.int32)
    room = np.concatenate((values, np.full(count + 2, np.nan)))
    ranked = sorted(range(count), key=lambda index: (-values[index], index))[:wanted]
    assert keep_largest(items, room, count, wanted) == wanted
    assert items[:wanted].tolist() == [100 + index for index in sorted(ranked)]
    assert room[:count].tolist() == values
    assert np.isnan(room[2 * count :]).all()


def test_long_rows_with_many_ties_in_any_order() -> None:
    rng = np.random.default_rng(0)
    for values in (np.zeros(1000), np.arange(1000.0), np.arange(1000.0)[::-1], rng.integers(0, 9, 1000) / 3):
        for wanted in (1, 2, 499, 998, 999):
            items = np.arange(1000, dtype=np.int32)
            keep_largest(items, np.concatenate((values, np.empty(1000))), 1000, wanted)
            expected = np.sort(np.argsort(-values, kind="stable")[:wanted])
            np.testing.assert_array_equal(items[:wanted], expected)
