"""ARPA files: n-gram language models as text, of any tool's making.

The format is the one of Doug Paul's that all tools share (the ngram-format(5) page of SRILM describes it). Sections
of n-grams follow a header with their counts; a line holds a base-10 log-probability, the words, and in all but the
last section a back-off weight, which may be left out where it is 0. Files come with hundreds of millions of lines,
so compiled functions read the bytes.
"""

from __future__ import annotations

import codecs
import gzip
import math
import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from asr import hashing
from asr.compiled import compiled
from asr.errors import DataError
from asr.files import atomic_path, unreadable_in_words
from asr.hashing import Table, arc, find, put, setdefault

LN10 = math.log(10)
UNKNOWN = "<unk>"
UNSEEN = -100.0  # the base-10 log-probability of <unk> where a file has none; KenLM's
_LOWEST = -99.0  # what SRILM writes for the logarithm of 0; other tools' -inf is read as it
_LINES_AT_ONCE = 1 << 16  # while writing

_TAB, _NEWLINE, _RETURN, _SPACE, _BACKSLASH, _PLUS, _MINUS, _POINT = (ord(each) for each in "\t\n\r \\+-.")
_ZERO, _NINE, _LOWER = ord("0"), ord("9"), 0x20
_E, _I, _N, _F = (ord(each) for each in "einf")
_POWERS = np.array([float(f"1e{exponent}") for exponent in range(23)])  # those that a float64 holds exactly

# What can be wrong with a line.
_NO_FAULT, _SURPLUS, _FIELDS, _NUMBER, _POSITIVE, _REPEATED, _UNKNOWN_WORD, _NO_CONTEXT = range(8)


@dataclass(frozen=True, eq=False)
class Entries:
    """N-grams one by one, the shorter first.

    Entry 0 is the empty n-gram, entry 1 + word the unigram of that word.

    Attributes:
        words: the vocabulary.
        counts: the number of n-grams of each length.
        arcs: `arc(entry, word)` to the entry that is longer by that word, for two words and more.
        parent: the entry of all words but the last.
        last: the last word.
        log_prob: natural logarithm of the probability.
        backoff: natural logarithm of the back-off weight.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]
    arcs: Table
    parent: NDArray[np.int32]
    last: NDArray[np.int32]
    log_prob: NDArray[np.float32]
    backoff: NDArray[np.float32]


def connected(
    words: tuple[str, ...],
    counts: tuple[int, ...],
    parent: NDArray[np.int32],
    last: NDArray[np.int32],
    log_prob: NDArray[np.float32],
    backoff: NDArray[np.float32],
) -> Entries:
    """Entries, of which all is known but the arcs."""
    arcs = hashing.table(sum(counts[1:]))
    _connect(arcs, parent, last)
    return Entries(words, counts, arcs, parent, last, log_prob, backoff)


def read(path: Path) -> Entries:
    """Read an ARPA file, compressed by gzip or not.

    Accepted, because tools differ: text before the header, tabs or spaces, CRLF, back-off weights left out, lengths
    announced with 0 n-grams, n-grams whose last words are not an n-gram themselves, `<UNK>` for `<unk>`, and -inf
    for a probability of 0, which becomes 10^-99. Where there is no `<unk>`, one of probability 10^-100 is added.

    Raises:
        DataError: there is no such file, or it is wrong: where, and what it should hold.
    """
    source = _open(path)
    announced, position = _read_counts(source)
    counts = tuple(announced[: max(index for index, count in enumerate(announced, start=1) if count)])
    reading = _allocate(counts)
    words: list[str] = []
    end = 1
    for order, count in enumerate(announced, start=1):
        position = _read_header(source, position, order, optional=count == 0)
        section = _Section(order, count, end, order == len(counts))
        position = _read_section(source, position, section, reading)
        end += count
        if order == 1:
            words = _words(source, reading)
            end += _add_unknown(words, reading)
    _read_end(source, position)
    return Entries(tuple(words), (len(words), *counts[1:]), reading.arcs, *_first(end, reading))


def write(entries: Entries, path: Path) -> None:
    """Write an ARPA file, atomically; compressed by gzip where the name ends in .gz.

    Nine digits are written, so that reading gives the same float32 numbers again.
    """
    with atomic_path(path) as temporary:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(temporary, "wt", encoding="utf-8", newline="\n") as file:
            for part in _rendered(entries):
                file.write(part)


def _rendered(entries: Entries) -> Iterator[str]:
    yield "\\data\\\n"
    yield from (f"ngram {order}={count}\n" for order, count in enumerate(entries.counts, start=1))
    first = 1
    for order, count in enumerate(entries.counts, start=1):
        yield f"\n\\{order}-grams:\n"
        for begin in range(first, first + count, _LINES_AT_ONCE):
            ids = np.arange(begin, min(begin + _LINES_AT_ONCE, first + count))
            yield _lines(entries, ids, order)
        first += count
    yield "\n\\end\\\n"


def _lines(entries: Entries, ids: NDArray[np.int64], order: int) -> str:
    columns = _word_columns(entries, ids, order)
    log_probs = (entries.log_prob[ids] / np.float64(LN10)).tolist()
    if order == len(entries.counts):
        return "".join(
            f"{log_prob:.9g}\t{' '.join(words)}\n"
            for log_prob, words in zip(log_probs, zip(*columns, strict=True), strict=True)
        )
    backoffs = (entries.backoff[ids] / np.float64(LN10)).tolist()
    return "".join(
        f"{log_prob:.9g}\t{' '.join(words)}\t{backoff:.9g}\n"
        for log_prob, words, backoff in zip(log_probs, zip(*columns, strict=True), backoffs, strict=True)
    )


def _word_columns(entries: Entries, ids: NDArray[np.int64], order: int) -> list[list[str]]:
    """The first words of some entries, their second words, and so on."""
    columns = []
    for _ in range(order):
        columns.append([entries.words[word] for word in entries.last[ids].tolist()])
        ids = entries.parent[ids].astype(np.int64)
    return columns[::-1]


class _Source(NamedTuple):
    """A file's content."""

    path: Path
    content: bytes | mmap.mmap

    def line(self, position: int) -> tuple[bytes, int]:
        """The next line that is not blank, without white space at its ends, and the position after it."""
        while position < len(self.content):
            end = self.content.find(b"\n", position)
            end = len(self.content) if end < 0 else end
            line = self.content[position:end].strip()
            position = end + 1
            if line:
                return line, position
        return b"", len(self.content)

    def refuse(self, what: str, position: int, expected: str) -> NoReturn:
        number = self.content[:position].count(b"\n") + 1
        raise DataError(what, where=f"{self.path}, line {number}", expected=expected)


