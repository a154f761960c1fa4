"""The weights of a beam search and of a rescoring, found by trying them on recordings whose text is known.

The network runs once; its log-probabilities stay in memory, and only the search is repeated, or, for a rescoring,
only the ranking of what one search has found. Weights are spread evenly over a box at first, then ever closer to
the best ones. Word errors decide; of weights with equally many, those nearest to the usual ones do: on little data,
weights at the edge are as good only by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr import build
from asr.data.manifest import Utterance
from asr.decoder_settings import DecoderSettings, RescoringTuning, Tuning
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.rescoring import RescoringDecoder, remembering, rescore, sentence_scores
from asr.decoding.types import BatchDecoder, Options
from asr.evaluation import wer
from asr.files import file_fingerprint
from asr.recognizer import BATCH_SIZE, Recognizer

RANGES = {
    "alpha": (0.0, 3.0),
    "beta": (-3.0, 6.0),
    "unknown": (-20.0, 0.0),
    "gamma": (0.0, 2.0),
    "delta": (-3.0, 3.0),
    "first_pass": (0.0, 1.0),
}
"""Where weights are looked for first. The search may leave them."""
NOT_NEGATIVE = ("alpha", "gamma", "first_pass")
SPREAD = 0.5
"""Share of the trials that are spread over all ranges."""
ROUNDS = 4
"""In which the others come closer, each round over half the width of the one before."""
BEAM_WIDTHS = (8, 16, 32, 64, 128)
LISTS = (5, 10, 20, 50, 100)
"""How many hypotheses may be rescored."""
AS_GOOD = 0.001
"""By so much the word error rate of a narrower beam, or of fewer hypotheses, may be higher."""
STRETCHES_AT_ONCE = 32


@dataclass(frozen=True)
class Evidence:
    """Recordings as the network hears them, and what is said in them.

    Attributes:
        batches: log-probabilities (stretches, frames, vocab) and lengths (stretches,) of the stretches of one
            recording after another.
        counts: how many stretches each recording has.
        references: what is said in each recording.
    """

    batches: Sequence[tuple[Tensor, Tensor]]
    counts: Sequence[int]
    references: Sequence[str]


@dataclass(frozen=True)
class Trial:
    """Settings, and the error rates that they bring."""

    settings: DecoderSettings
    score: wer.Score

    @property
    def rank(self) -> tuple[float, ...]:
        """Lower is better."""
        usual = DecoderSettings()
        distances = (
            (getattr(self.settings, name) - getattr(usual, name)) / (high - low)
            for name, (low, high) in RANGES.items()
        )
        return self.score.errors, sum(distance**2 for distance in distances)


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        baseline: error rates without what was tuned: of greedy decoding, or of the search without rescoring.
        untuned: with the weights as they were given.
        best: the settings to keep, which are among the candidates.
        candidates: the best weights with each beam width, or with each number of hypotheses that are rescored.
    """

    baseline: wer.Score
    untuned: wer.Score
    best: Trial
    candidates: Sequence[Trial]

    @property
    def helps(self) -> bool:
        """Whether the search, or the rescoring, has fewer errors than there are without it."""
        return self.best.score.errors < self.baseline.errors

    def search_settings(self, manifest: Path) -> DecoderSettings:
        """The settings of a search to keep; they tell how they were found: with the recordings of a manifest."""
        note = Tuning(**self._measured(manifest), wer_greedy=self.baseline.wer)
        return self.best.settings.model_copy(update={"tuning": note})

    def rescoring_settings(self, manifest: Path) -> DecoderSettings:
        """The same of a rescoring."""
        note = RescoringTuning(**self._measured(manifest), wer_first_pass=self.baseline.wer)
        return self.best.settings.model_copy(update={"rescoring_tuning": note})

    def _measured(self, manifest: Path) -> dict[str, Any]:
        """What settings tell of their tuning, whatever was tuned."""
        return {
            "manifest": file_fingerprint(manifest),
            "utterances": self.best.score.utterances,
            "words": self.best.score.words,
            "wer": self.best.score.wer,
            "wer_untuned": self.untuned.wer,
        }


