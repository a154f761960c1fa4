"""What all decoders have in common: the options of a call, the hypotheses that they return, and their protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypedDict, Unpack

from asr.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from asr.decoding.automaton import Automaton


class Options(TypedDict, total=False):
    """What may be asked of a decoder at each call.

    beam_width: how many prefixes are kept at each frame.
    nbest: how many hypotheses to return for an utterance.
    hotwords: words and phrases to expect, each with the bonus of one occurrence (a natural logarithm).
    grammar: only its sentences are heard.
    threads: how many utterances are decoded at once, in a beam search; by default one for each 20,000 frames, up to
        the cores.
    timestamps: False: only texts, tokens and scores, which is quicker.
    """

    beam_width: int
    nbest: int
    hotwords: Mapping[str, float] | None
    grammar: Automaton | None
    threads: int | None
    timestamps: bool


def refuse_unknown(names: Iterable[str]) -> None:
    """Refuse names that are of no option.

    Raises:
        ConfigError: there is one; says which there are.
    """
    known = list(Options.__annotations__)
    for name in names:
        if name not in known:
            what = f"there is no such option of decoding{did_you_mean(name, known)}"
            raise ConfigError(what, where=name, expected=", ".join(known))


def require_positive(**numbers: object) -> None:
    """Refuse what is no whole number of at least 1.

    Raises:
        ConfigError: one is not.
    """
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ConfigError(f"{value!r}", where=name, expected="a whole number, at least 1")


class Word(NamedTuple):
    """A word and where it was heard.

    text: without spaces.
    start: its first frame.
    end: the frame after its last.
    confidence: from 0 to 1, the geometric mean of its tokens' posteriors; in a beam search times the share of the
        likely texts, by their probability, that have the word there.
    """

    text: str
    start: int
    end: int
    confidence: float


class Slot(NamedTuple):
    """A named part of a grammar's sentence, and what was said there."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a decoder heard in one utterance.

    Args:
        text: the words, joined by single spaces.
        tokens: without blanks and repeats.
        token_frames: the frame in which each token begins; none without timestamps.
        words: their times are frames of the acoustic model, after its subsampling; none without timestamps.
        score: natural logarithm; the sum of the parts below: `acoustic`, `lm`, `bonus` and `rescoring`.
        confidence: from 0 to 1, the geometric mean of the tokens' posteriors in greedy decoding, of the words'
            confidences in a beam search; where there are none, that of the blank's posteriors, and 1 where there
            are no frames either. NaN from a beam search without timestamps.
        acoustic: natural log-probability of the tokens given the audio: of the best path in greedy decoding, of
            all paths that the search kept in beam search.
        lm: the language model's log-probability, weighted.
        bonus: for words, against unknown words, for hotwords.
        slots: of the grammar's sentence, in order.
        rejection: how badly the audio fits the grammar's sentence, at least 0 (see `Decoder.decode`); None without
            a grammar.
        rescoring: what a second language model added (see `asr.decoding.rescoring`).
        alternatives: the next best, in order.
    """

    text: str
    tokens: tuple[int, ...]
    token_frames: tuple[int, ...]
    words: tuple[Word, ...]
    score: float
    confidence: float
    acoustic: float
    lm: float = 0.0
    bonus: float = 0.0
    slots: tuple[Slot, ...] = ()
    rejection: float | None = None
    rescoring: float = 0.0
    alternatives: tuple[Hypothesis, ...] = ()


class BatchDecoder(Protocol):
    """From log-probabilities to text."""

    def decode(self, log_probs: Tensor, lengths: Tensor, **options: Unpack[Options]) -> list[Hypothesis]:
        """Decode a batch: log_probs (batch, time, vocab), lengths (batch,)."""
        ...