def _open(path: Path) -> _Source:
    with unreadable_in_words(path, "an ARPA file"), path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            return _Source(path, gzip.decompress(path.read_bytes()))
        if not path.stat().st_size:
            raise DataError("the file is empty", where=path, expected="an ARPA file")
        return _Source(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _read_counts(source: _Source) -> tuple[list[int], int]:
    """The numbers of n-grams that the header announces, by length, and the position after the header."""
    start = re.search(rb"^(?:%s)?[ \t]*\\data\\[ \t\r]*$" % codecs.BOM_UTF8, source.content, re.MULTILINE)
    if start is None:
        raise DataError("this is no ARPA file: no line says \\data\\", where=source.path, expected="an ARPA file")
    counts: list[int] = []
    line, after = source.line(position := start.end())
    while line and not line.startswith(b"\\"):
        count = re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", line)
        if count is None or int(count[1]) != len(counts) + 1:
            found = f"the header says “{_shown(line)}”"
            source.refuse(found, after - 1, f"“ngram {len(counts) + 1}=” and the number of {len(counts) + 1}-grams")
        counts.append(int(count[2]))
        line, after = source.line(position := after)
    _check_counts(source, counts, position - 1)
    return counts, position


def _check_counts(source: _Source, counts: Sequence[int], position: int) -> None:
    if not any(counts[:1]):
        source.refuse("the header announces no unigrams", position, "“ngram 1=” and their number")
    if any(after > 0 and before == 0 for before, after in pairwise(counts)):
        source.refuse(
            f"the header announces {counts} n-grams", position, "no longer ones where there are no shorter"
        )
    shortest = sum(count * (2 * order + 2) for order, count in enumerate(counts, start=1))  # bytes
    if shortest > len(source.content) - position:
        what = f"the file is too short for the {sum(counts)} n-grams that it announces"
        raise DataError(what, where=source.path, hint="copy the file again")


class _Reading(NamedTuple):
    """What the compiled functions fill."""

    vocabulary: Table  # a hash of a word's bytes to the word
    spelling: NDArray[np.int64]  # (words, 2): where in the file its bytes begin and end
    arcs: Table
    parent: NDArray[np.int32]
    last: NDArray[np.int32]
    log_prob: NDArray[np.float32]
    backoff: NDArray[np.float32]


def _allocate(counts: Sequence[int]) -> _Reading:
    entries = 1 + sum(counts) + 1  # the empty one; one for <unk>
    if entries >= 1 << 31:
        raise DataError(f"{sum(counts)} n-grams", expected="fewer than 2^31", hint="prune the model")
    return _Reading(
        hashing.table(counts[0]),
        np.zeros((counts[0], 2), np.int64),
        hashing.table(sum(counts[1:])),
        np.zeros(entries, np.int32),
        np.zeros(entries, np.int32),
        np.zeros(entries, np.float32),
        np.zeros(entries, np.float32),
    )


def _first(
    end: int, reading: _Reading
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    return reading.parent[:end], reading.last[:end], reading.log_prob[:end], reading.backoff[:end]


def _read_header(source: _Source, position: int, order: int, optional: bool) -> int:
    line, after = source.line(position)
    if line == b"\\%d-grams:" % order:
        return after
    if not optional:
        _refuse_line(source, line, position, f"\\{order}-grams:")
    return position


def _read_end(source: _Source, position: int) -> None:
    line, _ = source.line(position)
    if line != b"\\end\\":
        _refuse_line(source, line, position, "\\end\\")


def _refuse_line(source: _Source, line: bytes, position: int, expected: str) -> NoReturn:
    if not line:
        source.refuse("the file ends here", len(source.content), expected)
    source.refuse(f"the line says “{_shown(line)}”", source.content.find(line, position), expected)


class _Section(NamedTuple):
    """The n-grams of one length in a file: their length, number, first entry, and whether none are longer."""

    order: int
    size: int
    first: int
    longest: bool


def _read_section(source: _Source, position: int, section: _Section, reading: _Reading) -> int:
    content = np.frombuffer(source.content, np.uint8)
    found, position, fault = _fill(content, position, section, reading)
    if fault != _NO_FAULT:
        _refuse_entry(source, position, section, reading, fault)
    if found < section.size:
        what = "the file ends" if position == len(source.content) else "the section ends"
        expected = f"{section.size}, which the header announces"
        source.refuse(f"{what} after {found} {section.order}-grams", position, expected)
    return position


def _refuse_entry(source: _Source, position: int, section: _Section, reading: _Reading, fault: int) -> NoReturn:
    """Say what is wrong with the line of an n-gram."""
    line, _ = source.line(position)
    fields = line.split()
    words = fields[1 : section.order + 1]
    order = section.order
    known = {source.content[start:stop] for start, stop in reading.spelling.tolist()}
    unknown = next((word for word in words if word not in known), b"")
    what, expected = {
        _SURPLUS: (f"one more {order}-gram", f"{section.size}, which the header announces"),
        _FIELDS: (
            f"{len(fields)} fields in “{_shown(line)}”",
            f"a log-probability, {order} {'word' if order == 1 else 'words'}, and a back-off weight or none",
        ),
        _NUMBER: (f"“{_shown(line)}” begins or ends with no number", "logarithms to base 10"),
        _POSITIVE: (f"the log-probability {_shown(fields[0])}", "at most 0"),
        _REPEATED: (f"“{_shown(b' '.join(words))}” comes a second time", "each n-gram once"),
        _UNKNOWN_WORD: (f"the word “{_shown(unknown)}” is not among the unigrams", "words that are"),
        _NO_CONTEXT: (
            f"“{_shown(b' '.join(words))}” begins with what is not among the {order - 1}-grams",
            f"a {order - 1}-gram “{_shown(b' '.join(words[:-1]))}”",
        ),
    }[fault]
    source.refuse(what, position, expected)


def _shown(text: bytes) -> str:
    shown = text.decode("utf-8", "replace")
    return shown if len(shown) <= 60 else shown[:60] + "…"


def _words(source: _Source, reading: _Reading) -> list[str]:
    joined = _joined(np.frombuffer(source.content, np.uint8), reading.spelling).tobytes()
    try:
        words = joined.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        word = joined.count(b"\n", 0, error.start)
        source.refuse("a word is not in UTF-8", int(reading.spelling[word, 0]), "UTF-8 throughout")
    if "<UNK>" in words and UNKNOWN not in words:
        words[words.index("<UNK>")] = UNKNOWN
    return words


def _add_unknown(words: list[str], reading: _Reading) -> int:
    """Give the vocabulary an <unk> where it has none. The number of words added."""
    if UNKNOWN in words:
        return 0
    words.append(UNKNOWN)
    reading.last[len(words)] = len(words) - 1
    reading.log_prob[len(words)] = UNSEEN * LN10
    return 1


@compiled
def _connect(arcs: Table, parent: NDArray[np.int32], last: NDArray[np.int32]) -> None:
    for entry in range(1, len(parent)):
        if parent[entry] != 0:
            put(arcs, arc(parent[entry], last[entry]), entry)


@compiled
def _fill(content: NDArray[np.uint8], position: int, section: _Section, reading: _Reading) -> tuple[int, int, int]:
    """Read the lines of a section up to its end or a fault: how many, where that is, and which fault."""
    fields = np.zeros((section.order + 3, 2), np.int64)
    found = 0
    while True:
        start = position
        while start < len(content) and _is_space(content[start]):
            start += 1
        if start == len(content) or content[start] == _BACKSLASH:
            return found, start, _NO_FAULT
        if found == section.size:
            return found, start, _SURPLUS
        number, position = _split(content, start, fields)
        fault = _enter(content, fields[:number], section, section.first + found, reading)
        if fault != _NO_FAULT:
            return found, start, fault
        found += 1


@compiled
def _split(content: NDArray[np.uint8], position: int, fields: NDArray[np.int64]) -> tuple[int, int]:
    """Where the fields of a line are; their number, or one more than can be right; the position after the line."""
    number = 0
    while position < len(content) and content[position] != _NEWLINE:
        if _is_space(content[position]):
            position += 1
            continue
        start = position
        while position < len(content) and not _is_space(content[position]):
            position += 1
        if number < len(fields):
            fields[number, 0] = start
            fields[number, 1] = position
            number += 1
    return number, position


@compiled
def _is_space(byte: int) -> bool:
    return byte == _SPACE or _TAB <= byte <= _RETURN or byte == 0


@compiled
def _enter(
    content: NDArray[np.uint8], fields: NDArray[np.int64], section: _Section, entry: int, reading: _Reading
) -> int:
    """Enter the n-gram of a line. What is wrong with it."""
    order = section.order
    if not order + 1 <= len(fields) <= order + 2:
        return _FIELDS
    log_prob = _number(content, fields[0])
    backoff = _number(content, fields[order + 1]) if len(fields) == order + 2 else 0.0
    if math.isnan(log_prob) or math.isnan(backoff):
        return _NUMBER
    if log_prob > 0:
        return _POSITIVE
    fault = (
        _enter_unigram(content, fields[1], entry, reading)
        if order == 1
        else _enter_longer(content, fields[1 : order + 1], entry, reading)
    )
    reading.log_prob[entry] = log_prob * LN10
    reading.backoff[entry] = 0.0 if section.longest else backoff * LN10
    return fault


@compiled
def _enter_unigram(content: NDArray[np.uint8], field: NDArray[np.int64], entry: int, reading: _Reading) -> int:
    word = entry - 1
    if setdefault(reading.vocabulary, _key(content, field, reading), word) != word:
        return _REPEATED
    reading.spelling[word] = field
    reading.last[entry] = word
    return _NO_FAULT


@compiled
def _enter_longer(content: NDArray[np.uint8], fields: NDArray[np.int64], entry: int, reading: _Reading) -> int:
    context = 0
    missing = False
    word = 0
    for index in range(len(fields)):
        word = find(reading.vocabulary, _key(content, fields[index], reading))
        if word < 0:
            return _UNKNOWN_WORD
        if index == 0:
            context = 1 + word
        elif index < len(fields) - 1 and not missing:
            context = find(reading.arcs, arc(context, word))
            missing = context < 0
    if missing:
        return _NO_CONTEXT
    if setdefault(reading.arcs, arc(context, word), entry) != entry:
        return _REPEATED
    reading.parent[entry] = context
    reading.last[entry] = word
    return _NO_FAULT


@compiled
def _key(content: NDArray[np.uint8], field: NDArray[np.int64], reading: _Reading) -> int:
    """The key of a word in the vocabulary, or the one to enter it by."""
    hashed = np.uint64(14695981039346656037)  # FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/)
    for index in range(field[0], field[1]):
        hashed = (hashed ^ np.uint64(content[index])) * np.uint64(1099511628211)
    key = int(np.int64(hashed >> np.uint64(2)))
    while True:  # which ends at once but for words whose hashes collide
        word = find(reading.vocabulary, key)
        if word < 0 or _same(content[field[0] : field[1]], content, reading.spelling[word]):
            return key
        key += 1


@compiled
def _same(spelling: NDArray[np.uint8], content: NDArray[np.uint8], other: NDArray[np.int64]) -> bool:
    if len(spelling) != other[1] - other[0]:
        return False
    for index in range(len(spelling)):  # noqa: SIM110  # numba has no all()
        if spelling[index] != content[other[0] + index]:
            return False
    return True


@compiled
def _number(content: NDArray[np.uint8], field: NDArray[np.int64]) -> float:
    """A number in decimal notation, right to float32 and far beyond; -99 for -inf, NaN for what is no number."""
    position, stop = field[0], field[1]
    negative = content[position] == _MINUS
    if negative or content[position] == _PLUS:
        position += 1
    if negative and _is_infinity(content, position, stop):
        return _LOWEST
    mantissa, scale, digits, fraction = 0, 0, 0, False
    while position < stop:
        byte = content[position]
        if _ZERO <= byte <= _NINE:
            digits += 1
            if mantissa < 10**15:
                mantissa = mantissa * 10 + (byte - _ZERO)
                scale -= fraction
            else:
                scale += not fraction
        elif byte == _POINT and not fraction:
            fraction = True
        else:
            break
        position += 1
    exponent, position = _exponent(content, position, stop)
    if digits == 0 or position < stop:
        return math.nan
    value = _scaled(mantissa, scale + exponent)
    return -value if negative else value


@compiled
def _is_infinity(content: NDArray[np.uint8], position: int, stop: int) -> bool:
    return (
        stop - position >= 3
        and content[position] | _LOWER == _I
        and content[position + 1] | _LOWER == _N
        and content[position + 2] | _LOWER == _F
    )


@compiled
def _exponent(content: NDArray[np.uint8], position: int, stop: int) -> tuple[int, int]:
    """The exponent that stands here, 0 where there is none, and the position after it."""
    if stop - position < 2 or content[position] | _LOWER != _E:
        return 0, position
    negative = content[position + 1] == _MINUS
    begin = position + 2 if negative or content[position + 1] == _PLUS else position + 1
    value, end = 0, begin
    while end < stop and _ZERO <= content[end] <= _NINE:
        value = min(value * 10 + (content[end] - _ZERO), 9999)
        end += 1
    if end == begin:
        return 0, position
    return (-value if negative else value), end


@compiled
def _scaled(mantissa: int, exponent: int) -> float:
    if 0 <= exponent < len(_POWERS):
        return float(mantissa * _POWERS[exponent])
    if -len(_POWERS) < exponent < 0:
        return float(mantissa / _POWERS[-exponent])
    return float(mantissa * 10.0**exponent)


@compiled
def _joined(content: NDArray[np.uint8], spelling: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The words' bytes, with a newline between them."""
    joined = np.full((spelling[:, 1] - spelling[:, 0] + 1).sum() - 1, _NEWLINE, np.uint8)
    position = 0
    for word in range(len(spelling)):
        for index in range(spelling[word, 0], spelling[word, 1]):
            joined[position] = content[index]
            position += 1
        position += 1
    return joined
