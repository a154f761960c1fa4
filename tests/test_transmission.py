"""Telephones and codecs: bands, levels, and that nothing is delayed."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.effects.transmission import CODECS, TELEPHONE_CODECS, band_pass, telephone, through_codec

RATES = [8000, 11025, 16000, 44100, 48000]


def speechlike(rate: int, seconds: float = 1.5) -> np.ndarray:
    """Noise of a falling spectrum above 100 Hz, in syllables."""
    rng = np.random.default_rng(0)
    times = np.arange(round(seconds * rate)) / rate
    voice = scipy.signal.sosfilt(
        scipy.signal.butter(1, (150, 900), "bandpass", fs=rate, output="sos"), rng.standard_normal(len(times))
    )
    return (0.2 * voice / voice.std() * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * times))).astype(np.float32)


def delay_ms(before: np.ndarray, after: np.ndarray, rate: int) -> float:
    correlation = scipy.signal.correlate(after, before, "full")
    return float((correlation.argmax() - (len(before) - 1)) / rate * 1000)


def band_db(waveform: np.ndarray, rate: int, low: float, high: float) -> float:
    frequencies, power = scipy.signal.welch(waveform, fs=rate, nperseg=rate // 10)
    return float(10 * np.log10(power[(frequencies >= low) & (frequencies < high)].mean() + 1e-20))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("codec", TELEPHONE_CODECS)
def test_a_telephone_keeps_time_length_and_level(codec: str, rate: int) -> None:
    speech = speechlike(rate)
    heard = telephone(speech, rate, codec)
    assert heard.shape == speech.shape
    assert heard.dtype == np.float32
    assert abs(delay_ms(speech, heard, rate)) < 0.3
    inside = band_db(heard, rate, 500, 1500) - band_db(speech, rate, 500, 1500)
    assert inside == pytest.approx(0, abs=2 if codec == "gsm" else 0.5)


@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_telephone_hears_its_band_alone(rate: int) -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(2 * rate)).astype(np.float32)
    heard = telephone(noise, rate, "mu-law")
    flat = band_db(noise, rate, 500, 3000)
    assert band_db(heard, rate, 500, 3200) == pytest.approx(flat, abs=0.5)
    assert band_db(heard, rate, 20, 180) < flat - 25
    assert band_db(heard, rate, 4200, 7500) < flat - 50


@pytest.mark.parametrize("law", ["mu-law", "a-law"])
def test_g711_has_256_levels_and_38_decibels(law: str) -> None:
    """Its signal-to-distortion ratio is 38 dB or so over the levels of speech (ITU-T G.712 asks for 33)."""
    speech = speechlike(8000)
    passed = band_pass(speech, 8000, 0, 4000)
    heard = telephone(speech, 8000, law, (0, 4000))
    assert len(np.unique(heard)) <= 256
    distortion = np.mean(np.square(heard - passed))
    assert 10 * np.log10(np.mean(np.square(passed)) / distortion) == pytest.approx(38, abs=3)


def test_a_band_ends_where_told() -> None:
    rate = 8000
    impulse = np.zeros(rate, np.float32)
    impulse[rate // 2] = 1.0
    gains = 20 * np.log10(np.abs(np.fft.rfft(band_pass(impulse, rate, 300, 3400))) + 1e-9)  # a bin is 1 Hz
    assert gains[450:3250] == pytest.approx(0, abs=0.1)
    assert gains[[300, 3400]] == pytest.approx(-6.02, abs=0.1)
    assert max(gains[:190].max(), gains[3510:].max()) < -40


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kbps", [8.0, 24.0, 64.0])
def test_a_codec_keeps_time_and_length(codec: str, kbps: float, rate: int) -> None:
    speech = speechlike(rate, 1.0)
    heard = through_codec(speech, rate, codec, kbps)
    assert heard.shape == speech.shape
    assert heard.dtype == np.float32
    assert abs(delay_ms(speech, heard, rate)) < 0.3
    assert not np.array_equal(heard, speech)


@pytest.mark.parametrize("codec", CODECS)
def test_fewer_kilobits_spoil_more(codec: str) -> None:
    speech = speechlike(16000)
    errors = [np.mean(np.square(through_codec(speech, 16000, codec, kbps) - speech)) for kbps in (8, 24, 96)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize("codec", [*TELEPHONE_CODECS, *CODECS])
def test_loud_speech_is_not_clipped(codec: str) -> None:
    speech = speechlike(8000)
    louder = 8 * speech
    assert np.abs(louder).max() > 2
    heard = telephone(louder, 8000, codec) if codec in TELEPHONE_CODECS else through_codec(louder, 8000, codec, 32)
    change = band_db(heard, 8000, 500, 1500) - band_db(louder, 8000, 500, 1500)
    assert change == pytest.approx(0, abs=2)


@settings(max_examples=40)
@given(
    codec=st.sampled_from([*TELEPHONE_CODECS, *CODECS]),
    samples=st.sampled_from([0, 1, 2, 80, 160, 480, 701]),
    rate=st.sampled_from([4000, *RATES]),
    level=st.sampled_from([0.0, 1e-5, 1.0]),
    kbps=st.floats(6, 320),
)
def test_any_length_and_silence(codec: str, samples: int, rate: int, level: float, kbps: float) -> None:
    waveform = (level * np.random.default_rng(0).uniform(-1, 1, samples)).astype(np.float32)
    heard = (
        telephone(waveform, rate, codec)
        if codec in TELEPHONE_CODECS
        else through_codec(waveform, rate, codec, kbps)
    )
    assert heard.shape == waveform.shape
    assert heard.dtype == np.float32
    assert np.isfinite(heard).all()
    if level == 0.0:
        assert np.abs(heard).max(initial=0.0) < 1e-3
