"""Grammars of spoken commands: parse one, count its sentences, draw from them, list them.

A list of phrases, one to a line, is a grammar; comments begin with `#` or `//`. What a list can't say, rules can: a
text with a `<`, `=` or `;` outside its comments is read as rules. Their notation is a small part of the JSpeech
Grammar Format (https://www.w3.org/TR/jsgf/), a statement a rule::

    # The first rule, or the one marked `public`, is the start.
    <command> = turn (on | off) the <device> [in the <room>] ;
    <device>  = lamp | radio ;        // `|` separates alternatives, `( )` groups,
    <room>    = kitchen | hall ;      // `[ ]` may be left out,
    <code>    = (one | two)+ [ok]* ;  // `+` is said once or more, `*` any number of times

`<number LOW-HIGH>` is a rule for whole numbers, spelled out in words by num2words (the extra `numbers`), unless the
text has a rule of that name of its own.

Two tags say what a sentence means. `{name}` fills the slot of that name with what is said before it; `{=value}` has
that mean something else than its words, as each number means its digits::

    <dim>   = dim the <room>{room} lights to <number 0-100>{level} percent ;
    <room>  = kitchen | (living | sitting) room ;
    <light> = light (on{=true} | off{=false}){state} ;

    dim the sitting room lights to twenty one percent  →  room: sitting room, level: 21
    light on                                           →  state: true

Repeats and tags belong to the one word, rule or bracket before them: “living room{room}” names only “room”.

No rule may lead back to itself, so without repeats a grammar has finitely many derivations, and they can be
numbered: drawing and listing sentences both come down to `Grammar.sentence(index)`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from math import prod
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeAlias

import numpy as np

from asr.errors import ConfigError, DataError, MissingDependencyError, how_to_install
from asr.files import read_text
from asr.text.normalize import Normalizer


@dataclass(frozen=True, slots=True)
class Word:
    """One word, spoken as it is written."""

    text: str


@dataclass(frozen=True, slots=True)
class Reference:
    """What the rule of this name says. Names have their angle brackets."""

    rule: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """Its parts, one after another. Without parts it is silence."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One of its choices. `[x]` is the choice between silence and x."""

    choices: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Its item over and over: at least once for `x+`, any number of times for `x*`."""

    item: Node
    least: int


@dataclass(frozen=True, slots=True)
class Named:
    """Its item, whose meaning fills a slot."""

    item: Node
    name: str


@dataclass(frozen=True, slots=True)
class Valued:
    """Its item, which means this instead of its words."""

    item: Node
    value: str


Node: TypeAlias = Word | Reference | Sequence | Alternatives | Repeat | Named | Valued

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

    @cached_property
    def endless(self) -> bool:
        """Whether something in it may be repeated, so that there is no longest sentence."""
        return any(isinstance(node, Repeat) for node in self._nodes())

    def count(self) -> int:
        """The number of derivations, exact however large.

        Raises:
            DataError: the grammar is endless.
        """
        if self.endless:
            raise DataError(
                "a grammar with endlessly many sentences", expected="none of * and +, to count or list them"
            )
        return self._rule_counts[self.start]

    def words(self) -> frozenset[str]:
        """Every word that some sentence holds."""
        return frozenset(node.text for node in self._nodes() if isinstance(node, Word))

    def slots(self) -> tuple[str, ...]:
        """The name of every slot that some sentence fills, as one reads."""
        return tuple(dict.fromkeys(node.name for node in self._nodes() if isinstance(node, Named)))

    def sentence(self, index: int) -> str:
        """The sentence of one derivation.

        Derivations are numbered as one reads: earlier alternatives first, and of several choices in a
        sequence the last one varies fastest.

        Args:
            index: 0 ≤ index < `count()`.

        Raises:
            IndexError: there is no such derivation.
            DataError: the grammar is endless.
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
                case Named(item) | Valued(item):
                    stack.append((item, index))
                case Sequence(parts):
                    for part in reversed(parts):
                        index, digit = divmod(index, _count(part, self._rule_counts))
                        stack.append((part, digit))
                case Alternatives(choices):
                    stack.append(self._choose(choices, index))
        return " ".join(words)

    def sample(self, rng: np.random.Generator) -> str:
        """Draw a sentence, every derivation being equally likely.

        In an endless grammar, after each time that a repeat is said it is said once more with probability 1/2 (for
        `x*` the first time, too); to the choice among alternatives it counts as if it were said once.
        """
        # Python's randrange draws integers of any size; numpy's end at 64 bits.
        random = Random(rng.bytes(16))
        return self._draw(random) if self.endless else self.sentence(random.randrange(self.count()))

    def sentences(self) -> Iterator[str]:
        """All sentences, one for each derivation, in the order of `sentence`; made as they are asked for.

        Raises:
            DataError: the grammar is endless.
        """
        return (self.sentence(index) for index in range(self.count()))

    def __str__(self) -> str:
        """The rules in their notation, those of numbers among them: `parse` makes the same grammar of it."""
        return "\n".join(
            f"{'public ' if rule == self.start else ''}{rule} = {_written(node)} ;"
            for rule, node in self.rules.items()
        )

    def _nodes(self) -> Iterator[Node]:
        """All that some sentence goes through, each rule once, as one reads."""
        reached = {self.start}
        stack = [self.rules[self.start]]
        while stack:
            node = stack.pop()
            yield node
            match node:
                case Reference(rule) if rule not in reached:
                    reached.add(rule)
                    stack.append(self.rules[rule])
                case Sequence(nodes) | Alternatives(nodes):
                    stack.extend(reversed(nodes))
                case Repeat(item) | Named(item) | Valued(item):
                    stack.append(item)

    def _choose(self, choices: tuple[Node, ...], index: int) -> tuple[Node, int]:
        """The choice to which this derivation of all of them belongs, and its index there."""
        for choice in choices:
            size = _count(choice, self._rule_counts)
            if index < size:
                return choice, index
            index -= size
        raise IndexError(index)

    def _draw(self, random: Random) -> str:
        words: list[str] = []
        stack = [self.rules[self.start]]
        while stack:
            match stack.pop():
                case Word(text):
                    words.append(text)
                case Reference(rule):
                    stack.append(self.rules[rule])
                case Sequence(parts):
                    stack.extend(reversed(parts))
                case Named(item) | Valued(item):
                    stack.append(item)
                case Repeat(item, least):
                    times = least
                    while random.random() < 0.5:
                        times += 1
                    stack.extend([item] * times)
                case Alternatives(choices):
                    total = sum(_count(choice, self._rule_counts) for choice in choices)
                    stack.append(self._choose(choices, random.randrange(total))[0])
        return " ".join(words)

    @cached_property
    def _rule_counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for rule, node in self.rules.items():
            counts[rule] = _count(node, counts)
        return counts


