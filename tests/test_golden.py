"""The whole of it on real recordings, through the command line: train, transcribe, evaluate."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def asr(*arguments: object, folder: Path) -> str:
    command = [sys.executable, "-m", "asr", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="module")
def folder(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which digits were learnt for a minute from the recordings of six people."""
    folder = tmp_path_factory.mktemp("golden")
    settings = (
        f"prepare.source={corpora / 'fsdd'}",
        "prepare.test_strings=60",
        "training.epochs=4",
        "augment.concatenate.max_utterances=3",
        "augment.noise=null",  # which is learnt from in longer trainings
        "training.batch_seconds=30",
    )
    asr("train", ROOT / "recipes" / "fsdd", *settings, folder=folder)
    return folder


def test_real_digits_are_recognised(folder: Path) -> None:
    results = json.loads((folder / "runs" / "fsdd" / "results.json").read_text(encoding="utf-8"))
    tests = {test["name"]: test for test in results["tests"]}
    assert tests["single"]["utterances"] == tests["single"]["words"] == 300
    assert tests["strings"]["utterances"] == 60
    for test in tests.values():
        assert set(test) == {"name", "utterances", "words", "wer", "cer", "ci_low", "ci_high"}
        assert test["ci_low"] <= test["wer"] <= test["ci_high"]
        assert test["wer"] < 0.15
    assert list(results["stages"]) == ["prepare", "check", "tokens", "train", "evaluate", "package"]


def test_evaluating_again_gives_the_same_figures(folder: Path) -> None:
    manifest = next((folder / "data").glob("fsdd-*")) / "strings.jsonl"
    printed = asr("evaluate", "runs/fsdd", manifest, "--by", "speaker", "--json", "again.json", folder=folder)
    results = json.loads((folder / "runs" / "fsdd" / "results.json").read_text(encoding="utf-8"))
    again = json.loads((folder / "again.json").read_text(encoding="utf-8"))
    assert again["tests"][0] == next(test for test in results["tests"] if test["name"] == "strings")
    assert "WER" in printed
    assert "theo" in printed


def test_a_long_recording_is_heard_as_its_parts_are(folder: Path, corpora: Path) -> None:
    """Digits of the test set, joined with pauses to two minutes: several windows, times across their seams."""
    import numpy as np
    import soundfile

    recordings = sorted((corpora / "fsdd" / "recordings").glob("*_theo_[0-4].wav"))
    parts, starts, digits = [], [], []
    for path in (recordings * 3)[:130]:
        starts.append(sum(map(len, parts)) / 8000)
        digits.append(int(path.name[0]))
        parts += [soundfile.read(path, dtype="float32")[0], np.zeros(4000, np.float32)]
    soundfile.write(folder / "long.wav", np.concatenate(parts), 8000)
    words = json.loads(asr("transcribe", "long.wav", "--format", "json", folder=folder))[0]["words"]
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    right = [
        any(word["text"] == names[digit] and abs(word["start"] - start) < 0.4 for word in words)
        for start, digit in zip(starts, digits, strict=True)
    ]
    assert sum(right) > 0.85 * len(right)
    assert abs(len(words) - len(digits)) < 0.15 * len(digits)
