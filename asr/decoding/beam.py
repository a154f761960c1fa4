"""Beam search with a language model, a lexicon, hotwords or a grammar."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from asr.decoding import engine, prefixes, search
from asr.decoding.frames import Frames, Lengths, LogProbs, as_array, check
from asr.decoding.heard import Found, hypotheses
from asr.decoding.ranking import last_boundary
from asr.decoding.search import Limits, Rules
from asr.decoding.types import Hypothesis, require_positive
from asr.decoding.vocabulary import Vocabulary
from asr.text.ngram import NgramModel

if TYPE_CHECKING:
    from asr.decoding.automaton import Automaton

BEAM_WIDTH = 32
WIDER, WIDEST = 8, 2048  # beams in which sentences of a grammar are sought that a narrow one has lost
FRAMES_FOR_A_THREAD = 20_000  # fewer may be decoded before it has begun
MOST_ROWS = 1 << 16  # of the tree of prefixes, before a stream forgets those that it needs no more


class Partial(NamedTuple):
    """What a stream has heard so far: words that will not change any more, and the best text at the moment.

    Under a grammar they may change all the same, if the beam turns out to have been too narrow for any sentence.
    """

    stable: str
    text: str


class Decoder:
    """CTC prefix beam search (see `asr.decoding.search`).

    The score of a text is log P(text | audio) + alpha · log P_lm(text) + beta · words, in natural logarithms, and
    `unknown` for each word that is unknown. Where the language model is one of tokens, these count for words. The
    sums are over all the paths and prefixes that the search keeps.

    Args:
        tokens: the surface of each token, in which a space in front begins a word.
        lm: an n-gram model of words, whose sentence start and end count too; or one of tokens, if most of its words
            are tokens (with “▁” in place of a space, which some must have, unless there are no spaces or the tokens
            are Chinese or Japanese). Of a model whose tokens are whole words, both are the same.
        lexicon: the only words there are; without it, any.
        alpha: the language model's weight.
        beta: added for each word, or each token where the language model is one of tokens, so that it does not
            prefer few and long ones; 0 where there is no language model.
        unknown: added for each word, or token, that is neither in the language model, nor in the lexicon, nor among
            the hotwords.
        blank: the index of the CTC blank.
        beam_threshold: a prefix is dropped when it is this much less probable than the best one.
        token_threshold: a token is tried in a frame if it is at most this much less probable than the best one.
        max_tokens: how many are tried in a frame at most.
        blank_skip: a frame whose blank is as probable as this is taken to hold nothing else, but for a grammar.
        recombine: in search of the one best text, drop prefixes that another one with the same future surpasses;
            they are missing then among the texts to which confidences compare it.

    Raises:
        ConfigError: `beta` is not between ±100, or `unknown` is higher; there is a lexicon, and a language model of
            tokens that are not words.
        DataError: a token has a space that does not stand in front; the language model or the lexicon has no word
            that the tokens can write.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        lm: NgramModel | None = None,
        lexicon: Iterable[str] | None = None,
        *,
        alpha: float = 0.5,
        beta: float = 2.0,
        unknown: float = -10.0,
        blank: int = 0,
        beam_threshold: float = 10.0,
        token_threshold: float = 7.0,
        max_tokens: int = 30,
        blank_skip: float = 0.999,
        recombine: bool = True,
    ) -> None:
        self.tokens = tuple(tokens)
        self.blank = blank
        self.vocabulary = Vocabulary(self.tokens, lm, lexicon, alpha, beta if lm else 0.0, unknown, blank)
        self._limits = Limits(
            blank=blank,
            width=BEAM_WIDTH,
            worst=math.exp(-beam_threshold),
            token_threshold=float(token_threshold),
            max_tokens=min(max_tokens, len(self.tokens)),
            all_blank=math.log(blank_skip) if blank_skip < 1.0 else math.inf,
            recombine=recombine,
        )

    def decode(
        self,
        log_probs: LogProbs,
        lengths: Lengths,
        *,
        beam_width: int = BEAM_WIDTH,
        nbest: int = 1,
        hotwords: Mapping[str, float] | None = None,
        grammar: Automaton | None = None,
        threads: int | None = None,
        timestamps: bool = True,
    ) -> list[Hypothesis]:
        """Decode a batch. What stands after an utterance's end is never looked at.

        Args:
            log_probs: (batch, time, vocab) natural log-probabilities, on any device.
            lengths: (batch,) valid frames of each utterance.
            beam_width: how many prefixes are kept at each frame.
            nbest: how many hypotheses to return for an utterance, as far as there are so many different texts.
            hotwords: words and phrases to expect, in the vocabulary or not, each with the bonus of one occurrence.
            grammar: only its sentences are heard; language model and lexicon do not count then.
            threads: how many utterances are decoded at once; by default one per 20,000 frames, up to the cores.
            timestamps: False: no words, frames and confidences, which is quicker.

        Returns:
            The best hypothesis for each utterance, in order, with the others as its alternatives. It has no text
            and the score -inf where the rules allow nothing that has any probability.

            With a grammar, `rejection` is the negative log-probability of the sentence's best path, divided by its
            tokens: 0 where nothing else can have been said, infinite where no sentence of the grammar is left. An
            utterance of which the beam holds beginnings of sentences alone is searched again with a wider one.

        Raises:
            ConfigError: a number is out of its range.
            DataError: the vocabulary has another size than `tokens`, or a valid frame holds NaN or a number that is
                no log-probability; the tokens can't write a hotword or a word of the grammar.
        """
        frames = check(log_probs, lengths, len(self.tokens))
        rules = self.vocabulary.rules(hotwords, grammar)
        limits = self._limits_for(beam_width, nbest, grammar)
        if threads is not None:
            require_positive(threads=threads)
        return self._search(rules, limits, nbest, frames, grammar, threads, timestamps)

    def _search(
        self,
        rules: Rules,
        limits: Limits,
        nbest: int,
        frames: Frames,
        grammar: Automaton | None,
        threads: int | None = None,
        timestamps: bool = True,
    ) -> list[Hypothesis]:
        batch = len(frames.lengths)
        worthwhile = 1 + int(frames.lengths.sum()) // FRAMES_FOR_A_THREAD
        workers = min(threads or min(os.cpu_count() or 1, worthwhile), batch)

        def decode_some(worker: int) -> Found:
            # Every so many utterances, so that each thread has its part of the long ones where they are sorted.
            return engine.decode(rules, limits, nbest, timestamps, frames, np.arange(worker, batch, workers))

        if workers <= 1:
            parts = [decode_some(0)] if workers else []
        else:
            with ThreadPoolExecutor(workers) as pool:
                parts = list(pool.map(decode_some, range(workers)))
        found = hypotheses(self.vocabulary.spelling, parts, batch, timestamps, grammar)
        lost = [place for place, each in enumerate(found) if each.score == -math.inf and frames.lengths[place]]
        if lost and grammar is not None and limits.width < WIDEST:
            part = Frames(frames.log_probs[lost], frames.lengths[lost], frames.peaks[lost])
            again = self._search(rules, _wider(limits), nbest, part, grammar, threads, timestamps)
            for place, hypothesis in zip(lost, again, strict=True):
                found[place] = hypothesis
        return found

    def stream(
        self,
        *,
        beam_width: int = BEAM_WIDTH,
        nbest: int = 1,
        hotwords: Mapping[str, float] | None = None,
        grammar: Automaton | None = None,
    ) -> Stream:
        """A decoding that is given its frames in pieces; arguments and, at the end, result are as for `decode`."""
        rules = self.vocabulary.rules(hotwords, grammar)
        return Stream(self, rules, self._limits_for(beam_width, nbest, grammar), nbest, grammar)

    def _limits_for(self, beam_width: int, nbest: int, grammar: Automaton | None) -> Limits:
        require_positive(beam_width=beam_width, nbest=nbest)
        limits = self._limits._replace(
            width=max(beam_width, nbest),
            # Prefixes with the same future are what the other hypotheses are made of.
            recombine=self._limits.recombine and nbest == 1,
        )
        if grammar is None:
            return limits
        # Few tokens may follow, and the right one must be among them however badly it was heard, or not at all: a
        # word that the speaker left out takes up frames that hold nothing but the blank.
        return limits._replace(worst=0.0, token_threshold=math.inf, max_tokens=len(self.tokens), all_blank=math.inf)


