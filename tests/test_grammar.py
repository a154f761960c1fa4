"""Grammars against brute-force enumeration."""

from __future__ import annotations

import re
import sys
from collections import Counter
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare  # type: ignore[import-untyped]

from asr.errors import ConfigError, DataError, MissingDependencyError
from asr.text.grammar import Alternatives, Named, Reference, Repeat, Sequence, Valued, Word, parse, read

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


def test_repeats_and_tags_belong_to_the_item_before_them() -> None:
    rules = parse("<a> = x y* | (x y)+ | x {n} | x y {=1 2} {n} | [x]{n}* | <b>{= };<b> = z;").rules
    x, y = Word("x"), Word("y")
    assert rules["<a>"] == Alternatives(
        (
            Sequence((x, Repeat(y, 0))),
            Repeat(Sequence((x, y)), 1),
            Named(x, "n"),
            Sequence((x, Named(Valued(y, "1 2"), "n"))),
            Repeat(Named(Alternatives((Sequence(()), x)), "n"), 0),
            Valued(Reference("<b>"), ""),
        )
    )


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


def test_words_are_composed_as_those_of_transcripts_are() -> None:
    for text in ("cafe\u0301", "<drink> = cafe\u0301;"):
        assert parse(text).words() == {"café"}


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
        ("<a> = * x;", 1, "found “*”"),
        ("<a> = x\n** ;", 2, "one repeat"),
        ("<a> = {n};", 1, "found “{n}”"),
        ("<a> = x {n}\n {m};", 2, "one {name}"),
        ("<a> = x {n} {=1};", 1, "found “{=1}”"),
        ("<a> = x\n {};", 2, "{name} to fill a slot, or {=value}"),
        ("<a> = x {a b};", 1, "found “{a b}”"),
        ("<a> = x {a\n};", 1, "found “{a”"),
        ("<a> = x {a;};", 1, "found “{a;}”"),
        ("<a> = x };", 1, "found “}”"),
        ("<a> = x /2/ | y;", 1, "found “/”"),
        ("<a> = x\n <number 9-1>;", 2, "found <number 9-1>"),
        ("<a> = <number 1-20000>;", 1, "for 10000 whole numbers at most"),
        ("<a> = <number few>;", 1, "such as <number 0-59>"),
        ("turn on\n# (off)\nturn (off)", 3, "found “(”"),
        ("turn on\nturn [off", 2, "words only, in a list of phrases"),
        ("turn on | turn off", 1, "found “|”"),
        ("turn on\nturn off;", 1, "found “turn”"),
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


@given(st.text(alphabet="<>ab=|()[];#/ \npublic*+{}", max_size=40))
def test_any_text_parses_or_is_a_data_error(text: str) -> None:
    try:
        grammar = parse(text)
    except DataError:
        return
    assert grammar.endless or grammar.count() >= 1
    assert set(grammar.sample(np.random.default_rng(0)).split()) <= grammar.words()
    assert parse(str(grammar)) == grammar


# ------------------------------------------------------------------------------------------------- repeats


ENDLESS = "<a> = go ((left | right) [please])+ <stop>*; <stop> = stop [here];"


def test_samples_of_an_endless_grammar_are_its_sentences() -> None:
    grammar = parse(ENDLESS)
    rng = np.random.default_rng(0)
    drawn = {grammar.sample(rng) for _ in range(400)}
    sentence = re.compile("go( (left|right)( please)?)+( stop( here)?)*")
    assert all(sentence.fullmatch(each) for each in drawn)
    repeats = {(len(re.findall("left|right", each)), each.count("stop")) for each in drawn}
    assert {(1, 0), (1, 1), (2, 0), (2, 2), (3, 0)} <= repeats


def test_repeats_go_on_with_even_odds() -> None:
    grammar = parse("<a> = x+;")
    rng = np.random.default_rng(1)
    lengths = Counter(min(len(grammar.sample(rng).split()), 5) for _ in range(4000))
    assert chisquare([lengths[n] for n in (1, 2, 3, 4, 5)], [2000, 1000, 500, 250, 250]).pvalue > 1e-3


def test_what_is_endless_is_not_counted_or_listed() -> None:
    grammar = parse(ENDLESS)
    assert grammar.endless
    for refused in (grammar.count, grammar.sentences, lambda: grammar.sentence(0)):
        with pytest.raises(DataError, match="endlessly many"):
            refused()


def test_a_repeat_in_a_rule_that_is_not_used_makes_nothing_endless() -> None:
    grammar = parse("<a> = x; <b> = y*;")
    assert not grammar.endless
    assert grammar.count() == 1


# ---------------------------------------------------------------------------------------------------- tags


