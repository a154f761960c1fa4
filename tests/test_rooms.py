"""Rooms: echoes where geometry has them, decays as long as asked, and speech that keeps its place."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import RATE, decibels, generator

from asr.effects.rooms import (
    SOUND_SPEED,
    ImpulseResponse,
    Room,
    decaying_noise,
    draw_room,
    image_response,
    recorded_response,
    reverberate,
    wall_reflection,
)

SEEDS = st.integers(0, 2**32 - 1)
HALL = Room(size=(8.9, 8.3, 5.3), source=(3.0, 2.8, 1.3), microphone=(1.0, 4.0, 3.7), rt60_seconds=0.5)
CELL = Room(size=(2.6, 2.1, 2.3), source=(0.7, 0.6, 1.5), microphone=(1.8, 1.4, 0.9), rt60_seconds=0.04)


def reverberation_time(tail: np.ndarray, rate: int) -> float:
    """T20: the slope of Schroeder's backward integral between −5 and −25 dB (ISO 3382)."""
    decay = np.cumsum(np.square(tail[::-1], dtype=np.float64))[::-1]
    decay_db = 10 * np.log10(decay[decay > 0] / decay[0])
    stretch = np.flatnonzero((decay_db < -5) & (decay_db > -25))
    slope, _ = np.polyfit(stretch / rate, decay_db[stretch], 1)
    return float(-60 / slope)


# ------------------------------------------------------------------------------------------ the image method


def test_the_first_six_echoes_are_those_of_the_walls() -> None:
    """Mirror the source in each wall, as on paper: delay and level follow from the longer way."""
    rate = 192_000
    response = image_response(HALL, rate)
    assert response.samples[response.direct] == pytest.approx(1.0, abs=1e-6)
    for axis, wall in product(range(3), (0, 1)):
        image = list(HALL.source)
        image[axis] = 2 * wall * HALL.size[axis] - image[axis]
        way = float(np.linalg.norm(np.subtract(image, HALL.microphone)))
        delay = (way - HALL.distance) / SOUND_SPEED * rate
        around = np.arange(round(delay) - 20, round(delay) + 21)
        echo = response.samples[response.direct + around]
        assert echo.sum() == pytest.approx(wall_reflection(HALL) * HALL.distance / way, rel=0.02)
        assert (around * echo).sum() / echo.sum() == pytest.approx(delay, abs=0.3)


def test_all_echoes_are_those_of_a_plain_sum_over_images() -> None:
    """Allen & Berkley's eightfold sum, each image a windowed sinc at its exact delay (Peterson 1986)."""
    response = image_response(CELL, RATE)
    expected, reflection = np.zeros(4 * len(response.samples)), wall_reflection(CELL)
    for repeats in product(range(-5, 6), repeat=3):
        for mirrored in product((0, 1), repeat=3):
            way, bounces = 0.0, 0
            for size, source, microphone, n, p in zip(
                CELL.size, CELL.source, CELL.microphone, repeats, mirrored, strict=True
            ):
                way += ((1 - 2 * p) * source + 2 * n * size - microphone) ** 2
                bounces += abs(n - p) + abs(n)
            delay = (np.sqrt(way) - CELL.distance) / SOUND_SPEED * RATE
            times = np.arange(math.ceil(delay - 17), math.ceil(delay + 17))
            sinc = np.sinc(times - delay) * np.cos(np.pi / 2 * (times - delay) / 17) ** 2
            expected[response.direct + 1 + times] += reflection**bounces * CELL.distance / np.sqrt(way) * sinc
    expected = expected[1 : len(response.samples) + 1]
    times = np.arange(len(response.samples)) - response.direct
    before_the_end = times < 0.9 * CELL.rt60_seconds * RATE
    error = (response.samples - expected)[before_the_end]
    assert decibels(error) < decibels(expected) - 30


@pytest.mark.parametrize(("rt60_seconds", "tolerance"), [(0.15, 0.25), (0.3, 0.12), (0.6, 0.12)])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_simulated_room_decays_in_its_reverberation_time(
    rt60_seconds: float, tolerance: float, rate: int
) -> None:
    times = []
    for seed in range(8):
        response = image_response(draw_room(rt60_seconds, generator(seed)), rate)
        times.append(reverberation_time(response.samples[response.direct + 1 :], rate))
    assert times == pytest.approx([rt60_seconds] * 8, rel=tolerance)
    assert np.mean(times) == pytest.approx(rt60_seconds, rel=0.5 * tolerance)


