"""Files of word vectors: the text and the binary format of word2vec, which most tools read and write.

Both begin with a line that says how many words there are, and of how many numbers each vector. In the text format a
line holds a word and its numbers. In the binary one there are a word, a space and the numbers as float32 with the
least significant byte first; a line ends after them (word2vec.c, https://code.google.com/archive/p/word2vec/) or
does not (gensim).
"""

from __future__ import annotations

import codecs
import gzip
import re
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from asr.errors import ConfigError, DataError
from asr.files import atomic_path, unpacked, unreadable_in_words
from asr.text.vectors import WordVectors

TEXT_SUFFIXES = (".txt", ".vec", ".txt.gz", ".vec.gz")
BINARY_SUFFIXES = (".bin", ".bin.gz")

_BYTES_AT_ONCE = 1 << 22
_LONGEST_LINE = 1 << 20  # of a line, or a word, that is taken for one
_FASTTEXT = (793712314).to_bytes(4, "little")  # with which fastText's own files begin
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")  # what texts hold none of, and numbers in binary almost always
_EXPECTED = "word vectors in the text or binary format of word2vec"


class _Shape(NamedTuple):
    """What the header of a file announces, or its first line shows."""

    words: int | None
    dim: int


class _Block(NamedTuple):
    """Some consecutive words of a file, and their vectors."""

    words: list[bytes]
    vectors: NDArray[np.float32]  # (words, dim)


def load(path: str | Path) -> WordVectors:
    """Read word vectors in the text or the binary format of word2vec, compressed by gzip or not.

    Accepted, because tools differ: text without a header (GloVe's), spaces at the ends of lines or within words (as
    long as what follows them is no number), vectors in binary with or without a newline after them, and words that
    occur again, of which the first vector counts. Bytes that are not UTF-8, which word2vec.c leaves where it cuts
    off a long word, become U+FFFD.

    Raises:
        DataError: there is no such file, or it is wrong: where, and what it should hold.
    """
    path = Path(path)
    with unreadable_in_words(path, _EXPECTED), unpacked(path) as file:
        shape, begin, is_text = _begin(file, path)
        blocks = _text_blocks(file, begin, shape, path) if is_text else _binary_blocks(file, begin, shape, path)
        words, vectors = _stack(blocks, shape, path)
    if shape.words is not None and len(words) != shape.words:
        found = f"the first line announces {shape.words:,} words, but there are {len(words):,}"
        raise DataError(found, where=path, hint="copy the file again, or correct that line")
    return _without_repetitions([word.decode("utf-8", "replace") for word in words], vectors)


def save(vectors: WordVectors, path: str | Path) -> None:
    """Write word vectors, atomically; the name says in which format: see `check_name`.

    Text has nine digits, so that reading gives the same float32 numbers again.

    Raises:
        ConfigError: the name says nothing.
        DataError: a word is empty or has white space in it, which neither format can hold.
    """
    path = Path(path)
    check_name(path)
    wrong = next((word for word in vectors.words if word.encode().split() != [word.encode()]), None)
    if wrong is not None:
        raise DataError(f"the word “{wrong}”", where=path, expected="words without white space in them")
    render = _binary_entries if path.name.endswith(BINARY_SUFFIXES) else _text_entries
    open_ = gzip.open if path.suffix == ".gz" else Path.open
    with atomic_path(path) as temporary, open_(temporary, "wb") as file:
        file.write(b"%d %d\n" % vectors.vectors.shape)
        file.writelines(render(vectors))


def check_name(path: Path) -> None:
    """Refuse what `save` would refuse.

    Raises:
        ConfigError: the name ends neither in .txt or .vec, for text, nor in .bin, for binary, nor in these with
            .gz after them.
    """
    if not path.name.endswith(TEXT_SUFFIXES + BINARY_SUFFIXES):
        expected = "a name that ends in .txt or .vec (text) or .bin (binary), or these and .gz"
        raise ConfigError("this name does not say how the vectors are to be written", where=path, expected=expected)


def _text_entries(vectors: WordVectors) -> Iterator[bytes]:
    pattern = "%s" + " %.9g" * vectors.vectors.shape[1] + "\n"
    for word, vector in zip(vectors.words, vectors.vectors, strict=True):
        yield (pattern % (word, *vector.tolist())).encode()


def _binary_entries(vectors: WordVectors) -> Iterator[bytes]:
    for word, vector in zip(vectors.words, vectors.vectors.astype("<f4", copy=False), strict=True):
        yield word.encode() + b" " + vector.tobytes() + b"\n"


def _begin(file: BinaryIO, path: Path) -> tuple[_Shape, bytes, bool]:
    """Read the header and one line more: what it announces, that line, and whether the file is text."""
    first = file.readline(_LONGEST_LINE).removeprefix(codecs.BOM_UTF8)
    header = re.fullmatch(rb"\s*([0-9]{1,18})\s+([0-9]{1,9})\s*", first)
    if header is None:
        return _shape_without_header(first, path), first, True
    shape = _Shape(int(header[1]), int(header[2]))
    if not shape.words or not shape.dim:
        found = f"the first line announces {shape.words} words with {shape.dim} numbers each"
        raise DataError(found, where=f"{path}, line 1", expected="at least one of both")
    line = file.readline(_LONGEST_LINE)
    more = cast(BufferedReader, file).peek(4 * shape.dim)  # a vector may begin with the byte that ends a line
    return shape, line, _numbers([line], shape.dim) is not None or not _CONTROL.search(line + more[: 4 * shape.dim])


