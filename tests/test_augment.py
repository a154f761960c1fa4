"""Augmentation: levels, spectra, decays and masks, measured on what comes out."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr import audio
from asr.augment import (
    Masks,
    SpecAugment,
    WaveformAugmenter,
    add_noise,
    apply_gain,
    change_speed,
    coloured_noise,
    fit_length,
    small_room,
)

RATE = 16000
SEEDS = st.integers(0, 2**32 - 1)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tone(hertz: float, samples: int = RATE) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(samples) / RATE)).astype(np.float32)


def decibels(waveform: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(waveform, dtype=np.float64))))


# ------------------------------------------------------------------------------------- speed, gain and noise


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0371, 1.1, 1.5])
def test_speed_moves_pitch_and_length_together(factor: float) -> None:
    faster = change_speed(tone(400.0), RATE, factor)
    assert faster.dtype == np.float32
    assert len(faster) == pytest.approx(RATE / factor, abs=0.5)
    middle = slice(1000, len(faster) - 1000)
    np.testing.assert_allclose(faster[middle], tone(400.0 * factor, len(faster))[middle], atol=2e-3)


@given(gain_db=st.floats(-40, 40))
def test_gain_is_in_decibels(gain_db: float) -> None:
    assert decibels(apply_gain(tone(300.0), gain_db)) - decibels(tone(300.0)) == pytest.approx(gain_db, abs=1e-3)


@given(snr_db=st.floats(-10, 40), level=st.floats(1e-3, 10), seed=SEEDS)
def test_noise_is_added_at_its_ratio(snr_db: float, level: float, seed: int) -> None:
    speech = tone(300.0, 8000)
    noise = (level * generator(seed).standard_normal(8000)).astype(np.float32)
    noisy = add_noise(speech, noise, snr_db)
    assert noisy.dtype == np.float32
    added = noisy - speech
    assert decibels(speech) - decibels(added) == pytest.approx(snr_db, abs=0.1)
    assert np.corrcoef(added, noise)[0, 1] > 0.999


def test_silence_has_no_ratio() -> None:
    silence, noise = np.zeros(100, np.float32), np.ones(100, np.float32)
    np.testing.assert_array_equal(add_noise(silence, noise, 10.0), silence)
    np.testing.assert_array_equal(add_noise(noise, silence, 10.0), noise)


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0, 2.0])
def test_noise_has_its_colour(exponent: float) -> None:
    noise = coloured_noise(2**17, exponent, generator())
    frequencies, power = scipy.signal.welch(noise, fs=1.0, nperseg=4096)
    band = (frequencies > 0.005) & (frequencies < 0.4)
    slope, _ = np.polyfit(np.log(frequencies[band]), np.log(power[band]), 1)
    assert slope == pytest.approx(-exponent, abs=0.06)
    assert decibels(noise) == pytest.approx(0.0, abs=0.1)
    assert noise.dtype == np.float32


@pytest.mark.parametrize("samples", [0, 1, 2, 3, 47_981])
def test_noise_has_any_length(samples: int) -> None:
    noise = coloured_noise(samples, 1.0, generator())
    assert noise.shape == (samples,)
    assert np.isfinite(noise).all()


@given(recorded=st.integers(1, 50), samples=st.integers(0, 120), seed=SEEDS)
def test_recorded_noise_is_cropped_or_repeated(recorded: int, samples: int, seed: int) -> None:
    noise = np.arange(recorded, dtype=np.float32)
    stretch = fit_length(noise, samples, generator(seed))
    assert len(stretch) == samples
    if samples > 1:
        steps = np.diff(stretch)
        whole = samples <= recorded
        assert set(steps.tolist()) <= ({1.0} if whole else {1.0, float(1 - recorded)})


def test_every_part_of_recorded_noise_is_used() -> None:
    rng = generator()
    starts = {int(fit_length(np.arange(10, dtype=np.float32), 7, rng)[0]) for _ in range(200)}
    assert starts == {0, 1, 2, 3}
    assert len({int(fit_length(np.arange(5, dtype=np.float32), 7, rng)[0]) for _ in range(200)}) == 5


# -------------------------------------------------------------------------------------------------- small rooms


@pytest.mark.parametrize("rt60_seconds", [0.1, 0.2, 0.4])
def test_a_room_decays_in_its_reverberation_time(rt60_seconds: float) -> None:
    """The slope of Schroeder's backward integral between −5 and −25 dB (ISO 3382), of the room's own impulse."""
    impulse = np.zeros(2 * RATE, np.float32)
    impulse[0] = 1.0
    tail = small_room(impulse, RATE, rt60_seconds, generator()).astype(np.float64)[1:]
    decay = np.cumsum(tail[::-1] ** 2)[::-1]
    decay_db = 10 * np.log10(decay[decay > 0] / decay[0])
    stretch = np.flatnonzero((decay_db < -5) & (decay_db > -25))
    slope, _ = np.polyfit(stretch / RATE, decay_db[stretch], 1)
    assert -60 / slope == pytest.approx(rt60_seconds, rel=0.1)


@given(seed=SEEDS, start=st.integers(0, 3000), rt60_seconds=st.floats(0.02, 0.6))
def test_the_direct_sound_keeps_its_place(seed: int, start: int, rt60_seconds: float) -> None:
    impulse = np.zeros(4000, np.float32)
    impulse[start] = 1.0
    wet = small_room(impulse, RATE, rt60_seconds, generator(seed))
    assert wet.shape == impulse.shape
    assert np.abs(wet).argmax() == start
    assert np.abs(wet[:start]).max(initial=0.0) < 1e-5


@given(seed=SEEDS, rt60_seconds=st.floats(0.02, 0.6))
def test_a_room_keeps_the_power(seed: int, rt60_seconds: float) -> None:
    speech = (0.1 * generator(seed).standard_normal(5000)).astype(np.float32)
    wet = small_room(speech, RATE, rt60_seconds, generator(seed))
    assert wet.dtype == np.float32
    assert decibels(wet) == pytest.approx(decibels(speech), abs=0.01)
    assert not np.allclose(wet, speech, atol=1e-3)


def test_rooms_differ() -> None:
    rng = generator()
    assert not np.allclose(
        small_room(tone(200.0), RATE, 0.3, rng), small_room(tone(200.0), RATE, 0.3, rng), atol=1e-3
    )


# ------------------------------------------------------------------------------------------- the whole chain

EVERYTHING = WaveformAugmenter(
    RATE, speed=(0.9, 1.0, 1.1), gain_db=(-6.0, 20.0), noise_probability=0.7, reverb_probability=0.7
)


@given(seed=SEEDS, samples=st.sampled_from([0, 1, 7, 399, 4000]), level=st.sampled_from([0.0, 1e-4, 0.3, 1.0]))
def test_augmentation_is_reproducible_and_within_full_scale(seed: int, samples: int, level: float) -> None:
    speech = (level * np.clip(generator(1).standard_normal(samples), -1, 1)).astype(np.float32)
    kept = speech.copy()
    augmented = EVERYTHING(speech, generator(seed))
    np.testing.assert_array_equal(augmented, EVERYTHING(speech, generator(seed)))
    np.testing.assert_array_equal(speech, kept)
    assert augmented.dtype == np.float32
    assert np.isfinite(augmented).all()
    assert np.abs(augmented).max(initial=0.0) <= 1.0
    assert any(abs(len(augmented) - samples / factor) <= 0.5 for factor in EVERYTHING.speed)


def test_loud_results_are_scaled_not_clipped() -> None:
    louder = WaveformAugmenter(RATE, gain_db=(20.0, 20.0))(tone(300.0), generator())
    np.testing.assert_allclose(louder, tone(300.0) / np.abs(tone(300.0)).max(), atol=1e-6)


def test_each_step_is_drawn_as_often_as_told() -> None:
    speech = tone(300.0, 800)
    rng = generator()
    nothing = WaveformAugmenter(RATE)
    np.testing.assert_array_equal(nothing(speech, rng), speech)
    sometimes = WaveformAugmenter(RATE, noise_probability=0.3)
    changed = sum(not np.array_equal(sometimes(speech, rng), speech) for _ in range(1000))
    assert changed == pytest.approx(300, abs=60)
    lengths = [len(WaveformAugmenter(RATE, speed=(0.8, 1.25))(speech, rng)) for _ in range(400)]
    assert lengths.count(1000) == pytest.approx(200, abs=50)
    assert lengths.count(640) == 400 - lengths.count(1000)


def test_noise_ratio_and_recordings_reach_the_result(tmp_path: Path) -> None:
    audio.save(tmp_path / "hum.wav", tone(1000.0, 2 * RATE), RATE)
    augment = WaveformAugmenter(
        RATE, noise_probability=1.0, snr_db=(12.0, 12.0), noise_files=(tmp_path / "hum.wav",)
    )
    speech = 0.3 * tone(300.0)
    added = augment(speech, generator()) - speech
    assert decibels(speech) - decibels(added) == pytest.approx(12.0, abs=0.1)
    assert np.abs(np.fft.rfft(added)).argmax() == 1000


def test_augmenters_travel_to_worker_processes() -> None:
    travelled = pickle.loads(pickle.dumps(EVERYTHING))
    np.testing.assert_array_equal(travelled(tone(300.0), generator(5)), EVERYTHING(tone(300.0), generator(5)))


# ------------------------------------------------------------------------------------------------- SpecAugment


@given(frames=st.integers(0, 300), bins=st.integers(1, 90), seed=SEEDS)
def test_masks_fit_and_keep_to_their_widths(frames: int, bins: int, seed: int) -> None:
    augment = SpecAugment(freq_masks=3, freq_width=20, time_masks=4, time_width=40, time_fraction=0.2)
    masks = augment.plan(frames, bins, generator(seed))
    assert masks == augment.plan(frames, bins, generator(seed))
    assert (len(masks.time), len(masks.freq)) == (4, 3)
    for start, width in masks.time:
        assert 0 <= width <= min(40, 0.2 * frames)
        assert 0 <= start <= frames - width
    for start, width in masks.freq:
        assert 0 <= width <= min(20, bins)
        assert 0 <= start <= bins - width


def test_widths_and_places_are_spread_evenly() -> None:
    augment = SpecAugment(freq_masks=1, freq_width=4, time_masks=1, time_width=3, time_fraction=1.0)
    rng = generator()
    masks = [augment.plan(10, 6, rng) for _ in range(3000)]
    for stretches, size, widest in (([m.time[0] for m in masks], 10, 3), ([m.freq[0] for m in masks], 6, 4)):
        widths = np.bincount([width for _, width in stretches])
        np.testing.assert_allclose(widths, 3000 / (widest + 1), rtol=0.15)
        assert {start for start, width in stretches if width == widest} == set(range(size - widest + 1))


def test_masked_features_are_zero_and_others_untouched() -> None:
    features = torch.rand(3, 12, 7) + 1.0
    kept = features.clone()
    masks = Masks(time=((2, 3), (11, 1)), freq=((0, 1), (4, 0)))
    masked = SpecAugment.apply(features[1], masks)
    expected = features[1].numpy().copy()
    for time in range(12):
        for frequency in range(7):
            if time in (2, 3, 4, 11) or frequency == 0:
                expected[time, frequency] = 0.0
    np.testing.assert_array_equal(masked.numpy(), expected)
    assert torch.equal(features, kept)
