"""The recipe: one flat YAML file that says everything about a run, validated as a whole before anything runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

NAME = "[A-Za-z0-9][A-Za-z0-9_.-]*"
"""What a recipe may be called, if `can_be_a_file` too: runs are folders of this name."""
PARTS = ("frontend", "encoder", "head")
"""Of an acoustic model."""
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\..*)?", re.IGNORECASE)
"""What no file of Windows may be called, with any suffix."""


def can_be_a_file(name: str) -> bool:
    """Whether files and folders may have this name, on Windows too."""
    fine = name.isprintable() and not set(name) & set('\\/:*?"<>|') and not name.endswith((".", " "))
    return bool(name) and fine and not _DEVICES.fullmatch(name)


def _name(name: str) -> str:
    if not can_be_a_file(name):
        raise ValueError(f"{name!r} can't be the name of a folder of Windows")
    return name


class FromCommandLine(str):
    """A string from the command line: as a path, it is relative to the working folder."""


def _absolute(value: Any, info: ValidationInfo) -> Any:
    """Make a recipe's path absolute: it is relative to the recipe's folder, which is the context."""
    if info.context is None or not isinstance(value, str | Path):
        return value
    folder = Path.cwd() if isinstance(value, FromCommandLine) else info.context
    try:
        return folder / Path(value).expanduser()
    except RuntimeError:  # ~name, where nobody has this name
        raise ValueError("no home folder is known by this name") from None


RecipePath = Annotated[Path, BeforeValidator(_absolute)]
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Decibels = Annotated[float, Field(ge=-60, le=60)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values do not change once read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _no_switch(cls, value: Any) -> Any:
        """Refuse true where it would be taken for 1."""
        for key, part in value.items() if isinstance(value, dict) else ():
            if isinstance(part, bool) and key in cls.model_fields and _is_number(cls.model_fields[key].annotation):
                raise ValueError(f"{key} should be a number; found {str(part).lower()}")
        return value


def _is_number(annotation: Any) -> bool:
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return any(map(_is_number, get_args(annotation)))
    return annotation in (int, float)


class Range(Section):
    """A uniform range, both ends included."""

    low: float
    high: float

    @model_validator(mode="before")
    @classmethod
    def _from_pair(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and len(value) == 2:
            return {"low": value[0], "high": value[1]}
        if not isinstance(value, dict | Range):
            raise ValueError("should be a range: [low, high]")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low > self.high:
            raise ValueError(f"the low end {self.low:g} is above the high end {self.high:g}")
        return self

    @property
    def pair(self) -> tuple[float, float]:
        """The two ends, low first."""
        return self.low, self.high


@dataclass(frozen=True)
class Within:
    """Sees that the ends of a range are between two bounds."""

    least: float
    most: float

    def __call__(self, value: Range) -> Range:
        """The range, if it is.

        Raises:
            ValueError: it is not.
        """
        if not self.least <= value.low <= value.high <= self.most:
            raise ValueError(f"[{value.low:g}, {value.high:g}] is not within {self.least:g} and {self.most:g}")
        return value


def _within(least: float, most: float) -> AfterValidator:
    return AfterValidator(Within(least, most))


# ---------------------------------------------------------------------------------------------- prepare


def _test_set(name: str) -> str:
    """The name of a test set, by which its report is called."""
    if name in ("train", "dev") or not can_be_a_file(name):
        raise ValueError(
            f"{name!r} can't be the name of a test set: not train or dev, and what a file of Windows may be called "
            '(without \\ / : * ? " < > |, no dot or space at its end, not con, prn, aux, nul, com1 or the like)'
        )
    return name


class ManifestsCorpus(Section):
    """Your own recordings, listed in JSONL manifests."""

    corpus: Literal["manifests"]
    train: RecipePath
    """Manifest of the training set: JSON lines with audio_filepath, duration and text."""
    dev: RecipePath
    """Manifest of the dev set, on which epochs are compared. None of its recordings may be in the training set."""
    tests: dict[Annotated[str, AfterValidator(_test_set)], RecipePath] = Field(min_length=1)
    """Manifests of the test sets, by the names that their reports shall have: {test: test.jsonl}."""
    extra: tuple[RecipePath, ...] = ()
    """Further manifests that are added to the training set."""


class CommandsCorpus(Section):
    """Spoken commands of a grammar, synthesised with eSpeak NG in many voices (needs the extra `synth`)."""

    corpus: Literal["commands"]
    grammar: RecipePath = Path("grammar.txt")
    """Grammar file of what is said; relative to the recipe's folder."""
    train_utterances: Count = 3000
    """Sentences in the training set."""
    dev_utterances: Count = 200
    """Sentences in the dev set."""
    test_utterances: Count = 500
    """Sentences in the test set."""
    seed: Seed = 1
    """Seed of the corpus alone: other seeds of the training see the same corpus."""


