"""Plans: nothing is dropped, the budget holds, and a seed says everything."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asr.augment import Silences
from asr.data.batching import LENGTH_STEP, Concatenation, Sample, plan_epoch, plan_in_order
from asr.data.manifest import Utterance

DURATIONS = st.lists(st.floats(0.01, 30), min_size=1, max_size=60)


def utterances(durations: list[float], speakers: int = 3) -> list[Utterance]:
    return [
        Utterance(Path(f"/{i}.wav"), duration, f"text {i}", {"speaker": str(i % speakers)})
        for i, duration in enumerate(durations)
    ]


@given(DURATIONS, st.integers(0, 5), st.booleans())
def test_every_utterance_once_within_the_budget(durations: list[float], seed: int, shortest_first: bool) -> None:
    corpus = utterances(durations)
    plan = plan_epoch(corpus, batch_seconds=40, seed=seed, epoch=1, shortest_first=shortest_first)
    heard = [sample.utterances[0].audio for batch in plan for sample in batch]
    assert sorted(heard) == sorted(utterance.audio for utterance in corpus)
    for batch in plan:
        assert len(batch) == 1 or max(sample.duration for sample in batch) * len(batch) <= 40


def test_batches_are_as_full_as_the_budget_allows() -> None:
    plan = plan_in_order(utterances([3 * LENGTH_STEP] * 95), batch_seconds=10)
    assert [len(batch) for batch in plan] == [10] * 9 + [5]


def test_batches_come_in_few_shapes() -> None:
    corpus = utterances(np.random.default_rng(0).uniform(1, 3, 2000).tolist())
    plan = plan_epoch(corpus, batch_seconds=30, seed=1, epoch=1)
    shapes = {(len(batch), math.ceil(max(s.duration for s in batch) / LENGTH_STEP)) for batch in plan}
    assert len(shapes) <= math.ceil(2 / LENGTH_STEP) + 2  # one for each step of length, and the last batch


@given(DURATIONS)
def test_in_order_is_shortest_first_and_complete(durations: list[float]) -> None:
    plan = plan_in_order(utterances(durations), batch_seconds=40)
    assert [sample.duration for batch in plan for sample in batch] == sorted(durations)


def test_seed_and_epoch_decide_everything() -> None:
    corpus = utterances(np.random.default_rng(0).uniform(1, 5, 100).tolist())
    join = Concatenation(4, (0.1, 0.3))

    def plan(seed: int, epoch: int) -> list:
        return plan_epoch(corpus, batch_seconds=30, seed=seed, epoch=epoch, concatenation=join)

    assert plan(1, 1) == plan(1, 1)
    assert plan(1, 1) != plan(1, 2)
    assert plan(1, 1) != plan(2, 1)
    seeds = {sample.seed for epoch in (1, 2) for batch in plan(1, epoch) for sample in batch}
    assert len(seeds) == 200  # no two samples draw the same augmentation


def test_utterances_meet_others_in_each_epoch() -> None:
    corpus = utterances(np.random.default_rng(0).uniform(1, 5, 200).tolist())
    first, second = (
        {
            frozenset(sample.name for sample in batch)
            for batch in plan_epoch(corpus, batch_seconds=30, seed=1, epoch=e)
        }
        for e in (1, 2)
    )
    assert len(first) > 20
    assert len(first & second) <= 2


def test_shortest_first_comes_out_in_the_order_of_length() -> None:
    corpus = utterances(np.random.default_rng(0).uniform(1, 20, 200).tolist())
    plan = plan_epoch(corpus, batch_seconds=40, seed=1, epoch=1, shortest_first=True)
    longest = [max(sample.duration for sample in batch) for batch in plan]
    # the jitter of 5 % either way may swap neighbours
    assert all(later >= 0.9 * earlier for earlier, later in itertools.pairwise(longest))


@given(DURATIONS, st.integers(1, 8), st.integers(0, 3))
def test_strings_are_of_one_speaker_and_lose_nobody(durations: list[float], most: int, seed: int) -> None:
    corpus = utterances(durations)
    join = Concatenation(most, (0.1, 0.3))
    plan = plan_epoch(corpus, batch_seconds=100, seed=seed, epoch=1, concatenation=join)
    samples = [sample for batch in plan for sample in batch]
    assert sorted(sample.utterances[0].audio for sample in samples) == sorted(u.audio for u in corpus)
    for sample in samples:
        assert 1 <= len(sample.utterances) <= most
        assert len({utterance.speaker for utterance in sample.utterances}) == 1
        assert len(sample.pauses) == len(sample.utterances) - 1
        assert all(0.1 <= pause <= 0.3 for pause in sample.pauses)
        heard = sum(utterance.duration for utterance in sample.utterances)
        assert abs(sample.duration - heard - sum(sample.pauses)) < 1e-9


@given(DURATIONS, st.integers(0, 3), st.booleans())
def test_silence_counts_and_is_heard_alone(durations: list[float], seed: int, joined: bool) -> None:
    corpus = utterances(durations)
    join = Concatenation(3, (0.1, 0.3)) if joined else None

    def samples(silences: Silences | None) -> list[Sample]:
        plan = plan_epoch(corpus, batch_seconds=40, seed=seed, epoch=1, concatenation=join, silences=silences)
        return sorted((sample for batch in plan for sample in batch), key=lambda sample: sample.seed)

    heard = samples(Silences(0.7, (0.5, 1), (20, 80), alone=0.5))
    among = heard[len(corpus) :]
    assert abs(len(among) - len(corpus) / 2) < 1
    assert all(not sample.utterances and sample.silence for sample in among)
    assert all(0 < sample.duration <= max(durations) for sample in among)
    for sample, plain in zip(heard[: len(corpus)], samples(None), strict=True):
        assert replace(sample, silence=None) == plain
        silence = sample.silence
        added = silence.before + silence.after if silence else 0.0
        assert added == 0 or 1 <= added <= 2
        assert abs(sample.duration - plain.duration - added) < 1e-9


def test_strings_have_all_lengths() -> None:
    join = Concatenation(4, (0, 0))
    plan = plan_epoch(utterances([1.0] * 200), batch_seconds=60, seed=1, epoch=1, concatenation=join)
    assert {len(sample.utterances) for batch in plan for sample in batch} == {1, 2, 3, 4}