def read(path: str | Path, language: str = "en") -> Grammar:
    """Read a grammar file, in UTF-8.

    Raises:
        DataError, ConfigError, MissingDependencyError: the file is missing; or as `parse`.
    """
    return parse(read_text(Path(path), kind="grammar"), str(path), language)


def parse(text: str, name: str = "<grammar>", language: str = "en") -> Grammar:
    """Read a grammar.

    Args:
        text: phrases or rules, in the notation of this module.
        name: what error messages call it, usually the file's path.
        language: of numbers, as num2words knows it.

    Raises:
        DataError: with name and line: something that is not in the notation, an unclosed bracket, an empty
            alternative, a rule that is undefined, defined twice or refers to itself.
        ConfigError: there are numbers, and num2words can't spell them in the language.
        MissingDependencyError: there are numbers, and it is not installed.
    """
    text = unicodedata.normalize("NFC", text)  # as transcripts are
    plain = _COMMENT.sub("", text)
    if plain.strip() and not re.search("[<=;]", plain):
        return _parse_phrases(plain, name)
    parser = _Parser(_tokenize(text), name)
    while not parser.rules or parser.next.kind != "end":
        parser.parse_rule()
    for rule, line in [use for uses in parser.uses.values() for use in uses.items()]:
        if rule not in parser.rules:
            parser.rules[rule] = _built_in(rule, language, f"{name}:{line}", tuple(parser.rules))
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


