"""Beam search with a language model, a lexicon, hotwords or a grammar."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.decoding import alignment, search
from asr.decoding.ranking import Ranking, last_boundary, rank
from asr.decoding.search import Limits, Rules
from asr.decoding.types import Hypothesis, Word, geometric_mean
from asr.decoding.vocabulary import Vocabulary
from asr.errors import ConfigError, DataError
from asr.text.ngram import NgramModel

if TYPE_CHECKING:
    from asr.decoding.automaton import Automaton

BEAM_WIDTH = 32
ABOVE_ZERO = 1e-3  # what rounding may add to a log-probability
COMPARED = 16  # texts at most that confidences take into account,
NEGLIGIBLE = 7.0  # and how much less likely than the best they may be
MOST_ROWS = 1 << 16  # of the tree of prefixes, before a stream forgets those that it needs no more


class Partial(NamedTuple):
    """What a stream has heard so far: words that will not change any more, and the best text at the moment."""

    stable: str
    text: str


class Decoder:
    """CTC prefix beam search (see `asr.decoding.search`).

    The score of a text is log P(text | audio) + alpha · log P_lm(text) + beta · words, in natural logarithms, and
    `unknown` for each word that the language model does not know. The sums are over all the paths and prefixes that
    the search keeps.

    Args:
        tokens: the surface of each token, in which a space in front begins a word.
        lm: an n-gram model of words, whose sentence start and end count too; or one of tokens, if each of its words
            is a token (with “▁” in place of a space). Of a model whose tokens are whole words, both are the same.
        lexicon: the only words there are; without it, any.
        alpha: the language model's weight.
        beta: added for each word of the language model, so that it does not prefer few and long ones.
        unknown: added for each word that is neither in the language model nor among the hotwords.
        blank: the index of the CTC blank.
        beam_threshold: a prefix is dropped when it is this much less probable than the best one.
        token_threshold: a token is tried in a frame if it is at most this much less probable than the best one.
        max_tokens: how many are tried in a frame at most.
        blank_skip: the probability of the blank from which a frame is taken to hold nothing else.
        recombine: in search of the one best text, drop prefixes that another one with the same future surpasses.

    Raises:
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
        beta: float = 1.0,
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
        log_probs: Tensor | NDArray[np.floating],
        lengths: Tensor | NDArray[np.integer] | Sequence[int],
        *,
        beam_width: int = BEAM_WIDTH,
        nbest: int = 1,
        hotwords: Mapping[str, float] | None = None,
        grammar: Automaton | None = None,
        threads: int | None = None,
    ) -> list[Hypothesis]:
        """Decode a batch. What stands behind an utterance's end is never looked at.

        Args:
            log_probs: (batch, time, vocab) natural log-probabilities, on any device.
            lengths: (batch,) valid frames of each utterance.
            beam_width: how many prefixes are kept at each frame.
            nbest: how many hypotheses to return for an utterance, as far as there are so many different texts.
            hotwords: words and phrases to expect, in the vocabulary or not, each with the bonus of one occurrence.
            grammar: only its sentences are heard; language model and lexicon do not count then.
            threads: how many utterances are decoded at once; by default as many as there are cores.

        Returns:
            The best hypothesis for each utterance, in order, with the others as its alternatives. It has no text
            and the score -inf where the rules allow nothing that has any probability.

            With a grammar, `rejection` is the log-probability of the best path of tokens whatever they say, less
            that of the sentence's best path, for each frame: 0 where the audio says just that sentence, infinite
            where no sentence of the grammar is left.

        Raises:
            ConfigError: a number is out of its range.
            DataError: the vocabulary has another size than `tokens`, or a valid frame holds NaN or a number that is
                no log-probability; the tokens can't write a hotword or a word of the grammar.
        """
        utterances = self._utterances(log_probs, lengths)
        rules = self.vocabulary.rules(hotwords, grammar)
        limits = self._limits_for(beam_width, nbest, grammar)

        def decode_one(frames: NDArray[np.float32]) -> Hypothesis:
            stream = Stream(self, rules, limits, nbest, grammar)
            stream.advance(frames)
            return stream.finish()

        workers = min(threads or os.cpu_count() or 1, len(utterances))
        if workers <= 1:
            return [decode_one(frames) for frames in utterances]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(decode_one, utterances))

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

    def checked(self, frames: NDArray[np.float32], what: str) -> NDArray[np.float32]:
        """Frames (time, vocab), if they can be decoded."""
        if frames.shape[-1] != len(self.tokens):
            raise DataError(
                f"log-probabilities of {frames.shape[-1]} tokens",
                expected=f"{len(self.tokens)}, as many as the decoder has",
            )
        highest = frames.max(initial=-np.inf)
        if np.isnan(highest):
            frame = int(np.isnan(frames).any(axis=-1).argmax())
            raise DataError(
                f"NaN in the log-probabilities of {what}, frame {frame}",
                expected="numbers: the features or the model's weights hold NaN or infinity",
            )
        if highest > ABOVE_ZERO:
            raise DataError(
                f"a log-probability of {highest:g} in {what}",
                expected="natural logarithms of probabilities, none above 0",
                hint="log_softmax over the vocabulary",
            )
        return frames

    def _utterances(
        self, log_probs: Tensor | NDArray[np.floating], lengths: Tensor | NDArray[np.integer] | Sequence[int]
    ) -> list[NDArray[np.float32]]:
        batch = torch.as_tensor(log_probs).detach().cpu().float().numpy()
        return [
            np.ascontiguousarray(self.checked(frames[:length], f"utterance {index}"))
            for index, (frames, length) in enumerate(zip(batch, map(int, lengths), strict=True))
        ]

    def _limits_for(self, beam_width: int, nbest: int, grammar: Automaton | None) -> Limits:
        for name, value in (("beam_width", beam_width), ("nbest", nbest)):
            if value < 1:
                raise ConfigError(f"{value}", where=name, expected="at least 1")
        limits = self._limits._replace(
            width=max(beam_width, nbest),
            # Prefixes with the same future are what the other hypotheses are made of.
            recombine=self._limits.recombine and nbest == 1,
        )
        if grammar is None:
            return limits
        # Few tokens may follow, and the right one must be among them however badly it was heard.
        return limits._replace(worst=0.0, token_threshold=math.inf, max_tokens=len(self.tokens))