class Stream:
    """A decoding under way; `Decoder.stream` makes it.

    Its memory grows by the log-probabilities that it is given, which give the words their times at the end. That
    takes two bytes more for each pair of a frame and a token: half a gigabyte for a quarter of an hour. Who listens
    for longer begins a new stream in a pause.
    """

    def __init__(
        self, decoder: Decoder, rules: Rules, limits: Limits, nbest: int, grammar: Automaton | None
    ) -> None:
        self._decoder, self._rules, self._limits = decoder, rules, limits
        self._nbest, self._grammar = nbest, grammar
        self._pieces = [np.empty((0, len(decoder.tokens)), np.float32)]
        self._beam = search.new_beam(limits, 0)
        self._scratch = search.new_scratch(limits, len(decoder.tokens))
        search.start(rules, self._beam)

    def feed(self, log_probs: LogProbs) -> Partial:
        """Search on.

        Args:
            log_probs: (frames, vocab) the next ones, any number.

        Returns:
            What has been heard so far, without what the end of the sentence will add to the scores.

        Raises:
            DataError: as `Decoder.decode`.
        """
        frames = check(as_array(log_probs)[None], [len(log_probs)], len(self._decoder.tokens))
        (piece,), (peaks,) = frames.log_probs, frames.peaks
        self._make_room(len(piece))
        search.advance(self._rules, self._limits, self._beam, self._scratch, piece, peaks)
        self._pieces.append(piece.copy())  # the caller may fill the same array anew
        active = int(self._beam.state["active"][0])
        if active == 0:
            return Partial("", "")
        best = int((self._beam.places["blank"] + self._beam.places["label"])[:active].argmax())
        current = prefixes.tokens_of(self._beam.tree, self._beam.places["row"][best])
        stable = prefixes.tokens_of(self._beam.tree, search.common_prefix(self._beam))
        if not self._decoder.vocabulary.whole_words:
            stable = stable[: last_boundary(stable, self._rules.tokens)]
        both, ends = np.concatenate((stable, current)), np.cumsum([len(stable), len(current)])
        return Partial(*self._decoder.vocabulary.spelling.texts(both, ends))

    def finish(self) -> Hypothesis:
        """The best hypothesis of all the frames."""
        decoder, frames = self._decoder, np.concatenate(self._pieces)
        found = engine.conclude(self._rules, self._limits, self._nbest, True, self._beam, frames)
        (hypothesis,) = hypotheses(decoder.vocabulary.spelling, [found], 1, grammar=self._grammar)
        if hypothesis.score == -math.inf and self._grammar is not None and self._limits.width < WIDEST:
            whole = check(frames[None], [len(frames)], len(decoder.tokens))
            (hypothesis,) = decoder._search(self._rules, _wider(self._limits), self._nbest, whole, self._grammar)
        return hypothesis

    def _make_room(self, frames: int) -> None:
        """See that the tree has room for what so many more frames may add."""
        rows = int(self._beam.state["rows"][0])
        if rows > MOST_ROWS:
            search.compact(self._beam)
            rows = int(self._beam.state["rows"][0])
        needed = rows + frames * self._limits.width
        if needed > len(self._beam.tree):
            tree = prefixes.new_tree(needed)
            tree[:rows] = self._beam.tree[:rows]
            self._beam = self._beam._replace(tree=tree)


def _wider(limits: Limits) -> Limits:
    return limits._replace(width=min(WIDER * limits.width, WIDEST))


def warm() -> None:
    """Compile what `Decoder` needs, or load it where that has been done before."""
    log_probs = np.log(np.full((1, 3, 3), 1 / 3, np.float32))
    decoder = Decoder(("", "a", " "))
    decoder.decode(log_probs, [3], nbest=2, hotwords={"a": 1.0})
