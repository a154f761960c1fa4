"""Recordings as they are and as they are corrupted, for a model that learns to restore them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asr.augment import SpanMasking, SpecAugment, WaveformAugmenter
from asr.data.batching import LENGTH_STEP, Sample
from asr.data.loading import pad_in_steps, read_waveform
from asr.features import FeatureExtractor


@dataclass(frozen=True)
class CorruptedBatch:
    """A batch of corrupted recordings.

    Attributes:
        features: (batch, time, bins) of the recordings with noise, zero where they are masked.
        clean: (batch, time, bins) of the same recordings without noise, nothing masked.
        masked: (batch, time, bins) booleans: what of `features` is masked.
        lengths: (batch,) valid frames.
        seconds: of audio, padding left out.
    """

    features: Tensor
    clean: Tensor
    masked: Tensor
    lengths: Tensor
    seconds: float

    def pin_memory(self) -> CorruptedBatch:
        """The same in memory from which a GPU copies faster."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> CorruptedBatch:
        """Its tensors on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, move: Callable[[Tensor], Tensor]) -> CorruptedBatch:
        features, clean, masked, lengths = map(move, (self.features, self.clean, self.masked, self.lengths))
        return CorruptedBatch(features, clean, masked, lengths, self.seconds)


@dataclass(frozen=True)
class CorruptingReader:
    """Reads samples twice, with and without noise; features are computed here, on the CPU.

    Args:
        sample_rate: hertz.
        extractor: waveforms to features, normalised: what is masked becomes 0, their mean.
        masking: draws what is to be guessed.
        noise: what is to be removed again; keeps the length of a waveform.
        voice: changes the recordings themselves, before there is noise, or None.
    """

    sample_rate: int
    extractor: FeatureExtractor
    masking: SpanMasking
    noise: WaveformAugmenter
    voice: WaveformAugmenter | None = None

    def read_batch(self, samples: Sequence[Sample]) -> CorruptedBatch:
        """Read a batch.

        Raises:
            AudioError: a recording can't be read.
        """
        rngs = [np.random.default_rng(sample.seed) for sample in samples]
        waveforms = [self._waveform(sample, rng) for sample, rng in zip(samples, rngs, strict=True)]
        noisy = [self.noise(waveform, rng) for waveform, rng in zip(waveforms, rngs, strict=True)]
        clean = self.extractor.each(map(torch.from_numpy, waveforms))
        corrupted = self.extractor.each(map(torch.from_numpy, noisy))
        visible = [self._visible(row, rng) for row, rng in zip(clean, rngs, strict=True)]
        step = round(LENGTH_STEP / self.extractor.frame_shift)
        return CorruptedBatch(
            features=pad_in_steps([row * shown for row, shown in zip(corrupted, visible, strict=True)], step),
            clean=pad_in_steps(clean, step),
            masked=pad_in_steps([shown == 0 for shown in visible], step),
            lengths=torch.tensor([len(row) for row in clean]),
            seconds=sum(map(len, waveforms)) / self.sample_rate,
        )

    def _visible(self, features: Tensor, rng: np.random.Generator) -> Tensor:
        """Ones (frames, bins) with zeros for what is to be guessed."""
        masks = self.masking.plan(len(features), features.shape[1], rng)
        return SpecAugment.apply(torch.ones_like(features)[None], [masks])[0]

    def _waveform(self, sample: Sample, rng: np.random.Generator) -> np.ndarray:
        waveform = read_waveform(sample, self.sample_rate, rng)
        return waveform if self.voice is None else self.voice(waveform, rng)