class FsddCorpus(Section):
    """The Free Spoken Digit Dataset: six speakers, ten digits, fifty recordings of each."""

    corpus: Literal["fsdd"]
    source: RecipePath | None = None
    """Folder that holds `recordings/`; without it the official archive is downloaded."""
    held_out_speaker: str | None = None
    """Leave-one-speaker-out: this speaker is the test, the others are the training."""
    recordings_per_digit: Count | None = None
    """Train on so many recordings of each digit, drawn from those of all speakers together; null takes them all."""
    test_strings: Count = 500
    """Strings of digits in the test set."""
    seed: Seed = 1
    """Seed of the strings, and of the recordings that are drawn."""


class Speechocean762Corpus(Section):
    """English read by Mandarin speakers, half of them children."""

    corpus: Literal["speechocean762"]
    source: RecipePath | None = None
    """Folder that holds `train/`, `test/` and `WAVE/`, or the archive; without it that is downloaded."""
    dev_speakers: RecipePath = Path("dev_speakers.txt")
    """File that lists the training speakers who are held out as the dev set; relative to the recipe's folder."""
    extra: tuple[RecipePath, ...] = ()
    """Manifests, and folders in LibriSpeech's or LJ Speech's layout, that are added to the training set."""


class YesnoCorpus(Section):
    """One man says yes and no in Hebrew: 60 recordings of eight words."""

    corpus: Literal["yesno"]
    source: RecipePath | None = None
    """Folder that holds the recordings, or the archive; without it that is downloaded."""


class An4Corpus(Section):
    """People spell and count (AN4, 1991)."""

    corpus: Literal["an4"]
    source: RecipePath | None = None
    """Folder that holds `etc/` and `wav/`, or the archive; without it that is downloaded."""
    seed: Seed = 1
    """Seed of the choice of the speakers that are the dev set."""


LibrispeechSet = Literal[
    "train-clean-5",
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean-2",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
]


class LibrispeechCorpus(Section):
    """English audiobooks, and their miniature (train-clean-5, dev-clean-2)."""

    corpus: Literal["librispeech"]
    source: RecipePath | None = None
    """Folder that holds the sets or their archives; without it those are downloaded."""
    train: tuple[LibrispeechSet, ...] = Field(("train-clean-100",), min_length=1)
    """Sets to learn from."""
    dev: LibrispeechSet = "dev-clean"
    """The dev set."""
    tests: tuple[LibrispeechSet, ...] = Field(("test-clean", "test-other"), min_length=1)
    """Test sets, each with a report of its own."""


class SpeechCommandsCorpus(Section):
    """Speech Commands v2: 35 words, one in each recording."""

    corpus: Literal["speech-commands"]
    source: RecipePath | None = None
    """Folder that holds a folder for each word, or the archive; without it that is downloaded."""


class CommonVoiceCorpus(Section):
    """Mozilla Common Voice in any language, from an archive that the user has downloaded."""

    corpus: Literal["common-voice"]
    source: RecipePath | None = None
    """The archive, or a folder that holds what it holds; it has to be named."""
    language: str | None = None
    """Code of the language, where the source has several."""
    train: Literal["train", "validated"] = "train"
    """train: each sentence once; validated: all that is validated, of the speakers who are in neither the dev nor
    the test set."""


Corpus = (
    ManifestsCorpus
    | CommandsCorpus
    | FsddCorpus
    | Speechocean762Corpus
    | YesnoCorpus
    | An4Corpus
    | LibrispeechCorpus
    | SpeechCommandsCorpus
    | CommonVoiceCorpus
)
Prepare = Annotated[Corpus, Field(discriminator="corpus")]
CORPORA: dict[int | str, type[Section]] = {
    get_args(section.model_fields["corpus"].annotation)[0]: section for section in get_args(Corpus)
}
"""The sections, by the name of their corpus."""

# ------------------------------------------------------------------------------------ text and tokens


