"""Features against Kaldi's (as torchaudio has them), librosa's, and themselves in batches."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.fft
import torch
import torchaudio.compliance.kaldi as kaldi
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchaudio.functional import compute_deltas

from asr.features import (
    EPSILON,
    MIN_STD,
    Deltas,
    FeatureExtractor,
    GlobalNorm,
    LogMel,
    LogSpectrogram,
    Mfcc,
    UtteranceNorm,
    deaf_filters,
    kaldi_filters,
)

LENGTHS = (400, 401, 1000, 16_037, 48_000)


def speechlike(samples: int, seed: int = 0) -> Tensor:
    """Noise with speech's falling spectrum and syllables' rhythm, on a small constant offset: (samples,)."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(samples)) / (1 + np.arange(samples // 2 + 1) / samples * 40)
    envelope = 0.5 + 0.45 * np.sin(np.arange(samples) / 700)
    signal = np.fft.irfft(spectrum, samples) * envelope
    return torch.from_numpy(0.3 * signal / np.abs(signal).max() + 0.01).float()


def alone(module: nn.Module, waveform: Tensor) -> Tensor:
    """Features of one utterance, unpadded: (frames, dim)."""
    features, lengths = module(waveform[None], torch.tensor([len(waveform)]))
    assert lengths.tolist() == [features.shape[1]]
    return features[0]


def assert_same(actual: Tensor, expected: Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


# --------------------------------------------------------------------------------------------------- parity


@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050])
@pytest.mark.parametrize("n_mels", [23, 40, 80])
def test_log_mel_is_kaldis(sample_rate: int, n_mels: int) -> None:
    module = LogMel(sample_rate, n_mels)
    for seed, samples in enumerate(LENGTHS):
        waveform = speechlike(samples * 2, seed)
        expected = kaldi.fbank(waveform[None], num_mel_bins=n_mels, sample_frequency=sample_rate)
        assert_same(alone(module, waveform), expected)


def test_log_mel_is_kaldis_for_silence_offsets_and_other_frames() -> None:
    module = LogMel(16000, 40, frame_length_ms=20, frame_shift_ms=12.5)
    for waveform in (torch.zeros(3000), torch.full((3000,), 0.7), 0.9 + 1e-3 * speechlike(3000)):
        expected = kaldi.fbank(waveform[None], num_mel_bins=40, frame_length=20, frame_shift=12.5)
        assert_same(alone(module, waveform), expected)
    assert module.frame_shift == 0.0125


@pytest.mark.parametrize("sample_rate", [8000, 16000])
@pytest.mark.parametrize("n_mels", [23, 40, 80])
def test_mfcc_is_kaldis(sample_rate: int, n_mels: int) -> None:
    for seed, samples in enumerate(LENGTHS):
        waveform = speechlike(samples, seed)
        expected = kaldi.mfcc(waveform[None], num_mel_bins=n_mels, num_ceps=20, sample_frequency=sample_rate)
        assert_same(alone(Mfcc(sample_rate, 20, n_mels), waveform), expected)


def test_mfcc_is_the_liftered_cosine_transform_of_log_mel() -> None:
    waveform = speechlike(16_000)
    cepstra = scipy.fft.dct(alone(LogMel(16000, 23), waveform).double().numpy(), norm="ortho")[:, :13]
    lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    assert_same(alone(Mfcc(16000), waveform), torch.from_numpy(cepstra * lifter).float(), atol=2e-4)


@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_log_spectrogram_is_kaldis(sample_rate: int) -> None:
    for seed, samples in enumerate(LENGTHS):
        waveform = 3 * speechlike(samples, seed)  # frames both above and below the energy floor
        expected = kaldi.spectrogram(waveform[None], sample_frequency=sample_rate)
        # Of a single bin that is nearly empty the logarithm shows the FFT's rounding.
        assert_same(alone(LogSpectrogram(sample_rate), waveform), expected, atol=1e-3)


@pytest.mark.parametrize("sample_rate", [8000, 16000, 11025])
@pytest.mark.parametrize("n_mels", [23, 80])
@pytest.mark.filterwarnings("ignore:Empty filters detected")
def test_librosa_style_is_librosas(sample_rate: int, n_mels: int) -> None:
    module = LogMel(sample_rate, n_mels, style="librosa")
    window, hop = int(sample_rate * 0.025), int(sample_rate * 0.01)
    for seed, samples in enumerate(LENGTHS):
        waveform = speechlike(samples, seed)
        energies = librosa.feature.melspectrogram(
            y=waveform.numpy(), sr=sample_rate, n_fft=window, hop_length=hop, center=False, n_mels=n_mels
        )
        expected = torch.from_numpy(np.log(np.maximum(energies.T, EPSILON)))
        assert_same(alone(module, waveform), expected)


