"""From a recipe's sections to objects: the only place where a config becomes code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from asr import audio, config
from asr.augment import SpanMasking, SpecAugment, WaveformAugmenter
from asr.data.batching import Concatenation
from asr.decoder_settings import DecoderSettings
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.rescoring import RescoringDecoder, Weights
from asr.decoding.types import BatchDecoder
from asr.errors import ConfigError, DataError
from asr.features import (
    Deltas,
    FeatureExtractor,
    GlobalNorm,
    LogMel,
    LogSpectrogram,
    Mfcc,
    UtteranceNorm,
)
from asr.model.acoustic import AcousticModel
from asr.model.ctc import CtcHead
from asr.model.denoising import DenoisingModel
from asr.model.encoder import Encoder, LayerSettings
from asr.model.frontend import ConvSettings, Frontend
from asr.text import tokenizer
from asr.text.normalize import Normalizer
from asr.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from asr.decoding.beam import Decoder
    from asr.decoding.rescoring import Scorer
    from asr.text.ngram import NgramModel


def normalizer(section: config.Text) -> Normalizer:
    """The transcripts' normaliser."""
    return Normalizer(
        section.case,
        section.punctuation,
        section.keep_characters,
        section.replacements,
        section.patterns,
    )


def tokens(section: config.Tokens, texts: Iterable[str]) -> Tokenizer:
    """A tokenizer learnt from normalised transcripts."""
    return tokenizer.build(section.kind, texts, section.size)


def features(section: config.Features, fitted: GlobalNorm | None = None) -> FeatureExtractor:
    """Waveform to normalised features.

    Args:
        section: the recipe's.
        fitted: statistics of the training set, for global normalisation; a saved model's state brings its own.
    """
    frames = {"frame_length_ms": section.frame_length_ms, "frame_shift_ms": section.frame_shift_ms}
    base: LogMel | Mfcc | LogSpectrogram
    match section.kind:
        case "fbank":
            base = LogMel(section.sample_rate, section.n_mels, style="kaldi", **frames)
        case "mel":
            base = LogMel(section.sample_rate, section.n_mels, style="librosa", **frames)
        case "mfcc":
            base = Mfcc(section.sample_rate, section.n_mfcc, section.n_mels, **frames)
        case "spectrogram":
            base = LogSpectrogram(section.sample_rate, **frames)
    deltas = Deltas(section.deltas) if section.deltas else None
    dim = base.dim * (section.deltas + 1)
    norms: dict[str, Callable[[], nn.Module | None]] = {
        "utterance": UtteranceNorm,
        "global": lambda: fitted or GlobalNorm(torch.zeros(dim), torch.ones(dim)),
        "none": lambda: None,
    }
    return FeatureExtractor(base, deltas, norms[section.normalization]())


def augmenter(section: config.Augment, sample_rate: int) -> WaveformAugmenter:
    """The augmentation of waveforms.

    Raises:
        DataError: the folder of noise holds no audio.
    """
    noise, reverb = section.noise, section.reverb
    return WaveformAugmenter(
        sample_rate,
        speed=section.speed,
        gain_db=section.gain_db.pair if section.gain_db else None,
        noise_probability=noise.probability if noise else 0.0,
        snr_db=noise.snr_db.pair if noise else (0.0, 0.0),
        noise_files=_noise_files(noise) if noise else (),
        reverb_probability=reverb.probability if reverb else 0.0,
        rt60_seconds=reverb.rt60_seconds.pair if reverb else (0.0, 0.0),
    )


def _noise_files(section: config.Noise) -> tuple[Path, ...]:
    if section.folder is None:
        return ()
    found = sorted(path for path in section.folder.rglob("*") if path.suffix.lower() in audio.SUFFIXES)
    if not found:
        raise DataError("no recordings of noise here", where=section.folder)
    return tuple(found)


def spec_augment(section: config.Augment) -> SpecAugment | None:
    """The augmentation of features."""
    masks = section.spec_augment
    if masks is None:
        return None
    return SpecAugment(masks.freq_masks, masks.freq_width, masks.time_masks, masks.time_width, masks.time_fraction)


def masking(section: config.Pretrain) -> SpanMasking:
    """What a denoising model has to guess."""
    return SpanMasking(section.mask_share, section.mask_span, section.mask_band)


def concatenation(section: config.Augment) -> Concatenation | None:
    """The joining of utterances."""
    join = section.concatenate
    return None if join is None else Concatenation(join.max_utterances, join.pause_seconds.pair)