def _parse_phrases(text: str, name: str) -> Grammar:
    """Read phrases, without comments, one to a line. What is said twice is one phrase."""
    if wrong := _NOT_IN_PHRASES.search(text):
        raise DataError(
            f"found “{wrong.group()}”",
            where=f"{name}:{text.count(chr(10), 0, wrong.start()) + 1}",
            expected="words only, in a list of phrases; or, with brackets and the like, rules: <name> = words ;",
        )
    words = {word: Word(word) for word in set(text.split())}
    phrases = dict.fromkeys(tuple(line.split()) for line in text.split("\n"))
    nodes = [_one_or(Sequence, [words[word] for word in phrase]) for phrase in phrases if phrase]
    return Grammar(_PHRASES, {_PHRASES: _one_or(Alternatives, nodes)})


def _built_in(rule: str, language: str, where: str, defined: tuple[str, ...]) -> Node:
    """What stands for a rule that the text uses and does not define."""
    if not rule.startswith("<number "):
        raise DataError(f"rule {rule} is not defined", where=where, expected="one of " + ", ".join(defined))
    limits = _NUMBERS.fullmatch(rule)
    low, high = map(int, limits.groups()) if limits else (1, 0)
    if not low <= high < low + _MOST_NUMBERS:
        raise DataError(
            f"found {rule}",
            where=where,
            expected=f"<number LOW-HIGH>, such as <number 0-59>, for {_MOST_NUMBERS} whole numbers at most",
        )
    return _one_or(Alternatives, [_spelled(number, language, where) for number in range(low, high + 1)])


def _spelled(number: int, language: str, where: str) -> Node:
    """The words of a number, which mean its digits."""
    try:
        from num2words import num2words
    except ImportError as error:
        raise MissingDependencyError(
            "num2words, which spells numbers, is not installed",
            where=where,
            expected="it, or a rule of that name: <number 1-2> = one {=1} | two {=2} ;",
            hint=how_to_install("numbers"),
        ) from error
    try:
        spelled = Normalizer(case="keep")(num2words(number, lang=language))
    except (NotImplementedError, OverflowError, TypeError, LookupError, ValueError):  # as its languages fail
        raise ConfigError(
            f"num2words can't spell {number} in “{language}”",
            where=where,
            expected="a language such as en, de or fr",
        ) from None
    return Valued(_one_or(Sequence, [Word(word) for word in spelled.split()]), str(number))


def _one_or(several: type[Sequence] | type[Alternatives], nodes: Iterable[Node]) -> Node:
    """The only node, or all of them together."""
    parts = tuple(nodes)
    return parts[0] if len(parts) == 1 else several(parts)


def _written(node: Node, inside: bool = False) -> str:
    """A node in the notation, with brackets where it stands inside something else and needs them."""
    match node:
        case Word(text) | Reference(text):
            return text
        case Sequence(parts):
            text = " ".join(_written(part, inside=True) for part in parts)
        case Alternatives((first, second)) if first == SILENCE:
            return f"[{_written(second)}]"
        case Alternatives(choices):
            text = " | ".join(_written(choice, isinstance(choice, Alternatives)) for choice in choices)
        case Repeat() | Named() | Valued():
            return _written_with_suffixes(node)
    return f"({text})" if inside else text


def _written_with_suffixes(node: Node) -> str:
    """The innermost item of repeats and tags, and these after it."""
    suffixed: list[Repeat | Named | Valued] = []
    while isinstance(node, Repeat | Named | Valued):
        suffixed.append(node)
        node = node.item
    text = _written(node, inside=True)
    taken: list[type[Node]] = []
    for suffix in reversed(suffixed):
        if not _may_follow(suffix, taken):
            text, taken = f"({text})", []
        match suffix:
            case Repeat(_, least):
                text += "*+"[least]
            case Named(_, name):
                text += f"{{{name}}}"
            case Valued(_, value):
                text += f"{{={value}}}"
        taken.append(type(suffix))
    return text


def _may_follow(suffix: Node, taken: list[type[Node]]) -> bool:
    """Whether a repeat or tag may stand after those of these kinds. What has its name needs no value any more."""
    return type(suffix) not in taken and not (isinstance(suffix, Valued) and Named in taken)


