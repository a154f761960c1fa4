"""Training data made more varied: speed, gain, noise, small rooms, and masked features.

Every function is pure; those with chance in them draw from the generator that they are given, and nothing else,
so that a seed reproduces an epoch. Waveforms are (samples,) float32 of full scale ±1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soxr
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from asr import audio

FloatArray = NDArray[np.float32]

NOISE_EXPONENTS = (0.0, 2.0)  # from white to brown: the colours of noise made when there is no recording
DIRECT_TO_REVERBERANT_DB = (0.0, 10.0)  # from across a small room to beside the microphone


def change_speed(waveform: FloatArray, sample_rate: int, factor: float) -> FloatArray:
    """Play faster (factor > 1) or slower; tempo and pitch change together (Ko et al. 2015).

    Returns:
        (samples / factor, rounded,) float32.
    """
    changed: FloatArray = soxr.resample(waveform, sample_rate * factor, sample_rate, quality="MQ")
    return changed


def apply_gain(waveform: FloatArray, gain_db: float) -> FloatArray:
    """Make louder or softer by `gain_db` decibels. Nothing is clipped: the result may pass ±1."""
    return waveform * np.float32(10.0 ** (gain_db / 20.0))


def add_noise(waveform: FloatArray, noise: FloatArray, snr_db: float) -> FloatArray:
    """Add noise, scaled to a signal-to-noise ratio over the whole utterance.

    Args:
        waveform: (samples,) speech.
        noise: (samples,) of any loudness.
        snr_db: ratio of the mean powers, in decibels.

    Returns:
        (samples,) float32, which may pass ±1. Silent speech has no such ratio: nothing is added.
    """
    signal_power, noise_power = _power(waveform), _power(noise)
    if signal_power == 0.0 or noise_power == 0.0:
        return waveform.copy()
    return waveform + noise * np.float32(np.sqrt(signal_power / noise_power * 10.0 ** (-snr_db / 10.0)))


def coloured_noise(samples: int, exponent: float, rng: Generator) -> FloatArray:
    """Gaussian noise whose power spectrum falls as 1 / frequency**exponent: 0 white, 1 pink, 2 brown.

    Returns:
        (samples,) float32 of about unit power and without a constant part.
    """
    size = _fft_length(max(samples, 2))
    bins = size // 2 + 1
    spectrum = rng.standard_normal(2 * bins, dtype=np.float32).view(np.complex64)
    spectrum[0] = 0.0
    spectrum[1:] *= np.arange(1, bins, dtype=np.float32) ** (-exponent / 2)
    noise = np.fft.irfft(spectrum, size).astype(np.float32, copy=False)
    return noise[:samples] / np.float32(np.sqrt(_power(noise)))


def fit_length(noise: FloatArray, samples: int, rng: Generator) -> FloatArray:
    """A random stretch of a recording of noise; one that is too short is repeated, from a random point on."""
    if len(noise) >= samples:
        start = rng.integers(len(noise) - samples + 1)
        return noise[start : start + samples]
    return np.resize(np.roll(noise, -rng.integers(len(noise))), samples)


def small_room(waveform: FloatArray, sample_rate: int, rt60_seconds: float, rng: Generator) -> FloatArray:
    """Reverberate as a small room does: direct sound, then noise that decays exponentially (Polack's model).

    The direct sound keeps its place, so word times stay true, and the utterance keeps its length and power.

    Args:
        waveform: (samples,) dry speech.
        sample_rate: in hertz.
        rt60_seconds: reverberation time, in which the sound falls by 60 dB.
        rng: draws the reflections, and how loud they are beside the direct sound.

    Returns:
        (samples,) float32, which may pass ±1.
    """
    times = np.arange(max(2, round(rt60_seconds * sample_rate)), dtype=np.float32) / np.float32(sample_rate)
    response = rng.standard_normal(len(times), dtype=np.float32) * 10.0 ** (-3.0 / np.float32(rt60_seconds) * times)
    response[0] = 0.0
    ratio_db = rng.uniform(*DIRECT_TO_REVERBERANT_DB)
    response *= np.float32(10.0 ** (-ratio_db / 20.0) / np.linalg.norm(response))
    response[0] = 1.0
    wet = _convolve(waveform, response)[: len(waveform)]
    wet_power = _power(wet)
    return wet if wet_power == 0.0 else wet * np.float32(np.sqrt(_power(waveform) / wet_power))


@dataclass(frozen=True)
class WaveformAugmenter:
    """What happens to a training utterance's waveform: speed, then room, then noise, then gain.

    Ranges are drawn from uniformly. A result beyond ±1 is scaled down as a whole, never clipped.
    """

    sample_rate: int
    speed: tuple[float, ...] = ()
    """Factors, each as likely as the others."""
    gain_db: tuple[float, float] | None = None
    noise_probability: float = 0.0
    snr_db: tuple[float, float] = (5.0, 30.0)
    noise_files: tuple[Path, ...] = ()
    """Recordings of noise, of minutes at most: whole ones are held in memory. Without them noise is generated."""
    reverb_probability: float = 0.0
    rt60_seconds: tuple[float, float] = (0.1, 0.4)

    def __call__(self, waveform: FloatArray, rng: Generator) -> FloatArray:
        """Augment one utterance: (samples,) → (samples,), of another length where the speed changes."""
        if self.speed and (factor := float(rng.choice(self.speed))) != 1.0:
            waveform = change_speed(waveform, self.sample_rate, factor)
        if rng.random() < self.reverb_probability:
            waveform = small_room(waveform, self.sample_rate, rng.uniform(*self.rt60_seconds), rng)
        if rng.random() < self.noise_probability:
            waveform = add_noise(waveform, self._noise(len(waveform), rng), rng.uniform(*self.snr_db))
        if self.gain_db is not None:
            waveform = apply_gain(waveform, rng.uniform(*self.gain_db))
        return _within_full_scale(waveform)

    def _noise(self, samples: int, rng: Generator) -> FloatArray:
        if not self.noise_files:
            return coloured_noise(samples, rng.uniform(*NOISE_EXPONENTS), rng)
        path = self.noise_files[rng.integers(len(self.noise_files))]
        return fit_length(_recorded_noise(path, self.sample_rate), samples, rng)


@dataclass(frozen=True)
class Masks:
    """Stretches of features to hide, as (start, width) pairs in frames and in bins."""

    time: tuple[tuple[int, int], ...]
    freq: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SpecAugment:
    """Masks over time and frequency (Park et al. 2019, without time warping)."""

    freq_masks: int = 2
    freq_width: int = 20
    """Widest frequency mask, in bins."""
    time_masks: int = 2
    time_width: int = 40
    """Widest time mask, in frames …"""
    time_fraction: float = 0.2
    """… and as a share of the utterance."""

    def plan(self, num_frames: int, num_bins: int, rng: Generator) -> Masks:
        """Draw the masks of one utterance: widths from 0 to the widest, anywhere that they fit."""
        widest = min(self.time_width, int(self.time_fraction * num_frames))
        return Masks(
            time=tuple(_stretch(num_frames, widest, rng) for _ in range(self.time_masks)),
            freq=tuple(_stretch(num_bins, min(self.freq_width, num_bins), rng) for _ in range(self.freq_masks)),
        )

    @staticmethod
    def apply(features: Tensor, masks: Masks) -> Tensor:
        """Set what the masks cover to 0, the mean of normalised features: (frames, bins) → a new (frames, bins)."""
        masked = features.clone()
        for start, width in masks.time:
            masked[start : start + width] = 0.0
        for start, width in masks.freq:
            masked[:, start : start + width] = 0.0
        return masked


@dataclass(frozen=True)
class SpanMasking:
    """What of an utterance's features is to be guessed from the rest: spans of frames and a band of bins.

    Spans of one width that cover a share of all utterances, long or short, and a band over the whole utterance, as
    in TERA (Liu et al. 2021). A single frame could be told from its neighbours, whose windows overlap its own.
    """

    share: float = 0.3
    """Of the frames, on average; less where spans overlap."""
    span: int = 12
    """Width of each span, in frames; at most half of the utterance."""
    band: float = 0.2
    """Widest band, as a share of the bins."""

    def plan(self, num_frames: int, num_bins: int, rng: Generator) -> Masks:
        """Draw the masks of one utterance."""
        width = min(self.span, num_frames // 2)
        count = int(self.share * num_frames / max(width, 1) + rng.random())  # rounded by chance: a digit is short
        starts = rng.integers(num_frames - width + 1, size=count)
        return Masks(
            time=tuple((int(start), width) for start in starts),
            freq=(_stretch(num_bins, int(self.band * num_bins), rng),),
        )


def _stretch(size: int, widest: int, rng: Generator) -> tuple[int, int]:
    width = int(rng.integers(widest + 1))
    return int(rng.integers(size - width + 1)), width


def _convolve(waveform: FloatArray, response: FloatArray) -> FloatArray:
    size = _fft_length(len(waveform) + len(response) - 1)
    product = np.fft.rfft(waveform, size) * np.fft.rfft(response, size)
    return np.fft.irfft(product, size).astype(np.float32, copy=False)


def _fft_length(samples: int) -> int:
    """The next power of two: a length with a large prime factor is ten times slower."""
    return 1 << (samples - 1).bit_length()


def _power(waveform: FloatArray) -> float:
    return float(np.dot(waveform, waveform)) / max(len(waveform), 1)


def _within_full_scale(waveform: FloatArray) -> FloatArray:
    peak = np.abs(waveform).max(initial=0.0)
    return waveform if peak <= 1.0 else waveform / peak


@lru_cache(maxsize=32)
def _recorded_noise(path: Path, sample_rate: int) -> FloatArray:
    return audio.load(path, sample_rate)
