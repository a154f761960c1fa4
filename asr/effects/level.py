"""Loudness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

ACTIVE_FRAME_SECONDS = 0.02
ACTIVE_RANGE_DB = 30.0  # what is softer than the loudest frame by more is pause

USUAL_POWER = 10.0**-2.6
"""Of speech: 26 dB below full scale, which ITU-T P.56 calls nominal."""


def apply_gain(waveform: FloatArray, gain_db: float) -> FloatArray:
    """Make louder or softer by `gain_db` decibels. Nothing is clipped."""
    return waveform * np.float32(10.0 ** (gain_db / 20.0))


def power(waveform: FloatArray) -> float:
    """The mean square; 0 of no samples."""
    return float(np.dot(waveform, waveform)) / max(len(waveform), 1)


def speech_power(waveform: FloatArray, sample_rate: int) -> float:
    """The mean square without pauses: of the frames of 20 ms at most 30 dB below the loudest."""
    length = round(ACTIVE_FRAME_SECONDS * sample_rate)
    frames = waveform[: len(waveform) // length * length].reshape(-1, length)
    if len(frames) == 0:
        return power(waveform)
    powers = np.einsum("ij,ij->i", frames, frames) / length
    return float(powers[powers >= powers.max() * 10.0 ** (-ACTIVE_RANGE_DB / 10.0)].mean())


def with_power(waveform: FloatArray, wanted: float) -> FloatArray:
    """Scaled to a mean square; silence stays silence."""
    present = power(waveform)
    return waveform if present == 0.0 else waveform * np.float32(np.sqrt(wanted / present))


def within_peak(waveform: FloatArray, limit: float = 1.0) -> FloatArray:
    """Scaled down as a whole where it passes ±limit, by default full scale; never clipped."""
    peak = np.abs(waveform).max(initial=0.0)
    return waveform if peak <= limit else waveform * np.float32(limit) / peak
