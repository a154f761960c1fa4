"""Waveforms to feature frames: log-mel filter banks, MFCC and log spectra, their deltas and normalisation.

Each is an `nn.Module` on padded batches that returns features with their lengths. Valid frames never depend on
padding, and frames past an utterance's end are zero; one utterance alone gives what it gives in a batch, on CPU
and GPU alike. Definitions are those of Kaldi (`compute-fbank-feats`, `compute-mfcc-feats`,
`compute-spectrogram-feats`, `add-deltas`) without dither, on waveforms of full scale ±1 where Kaldi's own reach
±32768. That shifts log energies by a constant, but the floors under energies stay where torchaudio has them: near
the noise of 16 bits. So digital silence is no further from speech than a quiet room, which is what Kaldi has dither
for; of recordings below some -40 dBFS the quiet parts are lost.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.lengths import LengthT, conv_length, valid_mask

EPSILON = torch.finfo(torch.float32).eps
"""The floor under energies before the logarithm: Kaldi's number, on torchaudio's scale."""

PREEMPHASIS = 0.97
MIN_FREQUENCY = 20.0  # hertz, the lowest edge of Kaldi's mel filters
LIFTER = 22.0
MIN_STD = 3e-3  # a constant feature is divided by this, not by zero

_FRAMES_IN_CACHE = 256

Style = Literal["kaldi", "librosa"]


class WaveformFeatures(Protocol):
    """What `LogMel`, `Mfcc` and `LogSpectrogram` have in common."""

    dim: int
    frame_shift: float

    def num_frames(self, lengths: LengthT) -> LengthT: ...

    def __call__(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]: ...


class PowerSpectrum(nn.Module):
    """Short-time power spectrum. Only whole windows count: frames = 1 + ⌊(samples − window) / shift⌋.

    Args:
        sample_rate: in hertz.
        frame_length_ms: window length; rounded down to samples, as Kaldi does.
        frame_shift_ms: from one window to the next.
        style: "kaldi": mean removed from each frame, pre-emphasis, Povey window, FFT of the next power of two.
            "librosa": periodic Hann window, FFT as long as the window.
    """

    window: Tensor

    def __init__(
        self, sample_rate: int, frame_length_ms: float = 25.0, frame_shift_ms: float = 10.0, style: Style = "kaldi"
    ) -> None:
        super().__init__()
        self.window_length = int(sample_rate * frame_length_ms * 0.001)
        self.hop_length = int(sample_rate * frame_shift_ms * 0.001)
        if self.window_length < 2 or self.hop_length < 1:
            raise ValueError(f"frames of {frame_length_ms} ms every {frame_shift_ms} ms are too short")
        self.frame_shift = self.hop_length / sample_rate  # seconds
        self.style = style
        if style == "kaldi":
            self.n_fft = 2 ** (self.window_length - 1).bit_length()
            window = torch.hann_window(self.window_length, periodic=False).pow(0.85)
        else:
            self.n_fft = self.window_length
            window = torch.hann_window(self.window_length)
        self.dim = self.n_fft // 2 + 1
        self.register_buffer("window", window, persistent=False)

    def num_frames(self, lengths: LengthT) -> LengthT:
        """Frames of a waveform of so many samples, or of a tensor of them."""
        return conv_length(lengths, self.window_length, self.hop_length, padding=0)

    def frames(self, waveforms: Tensor) -> Tensor:
        """Overlapping windows as a view: (batch, samples) → (batch, frames, window)."""
        if waveforms.shape[1] < self.window_length:
            return waveforms.new_zeros(waveforms.shape[0], 0, self.window_length)
        return waveforms.unfold(1, self.window_length, self.hop_length)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Power per FFT bin: (batch, samples) → (batch, frames, dim). Frames that reach into padding are wrong."""
        return torch.cat(list(self.pieces(waveforms)), dim=1)

    def pieces(self, waveforms: Tensor) -> Iterator[Tensor]:
        """The same, some frames at a time: as many as a CPU's cache holds with all that is made of them."""
        frames = self.frames(waveforms)
        if frames.shape[1] == 0:  # some FFTs refuse an empty batch
            yield waveforms.new_zeros(waveforms.shape[0], 0, self.dim)
            return
        pieces = -(-frames.shape[1] // _FRAMES_IN_CACHE) if waveforms.device.type == "cpu" else 1
        for piece in frames.tensor_split(pieces, dim=1):  # equal: a short one's product depends on the threads
            if self.style == "kaldi":
                piece = piece - piece.mean(dim=2, keepdim=True)
                # The Povey window is zero at its ends, so a frame's first sample, which has none before it, drops
                # out; that all others move up by one changes no power.
                piece = torch.sub(piece[:, :, 1:], piece[:, :, :-1], alpha=PREEMPHASIS)
            windowed = piece * self.window[-piece.shape[2] :]
            spectrum = torch.fft.rfft(windowed, n=self.n_fft)
            yield spectrum.real.square() + spectrum.imag.square()


class LogMel(nn.Module):
    """Log energies of a mel filter bank.

    Args:
        sample_rate: in hertz.
        n_mels: number of filters.
        frame_length_ms: window length.
        frame_shift_ms: from one window to the next.
        style: "kaldi" is `torchaudio.compliance.kaldi.fbank`; "librosa" is the natural logarithm of
            `librosa.feature.melspectrogram(center=False, n_fft=window)` (Slaney's scale and normalisation).
    """

    mel: Tensor

    def __init__(
        self,
        sample_rate: int,
        n_mels: int = 80,
        frame_length_ms: float = 25.0,
        frame_shift_ms: float = 10.0,
        style: Style = "kaldi",
    ) -> None:
        super().__init__()
        self.spectrum = PowerSpectrum(sample_rate, frame_length_ms, frame_shift_ms, style)
        self.dim = n_mels
        self.frame_shift = self.spectrum.frame_shift
        filters = kaldi_filters if style == "kaldi" else slaney_filters
        self.register_buffer("mel", filters(sample_rate, self.spectrum.n_fft, n_mels), persistent=False)

    def num_frames(self, lengths: LengthT) -> LengthT:
        """Frames of a waveform of so many samples, or of a tensor of them."""
        return self.spectrum.num_frames(lengths)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, samples), (batch,) → (batch, frames, n_mels), (batch,)."""
        energies = torch.cat([power @ self.mel for power in self.spectrum.pieces(waveforms)], dim=1)
        return _zero_padding(energies.clamp(min=EPSILON).log(), self.num_frames(lengths))


class Mfcc(nn.Module):
    """Mel-frequency cepstral coefficients with Kaldi's lifter and without its energy coefficient.

    Agrees with `torchaudio.compliance.kaldi.mfcc`.

    Args:
        sample_rate: in hertz.
        n_mfcc: number of coefficients, C0 first.
        n_mels: number of mel filters behind them.
        frame_length_ms: window length.
        frame_shift_ms: from one window to the next.
    """

    dct: Tensor

    def __init__(
        self,
        sample_rate: int,
        n_mfcc: int = 13,
        n_mels: int = 23,
        frame_length_ms: float = 25.0,
        frame_shift_ms: float = 10.0,
    ) -> None:
        super().__init__()
        if n_mfcc > n_mels:
            raise ValueError(f"{n_mfcc} cepstral coefficients need at least as many mel filters, not {n_mels}")
        self.log_mel = LogMel(sample_rate, n_mels, frame_length_ms, frame_shift_ms)
        self.dim = n_mfcc
        self.frame_shift = self.log_mel.frame_shift
        self.register_buffer("dct", _liftered_dct(n_mels, n_mfcc), persistent=False)

    def num_frames(self, lengths: LengthT) -> LengthT:
        """Frames of a waveform of so many samples, or of a tensor of them."""
        return self.log_mel.num_frames(lengths)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, samples), (batch,) → (batch, frames, n_mfcc), (batch,)."""
        log_mel, frame_lengths = self.log_mel(waveforms, lengths)
        return log_mel @ self.dct, frame_lengths


