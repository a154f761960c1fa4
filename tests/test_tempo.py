"""Speed, tempo and pitch: lengths, and frequencies of tones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import RATE, tone

from asr.effects.speed import change_speed
from asr.effects.tempo import change_pitch, change_tempo


def frequency(waveform: np.ndarray, rate: int) -> float:
    """Of the loudest partial, to a fraction of a cent: the peak of a much padded spectrum."""
    middle = waveform[len(waveform) // 10 : -len(waveform) // 10]
    size = 1 << 20
    return float(np.abs(np.fft.rfft(middle * np.hanning(len(middle)), size)).argmax() * rate / size)


def cents(frequency: float, reference: float) -> float:
    return float(1200 * np.log2(frequency / reference))


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0371, 1.1, 1.5])
def test_speed_moves_pitch_and_length_together(factor: float) -> None:
    faster = change_speed(tone(400.0), RATE, factor)
    assert faster.dtype == np.float32
    assert len(faster) == pytest.approx(RATE / factor, abs=0.5)
    middle = slice(1000, len(faster) - 1000)
    np.testing.assert_allclose(faster[middle], tone(400.0 * factor, len(faster))[middle], atol=2e-3)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
@pytest.mark.parametrize("semitones", [-5.0, -0.7, 2.0, 12.0])
@pytest.mark.parametrize("hertz", [110.0, 700.0])
def test_pitch_moves_by_semitones_and_nothing_else(rate: int, semitones: float, hertz: float) -> None:
    before = tone(hertz, 2 * rate, rate)
    after = change_pitch(before, rate, semitones)
    assert after.shape == before.shape
    assert after.dtype == np.float32
    assert cents(frequency(after, rate), hertz) == pytest.approx(100 * semitones, abs=4)
    middle = slice(rate // 5, -rate // 5)
    assert np.std(after[middle]) == pytest.approx(np.std(before[middle]), rel=0.02)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
@pytest.mark.parametrize("factor", [0.7, 1.05, 1.6])
def test_tempo_moves_the_length_and_not_the_pitch(rate: int, factor: float) -> None:
    before = tone(300.0, 2 * rate, rate)
    after = change_tempo(before, rate, factor)
    assert len(after) == round(len(before) / factor)
    assert cents(frequency(after, rate), 300.0) == pytest.approx(0, abs=4)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_tempo_moves_each_sound_to_its_time(factor: float) -> None:
    noise = np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    starts = np.array([0.4, 1.1, 1.5, 2.2])
    times = np.arange(3 * RATE) / RATE
    bursts = noise * np.any((times >= starts[:, None]) & (times < starts[:, None] + 0.1), axis=0)
    after = change_tempo(bursts.astype(np.float32), RATE, factor)
    loud = np.convolve(np.square(after), np.ones(640), "same") > 150
    heard = (np.flatnonzero(np.diff(loud.astype(int)) == 1) + 1) / RATE
    np.testing.assert_allclose(heard, starts / factor, atol=0.03)


def test_a_tempo_of_one_changes_nothing() -> None:
    speech = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    np.testing.assert_allclose(change_tempo(speech, RATE, 1.0), speech, atol=1e-6)


@settings(max_examples=50)
@given(
    samples=st.integers(0, 700),
    rate=st.sampled_from([8000, 16000, 48000]),
    factor=st.floats(0.5, 2),
    semitones=st.floats(-12, 12),
    level=st.sampled_from([0.0, 1e-6, 1.0]),
)
def test_any_length_and_silence(samples: int, rate: int, factor: float, semitones: float, level: float) -> None:
    waveform = (level * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)
    higher, slower = change_pitch(waveform, rate, semitones), change_tempo(waveform, rate, factor)
    assert len(higher) == samples
    assert len(slower) == round(samples / factor)
    for changed in (higher, slower):
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
        if level == 0.0:
            assert not changed.any()