def _shape_without_header(line: bytes, path: Path) -> _Shape:
    dim = len(line.split()) - 1
    if line.startswith(_FASTTEXT):
        hint = "the file of the same name that ends in .vec"
        raise DataError("this is a model in fastText's own format", where=path, expected=_EXPECTED, hint=hint)
    if dim < 1 or _numbers([line], dim) is None:
        what = "the first line is neither a header nor a word and its numbers" if line else "the file is empty"
        raise DataError(what, where=path, expected=_EXPECTED)
    return _Shape(None, dim)


def _stack(blocks: Iterable[_Block], shape: _Shape, path: Path) -> tuple[list[bytes], NDArray[np.float32]]:
    """Put blocks together, in the memory that the header asks for, so that there is no second copy."""
    words: list[bytes] = []
    try:
        vectors = np.empty((shape.words or 0, shape.dim), np.float32)
    except (MemoryError, ValueError):  # numpy raises the latter where no memory could be so large
        announced = f"the first line announces {shape.words:,} words with {shape.dim:,} numbers each"
        raise DataError(f"{announced}, more than fits into memory", where=path) from None
    for block in blocks:
        begin, end = len(words), len(words) + len(block.words)
        if end > len(vectors):
            more = np.empty((max(end, 2 * begin) - begin, shape.dim), np.float32)
            vectors = np.concatenate([vectors[:begin], more])
        vectors[begin:end] = block.vectors
        words += block.words
    return words, vectors[: len(words)]


def _without_repetitions(words: Sequence[str], vectors: NDArray[np.float32]) -> WordVectors:
    first = {word: row for row, word in reversed(list(enumerate(words)))}
    if len(first) == len(words):
        return WordVectors(tuple(words), vectors)
    rows = sorted(first.values())
    return WordVectors(tuple(words[row] for row in rows), vectors[rows])


def _text_blocks(file: BinaryIO, line: bytes, shape: _Shape, path: Path) -> Iterator[_Block]:
    """The words of a text file from a line on, which has been read."""
    number = 1 if shape.words is None else 2
    lines = [line]
    while lines:
        yield _text_block(lines, shape.dim, number, path)
        number += len(lines)
        lines = file.readlines(_BYTES_AT_ONCE)


def _text_block(lines: Sequence[bytes], dim: int, number: int, path: Path) -> _Block:
    """Read lines, of which the first has that number."""
    filled = [line for line in lines if line.strip()]
    vectors = _numbers(filled, dim)
    if vectors is not None and np.isfinite(vectors).all():
        return _Block([line.split(None, 1)[0] for line in filled], vectors)
    entries = [
        _text_entry(line, dim, f"{path}, line {place}")
        for place, line in enumerate(lines, start=number)
        if line.strip()
    ]
    return _Block([word for word, _ in entries], np.stack([vector for _, vector in entries]))


def _numbers(lines: Sequence[bytes], dim: int) -> NDArray[np.float32] | None:
    """What comes after the first words of lines, if that is so many numbers on each."""
    try:
        rest = [line.split(None, 1)[1] for line in lines]
        numbers = np.loadtxt(rest, np.float32, comments=None, ndmin=2) if rest else np.empty((0, dim), np.float32)
    except (IndexError, ValueError):
        return None
    return numbers if numbers.shape == (len(lines), dim) else None


def _text_entry(line: bytes, dim: int, where: str) -> tuple[bytes, NDArray[np.float32]]:
    """Read a line that has spaces in its word, or a fault."""
    fields = line.rsplit(None, dim)
    word = fields[0].strip()
    vector = _numbers([b"word " + b" ".join(fields[1:])], dim)
    surplus = _numbers([b"word " + word.split()[-1]], 1) if len(word.split()) > 1 else None
    if len(fields) <= dim or vector is None or surplus is not None or not np.isfinite(vector).all():
        shown = line.strip().decode("utf-8", "replace")
        shown = shown if len(shown) <= 60 else f"{shown[:30]} … {shown[-30:]}"
        raise DataError(f"“{shown}”", where=where, expected=f"a word and {dim} numbers")
    return word, vector[0]


def _binary_blocks(file: BinaryIO, begin: bytes, shape: _Shape, path: Path) -> Iterator[_Block]:
    """The words of a binary file after its header, of which the beginning has been read."""
    width = 4 * shape.dim
    content, found, more = begin, 0, True
    while more:
        chunk = file.read(max(_BYTES_AT_ONCE, width))
        content, more = content + chunk, bool(chunk)
        words, numbers, end = _complete_entries(content, width)
        vectors = np.frombuffer(b"".join(numbers), "<f4").reshape(len(words), shape.dim)
        content, found = content[end:], found + len(words)
        if not np.isfinite(vectors).all() or len(content) > width + _LONGEST_LINE:
            what = f"the binary file is damaged near word {found:,} of {shape.words:,}"
            raise DataError(what, where=path, hint="copy the file again")
        yield _Block(words, vectors.astype(np.float32, copy=False))
    if content.strip(b"\n"):
        what = f"the file ends within word {found + 1:,} of {shape.words:,}"
        raise DataError(what, where=path, hint="copy the file again")


def _complete_entries(content: bytes, width: int) -> tuple[list[bytes], list[bytes], int]:
    """Words, the bytes of their numbers, and the position after the last entry that is there as a whole."""
    words, numbers, position = [], [], 0
    while 0 <= (space := content.find(b" ", position)) <= len(content) - 1 - width:
        words.append(content[position:space].lstrip(b"\n"))
        position = space + 1 + width
        numbers.append(content[space + 1 : position])
    return words, numbers, position
