"""Convolution and filtering by fast Fourier transforms."""

from __future__ import annotations

import numpy as np

from asr.effects.level import FloatArray

SMALL_FACTORS = (8, 9, 10, 12, 15, 16)


def fft_length(samples: int) -> int:
    """The next length that a power of two divides but for a small factor: large primes make it ten times slower."""
    shift = max((samples - 1).bit_length() - 4, 0)
    return next(factor << shift for factor in SMALL_FACTORS if factor << shift >= samples)


def convolve(waveform: FloatArray, response: FloatArray) -> FloatArray:
    """The full convolution: (samples + len(response) - 1,), for waveforms of any length but 0."""
    samples = len(waveform) + len(response) - 1
    size = fft_length(samples)
    product = np.fft.rfft(waveform, size) * np.fft.rfft(response, size)
    return np.fft.irfft(product, size)[:samples].astype(np.float32, copy=False)
