"""Noise: made, or cut from recordings, and added at a signal-to-noise ratio."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from asr.effects.fourier import fft_length
from asr.effects.level import FloatArray, power

LOWEST_HZ = 60.0
"""Of generated noise: below it there is no speech, and little that features or ears take notice of."""


def add_noise(waveform: FloatArray, noise: FloatArray, snr_db: float, signal: float | None = None) -> FloatArray:
    """Add noise, scaled to a signal-to-noise ratio.

    Args:
        waveform: (samples,) speech.
        noise: (samples,) of any loudness.
        snr_db: ratio of the mean powers, in decibels.
        signal: the power of the speech; by default that of the whole waveform.

    Returns:
        (samples,) float32. Silent speech has no such ratio: nothing is added.
    """
    signal = power(waveform) if signal is None else signal
    disturbance = power(noise)
    if signal == 0.0 or disturbance == 0.0:
        return waveform.copy()
    return waveform + noise * np.float32(np.sqrt(signal / disturbance * 10.0 ** (-snr_db / 10.0)))


def coloured_noise(samples: int, exponent: float, sample_rate: int, rng: Generator) -> FloatArray:
    """Gaussian noise whose power spectrum falls as 1 / frequency**exponent: 0 white, 1 pink, 2 brown.

    It begins at 60 Hz. From 0 on, nearly all of pink and brown noise's power would be rumble, the more the longer
    it lasts, and a signal-to-noise ratio would say nothing of where speech is.

    Returns:
        (samples,) float32 of about unit power.
    """
    size = fft_length(max(samples, 2))
    bins = size // 2 + 1
    spectrum = rng.standard_normal(2 * bins, dtype=np.float32).view(np.complex64)
    lowest = math.ceil(LOWEST_HZ * size / sample_rate)
    spectrum[:lowest] = 0.0
    spectrum[lowest:] *= np.arange(lowest, bins, dtype=np.float32) ** (-exponent / 2)
    noise = np.fft.irfft(spectrum, size).astype(np.float32, copy=False)
    return noise[:samples] / np.float32(np.sqrt(power(noise)))


def fit_length(noise: FloatArray, samples: int, rng: Generator) -> FloatArray:
    """A random stretch of a recording of noise; one that is too short is repeated, from a random point on."""
    if len(noise) >= samples:
        start = rng.integers(len(noise) - samples + 1)
        return noise[start : start + samples]
    return np.resize(np.roll(noise, -rng.integers(len(noise))), samples)
