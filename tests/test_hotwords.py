"""The automaton of hotwords, against looking for each phrase in the text."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding import hotwords

words = st.text("ab", min_size=1, max_size=3)
phrases = st.lists(words, min_size=1, max_size=3).map(" ".join)
bonuses = st.dictionaries(phrases, st.integers(-3, 5).map(float), min_size=1, max_size=5)
texts = st.lists(words, max_size=8).map(lambda said: " ".join(["", *said, ""]))


def states(automaton: hotwords.Phrases, text: str) -> list[int]:
    """Those after each letter."""
    state, seen = 0, []
    for letter in text:
        state = hotwords.step(automaton, state, ord(letter))
        seen.append(state)
    return seen


def occurrences(phrase: str, text: str) -> int:
    """Of whole words, those that share words among them."""
    return sum(text.startswith(f" {phrase} ", start) for start in range(len(text)))


def paid(given: dict[str, float], text: str) -> float:
    """The most that has been paid for a phrase that the text ends within, in proportion to its letters."""
    most = 0.0
    for phrase, bonus in given.items():
        whole = f" {phrase} "
        for length in range(1, len(whole)):
            if text.endswith(whole[:length]):
                most = max(most, bonus * (length - 1) / len(phrase))
    return most


@given(bonuses, texts)
def test_what_is_awarded_to_a_text_are_the_bonuses_of_all_phrases_in_it(given: dict[str, float], text: str) -> None:
    automaton = hotwords.build(given)
    total = math.fsum(math.log(automaton.award[state]) for state in states(automaton, text))
    assert total == pytest.approx(sum(bonus * occurrences(phrase, text) for phrase, bonus in given.items()))


@given(bonuses, texts)
def test_a_phrase_that_is_being_said_is_paid_for_by_the_letter(given: dict[str, float], text: str) -> None:
    automaton = hotwords.build(given)
    for length, state in enumerate(states(automaton, text), start=1):
        assert automaton.advance[state] == pytest.approx(math.exp(paid(given, text[:length])))


@given(bonuses, texts)
def test_a_state_is_the_longest_beginning_of_a_phrase_that_the_text_ends_with(
    given: dict[str, float], text: str
) -> None:
    automaton = hotwords.build(given)
    begun = {f" {phrase} "[:length] for phrase in given for length in range(len(phrase) + 3)}
    spelled: dict[int, str] = {}
    for length, state in enumerate(states(automaton, text), start=1):
        longest = max(
            (text[:length][start:] for start in range(length + 1) if text[start:length] in begun), key=len
        )
        assert spelled.setdefault(state, longest) == longest
        assert (state == 0) == (longest == "")
        assert (state == 1) == (longest == " ")


def test_letters_beyond_latin_and_those_of_no_phrase() -> None:
    automaton = hotwords.build({"zoë": 2.0, "你好": 1.0})
    said = [math.log(automaton.award[state]) for state in states(automaton, " zoë x 你好 你 ")]
    assert said == pytest.approx([0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0])


def test_without_phrases_nothing_is_awarded() -> None:
    automaton = hotwords.build({})
    assert states(automaton, " any thing ") == [0] * 11
    np.testing.assert_array_equal((automaton.award, automaton.advance), [[1.0], [1.0]])