def _pairs(value: Any) -> Any:
    """The pairs of a mapping, whose order counts."""
    return tuple(value.items()) if isinstance(value, dict) else value


Replacements = Annotated[tuple[tuple[Annotated[str, Field(min_length=1)], str], ...], BeforeValidator(_pairs)]


class Text(Section):
    """How transcripts are normalised before training and scoring (always Unicode NFC, single spaces)."""

    case: Literal["lower", "upper", "keep"] = "lower"
    """Letters of transcripts: made lower-case, made upper-case, or kept as they are."""
    punctuation: Literal["remove", "keep"] = "remove"
    """Whether punctuation is removed, or kept and learnt."""
    keep_characters: str = "'"
    """Punctuation that stays when the rest is removed."""
    replacements: Replacements = ()
    """What is put in place of what is written, such as {"&": and, "Dr.": Doctor}, one after another, before letter
    case and punctuation change: a single character wherever it stands, anything longer as whole words."""
    patterns: Replacements = ()
    """Regular expressions and what is put in place of what they match, after the replacements, such as {'(\\d+)km':
    '\\1 kilometres'}."""

    @field_validator("patterns")
    @classmethod
    def _regular_expressions(cls, patterns: Replacements) -> Replacements:
        for pattern, instead in patterns:
            try:
                re.sub(pattern, instead, "")
            except (re.error, IndexError) as error:  # IndexError: \g<name> without such a group
                raise ValueError(f"{pattern!r} to {instead!r} is no regular expression: {error}") from None
        return patterns


class Tokens(Section):
    """The output units of the model."""

    kind: Literal["characters", "words", "bpe", "unigram"] = "characters"
    """What the model writes: characters; whole words, where there are few; or sentencepiece units that are learnt
    from the transcripts (bpe, unigram)."""
    size: Count | None = None
    """Number of sentencepiece units (bpe and unigram only)."""
    keep: bool = False
    """With training.init_from: keep all tokens of that model, and add those that only the new transcripts have."""

    @model_validator(mode="after")
    def _size_where_it_means_something(self) -> Tokens:
        learnt = self.kind in ("bpe", "unigram")
        if learnt and self.size is None:
            raise ValueError(f"kind {self.kind} needs a size, such as 200")
        if not learnt and self.size is not None:
            raise ValueError(f"kind {self.kind} has no size: it is derived from the transcripts")
        return self


# ----------------------------------------------------------------------------- features and augmentation


class Features(Section):
    """How a waveform becomes feature frames."""

    kind: Literal["fbank", "mel", "mfcc", "spectrogram"] = "fbank"
    """fbank: log-mel energies as Kaldi has them; mel: those of librosa; mfcc: cepstra; spectrogram: log power of
    each frequency."""
    sample_rate: Annotated[int, Field(ge=4000, le=48000)] = 16000
    """Sampling rate in hertz; recordings at other rates are resampled."""
    frame_length_ms: Positive = 25.0
    """Length of a frame in milliseconds."""
    frame_shift_ms: Positive = 10.0
    """Milliseconds from the beginning of a frame to that of the next."""
    n_mels: Annotated[int, Field(ge=4, le=256)] = 80
    """Number of mel filters (fbank, mel and mfcc)."""
    n_mfcc: Annotated[int, Field(ge=2, le=80)] = 13
    """Number of cepstral coefficients, C0 first (mfcc only)."""
    deltas: Annotated[int, Field(ge=0, le=2)] = 0
    """Orders of time derivatives appended to the features."""
    normalization: Literal["utterance", "global", "none"] = "utterance"
    """Zero mean and unit variance per bin: over each utterance, over the training set (global), or not at all."""

    @model_validator(mode="after")
    def _can_be_computed(self) -> Features:
        if self.sample_rate * self.frame_length_ms < 2000 or self.sample_rate * self.frame_shift_ms < 1000:
            raise ValueError(
                f"frames of {self.frame_length_ms:g} ms every {self.frame_shift_ms:g} ms are too short at "
                f"{self.sample_rate} Hz: less than two samples, or less than one apart"
            )
        if self.kind == "mfcc" and self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc is {self.n_mfcc}, but there are only {self.n_mels} mel filters: n_mels")
        return self


