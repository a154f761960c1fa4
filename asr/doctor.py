"""Does asr work here: what is installed, and a self-test from training to transcript."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

import asr
from asr import artefact, audio, build
from asr.artefact import Model
from asr.config import Recipe
from asr.errors import AudioError, ModelError, counted, how_to_install
from asr.model.ctc import ctc_loss
from asr.recognizer import Recognizer
from asr.sound_files import FloatArray

PACKAGES = ("torch", "torchaudio", "numpy", "librosa", "soundfile", "soxr", "sentencepiece", "jiwer", "safetensors")


@dataclass(frozen=True)
class Part:
    """An optional part of asr: what it is for, whether it is there, and how to get it."""

    name: str
    purpose: str
    version: str | None
    install: str


@dataclass(frozen=True)
class Check:
    """A step of the self-test: its name, how long it took, and what went wrong, if anything did."""

    name: str
    seconds: float
    fault: str | None = None


def versions() -> dict[str, str]:
    """Versions of Python, asr and the packages that it stands on."""
    found = {"python": f"{platform.python_version()} ({platform.system()} {platform.machine()})"}
    return found | {"asr": asr.__version__} | {name: _version(name) or "missing" for name in PACKAGES}


def devices() -> list[str]:
    """What torch can compute on here."""
    gpus = [f"cuda:{index}: {_gpu(index)}" for index in range(max(torch.cuda.device_count(), 1))]
    return [f"cpu: {counted(torch.get_num_threads(), 'thread')}", *gpus]


def _gpu(index: int) -> str:
    fault = build.cuda_fault(index)
    if fault is not None:
        return f"can't be used: {fault}"
    properties = torch.cuda.get_device_properties(index)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"


def optional_parts() -> list[Part]:
    """The optional parts, present or not."""
    return [
        Part(package, purpose, _version(package), how_to_install(extra))
        for extra, package, purpose in (
            ("av", "av", "FFmpeg: m4a, and the sound of videos"),
            ("synth", "espeakng-loader", "eSpeak NG: synthesises the quickstart's speech"),
            ("numbers", "num2words", "numbers in words, in the grammars of commands"),
            ("plot", "matplotlib", "pictures as PNG"),
            ("search", "optuna", "asr tune search: searches for a recipe's settings"),
        )
    ]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


# --------------------------------------------------------------------------------------------- self-test

SAMPLE_RATE = 8000
TONES = {"low": 400.0, "middle": 1000.0, "high": 2500.0}
"""The words of the self-test's language, and the frequencies in hertz that say them."""
SPOKEN = "high low low middle high"
MOST_STEPS = 200

RECIPE = Recipe.model_validate(
    {
        "name": "self-test",
        "prepare": {"corpus": "manifests", "train": "none", "dev": "none", "tests": {"none": "none"}},
        "tokens": {"kind": "words"},
        "features": {"sample_rate": SAMPLE_RATE, "n_mels": 16},
        "model": {
            "frontend": {"channels": [16, 16], "strides": [2, 2]},
            "encoder": {"cell": "gru", "layers": 1, "hidden": 16, "dropout": 0.0},
        },
    }
)


def self_test(folder: Path) -> Iterator[Check]:
    """Teach a tiny model to read three tones, save it, load it, and have it transcribe a sound file.

    Args:
        folder: an empty one, for the model and the sound file.

    Yields:
        Each step when it is done; the first that fails is the last.
    """
    recording, model = folder / "tones.wav", folder / "model"
    steps: dict[str, Callable[[], None]] = {
        "write a sound file and read it": lambda: _write_and_read(recording),
        "train a tiny model and save it": lambda: _train(model),
        "load it and transcribe the file": lambda: _transcribe(model, recording),
    }
    for name, step in steps.items():
        started = monotonic()
        try:
            step()
        except Exception as error:  # whatever is broken here is what the doctor is to report
            yield Check(name, monotonic() - started, f"{type(error).__name__}: {error}")
            return
        yield Check(name, monotonic() - started)


def synthesise(text: str, rng: np.random.Generator) -> FloatArray:
    """Say words of the language, each 0.15 s, with 0.1 s between, over a little noise: (samples,)."""
    time = np.arange(round(0.15 * SAMPLE_RATE)) / SAMPLE_RATE
    pause = np.zeros(round(0.1 * SAMPLE_RATE))
    spoken = [part for word in text.split() for part in (np.sin(2 * np.pi * TONES[word] * time), pause)]
    waveform = 0.3 * np.concatenate([pause, *spoken])
    return (waveform + 0.003 * rng.standard_normal(len(waveform))).astype(np.float32)


def _write_and_read(path: Path) -> None:
    waveform = synthesise(SPOKEN, np.random.default_rng(0))
    audio.save(path, waveform, SAMPLE_RATE)
    difference = np.abs(audio.load(path, SAMPLE_RATE) - waveform).max()
    if difference > 1 / 32768:
        raise AudioError(
            f"samples differ by up to {difference:.6f}", where=path, expected="16-bit rounding at most"
        )


def _train(folder: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads cost such small tensors more than they gain, on a busy machine many times
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = _untrained()
            steps = _fit(model, np.random.default_rng(1))
    finally:
        torch.set_num_threads(threads)
    artefact.save(
        folder,
        config=model.config,
        tokenizer=model.tokenizer,
        features=model.features,
        acoustic=model.acoustic,
        metadata={"steps": steps},
        card="The model of a self-test: it reads three tones.\n",
    )


def _untrained() -> Model:
    tokenizer = build.tokens(RECIPE.tokens, TONES)
    features = build.features(RECIPE.features)
    acoustic = build.acoustic(RECIPE.model, features.dim, len(tokenizer.surfaces))
    return Model(RECIPE, tokenizer, features, acoustic, {})


def _fit(model: Model, rng: np.random.Generator) -> int:
    """Train on ever new sentences until greedy decoding reads new ones; returns the steps that it took."""
    optimizer = torch.optim.Adam(model.acoustic.parameters(), lr=0.02)
    for step in range(1, MOST_STEPS + 1):
        texts, waveforms = _sentences(16, rng)
        features, frames = model.features(
            pad_sequence([torch.from_numpy(waveform) for waveform in waveforms], batch_first=True),
            torch.tensor([len(waveform) for waveform in waveforms]),
        )
        labels = [torch.tensor(model.tokenizer.encode(text)) for text in texts]
        log_probs, lengths = model.acoustic.train()(features, frames)
        targets, target_lengths = pad_sequence(labels, batch_first=True), torch.tensor([len(row) for row in labels])
        optimizer.zero_grad()
        torch.autograd.backward(ctc_loss(log_probs, lengths, targets, target_lengths).mean)
        optimizer.step()
        if step % 10 == 0 and _reads(model, *_sentences(16, rng)):
            return step
    raise ModelError(f"tones are not read without error after {MOST_STEPS} steps of training")


def _reads(model: Model, texts: list[str], waveforms: list[FloatArray]) -> bool:
    return [heard.text for heard in Recognizer(model).transcribe(waveforms)] == texts


def _sentences(count: int, rng: np.random.Generator) -> tuple[list[str], list[FloatArray]]:
    texts = [" ".join(rng.choice(list(TONES), size=rng.integers(1, 6))) for _ in range(count)]
    return texts, [synthesise(text, rng) for text in texts]


def _transcribe(folder: Path, recording: Path) -> None:
    heard = asr.load(folder, device="cpu").transcribe(recording).text
    if heard != SPOKEN:
        raise ModelError(f"heard {heard!r}", where=recording, expected=repr(SPOKEN))
