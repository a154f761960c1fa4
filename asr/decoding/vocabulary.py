"""What a search may build: the rules that tokens, language model, lexicon, hotwords and grammar make together."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asr.compiled import Records
from asr.decoder_settings import MOST_BONUS
from asr.decoding import hotwords, lexicon, search
from asr.decoding.search import FREE, GRAMMAR, TOKENS, WORDS, Rules
from asr.decoding.spelling import Spelling
from asr.errors import ConfigError, DataError, some
from asr.hashing import Table, table
from asr.text.arpa import LN10, UNKNOWN
from asr.text.ngram import END, START, Ngram, NgramModel

if TYPE_CHECKING:
    from asr.decoding.automaton import Automaton

BOUNDARY = "▁"  # how language models of tokens write a space, as sentencepiece does
SPECIAL = frozenset({START, END, UNKNOWN})
MOST_SHOWN = 5
SMALLEST = -600.0  # of exponents; below -745 exp gives 0, and 0 / 0 would be NaN
IMPOSSIBLE = -98.0 * LN10  # ARPA files have 10^-99 for a probability of 0, and less where they have no <unk>
NOTHING = Ngram(
    table(0), np.zeros(2, np.float32), np.zeros(2, np.int32), np.zeros(2, np.float32), np.zeros(2, np.int32)
)
"""A language model of one word, which is certain."""


class Vocabulary:
    """The words of a decoder. Arguments are `Decoder`'s."""

    def __init__(
        self,
        tokens: Sequence[str],
        lm: NgramModel | None,
        words: Iterable[str] | None,
        alpha: float,
        beta: float,
        unknown: float,
        blank: int,
    ) -> None:
        if not -MOST_BONUS <= beta <= MOST_BONUS:
            raise ConfigError(f"beta is {beta:g}", expected=f"between ±{MOST_BONUS:g}")
        if not unknown <= MOST_BONUS:
            raise ConfigError(f"unknown is {unknown:g}", expected=f"at most {MOST_BONUS:g}")
        self.tokens = tokens
        self.lm = None if lm is None else with_unknown(replace(lm, ngram=_own_ngram(lm.ngram)))
        self.spelling = Spelling.of(tokens)
        self._blank = blank
        self._alpha, self._beta, self._unknown = float(alpha), float(beta), float(unknown)
        self._refuse_inner_spaces()
        self._lexicon = None if words is None else self._writable(list(dict.fromkeys(words)), "the lexicon")
        self.guide = self._choose_guide()
        if lm is not None:
            self._refuse_strange_lm(lm)
        self._last: tuple[object, Rules] | None = None

    def rules(self, bonuses: Mapping[str, float] | None, grammar: Automaton | None) -> Rules:
        """The rules of a search.

        Args:
            bonuses: the hotwords.
            grammar: what takes the place of language model and lexicon.

        Raises:
            DataError: the tokens can't write one of their words.
        """
        request = (tuple((bonuses or {}).items()), grammar)
        last = self._last  # which another thread may replace at any time
        if last is None or last[0] != request:
            last = self._last = request, self._make_rules(dict(bonuses or {}), grammar)
        return last[1]

    # ------------------------------------------------------------------------------------------- checking

    @cached_property
    def whole_words(self) -> bool:
        """Whether each token is a word."""
        return all(surface.startswith(" ") and surface.strip() for surface in self._surfaces)

    @cached_property
    def _surfaces(self) -> list[str]:
        return [surface for token, surface in enumerate(self.tokens) if token != self._blank]

    @cached_property
    def _units(self) -> frozenset[str]:
        """What words are written with: letters, or words where those are the tokens."""
        if self.whole_words:
            return frozenset(surface.strip() for surface in self._surfaces)
        return frozenset("".join(self._surfaces))

    def _can_write(self, word: str) -> bool:
        return word in self._units if self.whole_words else self._units.issuperset(word)

    def _refuse_inner_spaces(self) -> None:
        for token, surface in enumerate(self.tokens):
            if " " in surface[1:]:
                raise DataError(f"token {token} is “{surface}”", expected="a space only in front of a token")

    def _writable(self, words: list[str], what: str) -> list[str]:
        """The words, if the tokens can write them all."""
        strange = [word for word in words if not word or " " in word or not self._can_write(word)]
        if strange or not words:
            shown = some([f"“{word}”" for word in strange], MOST_SHOWN)
            known = [surface.strip() for surface in self.tokens if surface.strip()]
            expected = (
                f"some of the {len(known)} words that the model has learnt; a model of words hears no others"
                if self.whole_words
                else "words, written with the letters that the model's tokens have"
            )
            raise DataError(
                f"{what} has {shown}" if strange else f"{what} has no words",
                expected=expected,
                hint="write them as the training transcripts are written: case, numbers, punctuation",
            )
        return words

    def _choose_guide(self) -> int:
        if self.lm is None and self._lexicon is None:
            return FREE
        if self.whole_words:
            return TOKENS
        if self.lm is None or not is_of_tokens(self.lm.words, self._surfaces):
            return WORDS
        if self._lexicon is not None:
            raise ConfigError("a language model of tokens and a lexicon", expected="one of them")
        return TOKENS

    def _refuse_strange_lm(self, lm: NgramModel) -> None:
        if self.guide == WORDS:
            known = any(self._can_write(word) for word in lm.words if word not in SPECIAL)
        else:
            known = any(self._lm_word(token) in lm for token in range(len(self.tokens)) if token != self._blank)
        if not known:
            shown = some([f"“{word}”" for word in lm.words if word not in SPECIAL], most=6)
            units = some([f"“{unit}”" for unit in sorted(self._units)], most=12)
            raise DataError(
                f"the model can write no word of the language model ({shown})",
                expected=f"words made of {units}",
                hint="asr lm build TEXT --model MODEL, which writes the text as the model does",
            )

    # --------------------------------------------------------------------------------------------- making

    def _make_rules(self, bonuses: dict[str, float], grammar: Automaton | None) -> Rules:
        phrase_words = list(dict.fromkeys(word for phrase in bonuses for word in phrase.split() or [""]))
        if phrase_words:
            self._writable(phrase_words, "the list of hotwords")
        for phrase, bonus in bonuses.items():
            if not -MOST_BONUS <= bonus <= MOST_BONUS:
                raise ConfigError(f"the bonus of “{phrase}” is {bonus:g}", expected=f"between ±{MOST_BONUS:g}")
        if grammar is not None:
            self._writable(list(grammar.words), "the grammar")
        lm = self.lm
        guide = self.guide if grammar is None else GRAMMAR
        spaced = {" ".join(phrase.split()): bonus for phrase, bonus in bonuses.items()}
        # Where words are looked up in any case, single ones cost nothing there.
        in_words = guide == WORDS or (guide == TOKENS and self.whole_words)
        single = {phrase: bonus for phrase, bonus in spaced.items() if in_words and " " not in phrase}
        phrases = {phrase: bonus for phrase, bonus in spaced.items() if phrase not in single}
        trie, look_ahead = self._trie(phrase_words if guide == WORDS else None, single)
        return Rules(
            guide=guide,
            tokens=self._token_records(frozenset(phrase_words), single),
            letters=self.spelling.letters,
            trie=trie,
            look_ahead=look_ahead,
            closed=self._lexicon is not None,
            lm=NOTHING if lm is None else lm.ngram,
            lm_start=0 if lm is None else int(lm.start),
            lm_end=-1 if lm is None else int(lm.end),
            lm_unknown=0 if lm is None else int(lm.unknown),
            alpha=self._alpha,
            beta=self._beta,
            unknown=self._unknown,
            has_phrases=bool(phrases),
            phrases=hotwords.build(phrases),
            grammar=table(0) if grammar is None else _own_table(grammar.arcs),
            accepting=np.zeros(1, np.bool_) if grammar is None else _own(grammar.accepting),
        )

    def _token_records(self, added: frozenset[str], bonuses: Mapping[str, float]) -> Records:
        """What the tokens are to the search.

        Args:
            added: the words of the hotwords.
            bonuses: of words that are tokens.
        """
        records = np.zeros(len(self.tokens), search.TOKEN)
        records["first"], records["last"] = self.spelling.offsets[:-1], self.spelling.offsets[1:]
        records["begins_word"] = self.spelling.begins_word
        records["factor"], records["word"] = 1.0, -1
        if self.guide == TOKENS:
            allowed = None if self._lexicon is None else added.union(self._lexicon)
            for token, record in enumerate(records):
                name = self._lm_word(token)
                if token != self._blank and (allowed is None or name in allowed):
                    record["word"] = 0 if self.lm is None else self.lm.id(name)
                    known = self.lm is None or allowed is not None or name in self.lm or name in added
                    bonus = self._beta + (0.0 if known else self._unknown) + bonuses.get(name, 0.0)
                    record["factor"] = np.exp(bonus)
        return records

    def _lm_word(self, token: int) -> str:
        """What a language model of tokens calls a token."""
        surface = self.tokens[token]
        return surface.strip() if self.whole_words else surface.replace(" ", BOUNDARY)

    def _trie(
        self, added: list[str] | None, bonuses: Mapping[str, float]
    ) -> tuple[lexicon.Trie, NDArray[np.float64]]:
        """The trie of words, and the factor held at each of its nodes.

        Args:
            added: the words of the hotwords; None where words don't matter.
            bonuses: of single words.
        """
        words, numbers, log_probs = _NO_WORDS if added is None else self._known(added)
        bonus = np.array([bonuses.get(word, 0.0) for word in words]) if bonuses else np.zeros(len(words))
        trie = lexicon.build(words, numbers, self._alpha * np.maximum(log_probs, SMALLEST), bonus)
        # A trie without words has -inf at its root.
        exponents = np.append(np.maximum(trie.best, SMALLEST), self._alpha * self._unknown_log_prob + self._unknown)
        look_ahead = np.exp(np.maximum(exponents + self._beta, SMALLEST))
        look_ahead[0] = 1.0
        return trie, look_ahead

    def _known(self, added: list[str]) -> tuple[list[str], NDArray[np.int32], NDArray[np.float64]]:
        """The words of a search with a lexicon or a language model of words, and those of the hotwords."""
        words, numbers, log_probs = self._words
        new = [word for word in added if word not in self._word_set]
        if not new:
            return self._words
        new_numbers, new_log_probs = self._in_lm(new)  # which may know words that the lexicon lacks
        return words + new, np.concatenate((numbers, new_numbers)), np.concatenate((log_probs, new_log_probs))

    @cached_property
    def _words(self) -> tuple[list[str], NDArray[np.int32], NDArray[np.float64]]:
        """The words of the lexicon, or else of the language model: their numbers and log-probabilities there."""
        written = self.lm.words if self.lm else []
        words = self._lexicon or [word for word in written if word not in SPECIAL and word]
        return words, *self._in_lm(words)

    def _in_lm(self, words: list[str]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The numbers and log-probabilities that words have in the language model; zeros without one."""
        if self.lm is None:
            return np.zeros(len(words), np.int32), np.zeros(len(words))
        numbers = np.array([self.lm.id(word) for word in words], np.int32)
        return numbers, self.lm.ngram.log_prob[1 + numbers].astype(np.float64)

    @cached_property
    def _word_set(self) -> frozenset[str]:
        return frozenset(self._words[0])

    @property
    def _unknown_log_prob(self) -> float:
        return 0.0 if self.lm is None else float(self.lm.ngram.log_prob[1 + self.lm.unknown])


def is_of_tokens(words: Iterable[str], surfaces: Iterable[str]) -> bool:
    """Whether the words of a language model are tokens with these surfaces, of which several make a word.

    Letters are words too ("a", "i"): where tokens have spaces, so has a model of them. But Chinese and Japanese
    texts hold none, though a space may be among the tokens.
    """
    names = {surface.replace(" ", BOUNDARY) for surface in surfaces}
    asked = set(words) - SPECIAL
    known = asked & names  # a few symbols that the tokens lack make it no model of words
    unspaced = sum(_is_wide(word) for word in known)
    spaced = 2 * unspaced <= len(known) and any(BOUNDARY in name for name in names)
    return 2 * len(known) > len(asked) and (not spaced or any(BOUNDARY in word for word in known))


def _is_wide(word: str) -> bool:
    """Whether it is made of what Unicode calls wide: Chinese, Japanese or Korean characters."""
    return all(unicodedata.east_asian_width(character) == "W" for character in word)


def with_unknown(lm: NgramModel) -> NgramModel:
    """A language model that holds no unknown word for impossible.

    Many tools write none, and a probability of nearly 0 takes its place. Here an unknown word is then as improbable
    as the rarest known one, or a hotword that the model does not know could not be heard at any bonus.
    """
    unigrams, unknown = lm.ngram.log_prob[1 : 1 + len(lm.words)], 1 + lm.unknown
    possible = unigrams[unigrams > IMPOSSIBLE]
    if lm.ngram.log_prob[unknown] > IMPOSSIBLE or not len(possible):
        return lm
    log_prob = lm.ngram.log_prob.copy()
    log_prob[unknown] = possible.min()
    return replace(lm, ngram=lm.ngram._replace(log_prob=log_prob))


_NO_WORDS: tuple[list[str], NDArray[np.int32], NDArray[np.float64]] = ([], np.zeros(0, np.int32), np.zeros(0))


def _own(array: NDArray[Any]) -> NDArray[Any]:
    """An array that can be written: numba compiles anew for those that can't."""
    return np.require(array, requirements=["C", "W"])


def _own_table(entries: Table) -> Table:
    return Table(_own(entries.keys), _own(entries.values))


def _own_ngram(ngram: Ngram) -> Ngram:
    return Ngram(
        _own_table(ngram.arcs),
        _own(ngram.log_prob),
        _own(ngram.next_state),
        _own(ngram.backoff),
        _own(ngram.fallback),
    )
