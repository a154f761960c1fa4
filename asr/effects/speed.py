"""Tempo and pitch together."""

from __future__ import annotations

import soxr

from asr.effects.level import FloatArray


def change_speed(waveform: FloatArray, sample_rate: int, factor: float) -> FloatArray:
    """Play faster (factor > 1) or slower; tempo and pitch change together (Ko et al. 2015).

    Returns:
        (samples / factor, rounded,) float32.
    """
    changed: FloatArray = soxr.resample(waveform, sample_rate * factor, sample_rate, quality="MQ")
    return changed