class LogSpectrogram(nn.Module):
    """Log power spectrum; in place of the lowest bin, the frame's log energy, floored at 0, as torchaudio has it.

    Agrees with `torchaudio.compliance.kaldi.spectrogram`.

    Args:
        sample_rate: in hertz.
        frame_length_ms: window length.
        frame_shift_ms: from one window to the next.
    """

    def __init__(self, sample_rate: int, frame_length_ms: float = 25.0, frame_shift_ms: float = 10.0) -> None:
        super().__init__()
        self.spectrum = PowerSpectrum(sample_rate, frame_length_ms, frame_shift_ms)
        self.dim = self.spectrum.dim
        self.frame_shift = self.spectrum.frame_shift

    def num_frames(self, lengths: LengthT) -> LengthT:
        """Frames of a waveform of so many samples, or of a tensor of them."""
        return self.spectrum.num_frames(lengths)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, samples), (batch,) → (batch, frames, FFT bins), (batch,)."""
        power = self.spectrum(waveforms)
        frames = self.spectrum.frames(waveforms)
        energy = (frames - frames.mean(dim=2, keepdim=True)).square().sum(dim=2)
        features = torch.cat([energy.clamp(min=1.0)[:, :, None], power[:, :, 1:].clamp(min=EPSILON)], dim=2).log()
        return _zero_padding(features, self.num_frames(lengths))


class Deltas(nn.Module):
    """Append time derivatives: regression over ±2 frames, higher orders by repetition (Kaldi's `add-deltas`).

    Beyond an utterance's ends its first and last frames repeat. The first order agrees with
    `torchaudio.functional.compute_deltas(win_length=5)`.

    Args:
        order: 1 appends deltas, 2 deltas and delta-deltas.
    """

    filters: Tensor

    def __init__(self, order: int) -> None:
        super().__init__()
        self.order = order
        self.reach = 2 * order  # frames to either side
        scales = [torch.tensor([1.0])]
        for _ in range(order):
            scales.append(_convolve(scales[-1], torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]) / 10))
        centred = [F.pad(scale, (self.reach - len(scale) // 2,) * 2) for scale in scales]
        self.register_buffer("filters", torch.stack(centred, dim=1), persistent=False)  # (window, order + 1)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, frames, bins), (batch,) → (batch, frames, bins × (order + 1)), (batch,)."""
        batch, frames, bins = features.shape
        if frames == 0:
            return features.new_zeros(batch, 0, bins * (self.order + 1)), lengths
        time = torch.arange(-self.reach, frames + self.reach, device=features.device)
        index = time.clamp(min=0).minimum((lengths - 1).clamp(min=0)[:, None])
        extended = features.gather(1, index[:, :, None].expand(-1, -1, bins))
        windows = extended.unfold(1, len(self.filters), 1)  # (batch, frames, bins, window)
        orders = (windows @ self.filters).transpose(2, 3).flatten(2)
        return _zero_padding(orders, lengths)


class UtteranceNorm(nn.Module):
    """Zero mean and unit variance per bin over each utterance's own frames (cepstral mean and variance)."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, frames, bins), (batch,) → the same shapes."""
        features, lengths = _zero_padding(features, lengths)
        count = lengths.clamp(min=1)[:, None, None]
        centred, _ = _zero_padding(features - features.sum(dim=1, keepdim=True) / count, lengths)
        variance = centred.square().sum(dim=1, keepdim=True) / count
        return centred / variance.sqrt().clamp(min=MIN_STD), lengths


class GlobalNorm(nn.Module):
    """Shift and scale each bin by the training set's statistics, which are saved with the model.

    Args:
        mean: (bins,) means.
        std: (bins,) standard deviations.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float().clamp(min=MIN_STD))

    @classmethod
    def fit(cls, utterances: Iterable[Tensor]) -> GlobalNorm:
        """Take the statistics of all frames of utterances, (frames, bins) each, read once."""
        count, total, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for features in utterances:
            wide = features.double()
            count, total, squares = count + len(wide), total + wide.sum(0), squares + wide.square().sum(0)
        if count == 0:
            raise ValueError("there are no frames to take statistics of")
        mean = total / count
        return cls(mean, (squares / count - mean.square()).clamp(min=0).sqrt())

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, frames, bins), (batch,) → the same shapes."""
        return _zero_padding((features - self.mean) / self.std, lengths)


class FeatureExtractor(nn.Module):
    """Features, then deltas, then normalisation: all that stands between a waveform and the acoustic model.

    Args:
        base: `LogMel`, `Mfcc` or `LogSpectrogram`.
        deltas: to append, or None.
        norm: `UtteranceNorm`, `GlobalNorm` or None.
    """

    def __init__(self, base: WaveformFeatures, deltas: Deltas | None, norm: nn.Module | None) -> None:
        super().__init__()
        self.base, self.deltas, self.norm = base, deltas, norm
        self.dim = base.dim * (1 + (deltas.order if deltas is not None else 0))
        self.frame_shift = base.frame_shift

    def num_frames(self, lengths: LengthT) -> LengthT:
        """Frames of a waveform of so many samples, or of a tensor of them."""
        return self.base.num_frames(lengths)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Extract features.

        Args:
            waveforms: (batch, samples) float32, full scale ±1.
            lengths: (batch,) integers, in samples; what lies past them is not looked at.

        Returns:
            (batch, frames, dim) features, zero past the end, and their (batch,) lengths in frames. A waveform
            shorter than one window has no frames.
        """
        with torch.autocast(waveforms.device.type, enabled=False):  # energies overflow fp16 and blur in bf16
            features, frame_lengths = self.base(waveforms, lengths)
            for stage in (self.deltas, self.norm):
                if stage is not None:
                    features, frame_lengths = stage(features, frame_lengths)
            return features, frame_lengths

    def each(self, waveforms: Iterable[Tensor]) -> list[Tensor]:
        """Features (frames, dim) of waveforms (samples,), one by one: on a CPU faster than a batch."""
        return [self(waveform[None], torch.tensor([len(waveform)]))[0][0] for waveform in waveforms]


def deaf_filters(extractor: FeatureExtractor) -> int:
    """How many mel filters are so narrow that no frequency of the spectrum is within: they hear nothing."""
    banks = [module.mel for module in extractor.modules() if isinstance(module, LogMel)]
    return sum(int((bank == 0).all(0).sum()) for bank in banks)


# -------------------------------------------------------------------------------------------------- matrices


def kaldi_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Kaldi's mel filters: triangles on the scale 1127 ln(1 + f / 700), from 20 Hz to half the sample rate.

    Returns:
        (n_fft / 2 + 1, n_mels) weights.
    """
    # In float32 throughout, as in Kaldi and torchaudio: narrow filters show the difference in their logarithm.
    low, high = _kaldi_mel(MIN_FREQUENCY), _kaldi_mel(sample_rate / 2)
    edges = low + torch.arange(n_mels + 2) * ((high - low) / (n_mels + 1))
    bins = 1127.0 * torch.log(1.0 + torch.arange(n_fft // 2 + 1) * (sample_rate / n_fft) / 700.0)
    return _triangles(bins, edges)


def slaney_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Slaney's mel filters (Auditory Toolbox, 1998): triangles of unit area, from 0 Hz to half the sample rate.

    Returns:
        (⌊n_fft / 2⌋ + 1, n_mels) weights.
    """
    from librosa.filters import mel  # seconds to import, and seldom needed

    with warnings.catch_warnings(action="ignore"):  # of filters that `deaf_filters` counts
        weights = mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels)
    return torch.from_numpy(weights.T).float().contiguous()


def _triangles(positions: Tensor, edges: Tensor) -> Tensor:
    """Overlapping triangles with feet and tips at consecutive edges: (positions, len(edges) − 2)."""
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (positions[:, None] - left) / (centre - left)
    falling = (right - positions[:, None]) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0.0)


def _kaldi_mel(frequency: float) -> float:
    return 1127.0 * math.log1p(frequency / 700.0)


def _liftered_dct(n_mels: int, n_mfcc: int) -> Tensor:
    """Orthonormal DCT-II times Kaldi's sinusoidal lifter: (n_mels, n_mfcc)."""
    import torchaudio.functional  # seldom needed

    dct: Tensor = torchaudio.functional.create_dct(n_mfcc, n_mels, norm="ortho")
    return dct * (1.0 + 0.5 * LIFTER * torch.sin(math.pi * torch.arange(n_mfcc) / LIFTER))


def _convolve(first: Tensor, second: Tensor) -> Tensor:
    """Full convolution of two short filters."""
    return F.conv1d(first[None, None], second.flip(0)[None, None], padding=len(second) - 1)[0, 0]


def _zero_padding(features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Zero the frames past each utterance's end, whatever they hold: (batch, frames, bins), (batch,)."""
    if features.device.type == "cpu" and bool((lengths >= features.shape[1]).all()):  # a GPU would be waited for
        return features, lengths
    return features.masked_fill(~valid_mask(lengths, features.shape[1])[:, :, None], 0.0), lengths
