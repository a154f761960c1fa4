"""Automata of grammars against brute-force enumeration of their derivations."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from asr.decoding import automaton
from asr.decoding.automaton import compile, load, save
from asr.decoding.types import Slot
from asr.errors import DataError
from asr.hashing import EMPTY
from asr.text.grammar import parse

QUICKSTART = Path(__file__).parent.parent / "recipes" / "quickstart" / "grammar.txt"

# ------------------------------------------------------------------------------------ an independent reading

Tree: TypeAlias = tuple[str, ...] | tuple[str, "Tree"] | tuple[str, "Tree", str] | tuple[str, list["Tree"]]


class Derivation(NamedTuple):
    words: tuple[str, ...]
    meaning: tuple[str, ...]
    slots: tuple[tuple[str, str], ...]


def notation(tree: Tree) -> str:
    match tree:
        case ("word", word):
            return str(word)
        case ("all", parts):
            return " ".join(f"({notation(part)})" for part in parts)
        case ("one", parts):
            return " | ".join(f"({notation(part)})" for part in parts)
        case ("maybe", inner):
            return f"[{notation(inner)}]"
        case ("name", inner, name):
            return f"({notation(inner)}){{{name}}}"
        case ("value", inner, value):
            return f"({notation(inner)}){{={value}}}"
        case (repeat, inner):
            return f"({notation(inner)}){repeat}"
    raise AssertionError(tree)


def derivations(tree: Tree, most: int) -> Iterator[Derivation]:
    """All of at most so many words, in reading order. A repeat in which nothing is said is the last."""
    match tree:
        case ("word", word):
            if most:
                yield Derivation((word,), (word,), ())
        case ("all", parts):
            yield from in_sequence(parts, most)
        case ("one", parts):
            for part in parts:
                yield from derivations(part, most)
        case ("maybe", inner):
            yield NOTHING
            yield from derivations(inner, most)
        case ("name", inner, name):
            for words, meaning, slots in derivations(inner, most):
                said = " ".join(filter(None, meaning))
                yield Derivation(words, meaning, (*slots, (name, said)) if said else slots)
        case ("value", inner, value):
            for words, _, slots in derivations(inner, most):
                yield Derivation(words, (value,), slots)
        case ("*", inner):
            yield NOTHING
            yield from repeated(inner, most)
        case ("+", inner):
            yield from repeated(inner, most)


NOTHING = Derivation((), (), ())


def joined(first: Derivation, second: Derivation) -> Derivation:
    return Derivation(*(one + other for one, other in zip(first, second, strict=True)))


def in_sequence(parts: list[Tree], most: int) -> Iterator[Derivation]:
    if not parts:
        yield NOTHING
        return
    for first in derivations(parts[0], most):
        for rest in in_sequence(parts[1:], most - len(first.words)):
            yield joined(first, rest)


def repeated(inner: Tree, most: int) -> Iterator[Derivation]:
    for first in derivations(inner, most):
        yield first
        if first.words:
            for rest in repeated(inner, most - len(first.words)):
                yield joined(first, rest)


WORDS = ("a", "b", "ab", "ba")  # which begin alike
leaves = st.sampled_from(WORDS).map(lambda word: ("word", word))


def larger(trees: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    several = st.lists(trees, min_size=2, max_size=3)
    return st.one_of(
        st.tuples(st.sampled_from(["all", "one"]), several),
        st.tuples(st.sampled_from(["maybe", "*", "+"]), trees),
        st.tuples(st.just("name"), trees, st.sampled_from(["x", "y"])),
        st.tuples(st.just("value"), trees, st.sampled_from(["1", "2", ""])),
    )


trees: st.SearchStrategy[Tree] = st.recursive(leaves, larger, max_leaves=6)

LONGEST = 5
STRINGS = ["".join(each) for length in range(LONGEST + 1) for each in product("ab ", repeat=length)]
MOST_WORDS = 3  # in so many characters


@given(trees)
def test_exactly_the_sentences_are_accepted(tree: Tree) -> None:
    sentences = {" ".join(each.words) for each in derivations(tree, MOST_WORDS)}
    made = compile(parse(f"<s> = {notation(tree)} ;"))
    for string in STRINGS:
        after_space = string.removesuffix(" ")
        expected = string in sentences or (after_space != "" and after_space in sentences)
        assert made.accepts(string) == expected, string


@given(trees)
def test_slots_are_those_of_the_first_derivation(tree: Tree) -> None:
    first: dict[tuple[str, ...], Derivation] = {}
    for derivation in derivations(tree, MOST_WORDS):
        first.setdefault(derivation.words, derivation)
    made = compile(parse(f"<s> = {notation(tree)} ;"))
    for words in product(WORDS, repeat=2):
        assert (words in first) or made.slots(" ".join(words)) == ()
    for words, derivation in first.items():
        assert made.slots(" ".join(words)) == derivation.slots


@given(trees)
def test_every_state_is_on_the_way_to_an_end(tree: Tree) -> None:
    made = compile(parse(f"<s> = {notation(tree)} ;"))
    filled = made.arcs.keys != EMPTY
    arcs = list(zip((made.arcs.keys[filled] >> 32).tolist(), made.arcs.values[filled].tolist(), strict=True))
    states = set(range(len(made.accepting)))
    assert closed({0}, arcs) == states
    ends = set(np.flatnonzero(made.accepting).tolist())
    assert closed(ends, [(target, source) for source, target in arcs]) == states


def closed(states: set[int], arcs: list[tuple[int, int]]) -> set[int]:
    while new := {target for source, target in arcs if source in states} - states:
        states = states | new
    return states


@given(trees, st.sampled_from([1, 2, 3]))
def test_rules_are_the_same_as_brackets(tree: Tree, uses: int) -> None:
    rule = compile(parse(f"<s> = {'<r> ' * uses}; <r> = {notation(tree)} ;"))
    brackets = compile(parse(f"<s> = {f'({notation(tree)}) ' * uses};"))
    for string in STRINGS:
        assert rule.accepts(string) == brackets.accepts(string)
        assert rule.slots(string) == brackets.slots(string)


# -------------------------------------------------------------------------------------------- worked examples

HOUSE = """
<command> = dim the <room>{room} lights to <number 0-100>{level} percent | light (on{=true} | off{=false}){state} ;
<room> = kitchen | (living | sitting) room ;
"""


def test_worked_example() -> None:
    house = compile(parse(HOUSE))
    assert house.slots("dim the sitting room lights to twenty one percent") == (
        Slot("room", "sitting room"),
        Slot("level", "21"),
    )
    assert house.slots("light on") == (("state", "true"),)
    assert house.slots("light") == house.slots("") == house.slots("no such thing") == ()
    assert house.slot_names == ("room", "level", "state")
    assert {"dim", "sitting", "hundred"} < set(house.words)
    assert house.follow("dim the sit") >= 0
    assert house.follow("dim the s it") == -1


def test_every_sentence_of_quickstart_and_none_that_lacks_a_word() -> None:
    grammar = parse(QUICKSTART.read_text(encoding="utf-8"))
    made = compile(grammar)
    sentences = set(grammar.sentences())
    assert all(made.accepts(sentence) for sentence in sentences)
    for sentence in sorted(sentences)[::7]:
        words = sentence.split()
        for missing in range(len(words)):
            shorter = " ".join(words[:missing] + words[missing + 1 :])
            assert made.accepts(shorter) == (shorter in sentences)


def test_numbers_are_understood() -> None:
    english = compile(parse("<a> = wait <number 0-120>{seconds};"))
    assert english.slots("wait one hundred and seventeen") == (("seconds", "117"),)
    german = compile(parse("<a> = <number 0-59>{n} (uhr <number 0-59>{n})*;", language="de"))
    assert german.slots("einundzwanzig uhr fünf uhr null") == (("n", "21"), ("n", "5"), ("n", "0"))


def test_ambiguity_costs_no_time() -> None:
    grammar = parse("<a> = ((x | x)* (x | x{n})* [x] [x])* <b> y; <b> = [x] [x] [x{m}] [x];")
    made = compile(grammar)
    assert made.accepts("x " * 300 + "y")
    assert made.slots("x " * 300 + "y") == (("m", "x"),)
    assert made.slots("x " * 300 + "z") == ()


def test_rules_that_are_used_twice_at_each_of_sixty_levels() -> None:
    rules = [f"<r{i}> = a <r{i + 1}> | b <r{i + 1}>;" for i in range(60)]
    made = compile(parse("\n".join([*rules, "<r60> = end{e};"])))
    assert made.accepts("a b " * 30 + "end")
    assert not made.accepts("a b " * 29 + "end")
    assert made.slots("a b " * 30 + "end") == (("e", "end"),)


def test_long_chains_of_rules_and_long_sentences() -> None:
    made = compile(parse("\n".join([*(f"<r{i}> = [<r{i + 1}>] w{i};" for i in range(3000)), "<r3000> = end;"])))
    assert made.accepts("w2 w1 w0")
    assert made.accepts("end " + " ".join(f"w{i}" for i in reversed(range(3000))))
    assert not made.accepts("w2 w0")


def test_a_long_list_of_phrases() -> None:
    rng = np.random.default_rng(0)
    phrases = {" ".join(f"w{number}" for number in rng.integers(0, 300, 3)) for _ in range(20_000)}
    made = compile(parse("\n".join(phrases)))
    others = {" ".join(f"w{number}" for number in rng.integers(0, 300, 3)) for _ in range(20_000)}
    assert all(made.accepts(phrase) for phrase in phrases)
    assert not any(made.accepts(other) for other in others - phrases)


@pytest.mark.parametrize(
    ("text", "limit"), [("one two three four five six", 6), ("<a> = (a | b)* a (a | b) (a | b) (a | b);", 15)]
)
def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch, text: str, limit: int) -> None:
    monkeypatch.setattr(automaton, "MOST_STATES", limit + 1)
    compile(parse(text))
    monkeypatch.setattr(automaton, "MOST_STATES", limit)
    with pytest.raises(DataError, match=f"more than {limit} states"):
        compile(parse(text))


# ------------------------------------------------------------------------------------------------------ files


@given(trees)
def test_a_file_gives_the_same_back(tmp_path_factory: pytest.TempPathFactory, tree: Tree) -> None:
    path = tmp_path_factory.getbasetemp() / "given.vocab"
    made = compile(parse(f"<s> = {notation(tree)} ;"))
    save(made, path)
    again = load(path)
    assert again.grammar == made.grammar
    assert (again.words, again.slot_names) == (made.words, made.slot_names)
    for string in STRINGS:
        assert again.follow(string) == made.follow(string)
        assert again.accepts(string) == made.accepts(string)
        assert again.slots(string) == made.slots(string)
    save(again, path.with_suffix(".again"))
    assert path.with_suffix(".again").read_bytes() == path.read_bytes()


def test_numbers_need_nothing_after_they_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(compile(parse(HOUSE, language="de")), tmp_path / "house.vocab")
    monkeypatch.setitem(sys.modules, "num2words", None)
    loaded = load(tmp_path / "house.vocab")
    assert loaded.slots("dim the kitchen lights to zweiundvierzig percent")[1] == ("level", "42")


def test_a_loaded_file_can_be_searched_like_a_fresh_one(tmp_path: Path) -> None:
    made = compile(parse(HOUSE))
    save(made, tmp_path / "house.vocab")
    loaded = load(tmp_path / "house.vocab")
    for one, other in ((made.arcs.keys, loaded.arcs.keys), (made.arcs.values, loaded.arcs.values)):
        assert (one.dtype, one.flags.writeable, one.flags.c_contiguous) == (
            other.dtype,
            other.flags.writeable,
            other.flags.c_contiguous,
        )
    assert made.accepting.flags.writeable == loaded.accepting.flags.writeable


def test_what_fills_no_slots_is_not_even_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(compile(parse("turn on\nturn off")), tmp_path / "list.vocab")
    monkeypatch.delattr(automaton, "parse")
    loaded = load(tmp_path / "list.vocab")
    assert loaded.accepts("turn on")
    assert loaded.words == ("off", "on", "turn")
    assert loaded.slots("turn on") == ()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_others_may_read_what_others_may_read(tmp_path: Path) -> None:
    text, made = tmp_path / "list.txt", tmp_path / "list.vocab"
    text.write_text("turn on")
    save(compile(parse("turn on")), made)
    assert made.stat().st_mode == text.stat().st_mode


@pytest.mark.parametrize("kept", [0, 3, 8, 100, 600, -1])
def test_a_damaged_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "house.vocab"
    save(compile(parse(HOUSE)), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"house\.vocab: not a vocabulary, or a damaged one"):
        load(path)


Damage: TypeAlias = Callable[[dict[str, np.ndarray], dict[str, Any]], object]


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays, description: description.clear(),
        lambda arrays, description: description.pop("grammar"),
        lambda arrays, description: description.update(format_version="one"),
        lambda arrays, description: description.update(slots=None),
        lambda arrays, description: arrays.pop("targets"),
        lambda arrays, description: arrays.update(targets=arrays["targets"][1:]),
        lambda arrays, description: arrays.update(targets=arrays["targets"] + 1),
        lambda arrays, description: arrays.update(targets=arrays["targets"] - 2),
        lambda arrays, description: arrays.update(targets=arrays["targets"].astype(np.int64)),
        lambda arrays, description: arrays.update(arcs=arrays["arcs"] + (2 << 32)),
        lambda arrays, description: arrays.update(arcs=-arrays["arcs"]),
        lambda arrays, description: arrays.update(arcs=arrays["arcs"][:, None]),
        lambda arrays, description: arrays.update(accepting=arrays["accepting"][:0]),
        lambda arrays, description: arrays.update(accepting=arrays["accepting"][:-1]),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, damage: Damage) -> None:
    arrays = {
        "arcs": np.array([97, (1 << 32) + 32], np.int64),
        "targets": np.array([1, 2], np.int32),
        "accepting": np.array([False, True, True]),
    }
    description = {"format_version": 1, "words": ["a"], "slots": [], "grammar": "a"}
    save_file(arrays, tmp_path / "good.vocab", {"vocabulary": json.dumps(description)})
    assert [load(tmp_path / "good.vocab").accepts(text) for text in ("a", "a ", "")] == [True, True, False]
    damage(arrays, description)
    save_file(arrays, tmp_path / "bad.vocab", {"vocabulary": json.dumps(description)})
    with pytest.raises(DataError, match="not a vocabulary, or a damaged one"):
        load(tmp_path / "bad.vocab")


def test_a_file_of_a_newer_asr_says_so(tmp_path: Path) -> None:
    save_file({"other": np.zeros(1)}, tmp_path / "new.vocab", {"vocabulary": '{"format_version": 2}'})
    with pytest.raises(DataError, match=r"format 2(.|\n)*at most format 1(.|\n)*git pull"):
        load(tmp_path / "new.vocab")


@pytest.mark.parametrize("metadata", [None, {"vocabulary": "[]"}, {"vocabulary": "{"}, {"other": "{}"}])
def test_other_files_in_the_same_container_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"weights": np.zeros(1)}, tmp_path / "model.vocab", metadata)
    with pytest.raises(DataError, match="not a vocabulary"):
        load(tmp_path / "model.vocab")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "none.vocab")
    with pytest.raises(DataError, match="not a vocabulary"):
        load(tmp_path)
    (tmp_path / "text.vocab").write_text("turn on\n")
    with pytest.raises(DataError, match="not a vocabulary"):
        load(tmp_path / "text.vocab")