def listen(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int], None] = lambda done: None,
) -> Evidence:
    """Run the network over the recordings of a manifest.

    Args:
        recognizer: the model.
        utterances: of the manifest.
        batch_size: how many go through the network at once.
        progress: is told how many are done.

    Raises:
        AudioError: a recording can't be read.
    """
    # Utterances of similar length batch with little padding.
    ordered = sorted(utterances, key=lambda utterance: utterance.duration)
    outputs: list[list[Tensor]] = []
    for stretches in recognizer.outputs([utterance.source for utterance in ordered], batch_size):
        outputs.append(stretches)
        progress(len(outputs))
    flat = chain.from_iterable(outputs)
    batches = []
    while batch := list(islice(flat, STRETCHES_AT_ONCE)):
        batches.append((pad_sequence(batch, batch_first=True), torch.tensor([len(stretch) for stretch in batch])))
    return Evidence(
        batches=batches,
        counts=[len(stretches) for stretches in outputs],
        references=[recognizer.normalizer(utterance.text) for utterance in ordered],
    )


def measure(evidence: Evidence, decoder: BatchDecoder, **options: Unpack[Options]) -> wer.Score:
    """Error rates of a decoder with some options."""
    return _score(
        evidence,
        (
            hypothesis.text
            for log_probs, lengths in evidence.batches
            for hypothesis in decoder.decode(log_probs, lengths, **options)
        ),
    )


def _score(evidence: Evidence, texts: Iterable[str]) -> wer.Score:
    """Error rates, given the text of each stretch."""
    remaining = iter(texts)
    return wer.score(
        [
            wer.Answer("", reference, " ".join(filter(None, islice(remaining, count))))
            for reference, count in zip(evidence.references, evidence.counts, strict=True)
        ],
        bootstrap=1,  # nobody looks at the interval
    )