class SpecAugment(Section):
    """Masks over bands of frequency and stretches of time: Park et al. 2019, without time warping."""

    probability: Probability = 1.0
    """Share of the utterances that are masked at all."""
    freq_masks: Annotated[int, Field(ge=0)] = 2
    """Number of frequency masks."""
    freq_width: Count = 20
    """Widest frequency mask, in bins."""
    time_masks: Annotated[int, Field(ge=0)] = 2
    """Number of time masks."""
    time_width: Count = 40
    """Widest time mask, in frames."""
    time_fraction: Probability = 0.2
    """Widest time mask, as a share of the utterance."""
    start_epoch: Count = 1
    """First epoch in which there are masks; epochs count from 1."""


class Silence(Section):
    """Quiet before and after what is said, as where a microphone is on before and after it."""

    probability: Probability = 0.5
    """Share of the samples to which this is done."""
    seconds: Annotated[Range, _within(0, 30)] = Range(low=0, high=1)
    """Length of the quiet at each of the two ends, in seconds."""
    below_db: Annotated[Range, _within(0, 200)] = Range(low=20, high=80)
    """By how many decibels it is softer than the speech."""
    alone: Probability = 0.02
    """Samples in which nothing is said at all, as a share of the others, to which they are added."""


class Speed(Section):
    """Tempo and pitch change together. A list of factors will do: [0.9, 1.0, 1.1]."""

    probability: Probability = 1.0
    """Share of the samples to which this is done."""
    factors: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = (0.9, 1.0, 1.1)
    """Factors to draw from, each as likely as the others; above 1 is faster. An empty list is off, as models of
    long ago have it."""

    @model_validator(mode="before")
    @classmethod
    def _from_factors(cls, value: Any) -> Any:
        if isinstance(value, int | float):
            raise ValueError("should be a list, such as [0.9, 1.0, 1.1], or {factors: …, probability: …}")
        return {"factors": value} if isinstance(value, list | tuple) else value


class Pitch(Section):
    """Pitch and formants rise or fall together; the tempo stays."""

    probability: Probability = 0.5
    """Share of the samples to which this is done."""
    semitones: Annotated[Range, _within(-12, 12)] = Range(low=-2, high=2)
    """Semitones by which the pitch rises."""


class Tempo(Section):
    """The tempo changes; the pitch stays."""

    probability: Probability = 0.5
    """Share of the samples to which this is done."""
    factor: Annotated[Range, _within(0.5, 2)] = Range(low=0.9, high=1.1)
    """Factor of the tempo; above 1 is faster."""


class Reverb(Section):
    """The sound of a room. Words keep their times, and the utterance its loudness."""

    probability: Probability = 0.3
    """Share of the samples to which this is done."""
    rt60_seconds: Annotated[Range, _within(0.02, 2)] = Range(low=0.1, high=0.4)
    """Reverberation time of simulated rooms: seconds in which the sound falls by 60 dB."""
    kind: Literal["decay", "image"] = "decay"
    """How rooms are simulated. decay: noise that decays, drawn anew each time; image: boxes, by the image
    method."""
    rooms: Annotated[int, Field(ge=1, le=1000)] = 200
    """Number of boxes (image only); each takes a process some 10 ms to work out, once, and eight times that at
    twice the rt60."""
    folder: RecipePath | None = None
    """Folder of recorded impulse responses, in place of simulated rooms."""


class Noise(Section):
    """Noise at a random signal-to-noise ratio."""

    probability: Probability = 0.5
    """Share of the samples to which this is done."""
    snr_db: Range = Range(low=5, high=30)
    """Signal-to-noise ratio in decibels."""
    snr_of: Literal["utterance", "speech"] = "utterance"
    """What counts as the signal: the whole utterance, as is usual, or the speech in it, without pauses (what is
    softer than the loudest by 30 dB)."""
    colour: Annotated[Range, _within(-2, 3)] = Range(low=0, high=2)
    """How the spectrum of generated noise falls, from 60 Hz on: 0 is white, 1 pink, 2 brown."""
    folder: RecipePath | None = None
    """Folder of recorded noise, in place of generated noise."""
    at_once: tuple[Annotated[int, Field(ge=1, le=20)], Annotated[int, Field(ge=1, le=20)]] = (1, 1)
    """How many recordings of the folder sound together, at least and at most: [3, 7] of a folder of speech make
    babble."""

    @field_validator("at_once")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError(f"at least {value[0]} is more than at most {value[1]}")
        return value


