"""Training in two processes: the same weights as in one, resumed exactly, each utterance measured once, no hang."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from shared_training import CUT, job, gradients, train
from tones import SETTINGS, write_recipe, write_set

from asr import recipe as recipes
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.doctor import SAMPLE_RATE, synthesise
from asr.recipe_file import read_recipe
from asr.reporting import Silent
from asr.training.acoustic import AcousticTask
from asr.training.loop import Outcome

EQUAL = {"atol": 1e-5, "rtol": 0}
WORKER = Path(__file__).with_name("shared_training.py")


def corpus(folder: Path) -> Path:
    """A small, uneven corpus: an utterance that fills a batch alone, and one that is too short for its text."""
    path = write_recipe(folder, train=24)
    manifest = folder / "corpus" / "train.jsonl"
    rng = np.random.default_rng(7)
    odd = {"long": "low high middle " * 10, "short": "high"}
    utterances = read_manifest(manifest)
    for name, text in odd.items():
        waveform = synthesise(text, rng)
        soundfile.write(folder / f"{name}.wav", waveform, SAMPLE_RATE)
        said = text if name == "long" else "low " * 200
        utterances.append(Utterance(folder / f"{name}.wav", len(waveform) / SAMPLE_RATE, said))
    write_manifest(manifest, utterances)
    return path


def start(folder: Path, check: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), str(folder), check]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Found(NamedTuple):
    """Of one process, and of two: what the first of these saw, and the second."""

    folder: Path
    one: dict[str, Any]
    two: dict[str, Any]
    second: dict[str, Any]
    failed: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("distributed")
    corpus(folder)
    plan = AcousticTask(job(folder, "none"))._plan(1, 4.0)
    assert len({len(batch) for batch in plan} & {1}) == 1  # in which the second process has nothing to do
    train(job(folder, "begun-by-one"), after=CUT)
    measuring = start(folder, "measure")
    whole = job(folder, "one")
    one: dict[str, Any] = {"gradients": [gradients(job(folder, "none"), batch) for batch in range(len(plan))]}
    one["outcome"] = train(whole)
    one["whole"] = whole.acoustic.state_dict()
    _, errors = measuring.communicate(timeout=300)
    assert measuring.returncode == 0, errors
    two, second = (torch.load(folder / f"measure-{rank}.pt", weights_only=False) for rank in (0, 1))
    failing = start(folder, "fail")
    out, errors = failing.communicate(timeout=300)
    return Found(folder, one, two, second, subprocess.CompletedProcess([], failing.returncode, out, errors))


def assert_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(
            found[name], tensor, **EQUAL, msg=lambda message, name=name: f"{name}: {message}"
        )


def test_gradients_are_those_of_one_process(found: Found) -> None:
    assert sum(int(batch["infinite"]) for batch in found.one["gradients"]) == 1
    for one, two, second in zip(*(part["gradients"] for part in (found.one, found.two, found.second)), strict=True):
        assert_equal(two, one)
        assert all(torch.equal(two[name], second[name]) for name in two)


def test_weights_and_statistics_are_those_of_one_process(found: Found) -> None:
    assert_equal(found.two["whole"], found.one["whole"])
    assert any("running_var" in name for name in found.one["whole"])
    assert all(torch.equal(tensor, found.second["whole"][name]) for name, tensor in found.two["whole"].items())


def test_each_utterance_is_measured_once(found: Found) -> None:
    names = [str(utterance.audio) for utterance in read_manifest(found.folder / "corpus" / "dev.jsonl")]
    parts = [[answer.id for answer in answers] for answers in found.two["dev"]]
    assert sorted(parts[0] + parts[1]) == sorted(names)
    assert abs(len(parts[0]) - len(parts[1])) <= 1
    one, two = (part["outcome"].dev for part in (found.one, found.two))
    assert found.second["outcome"].dev == two
    assert (two.wer, two.cer) == (one.wer, one.cer)
    assert two.loss == pytest.approx(one.loss, abs=1e-5)


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_log_says_what_that_of_one_process_says(found: Found) -> None:
    for one, two in zip(log(found.folder / "one"), log(found.folder / "whole"), strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], abs=1e-5)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)
        for name in ("step", "infinite", "infinite_losses", "audio_seconds", "dev_cer", "skipped_steps"):
            assert two[name] == pytest.approx(one[name]) if isinstance(one[name], float) else two[name] == one[name]


def test_a_training_goes_on_in_more_or_fewer_processes(found: Found) -> None:
    assert found.two["begun"] is None
    assert_equal(found.two["ended"], found.one["whole"])
    assert "1 processes before, 2 now: dropout draws anew from here on" in found.two["said"]
    wanted = job(found.folder, "begun-by-two")
    assert isinstance(train(wanted), Outcome)
    assert_equal(wanted.acoustic.state_dict(), found.one["whole"])


def test_a_training_with_dropout_resumes_exactly(found: Found) -> None:
    for name, tensor in found.two["random"].items():
        assert torch.equal(found.two["random-cut"][name], tensor), name
    first, second = found.two["draws"]
    assert not torch.equal(first, second)


def test_only_the_first_process_writes(found: Found) -> None:
    assert not (found.folder / "never").exists()


def test_an_error_in_one_process_ends_all_with_one_message(found: Found) -> None:
    assert found.failed.returncode == 1
    assert found.failed.stderr == "error: disc.wav: this recording is broken\n"
