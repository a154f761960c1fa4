"""How transcripts are written before training and scoring, so that one sentence has one spelling."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal

_JOINERS = "\u200c\u200d"  # zero-width; Persian and Indic spelling needs them
_SEPARATORS = "/\\\u2044\u2215\u2212\u2026_"  # slashes, the minus sign, the ellipsis; all of category Pd besides


@dataclass(frozen=True)
class Normalizer:
    """Make a transcript uniform.

    Always: Unicode NFC (https://unicode.org/reports/tr15/), single spaces, the curly apostrophe ’ straightened,
    invisible format characters dropped. Normalising twice changes nothing more.

    Args:
        case: letters become lower or upper case, or keep theirs. Without regard to a language: Turkish wants
            "keep", because its I is not the capital of i.
        punctuation: "remove" takes away the characters of the Unicode categories punctuation and symbol.
            Hyphens, dashes, slashes, underscores and ellipses leave a space, so "twenty-one" becomes two words;
            the others leave nothing, so "U.S." becomes one.
        keep_characters: punctuation that stays.
    """

    case: Literal["lower", "upper", "keep"] = "lower"
    punctuation: Literal["remove", "keep"] = "remove"
    keep_characters: str = "'"

    def __call__(self, text: str) -> str:
        """Normalise one transcript."""
        text = unicodedata.normalize("NFC", _visible(text)).replace("’", "'")
        if self.case == "lower":
            text = text.lower()
        elif self.case == "upper":
            text = text.upper()
        if self.punctuation == "remove":
            text = _remove_punctuation(text, self.keep_characters)
        # Again: capitals and characters that have become neighbours may compose.
        return " ".join(unicodedata.normalize("NFC", text).split())


def _visible(text: str) -> str:
    """Without byte-order marks, soft hyphens, zero-width spaces and other controls."""
    return "".join(
        character
        for character in text
        if character.isspace() or character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf")
    )


def _remove_punctuation(text: str, keep: str) -> str:
    """Remove punctuation and symbols; marks and joiners that follow one (an emoji's, say) go with it."""
    kept: list[str] = []
    removing = False
    for character in text:
        category = unicodedata.category(character)
        if removing and (category.startswith("M") or character in _JOINERS):
            continue
        removing = category[0] in "PS" and character not in keep
        if not removing:
            kept.append(character)
        elif category == "Pd" or character in _SEPARATORS:
            kept.append(" ")
    return "".join(kept)