class Gain(Range):
    """Decibels by which it becomes louder. A pair will do: [-6, 6]."""

    low: Decibels = -6.0
    """Least gain in decibels; below 0 is softer."""
    high: Decibels = 6.0
    """Greatest gain in decibels."""
    probability: Probability = 1.0
    """Share of the samples to which this is done."""


class Telephone(Section):
    """A telephone line: a narrow band, 8 kHz, and a codec."""

    probability: Probability = 0.2
    """Share of the samples to which this is done."""
    band_hz: Annotated[Range, _within(0, 4000)] = Range(low=300, high=3400)
    """Frequencies that pass, in hertz."""
    codecs: Annotated[tuple[Literal["mu-law", "a-law", "adpcm", "gsm"], ...], Field(min_length=1)] = (
        "mu-law",
        "a-law",
        "gsm",
    )
    """Codecs to draw from, each as likely as the others."""


class Codec(Section):
    """A lossy codec, as of messengers and of compressed files."""

    probability: Probability = 0.1
    """Share of the samples to which this is done."""
    codecs: Annotated[tuple[Literal["opus", "mp3"], ...], Field(min_length=1)] = ("opus", "mp3")
    """Codecs to draw from, each as likely as the others; opus takes by far the longest of all that can be done
    here."""
    kbps: Annotated[Range, _within(6, 320)] = Range(low=8, high=32)
    """Bit rate in kilobits a second; the codec takes the nearest that it has."""


class Concatenate(Section):
    """Strings of several utterances of one speaker, with pauses, in place of single ones."""

    max_utterances: Count = 8
    """Most utterances in a string."""
    pause_seconds: Annotated[Range, _within(0, 30)] = Range(low=0.0, high=0.3)
    """Length of the pause between two of them, in seconds."""


class Augment(Section):
    """What is done to training audio, drawn anew in every epoch. Utterances are joined first (concatenate); the
    rest happens in this order. A key left out (null) is off."""

    silence: Silence | None = None
    speed: Speed | None = None
    """Speed factors to choose from, such as [0.9, 1.0, 1.1]; tempo and pitch change together."""
    pitch: Pitch | None = None
    tempo: Tempo | None = None
    reverb: Reverb | None = None
    noise: Noise | None = None
    gain_db: Gain | None = None
    """Such as [-6, 6]."""
    telephone: Telephone | None = None
    codec: Codec | None = None
    spec_augment: SpecAugment | None = None
    concatenate: Concatenate | None = None


# ------------------------------------------------------------------------------------------------ model


Initialization = Literal[
    "uniform", "xavier_uniform", "xavier_normal", "he_uniform", "he_normal", "lecun_normal", "orthogonal"
]
Activation = Literal["relu", "leaky_relu", "elu", "selu", "gelu", "mish", "softplus", "tanh", "hard_tanh"]


def _renamed(values: Any, old: str, when_true: str) -> Any:
    """A section's values with the switch of a normalisation, as early recipes have it, under its present key."""
    if not isinstance(values, dict) or old not in values:
        return values
    switch = values[old]
    if "normalization" in values or not isinstance(switch, bool):
        raise ValueError(f"{old} has become normalization: {when_true}, or none in place of false")
    rest = {key: value for key, value in values.items() if key != old}
    return rest | {"normalization": when_true if switch else "none"}


class Frontend(Section):
    """The CNN between the features and the recurrent layers."""

    kind: Literal["conv1d", "conv2d", "vgg", "resnet", "inception"] = "conv1d"
    """Kind of the blocks: 1-D or 2-D convolutions, VGG, residual, or inception blocks."""
    channels: tuple[Count, ...] = (128, 128)
    """Output channels of each block."""
    strides: tuple[Annotated[int, Field(ge=1, le=4)], ...] = (2, 2)
    """Stride in time of each block; their product is the subsampling."""
    kernel: Annotated[int, Field(ge=1, le=31)] = 5
    """Width of the convolutions in time, odd (conv1d and conv2d only; that of the others is 3)."""
    activation: Activation = "relu"
    """Activation function. selu normalises itself only with initialization lecun_normal, normalization none and
    dropout_kind alpha."""
    normalization: Literal["batch", "layer", "group", "instance", "weight", "none"] = "batch"
    """batch: over the valid frames of a batch; layer: within a frame; group: within groups of an utterance's
    channels; instance: within a channel of an utterance; weight: of the weights."""
    groups: Count = 8
    """Number of groups of group normalisation; where it does not divide the channels, the greatest common
    divisor."""
    dropout: Share = 0.0
    """Share of the values that are dropped after each block."""
    dropout_kind: Literal["ordinary", "locked", "alpha"] = "locked"
    """What is dropped. ordinary: values by themselves; locked: whole channels of an utterance; alpha: values,
    keeping selu's mean and variance."""
    initialization: Initialization = "he_normal"
    """How the convolutions' weights begin."""

    @model_validator(mode="before")
    @classmethod
    def _with_batch_norm(cls, values: Any) -> Any:
        return _renamed(values, "batch_norm", "batch")

    @model_validator(mode="after")
    def _one_stride_per_block(self) -> Frontend:
        if not self.channels:
            raise ValueError("channels is empty: name the output channels of at least one block")
        if len(self.channels) != len(self.strides):
            raise ValueError(
                f"{len(self.channels)} channels but {len(self.strides)} strides: each block has one of both"
            )
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even: an odd one keeps frames centred")
        if self.kind == "inception" and min(self.channels) < 4:
            raise ValueError(f"{min(self.channels)} channels: inception shares them among its four branches")
        return self


