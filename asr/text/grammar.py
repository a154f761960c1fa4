"""Grammars of spoken commands: parse one, count its sentences, draw from them, list them.

The notation is a small part of the JSpeech Grammar Format (https://www.w3.org/TR/jsgf/), a statement a rule::

    # The first rule, or the one marked `public`, is the start.
    <command> = turn (on | off) the <device> [in the <room>] ;
    <device>  = lamp | radio ;        // `|` separates alternatives, `( )` groups,
    <room>    = kitchen | hall ;      // `[ ]` may be left out

No rule may lead back to itself, so a grammar has finitely many derivations, and they can be numbered: drawing
and listing sentences both come down to `Grammar.sentence(index)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from math import prod
from random import Random
from typing import NamedTuple, TypeAlias

import numpy as np

from asr.errors import DataError


@dataclass(frozen=True)
class Word:
    """One word, spoken as it is written."""

    text: str


@dataclass(frozen=True)
class Reference:
    """What the rule of this name says. Names have their angle brackets."""

    rule: str


@dataclass(frozen=True)
class Sequence:
    """Its parts, one after another. Without parts it is silence."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Alternatives:
    """One of its choices. `[x]` is the choice between silence and x."""

    choices: tuple[Node, ...]


Node: TypeAlias = Word | Reference | Sequence | Alternatives

SILENCE = Sequence(())


@dataclass(frozen=True)
class Grammar:
    """Rules, as `parse` makes them.

    A derivation is one way through the rules. An ambiguous grammar derives a sentence in several ways; then
    `sentences` has it, and `sample` draws it, that many times as often.

    Args:
        start: the name of the rule for a whole sentence.
        rules: by name, each after all that it refers to.
    """

    start: str
    rules: Mapping[str, Node]

    def count(self) -> int:
        """The number of derivations, exact however large."""
        return self._rule_counts[self.start]

    def words(self) -> frozenset[str]:
        """Every word that some sentence holds."""
        words: set[str] = set()
        reached = {self.start}
        stack = [self.rules[self.start]]
        while stack:
            match stack.pop():
                case Word(text):
                    words.add(text)
                case Reference(rule) if rule not in reached:
                    reached.add(rule)
                    stack.append(self.rules[rule])
                case Sequence(nodes) | Alternatives(nodes):
                    stack.extend(nodes)
        return frozenset(words)

    def sentence(self, index: int) -> str:
        """The sentence of one derivation.

        Derivations are numbered as one reads: earlier alternatives first, and of several choices in a
        sequence the last one varies fastest.

        Args:
            index: 0 ≤ index < `count()`.

        Raises:
            IndexError: there is no such derivation.
        """
        if not 0 <= index < self.count():
            raise IndexError(f"derivation {index} of a grammar that has {self.count()}")
        words: list[str] = []
        stack: list[tuple[Node, int]] = [(self.rules[self.start], index)]
        while stack:
            node, index = stack.pop()
            match node:
                case Word(text):
                    words.append(text)
                case Reference(rule):
                    stack.append((self.rules[rule], index))
                case Sequence(parts):
                    for part in reversed(parts):
                        index, digit = divmod(index, _count(part, self._rule_counts))
                        stack.append((part, digit))
                case Alternatives(choices):
                    for choice in choices:
                        size = _count(choice, self._rule_counts)
                        if index < size:
                            stack.append((choice, index))
                            break
                        index -= size
        return " ".join(words)

    def sample(self, rng: np.random.Generator) -> str:
        """Draw a sentence, every derivation being equally likely."""
        # Python's randrange draws integers of any size; numpy's end at 64 bits.
        return self.sentence(Random(rng.bytes(16)).randrange(self.count()))

    def sentences(self) -> Iterator[str]:
        """All sentences, one for each derivation, in the order of `sentence`; made as they are asked for."""
        return (self.sentence(index) for index in range(self.count()))

    @cached_property
    def _rule_counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for rule, node in self.rules.items():
            counts[rule] = _count(node, counts)
        return counts


def parse(text: str, name: str = "<grammar>") -> Grammar:
    """Read a grammar.

    Args:
        text: rules, in the notation of this module.
        name: what error messages call it, usually the file's path.

    Raises:
        DataError: with name and line: something that is not in the notation, an unclosed bracket, an empty
            alternative, a rule that is undefined, defined twice or refers to itself.
    """
    parser = _Parser(_tokenize(text), name)
    while not parser.rules or parser.next.kind != "end":
        parser.parse_rule()
    for rule, line in (use for uses in parser.uses.values() for use in uses.items()):
        if rule not in parser.rules:
            known = "one of " + ", ".join(parser.rules)
            raise DataError(f"rule {rule} is not defined", where=f"{name}:{line}", expected=known)
    try:
        order = list(TopologicalSorter(parser.uses).static_order())
    except CycleError as error:
        cycle: list[str] = error.args[1][::-1]
        raise DataError(
            f"rule {' → '.join(cycle)} refers to itself",
            where=f"{name}:{parser.uses[cycle[0]][cycle[1]]}",
            expected="rules that end, so that sentences do",
        ) from None
    start = parser.public or next(iter(parser.rules))
    return Grammar(start, {rule: parser.rules[rule] for rule in order})