def acoustic(section: config.Model, input_dim: int, vocab_size: int) -> AcousticModel:
    """An acoustic model with new weights, drawn from torch's global generator."""
    frontend = _frontend(section.frontend, input_dim)
    encoder = _encoder(section.encoder, frontend.dim, section.encoder.layers)
    return AcousticModel(frontend, encoder, CtcHead(encoder.dim, vocab_size))


def denoising(section: config.Model, layers: int | None, input_dim: int) -> DenoisingModel:
    """A model to pretrain the front-end and so many (None: all) recurrent layers of an acoustic model."""
    frontend = _frontend(section.frontend, input_dim)
    encoder = _encoder(section.encoder, frontend.dim, layers or section.encoder.layers)
    return DenoisingModel(frontend, encoder, input_dim)


def _frontend(section: config.Frontend, input_dim: int) -> Frontend:
    convolutions = ConvSettings(
        activation=section.activation,
        normalization=section.normalization,
        groups=section.groups,
        dropout=section.dropout,
        dropout_kind=section.dropout_kind,
        initialization=section.initialization,
    )
    return Frontend(section.kind, input_dim, section.channels, section.strides, section.kernel, convolutions)


def _encoder(section: config.Encoder, input_dim: int, layers: int) -> Encoder:
    layer = LayerSettings(
        cell=section.cell,
        hidden=section.hidden,
        bidirectional=section.bidirectional,
        dropout=section.dropout,
        dropout_kind=section.dropout_kind,
        weight_dropout=section.weight_dropout,
        normalization=section.normalization,
        projection=section.projection,
        residual=section.residual,
        initialization=section.initialization,
        recurrent_initialization=section.recurrent_initialization,
        forget_bias=section.forget_bias,
    )
    return Encoder(input_dim, layers, layer)


def decoder(surfaces: Sequence[str], normalizer: Normalizer, settings: DecoderSettings | None) -> BatchDecoder:
    """A decoder for tokens with these surfaces: a beam search as the settings say, or greedy without any."""
    if settings is None:
        return GreedyDecoder(surfaces)
    search = beam_search(surfaces, settings, language_model(settings), lexicon(settings, normalizer))
    if not settings.rescores:
        return search
    return RescoringDecoder(
        search, scorer(settings), weights(settings), settings.nbest_rescored, settings.beam_width
    )


def beam_search(
    surfaces: Sequence[str], settings: DecoderSettings, lm: NgramModel | None, lexicon: Sequence[str] | None
) -> Decoder:
    """A beam search with the weights of the settings."""
    from asr.decoding.beam import Decoder  # which takes a second that greedy decoding need not wait

    return Decoder(surfaces, lm, lexicon, alpha=settings.alpha, beta=settings.beta, unknown=settings.unknown)


def language_model(settings: DecoderSettings) -> NgramModel | None:
    """The language model that the settings name."""
    if settings.lm is None:
        return None
    from asr.text import ngram

    return ngram.load(settings.lm)


def scorer(settings: DecoderSettings) -> Scorer:
    """The language model with which the settings rescore.

    Raises:
        DataError: its file is missing or wrong.
    """
    assert settings.rescore is not None
    from asr.text import neural, ngram

    if settings.rescore.suffix == neural.SUFFIX:
        return neural.load(settings.rescore).log_probs
    model = ngram.load(settings.rescore)
    return lambda sentences: [model.log_probs(sentence) for sentence in sentences]


def weights(settings: DecoderSettings) -> Weights:
    """What counts when hypotheses are rescored."""
    return Weights(settings.gamma, settings.delta, settings.first_pass)


def lexicon(settings: DecoderSettings, normalizer: Normalizer) -> list[str] | None:
    """The words that the settings allow, written as the model writes.

    Raises:
        DataError: the file can't be read, or holds no words.
    """
    path = settings.lexicon
    if path is None:
        return None
    try:
        words = sorted(set(normalizer(path.read_text(encoding="utf-8-sig")).split()))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"can't be read: {error}", where=path, expected="UTF-8 text, a word to a line") from None
    if not words:
        raise DataError("holds no words", where=path, expected="a word to a line")
    return words


def device(name: str) -> torch.device:
    """The device of a name: auto, cpu, cuda or cuda:N.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"{name!r} is not a device", expected="auto, cpu, cuda or cuda:N") from None
    if found.type not in ("cpu", "cuda"):
        raise ConfigError(f"{name!r} can't train with CTC", expected="auto, cpu, cuda or cuda:N")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"{name!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices",
            hint="device=cpu, or `asr doctor` to see what torch finds",
        )
    return found