class Encoder(Section):
    """The recurrent layers."""

    cell: Literal["lstm", "gru"] = "lstm"
    """Kind of the recurrent cells."""
    layers: Count = 3
    """Number of recurrent layers."""
    hidden: Count = 256
    """Units of a layer, in each direction."""
    bidirectional: bool = True
    """Whether each layer goes through the utterance in both directions."""
    dropout: Share = 0.1
    """Share of the values that are dropped after each layer."""
    dropout_kind: Literal["ordinary", "locked"] = "ordinary"
    """What is dropped. ordinary: values by themselves; locked: the same units in all frames of an utterance
    (variational dropout)."""
    weight_dropout: Share = 0.0
    """Share of the weights between hidden states that are dropped, drawn for each batch (DropConnect)."""
    normalization: Literal["layer", "batch", "none"] = "layer"
    """How each layer's output is normalised. layer: within a frame; batch: over the valid frames of a batch."""
    projection: Count | None = None
    """Width of a linear layer after each recurrent layer, or null for none."""
    residual: bool = False
    """Add each layer's input to its output where the widths agree."""
    initialization: Initialization = "xavier_uniform"
    """How the weights from the input begin, each gate by itself."""
    recurrent_initialization: Initialization = "orthogonal"
    """How the weights between hidden states begin, each gate by itself."""
    forget_bias: float = 1.0
    """First bias of an LSTM's forget gates: above 0 they start open, and remember."""

    @model_validator(mode="before")
    @classmethod
    def _with_layer_norm(cls, values: Any) -> Any:
        return _renamed(values, "layer_norm", "layer")


class Model(Section):
    """The acoustic model: CNN front-end, recurrent encoder, CTC head."""

    frontend: Frontend = Frontend()
    encoder: Encoder = Encoder()


# --------------------------------------------------------------------------------------------- training


class Pretrain(Section):
    """A self-supervised start: the front-end and the first recurrent layers learn to restore corrupted recordings,
    whose transcripts are not needed. Precision, device, workers and threads are those of the training."""

    audio: RecipePath | None = None
    """Recordings to learn from beside those of the training set: a folder, or a manifest without texts."""
    layers: Count | None = None
    """How many recurrent layers take part, the first ones; null: all."""
    epochs: Count = 10
    """How often the recordings are gone through, at most."""
    batch_seconds: Positive = 60.0
    """Most audio in a batch, padding included."""
    learning_rate: Positive = 1e-3
    """Learning rate of adamw at the end of the warm-up; then it falls as a cosine."""
    patience: Count | None = None
    """Stop after this many epochs without a better dev loss, or null to never stop early."""
    mask_share: Share = 0.3
    """Share of the frames that are masked in spans, and to be guessed."""
    mask_span: Count = 12
    """Width of a span, in frames."""
    mask_band: Share = 0.2
    """Widest band of bins that is masked in a whole utterance, as a share of the bins."""
    noise: Noise | None = Noise()
    """To be removed again; null for none."""


