"""What a neural language model predicts: words, or the tokens of an acoustic model.

Number 0 is the boundary of sentences, </s>, which also stands before the first word, as <s> does elsewhere;
number 1 is <unk>, for what has no number.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError
from asr.text import tokenizer as tokenizers
from asr.text.tokenizer import Tokenizer

BOUNDARY, UNKNOWN = 0, 1
SPECIAL = ("</s>", "<unk>")

Files = dict[str, NDArray[np.uint8]]


class Units(Protocol):
    """What words and tokens have in common."""

    @property
    def kind(self) -> str:
        """The name that `load` knows it by."""
        ...

    @property
    def symbols(self) -> tuple[str, ...]:
        """The text of each number, `SPECIAL` first; a word that begins with a token has a space before it."""
        ...

    def __contains__(self, word: object) -> bool:
        """Whether a word can be written without <unk>."""
        ...

    def encode(self, words: Sequence[str]) -> list[list[int]]:
        """The numbers of each word of a sentence."""
        ...

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of numbers."""
        ...

    def files(self) -> Files:
        """The content of files that `load` reads, by their names."""
        ...


class Words:
    """Whole words.

    Args:
        words: the vocabulary, the most frequent first.
    """

    kind = "words"

    def __init__(self, words: Sequence[str]) -> None:
        self.symbols = (*SPECIAL, *words)
        self._ids = {word: number for number, word in enumerate(self.symbols)}

    def __contains__(self, word: object) -> bool:
        return self._ids.get(word, UNKNOWN) > UNKNOWN  # type: ignore[call-overload,no-any-return]

    def encode(self, words: Sequence[str]) -> list[list[int]]:
        return [[self._ids[word] if word in self else UNKNOWN] for word in words]

    def decode(self, numbers: Iterable[int]) -> str:
        return " ".join(self.symbols[number] for number in numbers)

    def files(self) -> Files:
        return {"words": np.frombuffer("\n".join(self.symbols[len(SPECIAL) :]).encode(), np.uint8)}


class Tokens:
    """The tokens of an acoustic model; its blank has no number.

    A word without all of its characters among them is one <unk>.
    """

    kind = "tokens"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.symbols = (*SPECIAL, *tokenizer.surfaces[1:])
        # Characters have a token between words; the others carry the space that is before a word.
        spaced = tokenizer.kind == "characters" and " " in tokenizer.surfaces  # which no single words need
        self._between = [tokenizer.surfaces.index(" ") + 1] if spaced else []
        self._spellings: dict[str, list[int]] = {}

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and not self.tokenizer.unknown(word)

    def encode(self, words: Sequence[str]) -> list[list[int]]:
        spelled = [self._spell(word) for word in words]
        return [self._between * (place > 0) + numbers for place, numbers in enumerate(spelled)]

    def _spell(self, word: str) -> list[int]:
        if word not in self._spellings:
            known = word in self
            self._spellings[word] = [token + 1 for token in self.tokenizer.encode(word)] if known else [UNKNOWN]
        return self._spellings[word]

    def decode(self, numbers: Iterable[int]) -> str:
        return self.tokenizer.decode(number - 1 for number in numbers if number > UNKNOWN)

    def files(self) -> Files:
        with tempfile.TemporaryDirectory() as folder:
            self.tokenizer.save(Path(folder))
            return {path.name: np.frombuffer(path.read_bytes(), np.uint8) for path in Path(folder).iterdir()}


def count_words(sentences: Iterable[str], limit: int | None = None, min_count: int = 1) -> Words:
    """The words of sentences, the most frequent first and equally frequent ones by spelling.

    Args:
        sentences: their words apart by white space.
        limit: only so many words.
        min_count: only words that occur so often.

    Raises:
        DataError: no word is left.
    """
    frequent = frequent_words(sentences, min_count)
    if not frequent:
        raise DataError("the text has no words", expected=f"words that occur {min_count} times or more")
    return Words(frequent[:limit])


def frequent_words(sentences: Iterable[str], min_count: int) -> list[str]:
    """The words that occur so often, or more, in the order of `count_words`; there may be none."""
    counts = Counter(word for sentence in sentences for word in sentence.split() if word not in SPECIAL)
    frequent = [word for word, count in counts.items() if count >= min_count]
    return sorted(frequent, key=lambda word: (-counts[word], word))


def load(kind: str, files: Mapping[str, NDArray[np.uint8]]) -> Units:
    """Units that `files` gave.

    Raises:
        ValueError, KeyError: it did not give these.
        ModelError: the tokenizer is damaged.
    """
    if kind == Words.kind:
        return Words(files["words"].tobytes().decode().split("\n"))
    if kind != Tokens.kind:
        raise ValueError(f"units of kind {kind}")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / Path(name).name).write_bytes(content.tobytes())
        return Tokens(tokenizers.load(Path(folder)))
