"""From a recipe's sections to objects. (What they say of the training itself becomes that in `asr.stages`.)"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from asr import augment, config
from asr.augment import Silences, SpanMasking, SpecAugment, WaveformAugmenter
from asr.data import untranscribed
from asr.data.batching import Concatenation
from asr.decoder_settings import DecoderSettings
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.rescoring import RescoringDecoder, Weights
from asr.decoding.types import BatchDecoder
from asr.errors import ConfigError, DataError, counted
from asr.features import (
    Deltas,
    FeatureExtractor,
    GlobalNorm,
    LogMel,
    LogSpectrogram,
    Mfcc,
    UtteranceNorm,
)
from asr.files import read_text
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

AUGMENTATIONS = ("speed", "pitch", "tempo", "reverb", "noise", "gain_db", "telephone", "codec")
"""What may be done to a waveform, under the recipe's names and in this order."""


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
        DataError: a folder of noise or of impulse responses holds no recordings, or some that can't be read.
    """
    parts = {name: getattr(section, name) for name in AUGMENTATIONS}
    return WaveformAugmenter(
        tuple(
            augment.Step(name, part.probability, _change(part, sample_rate))
            for name, part in parts.items()
            if part is not None
        )
    )


def _change(section: Any, rate: int) -> augment.Change:
    match section:
        case config.Speed():
            return augment.Speed(rate, section.factors or (1.0,))  # early recipes have [] where it is off
        case config.Pitch():
            return augment.Pitch(rate, section.semitones.pair)
        case config.Tempo():
            return augment.Tempo(rate, section.factor.pair)
        case config.Reverb(folder=Path() as folder):
            return augment.RecordedRooms(rate, tuple(path for path, _ in untranscribed.recordings(folder)))
        case config.Reverb(kind="image"):
            return augment.SimulatedRooms(rate, section.rt60_seconds.pair, section.rooms)
        case config.Reverb():
            return augment.DecayingNoise(rate, section.rt60_seconds.pair)
        case config.Noise(folder=Path() as folder):
            files = tuple(untranscribed.recordings(folder))
            return augment.RecordedNoise(rate, _snr(section, rate), files, section.at_once)
        case config.Noise():
            return augment.GeneratedNoise(_snr(section, rate), section.colour.pair)
        case config.Gain():
            return augment.Gain(section.pair)
        case config.Telephone():
            return augment.Telephone(rate, section.codecs, section.band_hz.pair)
        case config.Codec():
            return augment.Codec(rate, section.codecs, section.kbps.pair)
    raise AssertionError(section)


def _snr(section: config.Noise, rate: int) -> augment.Snr:
    return augment.Snr(rate, section.snr_db.pair, section.snr_of == "speech")


def spec_augment(section: config.Augment) -> SpecAugment | None:
    """The augmentation of features."""
    masks = section.spec_augment
    if masks is None:
        return None
    return SpecAugment(**masks.model_dump(exclude={"start_epoch"}))


def masking(section: config.Pretrain) -> SpanMasking:
    """What a denoising model has to guess."""
    return SpanMasking(section.mask_share, section.mask_span, section.mask_band)


def silences(section: config.Augment) -> Silences | None:
    """Silence around what is said."""
    part = section.silence
    return None if part is None else Silences(part.probability, part.seconds.pair, part.below_db.pair, part.alone)


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
        search, scorer(settings, surfaces), weights(settings), settings.nbest_rescored, settings.beam_width
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


def scorer(settings: DecoderSettings, surfaces: Sequence[str]) -> Scorer:
    """The language model with which the settings rescore what is written with tokens of these surfaces.

    Raises:
        DataError: its file is missing or wrong, or it knows no word that the tokens can write.
    """
    path = settings.rescore
    assert path is not None
    from asr.decoding.vocabulary import BOUNDARY, is_of_tokens, with_unknown
    from asr.text import language_models
    from asr.text.ngram import NgramModel

    model = language_models.load(path)
    _refuse_foreign(model.words, surfaces, path)
    if not isinstance(model, NgramModel):
        return model.log_probs
    if any(BOUNDARY in word for word in model.words) or is_of_tokens(model.words, surfaces):
        raise DataError(
            "an n-gram model of tokens, which has no probabilities for words",
            where=path,
            expected="one of words; or a neural one of tokens (`asr lm train --tokens-of MODEL`)",
        )
    known = with_unknown(model)
    return lambda sentences: [known.log_probs(sentence) for sentence in sentences]


def _refuse_foreign(words: Sequence[str], surfaces: Sequence[str], path: Path) -> None:
    """Make sure that a model, of words, letters or pieces, has one that is spelt with letters of the tokens."""
    letters = set("".join(surfaces))
    if not any(word.strip() and letters.issuperset(word.strip()) for word in words):
        shown = ", ".join(f"“{word.strip()}”" for word in words if not word.startswith("<"))[:60]
        raise DataError(
            f"the recogniser can write no word of this language model ({shown} …)",
            where=path,
            hint="build it from text in the same case and script as the training transcripts",
        )


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
    expected = "a word to a line"
    lines = read_text(path, expected).split("\n")  # each normalised alone, as a transcript is
    words = sorted({word for line in lines for word in normalizer(line).split()})
    if not words:
        raise DataError("holds no words", where=path, expected=expected)
    return words


def device(name: str) -> torch.device:
    """The device of a name: auto, cpu, cuda or cuda:N.

    On a CUDA device, single precision is that from then on: cuDNN's convolutions and recurrent layers would round
    to TF32's 11 bits otherwise.

    Raises:
        ConfigError: there is no such device here, or it can't be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.device_count() and cuda_fault(0) is None else "cpu"
    try:
        found = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"{name!r} is not a device", expected="auto, cpu, cuda or cuda:N") from None
    if found.type not in ("cpu", "cuda"):
        raise ConfigError(f"{name!r} can't train with CTC", expected="auto, cpu, cuda or cuda:N")
    if found.type == "cuda":
        fault = cuda_fault(found.index or 0)
        if fault is not None:
            raise ConfigError(
                f"{name!r} can't be used: {fault}",
                hint="device=cpu, or `asr doctor` to see what torch finds",
            )
        torch.backends.cudnn.allow_tf32 = False
        if found.index is not None:
            torch.cuda.set_device(found)  # torch asks it, and not the tensors', for what precisions it has
    return found


def cuda_fault(index: int) -> str | None:
    """Why a CUDA device can't be used, if it can't.

    It isn't there, the driver or the card is too old, or torch is built without CUDA, as PyPI's for Windows.
    """
    if torch.version.cuda is None and torch.version.hip is None:
        torch_version = torch.__version__.partition("+")[0]
        link = "https://pytorch.org/get-started"
        return f"this torch is built without CUDA (for an NVIDIA GPU, {link} has torch {torch_version} with it)"
    there = torch.cuda.device_count()  # as the driver says, which may be too old for this torch
    if index >= there:
        return f"this machine has {counted(there, 'CUDA device')}"
    try:
        major, minor = torch.cuda.get_device_capability(index)
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    architectures = [name.removeprefix("sm_") for name in torch.cuda.get_arch_list() if name.startswith("sm_")]
    oldest = min((int(name) for name in architectures if name.isdigit()), default=0)
    if 10 * major + minor < oldest:
        return f"its compute capability is {major}.{minor}, and this torch is built for {oldest / 10:.1f} and above"
    return None