def test_filters_that_hear_nothing_are_counted() -> None:
    extractor = FeatureExtractor(LogMel(16000, 128), Deltas(1), UtteranceNorm())
    waveform = speechlike(8000, 1)
    heard = LogMel(16000, 128)(waveform[None], torch.tensor([8000]))[0][0]
    assert deaf_filters(extractor) == int((heard == heard[0]).all(0).sum()) == 1
    assert deaf_filters(FeatureExtractor(Mfcc(16000, 13, 127), None, None)) == 1
    assert deaf_filters(FeatureExtractor(LogSpectrogram(8000), None, None)) == 0


@pytest.mark.parametrize("sample_rate", [8000, 16000, 48000])
def test_kaldi_filters_are_torchaudios(sample_rate: int) -> None:
    expected, _ = kaldi.get_mel_banks(40, 512, float(sample_rate), 20.0, 0.0, 100.0, -500.0, 1.0)
    filters = kaldi_filters(sample_rate, 512, 40)
    assert_same(filters[:-1].T, expected, atol=1e-6)
    assert_same(filters[-1], torch.zeros(40), atol=1e-6)  # Kaldi leaves the Nyquist bin out


def test_deltas_are_torchaudios() -> None:
    features = torch.randn(2, 30, 5, generator=torch.manual_seed(0))
    first, _ = Deltas(1)(features, torch.tensor([30, 30]))
    expected = compute_deltas(features.transpose(1, 2), win_length=5).transpose(1, 2)
    assert_same(first, torch.cat([features, expected], dim=2), atol=1e-6)


