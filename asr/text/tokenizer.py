"""Text to the units that a model puts out, and back: characters, words, or sentencepiece's.

Token 0 is always the CTC blank. Every token has a surface, the text that it stands for, in which a word boundary
is a space: "a" and " " for characters, " turn" for words and pieces. Surfaces joined spell the text, so a decoder
needs nothing but them.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import sentencepiece

from asr.errors import ConfigError, DataError, ModelError
from asr.files import read_json, write_bytes, write_json

BLANK = 0
_BOUNDARY = "▁"  # how sentencepiece writes the space before a word
_DESCRIPTION = "tokenizer.json"
_PIECES = "tokenizer.model"


class Tokenizer(Protocol):
    """What all kinds of tokenizers can do."""

    @property
    def kind(self) -> str:
        """The name that `build` knows it by."""
        ...

    @property
    def surfaces(self) -> tuple[str, ...]:
        """The text of each token, "" for the blank."""
        ...

    def unknown(self, text: str) -> list[str]:
        """The characters, or words, of the text that have no token, in its order."""
        ...

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, which is read in Unicode NFC and with single spaces.

        Raises:
            DataError: something in it has no token.
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some tokens. `decode(encode(text))` is the text as `encode` reads it."""
        ...

    def save(self, folder: Path) -> None:
        """Write it into a folder, for `load`."""
        ...


class CharacterTokenizer:
    """A token for each Unicode character; a letter that NFC writes as base and mark is two.

    Args:
        alphabet: characters, the space among them, in the order of their tokens.
    """

    kind = "characters"

    def __init__(self, alphabet: Sequence[str]) -> None:
        self.surfaces = ("", *alphabet)
        self._ids = {character: token for token, character in enumerate(self.surfaces)}

    def unknown(self, text: str) -> list[str]:
        return [character for character in _canonical(text) if character not in self._ids]

    def encode(self, text: str) -> list[int]:
        _refuse_unknown(self, text)
        return [self._ids[character] for character in _canonical(text)]

    def decode(self, ids: Iterable[int]) -> str:
        return _join(self.surfaces, ids)

    def save(self, folder: Path) -> None:
        write_json(folder / _DESCRIPTION, {"kind": self.kind, "alphabet": self.surfaces[1:]})


class WordTokenizer:
    """A token for each word of a closed vocabulary.

    Args:
        words: the vocabulary, in the order of its tokens.
    """

    kind = "words"

    def __init__(self, words: Sequence[str]) -> None:
        self.surfaces = ("", *(f" {word}" for word in words))
        self._ids = {word: token for token, word in enumerate(words, start=1)}

    def unknown(self, text: str) -> list[str]:
        return [word for word in _canonical(text).split() if word not in self._ids]

    def encode(self, text: str) -> list[int]:
        _refuse_unknown(self, text)
        return [self._ids[word] for word in _canonical(text).split()]

    def decode(self, ids: Iterable[int]) -> str:
        return _join(self.surfaces, ids)

    def save(self, folder: Path) -> None:
        write_json(folder / _DESCRIPTION, {"kind": self.kind, "words": list(self._ids)})


class SentencePieceTokenizer:
    """Subword units of a sentencepiece model (Kudo & Richardson 2018), whose unknown piece 0 is the blank here.

    Args:
        model: the serialised model, as `build` trains it.
        kind: "bpe" or "unigram".

    Raises:
        RuntimeError: these bytes are no sentencepiece model.
        ValueError: it is one, but its piece 0 means something.
    """

    def __init__(self, model: bytes, kind: str) -> None:
        self.kind = kind
        self._model = model
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        if len(self._pieces) == 0 or not self._pieces.is_unknown(BLANK):
            raise ValueError("piece 0 of a sentencepiece model must be the unknown one")
        pieces = self._pieces.id_to_piece(list(range(1, len(self._pieces))))
        self.surfaces: tuple[str, ...] = ("", *(piece.replace(_BOUNDARY, " ") for piece in pieces))
        self._alphabet = {surface for surface in self.surfaces if len(surface) == 1}

    def unknown(self, text: str) -> list[str]:
        return [character for character in _canonical(text) if character not in self._alphabet]

    def encode(self, text: str) -> list[int]:
        _refuse_unknown(self, text)
        ids: list[int] = self._pieces.encode(_canonical(text))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        return _join(self.surfaces, ids)

    def save(self, folder: Path) -> None:
        write_bytes(folder / _PIECES, self._model)
        write_json(folder / _DESCRIPTION, {"kind": self.kind})