def _count(node: Node, rule_counts: Mapping[str, int]) -> int:
    """The number of derivations of a node, given those of the rules that it refers to. Repeats are said once."""
    match node:
        case Word():
            return 1
        case Reference(rule):
            return rule_counts[rule]
        case Sequence(parts):
            return prod(_count(part, rule_counts) for part in parts)
        case Alternatives(choices):
            return sum(_count(choice, rule_counts) for choice in choices)
        case Repeat(item) | Named(item) | Valued(item):
            return _count(item, rule_counts)


_MAX_DEPTH = 50  # of brackets; deeper is no grammar that a person wrote, and would exhaust Python's stack
_MOST_NUMBERS = 10_000  # of one rule; more would take seconds
_PHRASES = "<phrases>"  # the rule that a list of them becomes

_COMMENT = re.compile(r"(?:#|//)[^\n]*")
_PATTERN = re.compile(
    r"(?P<skip>\s+|(?:#|//)[^\n]*)"
    r"|(?P<rule><number\s[^<>\n]*>|<[^<>()\[\]|=;#\s]+>)"
    r"|(?P<tag>\{[^{}\n]*\}?)"
    r"|(?P<mark>[=;|()\[\]*+])"
    r"|(?P<word>[^<>()\[\]|=;#\s/\\*+{}\"]+)"
    r"|(?P<other>.)"  # among them the weights and quotes of full JSGF
)
_NOT_IN_PHRASES = re.compile(r"[>()\[\]|/\\*+{}\"]")
_TAG = re.compile(r"\{\s*(?:(?P<name>\w(?:[\w-]*\w)?)|=(?P<value>[^{}]*))\s*\}")
_NUMBERS = re.compile(r"<number ([0-9]{1,15})-([0-9]{1,15})>")


class _Token(NamedTuple):
    kind: str  # a group of the pattern, or end
    text: str
    line: int


def _tokenize(source: str) -> list[_Token]:
    tokens: list[_Token] = []
    line = 1
    for match in _PATTERN.finditer(source):
        if match.lastgroup != "skip":
            text = " ".join(match.group().split()) if match.lastgroup == "rule" else match.group()
            tokens.append(_Token(str(match.lastgroup), text, line))
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
            raise self.error("a rule: <name> = words ; (or a list of phrases, without any < = ;)")
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
        return _one_or(Alternatives, choices)

    def parse_sequence(self, rule: str) -> Node:
        """sequence: item+"""
        parts: list[Node] = []
        while (item := self.parse_item(rule)) is not None:
            parts.append(self.parse_suffixes(item))
        if not parts:
            raise self.error("a word, <rule>, ( or [ (write [ ] around what may be left out)")
        return _one_or(Sequence, parts)

    def parse_item(self, rule: str) -> Node | None:
        """item: word | <name> | "(" alternatives ")" | "[" alternatives "]"; None where there is none."""
        token = self.next
        if self.took("("):
            return self.parse_brackets(token, ")", rule)
        if self.took("["):
            return Alternatives((SILENCE, self.parse_brackets(token, "]", rule)))
        if token.kind == "word":
            self.position += 1
            return Word(token.text)
        if token.kind == "rule":
            self.position += 1
            self.uses[rule].setdefault(token.text, token.line)
            return Reference(token.text)
        return None

    def parse_suffixes(self, item: Node) -> Node:
        """suffixes: ("*" | "+" | "{=value}" | "{name}")*, each kind once, the value before the name"""
        taken: list[type[Node]] = []
        while self.next.kind == "tag" or self.next.text in ("*", "+"):
            suffixed = self.suffixed(item)
            if not _may_follow(suffixed, taken):
                raise self.error("one repeat, one {=value} and after it one {name}: put ( ) around what has more")
            taken.append(type(suffixed))
            item = suffixed
            self.position += 1
        return item

    def suffixed(self, item: Node) -> Repeat | Named | Valued:
        """An item with the repeat or tag that comes next."""
        if self.next.kind == "mark":
            return Repeat(item, 0 if self.next.text == "*" else 1)
        tag = _TAG.fullmatch(self.next.text)
        if tag is None:
            raise self.error("{name} to fill a slot, or {=value} for what the words before it mean")
        if tag["name"]:
            return Named(item, tag["name"])
        return Valued(item, " ".join(tag["value"].split()))

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
