"""Corpora in the self-test's language of three tones, which a small model learns within seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from asr.data.manifest import Utterance, write_manifest
from asr.doctor import SAMPLE_RATE, TONES, synthesise

SETTINGS = (
    "tokens.kind=words",
    "features={sample_rate: 8000, n_mels: 16}",
    "augment={}",
    "model={frontend: {channels: [16], strides: [2]}, encoder: {cell: gru, layers: 1, hidden: 16, dropout: 0.1}}",
    "training={epochs: 8, batch_seconds: 6, learning_rate: 0.02, average: 2, workers: 0, threads: 1, device: cpu,"
    " precision: fp32}",
)
"""Of a recipe that learns the language; in fp32, since `auto` is bf16 on some machines alone."""


def write_set(folder: Path, name: str, count: int, seed: int) -> Path:
    """Write recordings of random sentences and their manifest; returns the manifest."""
    rng = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True)
    utterances = []
    for index in range(count):
        text = " ".join(rng.choice(list(TONES), size=rng.integers(1, 6)))
        waveform = synthesise(text, rng)
        path = folder / name / f"{index:03d}.wav"
        soundfile.write(path, waveform, SAMPLE_RATE)
        utterances.append(Utterance(path, len(waveform) / SAMPLE_RATE, text, {"speaker": f"s{index % 4}"}))
    write_manifest(folder / f"{name}.jsonl", utterances)
    return folder / f"{name}.jsonl"


def write_recipe(folder: Path, train: int = 120) -> Path:
    """Write a corpus and its recipe; returns the recipe."""
    for name, count, seed in (("train", train, 1), ("dev", 12, 2), ("test", 12, 3)):
        write_set(folder / "corpus", name, count, seed)
    path = folder / "recipe.yaml"
    path.write_text(
        "name: tones\n"
        "prepare: {corpus: manifests, train: corpus/train.jsonl, dev: corpus/dev.jsonl,"
        " tests: {test: corpus/test.jsonl}}\n",
        encoding="utf-8",
    )
    return path
