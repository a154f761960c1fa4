"""Tempo and pitch, each without the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from asr.compiled import arithmetic, compiled, kernel
from asr.effects.level import FloatArray
from asr.effects.speed import change_speed

HOP_SECONDS = 0.0125  # half of a frame: two periods of a low voice in all
REACH_SECONDS = 0.008  # either way, so that a period of 63 Hz is within it
COARSE_HERTZ = 4000  # how densely similarity is looked at first
LEAST_ENERGY = 1e-12  # what is softer is silence


def change_tempo(waveform: FloatArray, sample_rate: int, factor: float) -> FloatArray:
    """Talk faster (factor > 1) or slower at the same pitch.

    Returns:
        (samples / factor, rounded,) float32.
    """
    return _stretched(waveform, sample_rate, round(len(waveform) / factor))


def change_pitch(waveform: FloatArray, sample_rate: int, semitones: float) -> FloatArray:
    """Talk higher (semitones > 0) or lower at the same tempo.

    The whole spectrum moves, formants included, as of a smaller or larger speaker.

    Returns:
        (samples,) float32.
    """
    faster = change_speed(waveform, sample_rate, 2.0 ** (semitones / 12.0))
    return _stretched(faster, sample_rate, len(waveform))


def _stretched(waveform: FloatArray, sample_rate: int, samples: int) -> FloatArray:
    """Of another length at the same pitch, by WSOLA (Verhelst & Roelands 1993).

    Overlapping frames are taken from about where the tempo has them, each from the place near by at which it is
    most similar to what followed the frame before.
    """
    if len(waveform) == 0 or samples == 0:
        return np.zeros(samples, np.float32)
    hop, reach = max(round(HOP_SECONDS * sample_rate), 1), round(REACH_SECONDS * sample_rate)
    frames = -(-samples // hop) + 1
    centres = np.rint(np.arange(frames) * (hop * len(waveform) / samples)).astype(np.int64)
    margin = hop + reach
    last = max(int(centres[-1]) - len(waveform), 0) + 3 * hop + 2 * reach
    padded = np.concatenate(
        (np.zeros(margin, np.float32), waveform.astype(np.float32, copy=False), np.zeros(last, np.float32))
    )
    output = np.zeros((frames + 1) * hop, np.float32)
    step = max(sample_rate // COARSE_HERTZ, 1)
    _overlap_similar_frames(padded, _scales(padded, 2 * hop), centres + reach, reach, step, _hann(hop), output)
    return output[hop : hop + samples]


def _hann(hop: int) -> FloatArray:
    """A window whose copies, one every `hop` samples, add up to 1."""
    window: FloatArray = (0.5 - 0.5 * np.cos(np.pi / hop * np.arange(2 * hop))).astype(np.float32)
    return window


def _scales(waveform: FloatArray, length: int) -> FloatArray:
    """One divided by the norm of each stretch of a length."""
    energies = np.cumsum(np.concatenate((np.zeros(1), np.square(waveform, dtype=np.float64))))
    norms = np.sqrt(np.maximum(energies[length:] - energies[:-length], LEAST_ENERGY))
    scales: FloatArray = (1.0 / norms).astype(np.float32)
    return scales


@compiled
def _overlap_similar_frames(
    padded: FloatArray,
    scales: FloatArray,
    starts: NDArray[np.int64],
    reach: int,
    step: int,
    window: FloatArray,
    output: FloatArray,
) -> None:
    """Add up frames: where each is most similar to what followed the one before is sought first in steps."""
    length, hop = len(window), len(window) // 2
    place = starts[0]
    _add(output[:length], window, padded[place : place + length])
    for frame in range(1, len(starts)):
        following = padded[place + hop : place + hop + length]
        low, high = starts[frame] - reach, starts[frame] + reach
        place = _most_similar(padded, scales, following, starts[frame], low, high, step)
        low, high = max(place - step + 1, low), min(place + step - 1, high)
        place = _most_similar(padded, scales, following, place, low, high, 1)
        _add(output[frame * hop : frame * hop + length], window, padded[place : place + length])


@kernel
def _most_similar(
    padded: FloatArray, scales: FloatArray, wanted: FloatArray, first: int, low: int, high: int, step: int
) -> int:
    """Which place from low to high correlates best with what is wanted; the first one if none is better."""
    length, place = len(wanted), first
    best = _dot(wanted, padded[first : first + length]) * scales[first]
    for candidate in range(low, high + 1, step):
        similarity = _dot(wanted, padded[candidate : candidate + length]) * scales[candidate]
        if similarity > best:
            best, place = similarity, candidate
    return place


@arithmetic
def _dot(left: FloatArray, right: FloatArray) -> np.float32:
    total = np.float32(0)
    for index in range(len(left)):
        total += left[index] * right[index]
    return total


@arithmetic
def _add(target: FloatArray, window: FloatArray, frame: FloatArray) -> None:
    for index in range(len(target)):
        target[index] += window[index] * frame[index]