def _count(node: Node, rule_counts: Mapping[str, int]) -> int:
    """The number of derivations of a node, given those of the rules that it refers to."""
    match node:
        case Word():
            return 1
        case Reference(rule):
            return rule_counts[rule]
        case Sequence(parts):
            return prod(_count(part, rule_counts) for part in parts)
        case Alternatives(choices):
            return sum(_count(choice, rule_counts) for choice in choices)


_MAX_DEPTH = 50  # of brackets; deeper is no grammar that a person wrote, and would exhaust Python's stack

_PATTERN = re.compile(
    r"(?P<skip>\s+|(?:#|//)[^\n]*)"
    r"|(?P<rule><[^<>()\[\]|=;#\s]+>)"
    r"|(?P<mark>[=;|()\[\]])"
    r"|(?P<word>[^<>()\[\]|=;#\s/\\*+{}\"]+)"
    r"|(?P<other>.)"  # among them the repeats, weights and tags of full JSGF
)


class _Token(NamedTuple):
    kind: str  # a group of the pattern, or end
    text: str
    line: int


def _tokenize(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    line = 1
    for match in _PATTERN.finditer(text):
        if match.lastgroup != "skip":
            tokens.append(_Token(str(match.lastgroup), match.group(), line))
        line += match.group().count("\n")
    return [*tokens, _Token("end", "the end of the text", line)]


@dataclass
class _Parser:
    """Recursive descent: a method for each construct of the notation."""

    tokens: list[_Token]
    name: str
    position: int = 0
    depth: int = 0
    public: str | None = None
    rules: dict[str, Node] = field(default_factory=dict)
    uses: dict[str, dict[str, int]] = field(default_factory=dict)  # rule → rule that it refers to → line

    def parse_rule(self) -> None:
        """rule: ["public"] <name> "=" alternatives ";" """
        is_public = self.took("public")
        head = self.next
        if head.kind != "rule":
            raise self.error("a rule: <name> = words ;")
        if head.text in self.rules:
            raise self.error("each rule defined once: join the two with |")
        if is_public and self.public:
            raise self.error(f"one public rule, which is {self.public}")
        self.position += 1
        self.expect("=", f"after {head.text}")
        self.uses[head.text] = {}
        self.rules[head.text] = self.parse_alternatives(head.text)
        self.expect(";", f"at the end of rule {head.text} (line {head.line})")
        self.public = head.text if is_public else self.public

    def parse_alternatives(self, rule: str) -> Node:
        """alternatives: sequence ("|" sequence)*"""
        choices = [self.parse_sequence(rule)]
        while self.took("|"):
            choices.append(self.parse_sequence(rule))
        return choices[0] if len(choices) == 1 else Alternatives(tuple(choices))

    def parse_sequence(self, rule: str) -> Node:
        """sequence: (word | <name> | "(" alternatives ")" | "[" alternatives "]")+"""
        parts: list[Node] = []
        while True:
            token = self.next
            if self.took("("):
                parts.append(self.parse_brackets(token, ")", rule))
            elif self.took("["):
                parts.append(Alternatives((SILENCE, self.parse_brackets(token, "]", rule))))
            elif token.kind == "word":
                parts.append(Word(token.text))
                self.position += 1
            elif token.kind == "rule":
                parts.append(Reference(token.text))
                self.uses[rule].setdefault(token.text, token.line)
                self.position += 1
            elif parts:
                return parts[0] if len(parts) == 1 else Sequence(tuple(parts))
            else:
                raise self.error("a word, <rule>, ( or [ (write [ ] around what may be left out)")

    def parse_brackets(self, opening: _Token, closing: str, rule: str) -> Node:
        """The rest of "(" alternatives ")" or "[" alternatives "]"."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.error(f"at most {_MAX_DEPTH} brackets inside one another: use more rules")
        inner = self.parse_alternatives(rule)
        self.expect(closing, f"for the “{opening.text}” of line {opening.line}")
        self.depth -= 1
        return inner

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def took(self, text: str) -> bool:
        """Whether the next token is this one; if so, it is passed."""
        found = self.next.text == text
        self.position += found
        return found

    def expect(self, mark: str, where: str) -> None:
        if not self.took(mark):
            raise self.error(f"“{mark}” {where}")

    def error(self, expected: str) -> DataError:
        found = self.next.text if self.next.kind in ("end", "rule") else f"“{self.next.text}”"
        return DataError(f"found {found}", where=f"{self.name}:{self.next.line}", expected=expected)