class Stream:
    """A decoding under way; `Decoder.stream` makes it.

    Its memory grows by the log-probabilities that it is given, which give the words their times at the end.
    """

    def __init__(
        self, decoder: Decoder, rules: Rules, limits: Limits, nbest: int, grammar: Automaton | None
    ) -> None:
        self._decoder, self._rules, self._limits = decoder, rules, limits
        self._nbest, self._grammar = nbest, grammar
        self._pieces = [np.empty((0, len(decoder.tokens)), np.float32)]
        self._beam = search.new_beam(limits.width)
        self._scratch = search.new_scratch(limits, len(decoder.tokens))
        search.start(rules, self._beam)

    def feed(self, log_probs: Tensor | NDArray[np.floating]) -> Partial:
        """Search on.

        Args:
            log_probs: (frames, vocab) the next ones, any number.

        Returns:
            What has been heard so far, without what the end of the sentence will add to the scores.

        Raises:
            DataError: as `Decoder.decode`.
        """
        frames = torch.as_tensor(log_probs).detach().cpu().float().numpy()
        self.advance(np.ascontiguousarray(self._decoder.checked(frames, "this piece")))
        active = int(self._beam.state["active"][0])
        if active == 0:
            return Partial("", "")
        best = int((self._beam.places["blank"] + self._beam.places["label"])[:active].argmax())
        current = search.tokens_of(self._beam.tree, self._beam.places["row"][best])
        stable = search.tokens_of(self._beam.tree, search.common_prefix(self._beam))
        if not self._decoder.vocabulary.whole_words:
            stable = stable[: last_boundary(stable, self._rules.tokens)]
        return Partial(self._text(stable), self._text(current))

    def advance(self, frames: NDArray[np.float32]) -> None:
        """Search on through frames (time, vocab) that have been checked."""
        self._make_room(len(frames))
        search.advance(self._rules, self._limits, self._beam, self._scratch, frames)
        self._pieces = [frames] if len(self._pieces[0]) == 0 else [*self._pieces, frames]

    def finish(self) -> Hypothesis:
        """The best hypothesis of all the frames."""
        frames = self._pieces[0] if len(self._pieces) == 1 else np.concatenate(self._pieces)
        ranking = rank(self._rules, self._beam, self._nbest, COMPARED, NEGLIGIBLE)
        hypotheses = [self._hypothesis(frames, ranking, i) for i in range(min(self._nbest, len(ranking.texts)))]
        if not hypotheses:
            nothing = math.inf if self._grammar else None
            return Hypothesis("", (), (), (), -math.inf, confidence=0.0, acoustic=-math.inf, rejection=nothing)
        return replace(hypotheses[0], alternatives=tuple(hypotheses[1:])) if self._nbest > 1 else hypotheses[0]

    def _hypothesis(self, frames: NDArray[np.float32], ranking: Ranking, index: int) -> Hypothesis:
        """One of the texts, with its times and confidences."""
        score, acoustic, *places = ranking.texts[index].tolist()
        tokens, words = ranking.tokens[slice(*places[:2])], ranking.words[slice(*places[2:])]
        spans, path = alignment.align(frames, tokens, self._decoder.blank)
        sure = alignment.confidences(ranking, index, spans)
        text = self._text(tokens)
        names = text.split()
        lm = self._decoder.vocabulary.lm_log_prob(tokens, names)
        starts, ends = spans["start"][words["first"]].tolist(), spans["end"][words["last"] - 1].tolist()
        return Hypothesis(
            text=text,
            tokens=tuple(tokens.tolist()),
            token_frames=tuple(spans["start"].tolist()),
            words=tuple(map(Word, names, starts, ends, sure.tolist())),
            score=score,
            confidence=_confidence(sure, frames[:, self._decoder.blank]),
            acoustic=acoustic,
            lm=lm,
            bonus=score - acoustic - lm,
            slots=self._grammar.slots(text) if self._grammar else (),
            rejection=_rejection(frames, path) if self._grammar else None,
        )

    def _make_room(self, frames: int) -> None:
        """See that the tree has room for what so many more frames may add."""
        rows = int(self._beam.state["rows"][0])
        if rows > MOST_ROWS:
            search.compact(self._beam)
            rows = int(self._beam.state["rows"][0])
        needed = rows + frames * self._limits.width
        if needed > len(self._beam.tree):
            tree = search.new_tree(needed)
            tree[:rows] = self._beam.tree[:rows]
            self._beam = self._beam._replace(tree=tree)

    def _text(self, tokens: NDArray[np.int32]) -> str:
        return " ".join("".join(self._decoder.tokens[token] for token in tokens).split())


def _confidence(sure: NDArray[np.float64], log_blank: NDArray[np.float32]) -> float:
    """The geometric mean of the words' confidences, or else of the blank's probabilities."""
    if len(sure):
        return float(math.prod(sure.tolist()) ** (1 / len(sure)))
    return geometric_mean(log_blank.astype(np.float64)) if len(log_blank) else 1.0


def _rejection(frames: NDArray[np.float32], log_prob: float) -> float:
    """By how much the best path of all beats one of this log-probability, for each frame."""
    return float(frames.max(axis=-1).sum(dtype=np.float64) - log_prob) / len(frames) if len(frames) else 0.0


def warm() -> None:
    """Compile what `Decoder` needs, or load it where that has been done before."""
    frames = np.log(np.full((1, 3, 3), 1 / 3, np.float32))
    Decoder(("", "a", " ")).decode(frames, [3], nbest=2, hotwords={"a": 1.0})
