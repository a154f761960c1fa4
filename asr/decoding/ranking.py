"""From the prefixes that a search ends with to texts, best first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.compiled import Records, compiled, kernel
from asr.decoding import prefixes, search
from asr.decoding.search import GRAMMAR, Rules

WORD = np.dtype([("hash", "i8"), ("first", "i4"), ("last", "i4")])
"""A word of a text: a hash of its letters, its first token, and the one after its last."""

TEXT = np.dtype(
    [("score", "f8"), ("acoustic", "f8")]
    + [(name, "i8") for name in ("first_token", "last_token", "first_word", "last_word")],
    align=True,
)
"""A text: the logarithms of what it is worth, and of its probability as the acoustic model sees it; its tokens and
words are those from the first, up to the last but without it."""


class Ranking(NamedTuple):
    """Different texts, best first. texts: TEXTs; tokens: of all of them; words: WORDs of all of them."""

    texts: Records
    tokens: NDArray[np.int32]
    words: Records


@compiled
def rank(rules: Rules, beam: search.Beam, wanted: int, enough: int, margin: float) -> Ranking:
    """Rank what a search has found.

    Where the rules let a sentence end in none of its prefixes, their last, broken word is left out; under a
    grammar, there is no text then.

    Args:
        rules, beam: of the search, after its last frame.
        wanted: how many texts there shall be at least, if there are so many.
        enough: how many more likely ones there may be at most, when no more are wanted,
        margin: and how much less likely than the best they may be.
    """
    outcomes = search.finish(rules, beam)
    strict = rules.guide == GRAMMAR
    room = 0
    for outcome in outcomes:
        strict = strict or outcome.complete
        room += prefixes.depth(beam.tree, outcome.row)
    texts, tokens, words = np.empty(len(outcomes), TEXT), np.empty(room, np.int32), np.empty(room, WORD)
    count = last_token = last_word = 0
    for i in np.argsort(-outcomes["total"], kind="mergesort"):
        outcome = outcomes[i]
        if strict and not outcome.complete:
            continue
        if count >= wanted and (count >= enough or outcome.total < texts[0].score - margin):
            break
        own = tokens[last_token : last_token + prefixes.depth(beam.tree, outcome.row)]
        prefixes.write_tokens(beam.tree, outcome.row, own)
        if not outcome.complete:
            own = own[: last_boundary(own, rules.tokens)]
        found = _split(own, rules.tokens, rules.letters, words[last_word:])
        if _is_new(texts[:count], words, words[last_word : last_word + found]):
            text = texts[count]
            text.score = outcome.total
            text.acoustic = outcome.log_mass - prefixes.log_factors(beam.tree, outcome.row)
            text.first_token, text.last_token = last_token, last_token + len(own)
            text.first_word, text.last_word = last_word, last_word + found
            last_token += len(own)
            last_word += found
            count += 1
    return Ranking(texts[:count], tokens[:last_token], words[:last_word])


@kernel
def _split(text: NDArray[np.int32], tokens: Records, letters: NDArray[np.int32], words: Records) -> int:
    """Find the words of a text.

    Args:
        text: its tokens.
        tokens: (vocab,) what each is; see `asr.decoding.search`.
        letters: what they spell.
        words: is given the WORDs; with room for one for each token.

    Returns:
        How many there are.
    """
    count = 0
    inside = False
    for position in range(len(text)):
        token = tokens[text[position]]
        inside = inside and not token.begins_word
        if token.first < token.last:
            if not inside:
                words[count].hash = 0
                words[count].first = position
                count += 1
                inside = True
            word = words[count - 1]
            word.last = position + 1
            for place in range(token.first, token.last):
                word.hash = (word.hash ^ letters[place]) * 0x100000001B3  # Fowler, Noll & Vo 1991
    return count


@compiled
def _is_new(texts: Records, words: Records, found: Records) -> bool:
    """Whether no text is made of the words that were found."""
    for text in texts:
        others = words[text.first_word : text.last_word]
        if len(others) == len(found):
            same = 0
            while same < len(found) and found[same].hash == others[same].hash:
                same += 1
            if same == len(found):
                return False
    return True


@compiled
def last_boundary(text: NDArray[np.int32], tokens: Records) -> int:
    """How many tokens of a text stand before its last word, which may not be over."""
    for position in range(len(text) - 1, -1, -1):
        if tokens[text[position]].begins_word:
            return position
    return 0
