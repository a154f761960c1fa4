"""Recordings as they are and as they are spoilt, for a model that learns to restore them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asr.augment import Hiding, SpecAugment, WaveformAugmenter
from asr.data.batching import LENGTH_STEP, Sample
from asr.data.loading import pad_in_steps, read_waveform
from asr.features import FeatureExtractor


@dataclass(frozen=True)
class Spoilt:
    """A batch of spoilt recordings.

    Attributes:
        features: (batch, time, bins) of the recordings with noise, zero where they are hidden.
        clean: (batch, time, bins) of the same recordings without noise, nothing hidden.
        hidden: (batch, time, bins) booleans: what of `features` is hidden.
        lengths: (batch,) valid frames.
        seconds: of audio, padding left out.
    """

    features: Tensor
    clean: Tensor
    hidden: Tensor
    lengths: Tensor
    seconds: float

    def to(self, device: torch.device) -> Spoilt:
        """Its tensors on a device."""
        features, clean, hidden, lengths = (
            tensor.to(device, non_blocking=True)
            for tensor in (self.features, self.clean, self.hidden, self.lengths)
        )
        return Spoilt(features, clean, hidden, lengths, self.seconds)


@dataclass(frozen=True)
class SpoiltReader:
    """Reads samples twice, with and without noise; features are computed here, on the CPU.

    Args:
        sample_rate: hertz.
        extractor: waveforms to features, normalised: what is hidden becomes 0, their mean.
        hiding: draws what is to be guessed.
        noise: what is to be removed again; keeps the length of a waveform.
        voice: changes the recordings themselves, before there is noise, or None.
    """

    sample_rate: int
    extractor: FeatureExtractor
    hiding: Hiding
    noise: WaveformAugmenter
    voice: WaveformAugmenter | None = None

    def read_batch(self, samples: Sequence[Sample]) -> Spoilt:
        """Read a batch.

        Raises:
            AudioError: a recording can't be read.
        """
        rngs = [np.random.default_rng(sample.seed) for sample in samples]
        waveforms = [self._waveform(sample, rng) for sample, rng in zip(samples, rngs, strict=True)]
        noisy = [self.noise(waveform, rng) for waveform, rng in zip(waveforms, rngs, strict=True)]
        clean = self.extractor.each(map(torch.from_numpy, waveforms))
        spoilt = self.extractor.each(map(torch.from_numpy, noisy))
        seen = [self._seen(row, rng) for row, rng in zip(clean, rngs, strict=True)]
        step = round(LENGTH_STEP / self.extractor.frame_shift)
        return Spoilt(
            features=pad_in_steps([row * shown for row, shown in zip(spoilt, seen, strict=True)], step),
            clean=pad_in_steps(clean, step),
            hidden=pad_in_steps([shown == 0 for shown in seen], step),
            lengths=torch.tensor([len(row) for row in clean]),
            seconds=sum(map(len, waveforms)) / self.sample_rate,
        )

    def _seen(self, features: Tensor, rng: np.random.Generator) -> Tensor:
        """Ones (frames, bins) with zeros for what is to be guessed."""
        masks = self.hiding.plan(len(features), features.shape[1], rng)
        return SpecAugment.apply(torch.ones_like(features), masks)

    def _waveform(self, sample: Sample, rng: np.random.Generator) -> np.ndarray:
        waveform = read_waveform(sample, self.sample_rate, rng)
        return waveform if self.voice is None else self.voice(waveform, rng)