def tune(
    recognizer: Recognizer,
    evidence: Evidence,
    settings: DecoderSettings,
    trials: int = 60,
    seed: int = 0,
    threads: int | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Tuned:
    """Find the settings with the fewest errors.

    Without a language model there are no weights to find, only a beam width.

    Args:
        recognizer: the model.
        evidence: what `listen` made of it.
        settings: language model and lexicon to search with, and the weights to begin with.
        trials: how many weights to try.
        seed: of where the trials lie; everything else is certain.
        threads: as for the decoder.
        on_trial: is told of each trial, those of beam widths last.
    """
    surfaces = recognizer.model.tokenizer.surfaces
    lm, lexicon = build.language_model(settings), build.lexicon(settings, recognizer.normalizer)

    def attempt(tried: DecoderSettings) -> Trial:
        decoder = build.beam_search(surfaces, tried, lm, lexicon)
        options: Options = {"beam_width": tried.beam_width, "threads": threads, "timestamps": False}
        trial = Trial(tried, measure(evidence, decoder, **options))
        on_trial(trial)
        return trial

    untuned = attempt(settings)
    if lm is None:
        best = untuned
    else:
        names = ("alpha", "beta") if lexicon else ("alpha", "beta", "unknown")
        best = _best_weights(attempt, untuned, names, trials - 1, np.random.default_rng(seed))
    widths = [attempt(best.settings.model_copy(update={"beam_width": width})) for width in BEAM_WIDTHS]
    greedy = measure(evidence, GreedyDecoder(surfaces), timestamps=False)
    return Tuned(baseline=greedy, untuned=untuned.score, best=_least(widths, greedy), candidates=widths)


def tune_rescoring(
    recognizer: Recognizer,
    evidence: Evidence,
    settings: DecoderSettings,
    trials: int = 60,
    seed: int = 0,
    threads: int | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    numbers: Sequence[int] = LISTS,
) -> Tuned:
    """Find the weights of a rescoring with the fewest errors, the search staying as it is.

    Args:
        recognizer: the model.
        evidence: what `listen` made of it.
        settings: of the search, and the language model to rescore with.
        trials, seed, threads, on_trial: as for `tune`; trials of different numbers of hypotheses come last.
        numbers: of hypotheses that may be rescored, the largest last.
    """
    lm, lexicon = build.language_model(settings), build.lexicon(settings, recognizer.normalizer)
    surfaces = recognizer.model.tokenizer.surfaces
    search = build.beam_search(surfaces, settings, lm, lexicon)
    scorer = remembering(build.scorer(settings, surfaces))
    options: Options = {"beam_width": settings.beam_width, "threads": threads, "timestamps": False}
    widest = RescoringDecoder(search, scorer, build.weights(settings), numbers[-1])
    lists = [each for batch in evidence.batches for each in widest.candidates(*batch, **options)]
    log_probs = sentence_scores(scorer, lists)

    def told(tried: DecoderSettings, score: wer.Score) -> Trial:
        trial = Trial(tried, score)
        on_trial(trial)
        return trial

    def rank(tried: DecoderSettings) -> Trial:
        weights = build.weights(tried)
        best = (rescore(*each, weights) for each in zip(lists, log_probs, strict=True))
        return told(tried, _score(evidence, (hypothesis.text for hypothesis in best)))

    def decode(tried: DecoderSettings) -> Trial:
        decoder = RescoringDecoder(search, scorer, build.weights(tried), tried.nbest_rescored)
        return told(tried, measure(evidence, decoder, **options))

    untuned = rank(settings.model_copy(update={"nbest_rescored": numbers[-1]}))
    names = ("gamma", "delta", "first_pass") if lm else ("gamma", "delta")
    best = _best_weights(rank, untuned, names, trials - 1, np.random.default_rng(seed)).settings
    decoded = [decode(best.model_copy(update={"nbest_rescored": number})) for number in numbers]
    first_pass = measure(evidence, search, **options)
    return Tuned(baseline=first_pass, untuned=untuned.score, best=_least(decoded, first_pass), candidates=decoded)


def _least(trials: Sequence[Trial], baseline: wer.Score) -> Trial:
    """The first of trials, ever more costly ones, that is about as good as the best, and better than a baseline."""
    trials = [trial for trial in trials if trial.score.errors < baseline.errors] or trials
    enough = min(trial.score.wer for trial in trials) + AS_GOOD
    return next(trial for trial in trials if trial.score.wer <= enough)


def _best_weights(
    attempt: Callable[[DecoderSettings], Trial],
    first: Trial,
    names: Sequence[str],
    trials: int,
    rng: np.random.Generator,
) -> Trial:
    low, high = np.array([RANGES[name] for name in names]).T
    center, width = (low + high) / 2, high - low
    spread = round(SPREAD * trials)
    found = [first]
    for count in (spread, *(len(part) for part in np.array_split(range(trials - spread), ROUNDS))):
        for point in _evenly(count, len(names), rng):
            weights = dict(zip(names, np.round(center + (point - 0.5) * width, 3).tolist(), strict=True))
            weights |= {name: max(weights[name], 0.0) for name in NOT_NEGATIVE if name in weights}
            found.append(attempt(first.settings.model_copy(update=weights)))
        settings = min(found, key=lambda trial: trial.rank).settings
        center, width = np.array([getattr(settings, name) for name in names]), width / 2
    return min(found, key=lambda trial: trial.rank)


def _evenly(count: int, dimensions: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points that fill the unit cube evenly, as (count, dimensions).

    Multiples of a vector of irrationals (Roberts 2018, "The unreasonable effectiveness of quasirandom sequences"),
    from a random place.
    """
    ratio = 1.0
    for _ in range(50):  # to the root of x^(dimensions + 1) = x + 1
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = ratio ** -np.arange(1.0, dimensions + 1)
    points: NDArray[np.float64] = (rng.random(dimensions) + np.arange(count)[:, None] * steps) % 1
    return points
