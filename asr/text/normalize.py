"""How transcripts are written before training and scoring, so that one sentence has one spelling."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

_JOINERS = "\u200c\u200d"  # zero-width; Persian and Indic spelling needs them
_SEPARATORS = frozenset(
    "/\\|\u2044\u2215\u2212\u2026_"  # slashes, the minus sign, the ellipsis; all of category Pd besides
    "\u0964\u0965\u0f0b\u0f0c\u0f0d\u0f0e"  # dandas; what stands between Tibetan syllables and clauses
    "\u1361\u1362\u1363\u1364\u1365\u1366\u1367\u1368"  # what stands between Ethiopic words and sentences
)
_QUOTED = re.compile(r"(?<!\w)‘([^‘’]*(?:(?<=\w)’(?=\w)[^‘’]*)*)’(?!\w)")  # apostrophes in words do not end it


@dataclass(frozen=True)
class Normalizer:
    """Make a transcript uniform.

    Always: Unicode NFC (https://unicode.org/reports/tr15/), single spaces, the curly apostrophe ’ straightened,
    invisible format characters dropped. Without replacements and patterns, normalising twice changes nothing more.

    Args:
        case: letters become lower or upper case, or keep theirs. Without regard to a language: Turkish wants
            "keep", because its I is not the capital of i.
        punctuation: "remove" takes away the characters of the Unicode categories punctuation and symbol, but no
            tone letters and other modifiers of letters (˥, ˞), which spell sounds.
            Hyphens, dashes, slashes, underscores, ellipses, dandas and the marks between Ethiopic words and Tibetan
            syllables leave a space, so "twenty-one" becomes two words; the others leave nothing, so "U.S." becomes
            one. Of a pair of single quotation marks, ‘ and ’, the second one is no apostrophe.
        keep_characters: punctuation that stays.
        replacements: pairs of what is written and what is put in its place, one after another, before letter case
            and punctuation change. A single character is replaced wherever it stands, anything longer only as whole
            words. A symbol that becomes a word has spaces around it: with ("&", "and"), "R&B" is "R and B".
        patterns: pairs of a regular expression and its replacement, as for `re.sub`, after the replacements.
    """

    case: Literal["lower", "upper", "keep"] = "lower"
    punctuation: Literal["remove", "keep"] = "remove"
    keep_characters: str = "'"
    replacements: tuple[tuple[str, str], ...] = ()
    patterns: tuple[tuple[str, str], ...] = ()

    def __call__(self, text: str) -> str:
        """Normalise one transcript."""
        text = self._before_punctuation(text)
        if self.punctuation == "remove":
            text = _remove_punctuation(text, self.keep_characters)
        # Again: capitals and characters that have become neighbours may compose.
        return " ".join(unicodedata.normalize("NFC", text).split())

    def removed(self, text: str) -> list[str]:
        """The punctuation and symbols that normalising a transcript takes away, in their order."""
        if self.punctuation == "keep":
            return []
        return [each for each in self._before_punctuation(text) if _is_punctuation(each, self.keep_characters)]

    def _before_punctuation(self, text: str) -> str:
        text = unicodedata.normalize("NFC", _visible(text))
        if self.punctuation == "remove" and not any("‘" in written for written, _ in self.replacements):
            text = _QUOTED.sub(r"“\1”", text)
        text = text.replace("’", "'")
        for written, instead in self.replacements:
            text = _replace(text, unicodedata.normalize("NFC", written), instead)
        for pattern, instead in self.patterns:
            text = re.sub(unicodedata.normalize("NFC", pattern), instead, text)
        if self.case == "lower":
            text = text.lower()
        elif self.case == "upper":
            text = text.upper()
        return text


def _visible(text: str) -> str:
    """Without byte-order marks, soft hyphens, zero-width spaces and other controls."""
    return "".join(
        character
        for character in text
        if character.isspace() or character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf")
    )


def _replace(text: str, written: str, instead: str) -> str:
    if _is_one_character(written):
        return text.replace(written, instead if _in_word(written[0]) else _apart(instead))

    def put(match: re.Match[str]) -> str:
        before = text[max(match.start() - 1, 0) : match.start()]
        after = text[match.end() : match.end() + 1]
        joined = (_in_word(before) and _in_word(written[0])) or (_in_word(written[-1]) and _in_word(after))
        return written if joined else instead

    return re.sub(re.escape(written), put, text)


def _is_one_character(text: str) -> bool:
    """Whether all that follows the first are its marks, which not every letter has a composed form with."""
    return all(unicodedata.category(mark).startswith("M") for mark in text[1:])


def _in_word(character: str) -> bool:
    """Whether it is a letter, a digit, or a mark or joiner of one (which Python's \\w does not take for one)."""
    return character != "" and (
        unicodedata.category(character)[0] in "LNM" or character in _JOINERS or _is_modifier(character)
    )


def _is_modifier(character: str) -> bool:
    """Whether it modifies a letter, as tone letters do; Unicode takes many of them for symbols."""
    return (
        "\u02b0" <= character <= "\u02ff" or "\ua700" <= character <= "\ua721" or character in ("\ua789", "\ua78a")
    )


def _apart(word: str) -> str:
    """A word with spaces where letters might stand beside it."""
    return " " * _in_word(word[:1]) + word + " " * _in_word(word[-1:])


def _is_punctuation(character: str, keep: str) -> bool:
    return unicodedata.category(character)[0] in "PS" and character not in keep and not _is_modifier(character)


def _remove_punctuation(text: str, keep: str) -> str:
    """Remove punctuation and symbols; marks and joiners that follow one (an emoji's, say) go with it."""
    kept: list[str] = []
    removing = False
    for character in text:
        category = unicodedata.category(character)
        if removing and (category.startswith("M") or character in _JOINERS):
            continue
        removing = _is_punctuation(character, keep)
        if not removing:
            kept.append(character)
        elif category == "Pd" or character in _SEPARATORS:
            kept.append(" ")
    return "".join(kept)
