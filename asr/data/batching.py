"""Which utterances are read together: an epoch's plan, drawn from a seed and nothing else."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from asr.augment import Silence, Silences
from asr.data.manifest import Utterance
from asr.data.shards import pools

LENGTH_STEP = 0.32
"""Seconds; see `fill_batches`."""
POOL_BATCHES = 50
"""How many batches' worth of audio from shards is sorted by length at a time."""


@dataclass(frozen=True)
class Sample:
    """One training example: an utterance, or several joined by pauses; or none, but silence.

    Attributes:
        utterances: in the order in which they are heard.
        pauses: seconds of pause before each utterance but the first.
        silence: around all of them.
        seed: of the sample's own random generator, so that no other sample or process changes what it draws.
    """

    utterances: tuple[Utterance, ...]
    pauses: tuple[float, ...] = ()
    silence: Silence | None = None
    seed: tuple[int, ...] = ()

    @property
    def duration(self) -> float:
        """Seconds, before augmentation, which may change the speed."""
        around = 0.0 if self.silence is None else self.silence.before + self.silence.after
        return sum(utterance.duration for utterance in self.utterances) + sum(self.pauses) + around

    @property
    def name(self) -> str:
        """Its files, for messages."""
        return " + ".join(str(utterance.source) for utterance in self.utterances) or "silence"


@dataclass(frozen=True)
class Concatenation:
    """Joins up to `max_utterances` utterances of one speaker with pauses of so many seconds."""

    max_utterances: int
    pause_seconds: tuple[float, float]


def plan_epoch(
    utterances: Sequence[Utterance],
    *,
    batch_seconds: float,
    seed: int,
    epoch: int,
    concatenation: Concatenation | None = None,
    silences: Silences | None = None,
    shortest_first: bool = False,
) -> list[list[Sample]]:
    """Plan an epoch in which every utterance is heard at least once.

    Samples of similar length share a batch, so that little is padding; batches come in random order.
    Where some are in shards, they are planned pool by pool (see `shards.pools`), so that each shard is read once,
    from beginning to end; they are sorted, shuffled and joined within each pool.

    Args:
        utterances: the training set.
        batch_seconds: most audio in a batch, padding included; a longer sample has a batch of its own.
        seed, epoch: determine every draw.
        concatenation: join utterances to strings; each then opens one string, with random others after it.
        silences: draw silence around samples, and alone, from a generator of their own.
        shortest_first: sort the batches by length (SortaGrad, Amodei et al. 2016).
    """
    rng = np.random.default_rng((seed, epoch))
    own = rng.spawn(1)[0]
    samples = [
        Sample((utterance,), silence=silences.draw(own) if silences else None, seed=(seed, epoch, index))
        for index, utterance in enumerate(utterances)
    ]
    numbers = itertools.count(len(utterances))
    batches = []
    for pool in pools(utterances, POOL_BATCHES * batch_seconds, rng):
        heard = [samples[index] for index in pool]
        alone = silences.draw_alone([utterances[index].duration for index in pool], own) if silences else []
        if concatenation is not None:
            heard = _join(heard, concatenation, rng)
        heard += [Sample((), silence=silence, seed=(seed, epoch, next(numbers))) for silence in alone]
        batches += _plan_pool(heard, batch_seconds, rng, shortest_first)
    return batches


def _plan_pool(
    samples: list[Sample], batch_seconds: float, rng: np.random.Generator, shortest_first: bool
) -> list[list[Sample]]:
    # A little noise on the length keeps the same utterances from meeting in every epoch.
    jitter = rng.uniform(0.95, 1.05, len(samples))
    keys = [sample.duration * factor for sample, factor in zip(samples, jitter, strict=True)]
    order = sorted(range(len(samples)), key=keys.__getitem__)
    batches = fill_batches([samples[index] for index in order], batch_seconds)
    if not shortest_first:
        batches = [batches[index] for index in rng.permutation(len(batches))]
    return batches


def plan_in_order(utterances: Sequence[Utterance], batch_seconds: float) -> list[list[Sample]]:
    """Plan a pass for evaluation: every utterance once, shortest first."""
    samples = sorted((Sample((utterance,)) for utterance in utterances), key=lambda sample: sample.duration)
    return fill_batches(samples, batch_seconds)


def fill_batches(samples: Sequence[Sample], batch_seconds: float) -> list[list[Sample]]:
    """Cut a sequence, sorted by length, into batches of which size times longest sample is within the budget.

    A batch's size follows from its longest sample's length in whole steps of `LENGTH_STEP`, so that the same few
    shapes come again and again: the CPU's recurrent and convolution kernels are compiled for each new one.
    """
    batches: list[list[Sample]] = []
    start = 0
    while start < len(samples):
        steps = math.ceil(samples[start].duration / LENGTH_STEP)
        batch = samples[start : start + _size(steps, batch_seconds)]
        while max(sample.duration for sample in batch) > steps * LENGTH_STEP:
            steps += 1
            batch = samples[start : start + _size(steps, batch_seconds)]
        batches.append(list(batch))
        start += len(batch)
    return batches


def _size(steps: int, batch_seconds: float) -> int:
    return max(int(batch_seconds / (max(steps, 1) * LENGTH_STEP)), 1)


def _join(samples: Sequence[Sample], how: Concatenation, rng: np.random.Generator) -> list[Sample]:
    by_speaker: dict[str | None, list[Utterance]] = defaultdict(list)
    for sample in samples:
        by_speaker[sample.utterances[0].speaker].append(sample.utterances[0])
    joined = []
    for sample in samples:
        voices = by_speaker[sample.utterances[0].speaker]
        others = rng.integers(0, len(voices), size=rng.integers(0, how.max_utterances))
        pauses = rng.uniform(*how.pause_seconds, size=len(others))
        utterances = (*sample.utterances, *(voices[index] for index in others))
        joined.append(replace(sample, utterances=utterances, pauses=tuple(pauses.tolist())))
    return joined