def build(kind: str, texts: Iterable[str], size: int | None = None) -> Tokenizer:
    """Derive a tokenizer from transcripts. The same transcripts in any order give the same one.

    Args:
        kind: "characters", "words", "bpe" or "unigram".
        texts: normalised transcripts.
        size: number of tokens, the blank among them; for bpe and unigram only.

    Raises:
        ConfigError: the kind is unknown, or the size is missing or doesn't suit the texts.
        DataError: there is no text.
    """
    canonical = sorted(filter(None, map(_canonical, texts)))
    if not canonical:
        raise DataError("no text to derive tokens from", expected="at least one transcript that is not empty")
    if kind == "characters":
        return CharacterTokenizer(sorted({" "}.union(*canonical)))  # of joined utterances, if of no transcript
    if kind == "words":
        return WordTokenizer(sorted({word for text in canonical for word in text.split()}))
    if kind in ("bpe", "unigram"):
        return SentencePieceTokenizer(_train_pieces(kind, canonical, size), kind)
    raise ConfigError(f"unknown kind “{kind}”", where="tokens.kind", expected="characters, words, bpe or unigram")


def load(folder: Path) -> Tokenizer:
    """Read a tokenizer that `save` wrote.

    Raises:
        ModelError: a file is missing or not what `save` writes.
    """
    try:
        return _from_description(read_json(folder / _DESCRIPTION), folder)
    except FileNotFoundError as error:
        raise ModelError("no such file", where=error.filename, expected="a tokenizer's files") from error
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"its tokenizer can't be read: {error!r}", where=folder) from error


def extended(tokenizer: Tokenizer, other: Tokenizer) -> Tokenizer:
    """The tokens of one tokenizer, and after them those of another one that it lacks.

    Args:
        tokenizer, other: both of characters, or both of words: sentencepiece's pieces can't be added to.
    """
    units = dict.fromkeys([*tokenizer.surfaces[1:], *other.surfaces[1:]])
    if tokenizer.kind == "words":
        return WordTokenizer([surface.removeprefix(" ") for surface in units])
    return CharacterTokenizer(list(units))


class Uncovered(NamedTuple):
    """How often something without a token occurs, and up to three texts that hold it."""

    occurrences: int
    examples: tuple[str, ...]


def uncovered(tokenizer: Tokenizer, texts: Iterable[str]) -> dict[str, Uncovered]:
    """What in the texts has no token: characters, or words for a word tokenizer; the most frequent first."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for text in texts:
        unknown = tokenizer.unknown(text)
        counts.update(unknown)
        for unit in dict.fromkeys(unknown):
            if len(examples.setdefault(unit, [])) < 3:
                examples[unit].append(text)
    return {unit: Uncovered(count, tuple(examples[unit])) for unit, count in counts.most_common()}


def _canonical(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _join(surfaces: Sequence[str], ids: Iterable[int]) -> str:
    # A model may put out a space at either end, or two in a row.
    return " ".join("".join(surfaces[token] for token in ids).split())


def _refuse_unknown(tokenizer: Tokenizer, text: str) -> None:
    unknown = tokenizer.unknown(text)
    if unknown:
        shown = ", ".join(_shown(unit) for unit in dict.fromkeys(unknown))
        raise DataError(
            f"no token for {shown} in “{text}”",
            expected=f"only {'words' if tokenizer.kind == 'words' else 'characters'} of the training transcripts",
        )


def _shown(unit: str) -> str:
    return f"“{unit}” (U+{ord(unit):04X})" if len(unit) == 1 else f"“{unit}”"


def _train_pieces(kind: str, texts: Sequence[str], size: int | None) -> bytes:
    if size is None:
        raise ConfigError(f"{kind} has no size", where="tokens.size", expected="a number, such as 200")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=kind,
            vocab_size=size,
            character_coverage=1.0,
            byte_fallback=False,
            unk_id=BLANK,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            normalization_rule_name="identity",
            max_sentence_length=1 << 24,  # bytes; longer texts would be left out without a word
            num_threads=1,  # more would make the pieces depend on chance
            minloglevel=3,
        )
    except RuntimeError as error:
        raise _size_error(size, str(error)) from error
    return model.getvalue()


def _size_error(size: int, message: str) -> ConfigError:
    """Sentencepiece's refusal of a size, for the user."""
    if limit := re.search(r"too high .* value <= (\d+)", message):
        expected = f"at most {limit[1]}: the transcripts hold no more different pieces"
        return ConfigError(f"{size} tokens are too many", where="tokens.size", expected=expected)
    if limit := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        expected = f"at least {limit[1]}: the blank and every character of the transcripts"
        return ConfigError(f"{size} tokens are too few", where="tokens.size", expected=expected)
    return ConfigError(f"sentencepiece can't make {size} tokens: {message}", where="tokens.size")


def _from_description(description: dict[str, Any], folder: Path) -> Tokenizer:
    kinds: dict[str, Callable[[], Tokenizer]] = {
        "characters": lambda: CharacterTokenizer(description["alphabet"]),
        "words": lambda: WordTokenizer(description["words"]),
        "bpe": lambda: SentencePieceTokenizer((folder / _PIECES).read_bytes(), "bpe"),
        "unigram": lambda: SentencePieceTokenizer((folder / _PIECES).read_bytes(), "unigram"),
    }
    return kinds[description["kind"]]()