class LanguageModel(Section):
    """An n-gram model of the training transcripts, for a beam search whose weights are tuned on the dev set."""

    order: Annotated[int, Field(ge=1, le=6)] = 3
    """Words in the longest n-grams."""
    texts: tuple[RecipePath, ...] = ()
    """Text files (.gz too), a sentence to a line. Each has a model of its own, and so have the transcripts of each
    value of the field `corpus`; all are mixed so as to foresee the transcripts of the dev set best."""
    vocabulary: Count | None = None
    """Most words that it knows, the most frequent ones, and null for all. Where there are texts: words of these,
    besides all of the transcripts."""
    prune: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """For each length, n-grams that occur so often or less are left out, such as [0, 0, 1]; where there are texts,
    those of the texts."""
    trials: Count = 60
    """How many weights are tried on the dev set."""

    @model_validator(mode="after")
    def _prunes_what_there_is(self) -> LanguageModel:
        if len(self.prune) > self.order:
            raise ValueError(f"prune has {len(self.prune)} numbers, for n-grams of {self.order} words")
        if sorted(self.prune) != list(self.prune):
            shown = ", ".join(map(str, self.prune))
            raise ValueError(f"prune is [{shown}]: no number may be smaller than the one before it")
        return self


class Training(Section):
    """The training loop."""

    epochs: Count = 30
    """How often the training set is gone through, at most."""
    init_from: RecipePath | None = None
    """A model, or the run that made it, with whose weights to begin: of the layers and tokens that both have."""
    rounds: Count = 1
    """How often one epoch goes through the training set: more where it is tiny, and measuring dev takes longer."""
    batch_seconds: Positive = 60.0
    """Most audio in a batch, padding included."""
    optimizer: Literal[
        "sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamw", "nadam"
    ] = "adamw"
    """Rule by which gradients become steps."""
    momentum: Share = 0.9
    """What momentum and nesterov keep of the step before."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    """What adam, adamw and nadam keep of the mean of gradients, and of that of their squares."""
    rho: Share = 0.95
    """What adadelta and rmsprop keep of the mean of squared gradients."""
    backstitch: NotNegative = 0.0
    """With sgd: how far to step back on a batch before the step forward, as a share of the learning rate (0.3); 0
    is off."""
    backstitch_interval: Count = 1
    """Backstitch is done on the first of every so many batches."""
    learning_rate: Positive = 1e-3
    """Highest learning rate: at the end of the warm-up, or of one_cycle's rise."""
    rates: dict[str, NotNegative] = {}
    """Factors of the learning rate of parts of the model, such as {frontend: 0.1}; 0 freezes a part."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each layer learns at this share of the rate of the one above it: 0.8 spares the lower ones."""
    unfreeze: dict[str, Count] = {}
    """The first epoch in which a part of the model learns, such as {encoder: 3, frontend: 5}."""
    warmup: Probability = 0.05
    """Share of all steps in which the learning rate rises from zero."""
    schedule: Literal[
        "constant", "linear", "cosine", "inverse_time", "step", "exponential", "one_cycle", "plateau"
    ] = "cosine"
    """How the learning rate falls after the warm-up."""
    final_factor: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Share of the learning rate that is left at the end; with plateau, the least that may be left."""
    step_at: tuple[Probability, ...] = (0.5, 0.75)
    """With step: shares of the training after which the learning rate falls."""
    step_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """With step and plateau: what the learning rate is multiplied by when it falls."""
    plateau_patience: Annotated[int, Field(ge=0)] = 2
    """With plateau: the learning rate falls when more epochs than this have brought nothing better
    on dev: see patience."""
    batch_growth: Annotated[float, Field(ge=1)] = 1.0
    """Batches grow by what the learning rate should fall by, up to so many times, before it falls; 1 is off."""
    weight_decay: NotNegative = 0.01
    """Weight decay of matrices (biases and normalisation have none): decoupled in adamw, an L2 penalty in the other
    optimisers."""
    l1: NotNegative = 0.0
    """L1 penalty on matrices: weights that matter little become about zero."""
    max_norm: Positive | None = None
    """Greatest L2 norm of each unit's incoming weights, to which they are scaled down after a step; null is off."""
    clip_norm: Positive | None = 5.0
    """Greatest L2 norm of the gradient, to which it is scaled down; null is off."""
    clip_value: Positive | None = None
    """Greatest size of each number in the gradient, to which it is cut; null is off."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """What a moving average of the weights keeps in each step (0.999), or null; it is measured and kept in their
    place, while training goes on with the weights themselves."""
    patience: Count | None = None
    """Stop after this many epochs without a lower dev CER, or a lower dev loss at the same CER; null: never. Above
    a CER of 75 %, which is as good as noise, the loss alone counts."""
    average: Count = 5
    """How many of the best checkpoints are averaged to make the model."""
    sorted_first_epoch: bool = True
    """Shortest utterances first in the first epoch (SortaGrad)."""
    consistency: NotNegative = 0.0
    """Weight (0.2) of what two views of an utterance, under other masks of SpecAugment, disagree in; 0 is off."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Numbers with which the network computes. auto: bf16 where the GPU, or the CPU, multiplies matrices in it,
    else fp32."""
    device: str = "auto"
    """Where the network is: auto, cpu, cuda or cuda:N."""
    workers: Annotated[int, Field(ge=0, le=64)] = 1
    """Processes that read and augment audio; 0 does it in the training process."""
    threads: Count | None = None
    """CPU threads of the network, or null for the cores that the workers leave."""
    checkpoint_minutes: Positive = 10.0
    """Minutes between checkpoints inside long epochs; there is one at each epoch's end, too."""

    @model_validator(mode="after")
    def _suits_the_optimizer(self) -> Training:
        if self.backstitch and self.optimizer != "sgd":
            raise ValueError(f"backstitch is of optimizer sgd, not of {self.optimizer}")
        if self.optimizer == "nesterov" and not self.momentum:
            raise ValueError("optimizer nesterov needs a momentum above 0")
        return self

    @field_validator("rates", "unfreeze")
    @classmethod
    def _parts_of_a_model(cls, parts: dict[str, Any]) -> dict[str, Any]:
        """What stands below them, such as encoder.layers.0, is known only once there is a model."""
        unknown = [name for name in parts if name.partition(".")[0] not in PARTS]
        if unknown:
            raise ValueError(f"a model has no part {unknown[0]!r}; allowed: {', '.join(PARTS)}, or parts of these")
        return parts

    @model_validator(mode="after")
    def _unfreezes_in_time(self) -> Training:
        for part, epoch in self.unfreeze.items():
            if epoch > self.epochs:
                raise ValueError(f"unfreeze: {part} in epoch {epoch}, but there are {self.epochs} epochs")
        return self