def test_tags_change_no_sentence() -> None:
    tagged = parse(
        "<a> = [please{=}] turn (on{=true} | off{=false}){state} <b>{lamp}; <b> = lamp | (big light){=2};"
    )
    plain = parse("<a> = [please] turn (on | off) <b>; <b> = lamp | (big light);")
    assert list(tagged.sentences()) == list(plain.sentences())
    assert tagged.words() == plain.words()
    assert tagged.slots() == ("state", "lamp")


# ------------------------------------------------------------------------------------------------- numbers


def test_numbers_are_spelled_out() -> None:
    numbers = list(parse("<a> = <number 0-120>;").sentences())
    assert len(numbers) == 121
    assert numbers[:3] == ["zero", "one", "two"]
    assert (numbers[21], numbers[100], numbers[117]) == ("twenty one", "one hundred", "one hundred and seventeen")
    assert list(parse("<a> = <number 1999-1999>;").sentences()) == ["one thousand nine hundred and ninety nine"]


def test_numbers_in_german_and_french() -> None:
    german = list(parse("<a> = <number 0-59>;", language="de").sentences())
    assert (german[1], german[21], german[30]) == ("eins", "einundzwanzig", "dreißig")
    assert list(parse("<a> = <number 97-97>;", language="fr").sentences()) == ["quatre vingt dix sept"]


def test_a_number_means_its_digits() -> None:
    rule = parse("<a> = <number 8-9>{n};").rules["<number 8-9>"]
    assert rule == Alternatives((Valued(Word("eight"), "8"), Valued(Word("nine"), "9")))


def test_numbers_in_a_language_that_nobody_knows() -> None:
    with pytest.raises(ConfigError, match=r"house.txt:2: .*can't spell 3 in “qq”"):
        parse("<a> =\n<number 3-4>;", "house.txt", language="qq")


def test_numbers_that_a_language_has_no_words_for() -> None:
    with pytest.raises(ConfigError, match=r"house.txt:1: .*can't spell 9999 in “am”"):  # where num2words breaks
        parse("<a> = <number 9999-9999>;", "house.txt", language="am")


def test_without_num2words_numbers_may_be_spelled_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "num2words", None)
    with pytest.raises(MissingDependencyError, match=r'house.txt:2: (.|\n)*pip install -e "\.\[numbers\]"'):
        parse("<a> =\n<number 0-1>;", "house.txt")
    own = parse("<a> = <number 0-1> [<number  0-1>]; <number 0-1> = oh {=0} | one {=1};")
    assert list(islice(own.sentences(), 3)) == ["oh", "oh oh", "oh one"]


# ------------------------------------------------------------------------------------------------- phrases


def test_a_list_of_phrases() -> None:
    text = "# Lights; all = both\nturn on\n\n  turn   off // the lamp\nturn on\nfive o'clock\r\nça va\n"
    grammar = parse(text)
    assert list(grammar.sentences()) == ["turn on", "turn off", "five o'clock", "ça va"]
    assert grammar.words() == {"turn", "on", "off", "five", "o'clock", "ça", "va"}
    assert grammar.slots() == ()


@given(st.lists(st.lists(st.sampled_from(["a", "b", "don't", "public"]), max_size=3), min_size=1))
def test_lists_of_phrases_say_what_they_say(phrases: list[list[str]]) -> None:
    lines = [" ".join(phrase) for phrase in phrases]
    expected = list(dict.fromkeys(filter(None, lines)))
    if expected:
        assert list(parse("\n".join(lines)).sentences()) == expected


# ------------------------------------------------------------------------------------------- writing, reading


def test_a_grammar_is_written_as_it_would_be_read() -> None:
    text = "<n> = one | two ;\npublic <a> = [x | y z] ((a | b) c)+{=1}{k} [<n>]{n}* (p{n}){m} ;"
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    "text", [LAMPS, ENDLESS, "<a> = <number 0-21>{n} (x{=#//y}{n})*{n};", "one\ntwo three", "a"]
)
def test_what_is_written_is_read_again(text: str) -> None:
    grammar = parse(text)
    assert parse(str(grammar)) == grammar


def test_reading_files(tmp_path: Path) -> None:
    path = tmp_path / "house.txt"
    path.write_text("\ufeffgrün an\n", encoding="utf-8")
    assert list(read(path).sentences()) == ["grün an"]
    path.write_text("<a> = <number 2-2> ;", encoding="utf-8")
    assert list(read(path, "de").sentences()) == ["zwei"]
    path.write_text("<a> = b", encoding="utf-8")
    with pytest.raises(DataError, match=r"house\.txt:1: "):
        read(path)
    path.write_bytes("grün".encode("latin-1"))
    with pytest.raises(DataError, match="byte 2 is not UTF-8"):
        read(path)
    with pytest.raises(DataError, match="no such grammar"):
        read(tmp_path / "none.txt")
    with pytest.raises(DataError, match="this is a folder"):
        read(tmp_path)
