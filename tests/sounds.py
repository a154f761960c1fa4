"""Waveforms whose properties are known, and how loud one is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tone(hertz: float, samples: int = RATE, rate: int = RATE) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)).astype(np.float32)


def decibels(waveform: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(waveform, dtype=np.float64))))


def sound(path: Path, seconds: float = 1.0, rate: int = RATE) -> Path:
    """A recording of noise, the same one each time, whatever the file's name says of its format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    form = "WAV" if path.suffix.lower() == ".wav" else None
    soundfile.write(path, 0.1 * generator().standard_normal(round(rate * seconds)), rate, format=form)
    return path