@given(frames=st.integers(1, 14), order=st.integers(1, 2))
def test_deltas_are_kaldis_definition(frames: int, order: int) -> None:
    """feature-functions.cc: filters convolved with themselves, on frames repeated beyond both ends."""
    features = np.random.default_rng(frames).standard_normal((frames, 3))
    scales = [np.ones(1)]
    for _ in range(order):
        scales.append(np.convolve(scales[-1], np.arange(-2, 3) / 10.0))
    expected = np.zeros((frames, 3 * (order + 1)))
    for time in range(frames):
        for index, scale in enumerate(scales):
            for offset in range(-(len(scale) // 2), len(scale) // 2 + 1):
                frame = features[min(max(time + offset, 0), frames - 1)]
                expected[time, 3 * index : 3 * index + 3] += scale[offset + len(scale) // 2] * frame
    padded = torch.full((1, frames + 3, 3), torch.nan)
    padded[0, :frames] = torch.from_numpy(features)
    actual, _ = Deltas(order)(padded, torch.tensor([frames]))
    assert_same(actual[0, :frames], torch.from_numpy(expected).float(), atol=1e-6)
    assert not actual[0, frames:].any()


# ---------------------------------------------------------------------------------- batches, padding, lengths

EXTRACTORS = {
    "log-mel": lambda: FeatureExtractor(LogMel(8000, 40), None, UtteranceNorm()),
    "librosa": lambda: FeatureExtractor(LogMel(8000, 23, style="librosa"), Deltas(1), None),
    "mfcc": lambda: FeatureExtractor(Mfcc(8000), Deltas(2), UtteranceNorm()),
    "spectrogram": lambda: FeatureExtractor(
        LogSpectrogram(8000), None, GlobalNorm(torch.linspace(-3, 3, 129), torch.linspace(0.5, 2, 129))
    ),
}


@pytest.mark.parametrize("name", EXTRACTORS)
def test_a_batch_gives_what_each_utterance_gives_alone(name: str) -> None:
    extractor = EXTRACTORS[name]()
    lengths = torch.tensor([0, 1, 199, *range(1000, 1064), 1700])  # the shift is 80 samples, the window 200
    garbage = torch.tensor([0.9, torch.nan, torch.inf]).repeat(len(lengths))[: len(lengths)]
    waveforms = garbage[:, None].repeat(1, 1750)
    for row, length in enumerate(lengths.tolist()):
        waveforms[row, :length] = speechlike(1750, row)[:length]
    features, frame_lengths = extractor(waveforms, lengths)
    assert features.shape == (len(lengths), 1 + (1750 - 200) // 80, extractor.dim)
    assert torch.equal(frame_lengths, extractor.num_frames(lengths))
    for row, (length, frames) in enumerate(zip(lengths.tolist(), frame_lengths.tolist(), strict=True)):
        assert frames == max(0, 1 + (length - 200) // 80)
        assert_same(features[row, :frames], alone(extractor, waveforms[row, :length]))
        assert not features[row, frames:].any()


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize("samples", [0, 1, 199])
def test_less_than_a_window_is_no_frame(name: str, samples: int) -> None:
    extractor = EXTRACTORS[name]()
    assert alone(extractor, torch.zeros(samples)).shape == (0, extractor.dim)


def test_dimensions_and_shift() -> None:
    extractor = EXTRACTORS["mfcc"]()
    assert (extractor.dim, extractor.frame_shift) == (39, 0.01)
    assert LogSpectrogram(16000).dim == 257
    with pytest.raises(ValueError, match="14 cepstral coefficients"):
        Mfcc(8000, n_mfcc=14, n_mels=13)
    with pytest.raises(ValueError, match="too short"):
        LogMel(8000, frame_shift_ms=0.1)


def test_only_statistics_are_saved() -> None:
    assert set(EXTRACTORS["spectrogram"]().state_dict()) == {"norm.mean", "norm.std"}
    assert not EXTRACTORS["mfcc"]().state_dict()


def test_autocast_does_not_blur_features() -> None:
    extractor = EXTRACTORS["mfcc"]()
    waveform = speechlike(8000)
    expected = alone(extractor, waveform)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(alone(extractor, waveform), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", EXTRACTORS)
def test_gpu_gives_what_cpu_gives(name: str) -> None:
    extractor = EXTRACTORS[name]()
    waveforms = torch.stack([speechlike(9000, seed) for seed in range(4)])
    lengths = torch.tensor([9000, 8000, 500, 100])
    expected, _ = extractor(waveforms, lengths)
    actual, _ = extractor.cuda()(waveforms.cuda(), lengths.cuda())
    assert_same(actual.cpu(), expected, atol=1e-3)


# --------------------------------------------------------------------------------------------- normalisation


@given(frames=st.integers(2, 20), padding=st.integers(0, 5), seed=st.integers(0, 2**32 - 1))
def test_utterance_norm_is_numpys(frames: int, padding: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    valid = rng.standard_normal((frames, 4)) * [0.1, 1, 5, 20] + [-15, 0, 3, 100]
    features = np.concatenate([valid, np.full((padding, 4), np.nan)])[None]
    normalised, lengths = UtteranceNorm()(torch.from_numpy(features).float(), torch.tensor([frames]))
    expected = (valid - valid.mean(axis=0)) / np.maximum(valid.std(axis=0), MIN_STD)
    assert_same(normalised[0, :frames], torch.from_numpy(expected).float(), atol=5e-3)
    assert not normalised[0, frames:].any()
    assert lengths.tolist() == [frames]


def test_utterance_norm_of_constant_single_and_no_frames() -> None:
    features = torch.full((3, 50, 2), -15.9424)
    normalised, _ = UtteranceNorm()(features, torch.tensor([50, 1, 0]))
    assert normalised.abs().max() < 0.01


def test_global_norm_fits_the_statistics_of_all_frames() -> None:
    rng = np.random.default_rng(0)
    utterances = [rng.standard_normal((frames, 3)) * [1, 4, 0] + [5, -2, 7] for frames in (1, 30, 200)]
    norm = GlobalNorm.fit(torch.from_numpy(utterance).float() for utterance in utterances)
    frames = np.concatenate(utterances)
    assert_same(norm.mean, torch.from_numpy(frames.mean(axis=0)).float(), atol=1e-5)
    assert_same(norm.std[:2], torch.from_numpy(frames.std(axis=0)[:2]).float(), atol=1e-5)
    normalised, _ = norm(torch.from_numpy(frames).float()[None], torch.tensor([len(frames)]))
    assert_same(normalised.mean(dim=(0, 1)), torch.zeros(3), atol=1e-4)
    assert_same(normalised[0, :, :2].std(dim=0, correction=0), torch.ones(2), atol=1e-4)
    with pytest.raises(ValueError, match="no frames"):
        GlobalNorm.fit([])
