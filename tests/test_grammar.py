"""Grammars against brute-force enumeration."""

from __future__ import annotations

from collections import Counter
from itertools import islice, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare  # type: ignore[import-untyped]

from asr.errors import DataError
from asr.text.grammar import Alternatives, Reference, Sequence, Word, parse

LAMPS = """
# What a house can be told.
<command> = turn (on | off) the <device> [in the <room>] ;
<device> = lamp   // it has two
         | radio ;
<room> = living room | hall ;
"""


def test_worked_example() -> None:
    grammar = parse(LAMPS)
    assert grammar.count() == 2 * 2 * (1 + 2)
    assert list(islice(grammar.sentences(), 4)) == [
        "turn on the lamp",
        "turn on the lamp in the living room",
        "turn on the lamp in the hall",
        "turn on the radio",
    ]
    assert grammar.words() == {"turn", "on", "off", "the", "lamp", "radio", "in", "living", "room", "hall"}


def test_the_tree_is_what_is_written() -> None:
    rules = parse("<a> = x [y] | <b>; <b> = (z);").rules
    optional = Alternatives((Sequence(()), Word("y")))
    assert rules == {"<a>": Alternatives((Sequence((Word("x"), optional)), Reference("<b>"))), "<b>": Word("z")}


Texts = tuple[str, list[str]]  # a notation, and what it says


@st.composite
def grammars(draw: st.DrawFn) -> Texts:
    """A grammar of up to three rules, each of which may use those behind it, and its sentences by brute force."""
    words = st.sampled_from(["a", "b", "ça", "don't", "public"]).map(lambda word: (word, [word]))
    known: list[Texts] = []
    text = ""
    for name in draw(
        st.sampled_from([["<start>"], ["<x>", "<start>"], ["<x>", "<y 1>".replace(" ", "-"), "<start>"]])
    ):
        leaves = words if not known else words | st.sampled_from(known)
        notation, sentences = draw(st.recursive(leaves, _larger, max_leaves=5))
        text = f"{name} = {notation} ;\n{text}"
        known.append((name, sentences))
    return text, known[-1][1]


def _larger(nodes: st.SearchStrategy[Texts]) -> st.SearchStrategy[Texts]:
    several = st.lists(nodes, min_size=1, max_size=3)
    return st.one_of(
        several.map(lambda parts: (" ".join(f"({t})" for t, _ in parts), _products([s for _, s in parts]))),
        several.map(lambda parts: ("(" + "|".join(t for t, _ in parts) + ")", [x for _, s in parts for x in s])),
        nodes.map(lambda node: (f"[ {node[0]} ]", ["", *node[1]])),
    )


def _products(parts: list[list[str]]) -> list[str]:
    return [" ".join(filter(None, choice)) for choice in product(*parts)]


@given(grammars(), st.integers(0, 2**32))
def test_against_brute_force(written: Texts, seed: int) -> None:
    text, expected = written
    grammar = parse(text)
    assert list(grammar.sentences()) == expected
    assert grammar.count() == len(expected)
    assert grammar.words() == set(" ".join(expected).split())
    assert grammar.sample(np.random.default_rng(seed)) in expected


def test_samples_are_uniform_over_derivations() -> None:
    grammar = parse("<a> = x | <b> [<b>] | (x | y); <b> = b | c | d;")  # x has two derivations, y one
    drawn = Counter(grammar.sample(rng) for rng in [np.random.default_rng(5)] for _ in range(6000))
    derivations = Counter(grammar.sentences())
    assert derivations["x"] == 2 and derivations["y"] == 1 and drawn.keys() == derivations.keys()
    expected = [6000 * derivations[sentence] / grammar.count() for sentence in derivations]
    assert chisquare([drawn[sentence] for sentence in derivations], expected).pvalue > 1e-3


def test_a_seed_repeats_its_samples() -> None:
    grammar = parse(LAMPS)
    first, second = (np.random.default_rng(9) for _ in range(2))
    assert [grammar.sample(first) for _ in range(20)] == [grammar.sample(second) for _ in range(20)]


def test_counts_beyond_64_bits_are_exact() -> None:
    grammar = parse("<a> = " + "<b> " * 200 + "; <b> = x | y | z;")
    assert grammar.count() == 3**200
    assert grammar.sentence(3**200 - 1) == " ".join(["z"] * 200)
    words = grammar.sample(np.random.default_rng(0)).split()
    assert len(words) == 200
    assert chisquare([words.count(word) for word in "xyz"]).pvalue > 1e-3


def test_long_chains_of_rules() -> None:
    rules = [f"<r{i}> = <r{i + 1}> | w{i};" for i in range(3000)]
    grammar = parse("\n".join([*rules, "<r3000> = end;"]))
    assert grammar.count() == 3001
    assert grammar.sentence(0) == "end"
    assert len(grammar.words()) == 3001


def test_public_rule_is_the_start_and_others_need_not_be_used() -> None:
    grammar = parse("<unused> = u; public <b> = b <c>; <c> = c;")
    assert list(grammar.sentences()) == ["b c"]
    assert grammar.words() == {"b", "c"}


@pytest.mark.parametrize("index", [-1, 12])
def test_no_such_derivation(index: int) -> None:
    with pytest.raises(IndexError, match="has 12"):
        parse(LAMPS).sentence(index)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "found the end"),
        ("# only a comment\n", 2, "found the end"),
        ("<a> = x", 1, "“;” at the end of rule <a>"),
        ("<a> = x\n<b> = y;", 2, "found “=”"),
        ("<a> =\n (x;", 2, "“)” for the “(” of line 2"),
        ("<a> = (x];", 1, "“)” for the “(” of line 1"),
        ("<a> = x);", 1, "found “)”"),
        ("<a> = x\n | ;", 2, "found “;”"),
        ("<a> = | x;", 1, "found “|”"),
        ("<a> = [];", 1, "found “]”"),
        ("<a> = ;", 1, "found “;”"),
        ("<a> x;", 1, "“=” after <a>"),
        ("a = x;", 1, "<name> = words ;"),
        ("<a = x;", 1, "found “<”"),
        ("<a> = x* ;", 1, "found “*”"),
        ("<a> = x;\n<a> = y;", 2, "found <a>"),
        ("public <a> = x;\npublic <b> = y;", 2, "one public rule, which is <a>"),
        ("<a> = x\n <b>;", 2, "rule <b> is not defined"),
        ("<a> = x;\n<b> = <b>;", 2, "<b> → <b> refers to itself"),
        ("<a> = x [<b>];\n<b> = <c>;\n<c> = y |\n <b>;", None, "refers to itself"),
        ("<a> = \n" + "(" * 10_000, 2, "at most 50 brackets"),
    ],
)
def test_errors_name_file_and_line(text: str, line: int | None, message: str) -> None:
    with pytest.raises(DataError) as error:
        parse(text, "house.txt")
    assert message in str(error.value)
    assert str(error.value).startswith("house.txt:" if line is None else f"house.txt:{line}: ")


@given(st.text(alphabet="<>ab=|()[];#/ \npublic*", max_size=40))
def test_any_text_parses_or_is_a_data_error(text: str) -> None:
    try:
        grammar = parse(text)
    except DataError:
        return
    assert grammar.count() >= 1
    assert set(grammar.sentence(0).split()) <= grammar.words()
