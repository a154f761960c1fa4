"""Grammars as automata over characters, which constrain a beam search, and the slots of what it finds.

A grammar becomes a network of states and arcs that carry words, its rules copied to where they are used. The
subset construction (Rabin & Scott 1959, "Finite Automata and Their Decision Problems") makes it deterministic, and
then the words that may follow a state become a trie of their letters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from asr.compiled import compiled
from asr.decoding.spelling import SPACE, code_points
from asr.decoding.types import Slot
from asr.errors import DataError, refuse_newer_format
from asr.files import write_bytes
from asr.hashing import EMPTY, Table, arc, find, put, setdefault, table
from asr.text.grammar import Alternatives, Grammar, Named, Node, Reference, Repeat, Sequence, Valued, Word, parse

FORMAT_VERSION = 1
"""Raised whenever an older asr could not read, or would misread, what this one writes."""

DESCRIPTION = "vocabulary"  # in the metadata of a file
MOST_STATES = 4_000_000
START, END = 0, 1  # of a network


@dataclass(frozen=True, eq=False)
class Automaton:
    """What a grammar allows, character by character. Sentences are words with single spaces between them.

    Args:
        arcs: arc(state, code point) → state; the start is state 0. Every state leads to the end of a sentence.
        accepting: (states,) whether a sentence may end there: after its last word, or one space further.
        words: every word of the grammar, sorted.
        slot_names: the slots that it can fill.
        source: the grammar, or its notation, which is read when it is needed.
    """

    arcs: Table
    accepting: NDArray[np.bool_]
    words: tuple[str, ...]
    slot_names: tuple[str, ...]
    source: Grammar | str

    @cached_property
    def grammar(self) -> Grammar:
        """The grammar that this was compiled from."""
        return parse(self.source) if isinstance(self.source, str) else self.source

    def follow(self, text: str) -> int:
        """The state after a text, or -1 where no sentence goes on like that."""
        state = START
        for character in text:
            state = find(self.arcs, arc(state, ord(character)))
            if state < 0:
                break
        return state

    def accepts(self, sentence: str) -> bool:
        """Whether the grammar has this sentence."""
        state = self.follow(sentence)
        return state >= 0 and bool(self.accepting[state])

    def slots(self, sentence: str) -> tuple[Slot, ...]:
        """The slots of a sentence, as they are filled one after another.

        Of several derivations the first one counts: earlier alternatives before later ones, silence before what may
        be left out, few repeats before many. A slot in which nothing is said is left out.

        Args:
            sentence: any text; there are no slots in one that is not of the grammar.
        """
        return _filled(self._network, sentence.split()) if self.slot_names else ()

    @cached_property
    def _network(self) -> _Network:
        return _network(self.grammar)


def compile(grammar: Grammar) -> Automaton:
    """The automaton of a grammar.

    Raises:
        DataError: it would have millions of states.
    """
    arcs, accepting = _spelled(_determinise(_network(grammar)))
    return Automaton(arcs, accepting, tuple(sorted(grammar.words())), grammar.slots(), grammar)


# ------------------------------------------------------------------------------------------------ the network


class _Mark(Enum):
    """Labels of arcs on which nothing is said, beside the tags that open there."""

    NOTHING = auto()
    CLOSE = auto()  # the last tag that was opened and not yet closed


_Label = str | Named | Valued | _Mark  # a string is a word
_Network = list[list[tuple[_Label, int]]]  # for each state, label and target of its arcs, those preferred first


def _network(grammar: Grammar) -> _Network:
    """The states between words (Thompson 1968, "Regular Expression Search Algorithm").

    Each node of the grammar leads from one state to another. Sentences with the same end share it: what is after a
    rule, or after the first part of a sequence, is there once for each node and the state to which that leads.
    """
    network: _Network = [[], []]
    entries: dict[tuple[Node, int], int] = {}

    def new_state() -> int:
        if len(network) == MOST_STATES:
            raise _too_large()
        network.append([])
        return len(network) - 1

    def entry(node: Node, target: int) -> int:
        state = entries.get((node, target))
        if state is None:
            state = entries[node, target] = new_state()
            body = grammar.rules[node.rule] if isinstance(node, Reference) else node
            stack.append((body, state, target))
        return state

    def link(source: int, target: int, label: _Label = _Mark.NOTHING) -> None:
        network[source].append((label, target))

    stack: list[tuple[Node, int, int]] = [(grammar.rules[grammar.start], START, END)]
    while stack:
        node, source, target = stack.pop()
        match node:
            case Word(text):
                link(source, target, text)
            case Reference():
                link(source, entry(node, target))
            case Sequence(()):
                link(source, target)
            case Sequence(parts):
                after = target
                for part in parts[:0:-1]:
                    after = entry(part, after)
                stack.append((parts[0], source, after))
            case Alternatives(choices):
                stack.extend((choice, source, target) for choice in reversed(choices))
            case Repeat(item, least):
                first, last = new_state(), new_state()
                if least == 0:
                    link(source, target)
                link(source, first)
                link(last, target)
                link(last, first)
                stack.append((item, first, last))
            case Named(item) | Valued(item):
                first, last = new_state(), new_state()
                link(source, first, node)
                link(last, target, _Mark.CLOSE)
                stack.append((item, first, last))
    return network


def _filled(network: _Network, words: list[str]) -> tuple[Slot, ...]:
    """The slots of a sentence."""
    slots: list[Slot] = []
    tags: list[Named | Valued] = []
    said: list[list[str]] = [[]]  # in each open tag, and outside of all
    for label in _derivation(network, words):
        match label:
            case str():
                said[-1].append(label)
            case Named() | Valued():
                tags.append(label)
                said.append([])
            case _Mark.CLOSE:
                meaning = " ".join(filter(None, said.pop()))
                match tags.pop():
                    case Valued(_, value):
                        meaning = value
                    case Named(_, name) if meaning:
                        slots.append(Slot(name, meaning))
                said[-1].append(meaning)
    return tuple(slots)


def _derivation(network: _Network, words: list[str]) -> list[_Label]:
    """The labels along the preferred path for a sentence; none where there is no path.

    Depth first, and a state at a place in the sentence that has led nowhere is not tried again, so the time is at
    most their product, however ambiguous the grammar is.
    """
    tried: set[tuple[int, int]] = set()
    stack: list[tuple[int, int, _Path]] = [(START, 0, None)]
    while stack:
        state, position, path = stack.pop()
        if (state, position) in tried:
            continue
        tried.add((state, position))
        if state == END and position == len(words):
            return _unwound(path)
        for label, target in reversed(network[state]):
            if not isinstance(label, str):
                stack.append((target, position, (label, path)))
            elif words[position : position + 1] == [label]:
                stack.append((target, position + 1, (label, path)))
    return []


_Path = tuple[_Label, "_Path"] | None  # the last label, and those before it


def _unwound(path: _Path) -> list[_Label]:
    labels: list[_Label] = []
    while path is not None:
        label, path = path
        labels.append(label)
    return labels[::-1]


# ---------------------------------------------------------------------------------------- making it deterministic


class _Words(NamedTuple):
    """A deterministic automaton over words.

    vocabulary: the words. accepting: (states,) whether a sentence may end. offsets: (states + 1,); the arcs from
    offsets[i] to offsets[i + 1] are those of state i. words, targets: (arcs,) what they carry, where they lead.
    """

    vocabulary: tuple[str, ...]
    accepting: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    words: NDArray[np.int32]
    targets: NDArray[np.int32]


def _determinise(network: _Network) -> _Words:
    """The subset construction."""
    closures: dict[int, tuple[int, ...]] = {}

    def closure(state: int) -> tuple[int, ...]:
        if state not in closures:
            closures[state] = _before_words(network, state)
        return closures[state]

    vocabulary: dict[str, int] = {}
    states = [closure(START)]
    numbers = {states[0]: 0}
    offsets, words, targets = [0], [], []
    for state in states:  # which grows
        following: dict[str, list[int]] = {}
        for member in state:
            for label, target in network[member]:
                if isinstance(label, str):
                    following.setdefault(label, []).append(target)
        for word, members in following.items():
            after = closure(members[0])
            if len(members) > 1:
                after = tuple(sorted(set(after).union(*map(closure, members))))
            number = numbers.setdefault(after, len(states))
            if number == len(states):
                states.append(after)
            words.append(vocabulary.setdefault(word, len(vocabulary)))
            targets.append(number)
        offsets.append(len(words))
        if len(states) > MOST_STATES:
            raise _too_large()
    return _Words(
        tuple(vocabulary),
        np.array([END in state for state in states]),
        np.array(offsets, np.int64),
        np.array(words, np.int32),
        np.array(targets, np.int32),
    )


def _before_words(network: _Network, state: int) -> tuple[int, ...]:
    """Of this state and all to which it leads without a word: those from which a word leads on, and the end."""
    reached = {state}
    stack = [state]
    wanted = []
    while stack:
        state = stack.pop()
        silent = [target for label, target in network[state] if not isinstance(label, str)]
        if len(silent) < len(network[state]) or state == END:
            wanted.append(state)
        if silent:
            stack.extend(target for target in silent if target not in reached)
            reached.update(silent)
    return tuple(sorted(wanted))


def _too_large() -> DataError:
    return DataError(
        f"the grammar needs more than {MOST_STATES} states", expected="fewer sentences, or shorter ones"
    )


def _spelled(grammar: _Words) -> tuple[Table, NDArray[np.bool_]]:
    """Arcs and accepting states over characters: first the states between words, then those within."""
    letters, ends = code_points(grammar.vocabulary)
    room = int(np.diff(ends, prepend=0)[grammar.words].sum())
    arcs = table(room + len(grammar.words))
    accepting = np.zeros(len(grammar.accepting) + room, np.bool_)
    accepting[: len(grammar.accepting)] = grammar.accepting
    count = _spell(grammar.offsets, grammar.words, grammar.targets, letters, ends, arcs, accepting)
    filled = arcs.keys != EMPTY
    return _table_of(arcs.keys[filled], arcs.values[filled]), accepting[:count].copy()


def _table_of(keys: NDArray[np.int64], values: NDArray[np.int32]) -> Table:
    """A table of these entries, as small as can be."""
    entries = table(len(keys))
    _fill(entries, keys, values)
    return entries


@compiled
def _fill(entries: Table, keys: NDArray[np.int64], values: NDArray[np.int32]) -> None:
    for index in range(len(keys)):
        put(entries, keys[index], values[index])


@compiled
def _spell(
    offsets: NDArray[np.int64],
    words: NDArray[np.int32],
    targets: NDArray[np.int32],
    letters: NDArray[np.int32],
    ends: NDArray[np.int64],
    arcs: Table,
    accepting: NDArray[np.bool_],
) -> int:
    """Enter the letters of words, and the spaces after them; returns the number of states.

    Args:
        offsets, words, targets: of `_Words`.
        letters, ends: of the vocabulary, as `code_points` gives them.
        arcs: an empty table with room for all letters and spaces.
        accepting: filled for the states between words, with room for a state for each letter.
    """
    count = len(offsets) - 1
    for source in range(len(offsets) - 1):
        for index in range(offsets[source], offsets[source + 1]):
            word, target = words[index], targets[index]
            state = source
            for position in range(ends[word - 1] if word > 0 else 0, ends[word]):
                state = setdefault(arcs, arc(state, letters[position]), count)
                count = max(count, state + 1)
            put(arcs, arc(state, SPACE), target)
            accepting[state] = accepting[target]
    return count


# -------------------------------------------------------------------------------------------------------- files


def save(automaton: Automaton, path: str | Path) -> None:
    """Write an automaton and its grammar into one file."""
    keys, targets = automaton.arcs
    places = np.argsort(keys)[np.count_nonzero(keys == EMPTY) :]
    arrays: dict[str, NDArray[Any]] = {
        "arcs": keys[places],
        "targets": targets[places],
        "accepting": automaton.accepting,
    }
    description = {
        "format_version": FORMAT_VERSION,
        "words": automaton.words,
        "slots": automaton.slot_names,
        "grammar": str(automaton.grammar),
    }
    # One entry, since safetensors writes several in any order.
    write_bytes(Path(path), to_safetensors(arrays, {DESCRIPTION: json.dumps(description, ensure_ascii=False)}))


def load(path: str | Path) -> Automaton:
    """Read a file that `save` wrote.

    Raises:
        DataError: it is missing, damaged, something else, or from a newer asr.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            description = json.loads(file.metadata()[DESCRIPTION])
            refuse_newer_format(int(description["format_version"]), FORMAT_VERSION, "vocabulary", path)
            arcs, accepting = _checked(*(file.get_tensor(name) for name in ("arcs", "targets", "accepting")))
        words, slots, grammar = (description[name] for name in ("words", "slots", "grammar"))
        return Automaton(arcs, accepting, tuple(words), tuple(slots), grammar)
    except FileNotFoundError:
        raise DataError("there is no such file", where=path, hint="asr vocab build") from None
    except (SafetensorError, OSError, LookupError, TypeError, ValueError):
        raise DataError(
            "not a vocabulary, or a damaged one",
            where=path,
            expected="a file that `asr vocab build` has made of a grammar",
        ) from None


def _checked(
    arcs: NDArray[np.int64], targets: NDArray[np.int32], accepting: NDArray[np.bool_]
) -> tuple[Table, NDArray[np.bool_]]:
    """Arrays from a file as an automaton's, if no arc leads out of it.

    Raises:
        ValueError: they are none.
    """
    dtypes = [array.dtype for array in (arcs, targets, accepting)]
    dimensions = [array.ndim for array in (arcs, targets, accepting)]
    if dtypes != [np.int64, np.int32, np.bool_] or dimensions != [1, 1, 1] or len(arcs) != len(targets):
        raise ValueError("arrays of other types or shapes")
    states = len(accepting)
    sources = arcs >> 32
    for numbers in (sources, targets):
        if states == 0 or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < states):
            raise ValueError("an arc leads out of the automaton")
    return _table_of(arcs, targets), accepting