class Evaluate(Section):
    """The evaluation at the end."""

    bootstrap: Count = 1000
    """Resamples behind the confidence interval."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence of the interval around the word error rate."""
    fields: tuple[str, ...] = ("speaker",)
    """Fields of the manifests by whose values errors are reported apart."""


class Recipe(Section):
    """A whole recipe."""

    name: Annotated[str, Field(pattern=f"^{NAME}$"), AfterValidator(_name)]
    """Name of the run and of its model."""
    seed: Seed = 1
    """Seed of all that is random in a training: first weights, dropout, order of batches, augmentation."""
    prepare: Prepare
    text: Text = Text()
    tokens: Tokens = Tokens()
    features: Features = Features()
    augment: Augment = Augment()
    model: Model = Model()
    pretrain: Pretrain | None = None
    language_model: LanguageModel | None = None
    training: Training = Training()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _can_be_pretrained(self) -> Recipe:
        if self.pretrain is None:
            return self
        if self.training.init_from is not None:
            raise ValueError("pretrain and training.init_from both say what to begin with: choose one")
        layers, there = self.pretrain.layers, self.model.encoder.layers
        if layers is not None and layers > there:
            raise ValueError(f"pretrain.layers is {layers}, but model.encoder.layers only {there}")
        if self.features.normalization == "none":
            raise ValueError(
                "pretrain needs features.normalization utterance or global: what is masked becomes 0, the mean"
            )
        return self

    @model_validator(mode="after")
    def _can_be_masked(self) -> Recipe:
        if self.augment.spec_augment is not None and self.features.normalization == "none":
            raise ValueError(
                "augment.spec_augment needs features.normalization utterance or global: what is masked becomes 0, "
                "which is the mean then, and louder than speech without"
            )
        return self

    @model_validator(mode="after")
    def _has_two_views(self) -> Recipe:
        if self.training.consistency and self.augment.spec_augment is None:
            raise ValueError("training.consistency compares two views of SpecAugment: set augment.spec_augment too")
        return self

    @model_validator(mode="after")
    def _keeps_the_tokens_of_a_model(self) -> Recipe:
        if self.tokens.keep and self.training.init_from is None:
            raise ValueError("tokens.keep is of a training that begins from a model: set training.init_from too")
        return self
