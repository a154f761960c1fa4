"""An automaton that finds words and phrases in a text that grows letter by letter, and rewards them.

Aho & Corasick 1975, "Efficient string matching", over phrases with a space on either side, so that whole words
match only. A phrase's bonus is paid out while it is being said, in proportion to its letters, and what was paid for
one that breaks off is taken back: the rewards of a text add up to the bonuses of all phrases that occur in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.compiled import compiled, kernel
from asr.decoding.spelling import SPACE, code_points
from asr.hashing import Table, arc, find, setdefault, table


class Phrases(NamedTuple):
    """States are numbered, 0 where nothing has matched; state 1, where there is one, is that after a space.

    arcs: arc(state, code point) → state, where a phrase goes on.
    fallback: (states,) the state of the longest proper suffix.
    award: (states,) the factor of all phrases that end in a state: e to the sum of their bonuses.
    advance: (states,) the factor that has been paid for the phrases that are being said.
    """

    arcs: Table
    fallback: NDArray[np.int32]
    award: NDArray[np.float64]
    advance: NDArray[np.float64]


def build(bonuses: Mapping[str, float]) -> Phrases:
    """The automaton of phrases, whose words stand one space apart, and the bonus of each, a natural logarithm."""
    letters, ends = code_points([f" {phrase} " for phrase in bonuses])
    size = len(letters) + 1
    phrases = Phrases(table(len(letters)), np.zeros(size, np.int32), np.zeros(size), np.zeros(size))
    count = _insert(phrases, letters, ends, np.array(list(bonuses.values()), np.float64))
    award, advance = np.exp(phrases.award[:count]), np.exp(phrases.advance[:count])
    return Phrases(phrases.arcs, phrases.fallback[:count], award, advance)


@kernel
def step(phrases: Phrases, state: int, letter: int) -> int:
    """The state after one more letter."""
    while True:
        if state == 0 and letter != SPACE:
            return 0  # all phrases begin with a space
        following = find(phrases.arcs, arc(state, letter))
        if following >= 0:
            return following
        if state == 0:
            return 0
        state = int(phrases.fallback[state])


@compiled
def _insert(
    phrases: Phrases, letters: NDArray[np.int32], ends: NDArray[np.int64], bonuses: NDArray[np.float64]
) -> int:
    """Make the automaton in arrays with room for it, bonuses in place of factors; returns the number of states."""
    parent, letter = np.zeros(len(letters) + 1, np.int32), np.zeros(len(letters) + 1, np.int32)
    depth = np.zeros(len(letters) + 1, np.int32)
    count = 1
    start = 0
    for index in range(len(ends)):
        state = 0
        for position in range(start, ends[index]):
            following = setdefault(phrases.arcs, arc(state, letters[position]), count)
            if following == count:
                parent[following], letter[following], depth[following] = state, letters[position], depth[state] + 1
                count += 1
            state = following
            # The spaces on both sides count for nothing, the last letter for the whole.
            share = min(1.0, (position - start) / (ends[index] - start - 2))
            if position < ends[index] - 1:
                phrases.advance[state] = max(phrases.advance[state], bonuses[index] * share)
        phrases.award[state] += bonuses[index]
        start = ends[index]
    # Breadth first: the suffix of a state is shorter than it, and so is settled before.
    for state in np.argsort(depth[1:count], kind="mergesort") + 1:
        if depth[state] > 1:
            phrases.fallback[state] = step(phrases, phrases.fallback[parent[state]], letter[state])
        suffix = phrases.fallback[state]
        phrases.award[state] += phrases.award[suffix]
        phrases.advance[state] = max(phrases.advance[state], phrases.advance[suffix])
    return count
