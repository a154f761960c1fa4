"""The best hypotheses of a search, ranked anew with a second language model.

A search asks its language model about every word that it tries; a larger or slower model can still be asked about
the few texts that are left (N-best rescoring: Ostendorf et al. 1991, "Integration of diverse recognition
methodologies through reevaluation of N-best sentence hypotheses").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from asr.decoding.types import BatchDecoder, Hypothesis, Options

WIDER = 8
"""So many times wider is the beam of the search for several hypotheses. It can't drop prefixes that another one
with the same future surpasses, and needs room for them until its best is as good as that of a search for one."""

Scorer: TypeAlias = Callable[[Sequence[Sequence[str]]], Sequence[NDArray[np.float64]]]
"""A language model: from sentences, as words, to the natural log-probabilities of each one's words and its end."""


class Weights(NamedTuple):
    """What counts when hypotheses are ranked anew.

    The score of a text is acoustic + first_pass · lm + bonus + gamma · log P(text) + delta · words, where P is the
    second language model's, and the others are the parts of the first score. With first_pass = 1 - gamma / alpha
    this interpolates the logarithms of the two models.
    """

    gamma: float
    delta: float = 0.0
    first_pass: float = 1.0


class RescoringDecoder:
    """A decoder whose best hypotheses are ranked anew.

    Hypotheses keep the times and the confidences that the first decoder gave them. Under a grammar nothing is
    rescored: it has its own sentences.

    Args:
        decoder: the first.
        scorer: the second language model.
        weights: how much it counts.
        nbest: how many hypotheses of an utterance are ranked; more, where more are asked for.
        beam_width: of a search for the best one, where none is asked for.
    """

    def __init__(
        self, decoder: BatchDecoder, scorer: Scorer, weights: Weights, nbest: int, beam_width: int = 32
    ) -> None:
        self._decoder, self._scorer = decoder, scorer
        self._weights, self._nbest, self._beam_width = weights, nbest, beam_width

    def decode(self, log_probs: Tensor, lengths: Tensor, **options: Unpack[Options]) -> list[Hypothesis]:
        """Decode a batch: log_probs (batch, time, vocab), lengths (batch,)."""
        if options.get("grammar") is not None:
            return self._decoder.decode(log_probs, lengths, **options)
        candidates = self.candidates(log_probs, lengths, **options)
        scores = sentence_scores(self._scorer, candidates)
        wanted = options.get("nbest", 1)
        return [rescore(*each, self._weights, wanted) for each in zip(candidates, scores, strict=True)]

    def candidates(
        self, log_probs: Tensor, lengths: Tensor, **options: Unpack[Options]
    ) -> list[tuple[Hypothesis, ...]]:
        """What there is to rank: the first decoder's hypotheses of each utterance, best first."""
        several: Options = {
            **options,
            "nbest": max(options.get("nbest", 1), self._nbest),
            "beam_width": WIDER * options.get("beam_width", self._beam_width),
        }
        found = self._decoder.decode(log_probs, lengths, **several)
        return [(replace(best, alternatives=()), *best.alternatives) for best in found]


def sentence_scores(scorer: Scorer, lists: Sequence[Sequence[Hypothesis]]) -> list[NDArray[np.float64]]:
    """Natural log-probabilities of the texts of each list. The scorer sees each text once, and all together."""
    texts = list(dict.fromkeys(hypothesis.text for hypotheses in lists for hypothesis in hypotheses))
    log_probs = scorer([text.split() for text in texts])
    total = {text: float(each.sum()) for text, each in zip(texts, log_probs, strict=True)}
    return [np.array([total[hypothesis.text] for hypothesis in hypotheses]) for hypotheses in lists]


def remembering(scorer: Scorer) -> Scorer:
    """The same language model, which is never asked about a sentence twice."""
    known: dict[tuple[str, ...], NDArray[np.float64]] = {}

    def ask(sentences: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
        asked = [tuple(sentence) for sentence in sentences]
        new = [sentence for sentence in dict.fromkeys(asked) if sentence not in known]
        if new:
            known.update(zip(new, scorer(new), strict=True))
        return [known[sentence] for sentence in asked]

    return ask


def rescore(
    hypotheses: Sequence[Hypothesis], log_probs: NDArray[np.float64], weights: Weights, wanted: int = 1
) -> Hypothesis:
    """Rank hypotheses anew; of equal scores, the one that was better before stays so.

    Args:
        hypotheses: of one utterance, best first, at least one.
        log_probs: (hypotheses,) the second language model's natural log-probability of each.
        weights: what counts.
        wanted: how many to keep.

    Returns:
        The best, with the others as its alternatives. Their scores are the new ones: `lm` is what is left of the
        first language model's, `rescoring` what the second added.
    """
    rescored = [_Parts.of(*each, weights) for each in zip(hypotheses, log_probs.tolist(), strict=True)]
    ranking = sorted(range(len(rescored)), key=lambda index: -rescored[index].score)[:wanted]
    best, *others = [replace(hypotheses[index], **rescored[index]._asdict()) for index in ranking]
    return replace(best, alternatives=tuple(others))


class _Parts(NamedTuple):
    """What rescoring changes in a hypothesis."""

    score: float
    lm: float
    rescoring: float

    @classmethod
    def of(cls, hypothesis: Hypothesis, log_prob: float, weights: Weights) -> _Parts:
        lm = weights.first_pass * hypothesis.lm
        rescoring = weights.gamma * log_prob + weights.delta * len(hypothesis.text.split())
        return cls(hypothesis.acoustic + lm + hypothesis.bonus + rescoring, lm, rescoring)