def test_echoes_do_not_add_up_to_a_rumble() -> None:
    power = np.square(np.abs(np.fft.rfft(image_response(HALL, RATE).samples, RATE)))
    assert power[:50].mean() < power[500:5000].mean()


@given(seed=SEEDS)
def test_rooms_hold_who_is_in_them(seed: int) -> None:
    room = draw_room(0.3, generator(seed))
    assert room == draw_room(0.3, generator(seed))
    assert room.distance >= 0.3
    for place in (room.source, room.microphone):
        assert all(0.4 < at < size - 0.4 for at, size in zip(place, room.size, strict=True))


# ----------------------------------------------------------------------------------------- noise that decays


@pytest.mark.parametrize("rt60_seconds", [0.1, 0.2, 0.4])
def test_noise_decays_in_its_reverberation_time(rt60_seconds: float) -> None:
    tail = decaying_noise(RATE, rt60_seconds, 3.0, generator()).samples[1:]
    assert reverberation_time(tail, RATE) == pytest.approx(rt60_seconds, rel=0.1)


@given(direct_db=st.floats(-5, 20), seed=SEEDS)
def test_the_direct_sound_is_as_loud_as_told(direct_db: float, seed: int) -> None:
    direct, *rest = decaying_noise(RATE, 0.2, direct_db, generator(seed)).samples.astype(np.float64)
    assert 10 * np.log10(direct**2 / np.sum(np.square(rest))) == pytest.approx(direct_db, abs=0.01)


# -------------------------------------------------------------------------------------------------- recordings


@given(
    silence=st.integers(0, 3000), after=st.integers(0, 3000), scale=st.floats(-3, 3).filter(lambda x: abs(x) > 0.1)
)
@settings(max_examples=25)
def test_a_recording_gives_what_is_in_it(silence: int, after: int, scale: float) -> None:
    simulated = image_response(HALL, RATE)
    recording = np.concatenate((np.zeros(silence), scale * simulated.samples, np.zeros(after))).astype(np.float32)
    found = recorded_response(recording, RATE)
    assert len(found.samples) <= len(simulated.samples)
    np.testing.assert_allclose(found.samples[found.direct], scale * simulated.samples[simulated.direct], rtol=1e-6)
    speech = generator().standard_normal(4000).astype(np.float32)
    heard, expected = reverberate(speech, found), reverberate(speech, simulated)
    assert decibels(heard - np.sign(scale) * expected) < decibels(expected) - 50


@pytest.mark.parametrize("samples", [1, 2, 17])
def test_a_recording_may_be_short(samples: int) -> None:
    found = recorded_response(np.ones(samples, np.float32), RATE)
    assert found.direct == 0
    assert len(found.samples) >= 1


# --------------------------------------------------------------------------------------------- speech in rooms


def responses(seed: int) -> list[ImpulseResponse]:
    rng = generator(seed)
    rt60_seconds = rng.uniform(0.02, 0.4)
    return [
        decaying_noise(RATE, rt60_seconds, rng.uniform(0, 10), rng),
        image_response(draw_room(rt60_seconds, rng), RATE),
    ]


@settings(max_examples=30)
@given(seed=SEEDS, start=st.integers(0, 3999))
def test_the_direct_sound_keeps_its_place(seed: int, start: int) -> None:
    click = np.zeros(4000, np.float32)
    click[start] = 1.0
    for response in responses(seed):
        heard = reverberate(click, response)
        assert heard.shape == click.shape
        assert np.abs(heard[: max(start - 16, 0)]).max(initial=0.0) < 1e-5
        expected = response.samples[response.direct :][: 4000 - start]
        scale = heard[start] / expected[0]
        np.testing.assert_allclose(heard[start : start + len(expected)], scale * expected, atol=1e-5)


@settings(max_examples=30)
@given(seed=SEEDS)
def test_a_room_keeps_the_power(seed: int) -> None:
    speech = (0.1 * generator(seed).standard_normal(5000)).astype(np.float32)
    for response in responses(seed):
        heard = reverberate(speech, response)
        assert heard.dtype == np.float32
        assert decibels(heard) == pytest.approx(decibels(speech), abs=0.01)
        assert not np.allclose(heard, speech, atol=1e-3)


@pytest.mark.parametrize("samples", [0, 1, 160])
def test_silence_and_short_speech_in_rooms(samples: int) -> None:
    for response in responses(1):
        np.testing.assert_array_equal(reverberate(np.zeros(samples, np.float32), response), np.zeros(samples))
        heard = reverberate(np.ones(samples, np.float32), response)
        assert heard.shape == (samples,)
        assert np.isfinite(heard).all()
