"""The training loop, on a language of tones: it learns, resumes exactly, and hides nothing."""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
import torch
from logs import log, without_times
from recorder import Recorder
from safetensors.torch import load_file
from tones import SETTINGS, write_recipe, write_set
from torch import nn

from asr import audio, build, files, pipeline, stages, stop_signals
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError, ExhaustedError
from asr.files import read_json
from asr.recipe_file import read_recipe
from asr.reporting import Silent
from asr.training import loop
from asr.training.acoustic import AcousticTask
from asr.training.loop import InterruptedTrainingError
from asr.training.optimization import Optimization, parameter_groups
from asr.training.schedule import FINAL_FACTOR, learning_rate_factor
from asr.training.task import DivergedTrainingError
from asr.training.validation import DevResult

LONG_ENOUGH = "training.epochs=12"
"""To learn the language without a fault, from any seed and on any machine."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("tones"))


def run(
    path: Path, folder: Path, *settings: str, reporter: Recorder | None = None, overwrite: bool = False
) -> dict:
    recipe = read_recipe(path, [*SETTINGS, *settings])
    return pipeline.run(recipe, folder, folder.parent / "data", reporter or Recorder(), overwrite)


@pytest.fixture(scope="module")
def finished(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training with all random parts switched on that ran through."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(path, folder, *AUGMENTED)
    return folder


AUGMENTED = (
    "augment.speed=[0.95, 1.0, 1.05]",
    "augment.noise={}",
    "augment.reverb={}",
    "augment.gain_db=[-3, 3]",
    "augment.spec_augment={freq_masks: 1, freq_width: 2, time_masks: 1, time_width: 2, start_epoch: 3}",
    "augment.concatenate={max_utterances: 2}",
    "training.consistency=0.2",
    "training.epochs=5",
)


@pytest.mark.skipif(sys.platform == "win32", reason="its terminals send no signals when they are closed")
def test_a_closed_terminal_stops_a_training_unless_nohup_has_it_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert stop_signals.heeded() == [signal.SIGINT, signal.SIGTERM]
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert stop_signals.heeded() == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_comes_while_dev_is_measured_counts_whatever_follows(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a search, which ends a trial after an epoch, and begins the next one."""
    recipe = read_recipe(path, SETTINGS)
    work = pipeline.workspace(recipe, tmp_path / "run", tmp_path / "data", Recorder())
    validate = AcousticTask.validate

    def interrupted(task: AcousticTask) -> DevResult:
        signal.raise_signal(signal.SIGINT)
        return validate(task)

    monkeypatch.setattr(AcousticTask, "validate", interrupted)
    pruned = Mock(side_effect=ValueError("pruned"))
    with pytest.raises(InterruptedTrainingError, match="at epoch 2"):
        pipeline.run_stages(replace(work, on_epoch=pruned), "train")
    pruned.assert_not_called()


def test_learns_the_language_exactly(path: Path, tmp_path: Path) -> None:
    results = run(path, tmp_path / "run", LONG_ENOUGH)
    (test,) = results["tests"]
    assert test["wer"] == test["cer"] == 0
    assert test["utterances"] == 12
    losses = [entry["train_loss"] for entry in log(tmp_path / "run" / "train")]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize(
    ("workers", "cuts", "by"),
    [
        (0, (1,), signal.SIGINT),
        (0, (23, 5), signal.SIGTERM),
        (2, (17, 1, 1), getattr(signal, "SIGHUP", signal.SIGINT)),
    ],
)
def test_a_cut_off_training_resumes_exactly(
    path: Path, finished: Path, tmp_path: Path, workers: int, cuts: tuple[int, ...], by: signal.Signals
) -> None:
    for cut in cuts:
        with pytest.raises(InterruptedTrainingError, match=by.name):
            run(path, tmp_path / "run", *AUGMENTED, f"training.workers={workers}", reporter=Recorder(cut, by))
    run(path, tmp_path / "run", *AUGMENTED, f"training.workers={workers}")
    assert_same_training(tmp_path / "run", finished)


def test_the_time_of_an_epoch_is_that_of_all_its_steps_before_and_after_a_cut(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that is a second further at each look: one for each batch to come, and another to learn it."""
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    with pytest.raises(InterruptedTrainingError):
        run(path, tmp_path / "run", "training.epochs=2", reporter=Recorder(5))
    run(path, tmp_path / "run", "training.epochs=2")
    first, second = log(tmp_path / "run" / "train")
    for entry, steps in ((first, first["step"]), (second, second["step"] - first["step"])):
        assert (entry["seconds_waiting_for_data"], entry["seconds"]) == (steps, 2 * steps)
    assert first["step"] > 5


def test_a_damaged_log_is_no_hindrance(path: Path, finished: Path, tmp_path: Path) -> None:
    """The checkpoint has its content."""
    with pytest.raises(InterruptedTrainingError):
        run(path, tmp_path / "run", *AUGMENTED, reporter=Recorder(23))
    (tmp_path / "run" / "train" / "log.jsonl").write_bytes(b'{"epoch": 1, "dev_l\0ss"\n\xff\n[]\n')
    run(path, tmp_path / "run", *AUGMENTED)
    assert_same_training(tmp_path / "run", finished)


def test_the_log_tells_what_was_done_in_each_epoch(finished: Path) -> None:
    """And not what is begun to be read for the next, nor what a step at the rate 0 does."""
    entries = log(finished / "train")
    assert [entry["masked"] for entry in entries] == [False, False, True, True, True]
    assert all(layer.get("update_ratio", 1) > 0 for entry in entries for layer in entry["layers"].values())


def test_the_trained_and_the_packaged_model_identify_their_weights(finished: Path) -> None:
    for folder in (finished / "train" / "final", finished / "model"):
        metadata = json.loads((folder / "metadata.json").read_text())
        assert metadata["weights"] == files.file_fingerprint(folder / "model.safetensors")


def assert_same_training(found: Path, wanted: Path) -> None:
    """That two runs ended with the same weights, bit for bit, and the same log."""
    weights = load_file(found / "model" / "model.safetensors")
    for name, tensor in load_file(wanted / "model" / "model.safetensors").items():
        assert torch.equal(tensor, weights[name]), name
    assert without_times(log(found / "train")) == without_times(log(wanted / "train"))


def test_so_does_one_in_half_precision_with_a_moving_average(path: Path, tmp_path: Path) -> None:
    settings = ("training.precision=bf16", "training.ema=0.9", "training.epochs=2", "model.encoder.dropout=0.3")
    run(path, tmp_path / "whole", *settings)
    with pytest.raises(InterruptedTrainingError):
        run(path, tmp_path / "run", *settings, reporter=Recorder(interrupt_after=7))
    run(path, tmp_path / "run", *settings)
    assert_same_training(tmp_path / "run", tmp_path / "whole")


def lengths(path: Path, folder: Path, epoch: int, *settings: str) -> list[float]:
    """Seconds of the longest sample of each batch of an epoch, in the order in which they come."""
    recipe = read_recipe(path, [*SETTINGS, *settings])
    work = pipeline.workspace(recipe, folder / "run", folder / "data", Silent())
    for stage in (stages.prepare, stages.tokens):
        stage(work)
    batches = AcousticTask(stages.training_job(work)).epoch(epoch, 0).batches
    return [max(sample.duration for sample in batch.samples) for batch in batches]


def test_the_first_epoch_alone_goes_from_short_to_long(path: Path, tmp_path: Path) -> None:
    first, second = (lengths(path, tmp_path / f"{epoch}", epoch) for epoch in (1, 2))
    assert first == sorted(first)
    assert second != sorted(second)
    unsorted = lengths(path, tmp_path / "off", 1, "training.sorted_first_epoch=false")
    assert unsorted != sorted(unsorted)


def test_an_epoch_of_several_rounds_hears_everything_so_often(path: Path, tmp_path: Path) -> None:
    run(path, tmp_path / "once", "training.epochs=1")
    run(path, tmp_path / "thrice", "training.epochs=1", "training.rounds=3")
    ((once,), (thrice,)) = (log(tmp_path / name / "train") for name in ("once", "thrice"))
    assert thrice["audio_seconds"] == pytest.approx(3 * once["audio_seconds"])
    assert thrice["step"] >= 3 * once["step"] - 2
    rounds = lengths(path, tmp_path / "plan", 1, "training.rounds=3")
    first = lengths(path, tmp_path / "plan", 1)
    assert rounds[: len(first)] == first
    assert rounds[len(first) :] != sorted(rounds[len(first) :])


def test_a_signal_while_dev_is_measured_for_the_last_time_counts(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate, calls = AcousticTask.validate, []

    def interrupted(task: AcousticTask) -> DevResult:
        calls.append(task)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return validate(task)

    monkeypatch.setattr(AcousticTask, "validate", interrupted)
    with pytest.raises(InterruptedTrainingError, match="everything is saved"):
        run(path, tmp_path / "run", "training.epochs=2")
    again = Recorder()
    assert run(path, tmp_path / "run", "training.epochs=2", reporter=again)
    assert again.steps == 0


def test_epochs_and_batches_that_were_done_are_not_done_again(path: Path, tmp_path: Path) -> None:
    total = Recorder()
    run(path, tmp_path / "whole", reporter=total)
    first, second = Recorder(interrupt_after=5), Recorder()
    with pytest.raises(InterruptedTrainingError):
        run(path, tmp_path / "run", reporter=first)
    run(path, tmp_path / "run", reporter=second)
    assert first.steps == 5
    assert second.steps == total.steps - 5


def test_an_epoch_is_read_ahead_while_dev_is_measured(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    _noted(monkeypatch, calls, "epoch", lambda number, done, growth: f"epoch {number}")
    _noted(monkeypatch, calls, "validate", lambda: "dev")
    run(path, tmp_path / "run", "training.epochs=3", "training.average=1")
    assert calls == ["epoch 1", "epoch 2", "dev", "epoch 3", "dev", "dev", "dev"]


def test_an_epoch_that_was_read_ahead_is_planned_anew_where_its_batches_grow(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[str] = []
    _noted(monkeypatch, planned, "epoch", lambda number, done, growth: f"{number}: {growth:g}")
    plateau = ("schedule=plateau", "plateau_patience=0", "step_factor=0.5", "batch_growth=2", "learning_rate=1e-12")
    settings = [f"training.{setting}" for setting in plateau]
    run(path, tmp_path / "run", *settings, "training.epochs=5", "training.warmup=0", "training.average=1")
    assert [plan for plan in planned if plan.endswith(": 2")]
    again = [later for plan, later in itertools.pairwise(planned) if plan.split(":")[0] == later.split(":")[0]]
    assert again == [plan for plan in planned if plan.endswith(": 2")][:1]
    steps = [entry["step"] for entry in log(tmp_path / "run" / "train")]
    assert steps[-1] - steps[-2] == steps[0] / 2


def _noted(monkeypatch: pytest.MonkeyPatch, calls: list[str], name: str, note: Callable[..., str]) -> None:
    """Let a method of the training's task note that it was called."""
    method = getattr(AcousticTask, name)

    def noted(task: AcousticTask, *arguments: float) -> object:
        calls.append(note(*arguments))
        return method(task, *arguments)

    monkeypatch.setattr(AcousticTask, name, noted)


STOPPING = (
    "training.epochs=30",
    "training.patience=1",
    "training.average=1",
    "training.learning_rate=0.1",
    "training.schedule=constant",
)


def test_early_stopping_keeps_the_best(path: Path, tmp_path: Path) -> None:
    reporter = Recorder()
    run(path, tmp_path / "run", *STOPPING, reporter=reporter)
    entries = log(tmp_path / "run" / "train")
    ranks = [(entry["dev_cer"], entry["dev_loss"]) for entry in entries]
    best = ranks.index(min(ranks))
    assert len(entries) < 30
    assert len(entries) == best + 1 + 1
    assert (
        f"ended after {best + 2} epochs: nothing better on dev for 1 epoch, since epoch {best + 1}" in reporter.said
    )
    assert any(said.startswith(f"{best + 2} of 30 epochs in ") for said in reporter.said)
    metadata = json.loads((tmp_path / "run" / "model" / "metadata.json").read_text())
    assert metadata["training"]["precision"] in ("fp32", "bf16")
    assert metadata["training"]["dev"]["loss"] == pytest.approx(ranks[best][1], rel=1e-4)
    durations = sorted(utterance.duration for utterance in read_manifest(path.parent / "corpus" / "train.jsonl"))
    learnt = metadata["training"]["sample_seconds"]  # of 120
    assert durations[59] - 0.01 <= learnt["typical"] <= durations[60] + 0.01
    assert durations[-3] <= learnt["long"] <= durations[-1]


def test_a_training_that_runs_away_at_once_is_reported(path: Path, tmp_path: Path) -> None:
    settings = ("training.optimizer=sgd", "training.learning_rate=1e30", "training.clip_norm=null")
    reporter = Recorder()
    with pytest.raises(DivergedTrainingError):
        run(path, tmp_path / "run", *settings, "training.warmup=0", reporter=reporter)
    (entry,) = log(tmp_path / "run" / "train")
    assert "train_loss" in entry and "dev_loss" not in entry
    assert any(said.startswith("1 of 8 epochs in ") for said in reporter.said)
    assert (tmp_path / "run" / "report.html").exists()
    run(path, tmp_path / "run", *settings[:1], "training.learning_rate=0.1", overwrite=True)
    assert [entry["epoch"] for entry in log(tmp_path / "run" / "train")] == list(range(1, 9))


def test_a_training_that_stopped_at_an_epochs_end_before_highest_rates_were_noted_goes_on(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the checkpoints of earlier versions."""
    run(path, tmp_path / "whole", "training.epochs=2")
    steps = log(tmp_path / "whole" / "train")[0]["step"]
    step = loop._Run._step

    def without(self: loop._Run, *arguments: Any, **named: Any) -> None:
        step(self, *arguments, **named)
        del self.progress.totals["highest_rate"]

    with monkeypatch.context() as earlier, pytest.raises(InterruptedTrainingError):
        earlier.setattr(loop._Run, "_step", without)
        run(path, tmp_path / "run", "training.epochs=2", reporter=Recorder(interrupt_after=steps))
    run(path, tmp_path / "run", "training.epochs=2")
    assert [entry["step"] for entry in log(tmp_path / "run" / "train")] == [
        entry["step"] for entry in log(tmp_path / "whole" / "train")
    ]


def test_silence_is_heard_in_training(path: Path, tmp_path: Path) -> None:
    silence = "augment.silence={probability: 1, seconds: [1, 1]}"
    run(path, tmp_path / "run", silence, "training.epochs=1")
    metadata = json.loads((tmp_path / "run" / "model" / "metadata.json").read_text())
    durations = [utterance.duration for utterance in read_manifest(path.parent / "corpus" / "train.jsonl")]
    assert metadata["training"]["sample_seconds"]["typical"] == pytest.approx(np.median(durations) + 2, abs=0.01)


def test_infinite_losses_are_counted_and_named(path: Path, tmp_path: Path) -> None:
    reporter = Recorder()
    settings = ("tokens.kind=characters", "model.frontend={channels: [8, 8], strides: [4, 2]}", "training.epochs=1")
    run(path, tmp_path / "run", *settings, reporter=reporter)
    named = next(message for message in reporter.warned if "too short for the transcript" in message)
    count = int(named.split()[0])
    assert 0 < count < 120
    assert named.count(".wav: ") == min(count, 30)
    assert log(tmp_path / "run" / "train")[0]["infinite_losses"] == count
    assert any(f"{count} training" in message for message in reporter.warned)


def test_further_manifests_are_added_to_the_training_set(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder for data that is named from where one is, as it is by default."""
    more = write_set(tmp_path, "more", 5, 9)
    wanted = read_recipe(path, [*SETTINGS, f"prepare.extra=[{more}]"])
    monkeypatch.chdir(tmp_path)
    pipeline.run_stages(pipeline.workspace(wanted, tmp_path / "run", Path("data"), Recorder()), "check")
    (folder,) = (tmp_path / "data").glob("manifests-*")
    utterances = read_manifest(folder / "train.jsonl")
    assert utterances == read_manifest(path.parent / "corpus" / "train.jsonl") + read_manifest(more)
    with pytest.raises(DataError, match=r"not there: .*none\.jsonl"):
        run(path, tmp_path / "other", "prepare.extra=[none.jsonl]")


def test_runs_that_start_together_prepare_their_corpus_once(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Recorder()
    work = pipeline.workspace(read_recipe(path, SETTINGS), tmp_path / "run", tmp_path / "data", heard)
    begun, waiting, written = threading.Event(), threading.Event(), []
    write_json = stages.write_json

    def slow(path: Path, value: object) -> None:
        written.append(path)
        begun.set()
        waiting.wait(60)
        write_json(path, value)

    def say(message: str) -> None:
        assert f"another process prepares {work.corpus}" in message
        waiting.set()

    monkeypatch.setattr(stages, "write_json", slow)
    monkeypatch.setattr(heard, "say", say)
    first = threading.Thread(target=stages.prepare, args=(work,))
    first.start()
    assert begun.wait(60)
    stages.prepare(work)
    first.join()
    assert written == [work.corpus_file]
    assert waiting.is_set()


def test_finished_stages_are_skipped_and_only_what_changed_is_done(path: Path, tmp_path: Path) -> None:
    before = run(path, tmp_path / "run", "training.epochs=1")
    again = Recorder()
    assert run(path, tmp_path / "run", "training.epochs=1", reporter=again) == before
    assert sum("done before" in message for message in again.said) == 6
    narrower = Recorder()
    after = run(path, tmp_path / "run", "training.epochs=1", "evaluate.confidence=0.5", reporter=narrower)
    assert narrower.steps == 0
    assert sum("done before" in message for message in narrower.said) == 4
    assert after["tests"][0]["wer"] == before["tests"][0]["wer"]
    assert after["tests"][0]["ci_high"] < before["tests"][0]["ci_high"]
    (tmp_path / "run" / "model" / "model.safetensors").unlink()
    packaged = Recorder()
    run(path, tmp_path / "run", "training.epochs=1", "evaluate.confidence=0.5", reporter=packaged)
    assert sum("done before" in message for message in packaged.said) == 5
    run(path, tmp_path / "run", "training.epochs=1", "evaluate.confidence=0.5", "name=anew", reporter=packaged)
    assert read_json(tmp_path / "run" / "model" / "metadata.json")["name"] == "anew"
    assert packaged.steps == 0
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


DAMAGED = (
    b"",
    b'{"started": "01',
    b"\xff\xfe",
    b"[]",
    b"{}",
    b'{"started": "x", "seconds": NaN}',
    b'{"started": "x"}',
)


@pytest.fixture(scope="module")
def short(path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A run of one epoch, and its results."""
    folder = tmp_path_factory.mktemp("short") / "run"
    return folder, run(path, folder, "training.epochs=1")


@pytest.mark.parametrize("content", DAMAGED)
def test_a_stage_whose_record_is_damaged_is_done_again(
    path: Path, short: tuple[Path, dict], content: bytes
) -> None:
    folder, results = short
    (folder / "stages" / "tokens.json").write_bytes(content)
    again = Recorder()
    assert run(path, folder, "training.epochs=1", reporter=again)["tests"] == results["tests"]
    assert again.steps == 0
    assert "[3/6] tokens" in again.said
    assert sum("done before" in message for message in again.said) == 5


@pytest.mark.parametrize(
    "content", [b"", b"[{", b"\xff\xfe", b"{}", b'[{"name": "test"}]', b'[{"name": "test", "wer": Infinity}]']
)
def test_figures_that_are_damaged_are_measured_again(path: Path, short: tuple[Path, dict], content: bytes) -> None:
    folder, results = short
    (folder / "evaluate" / "tests.json").write_bytes(content)
    again = Recorder()
    assert run(path, folder, "training.epochs=1", reporter=again)["tests"] == results["tests"]
    assert "[5/6] evaluate" in again.said
    assert sum("done before" in message for message in again.said) == 5


@pytest.mark.parametrize("content", DAMAGED)
def test_a_training_whose_record_is_damaged_is_not_overwritten(
    path: Path, short: tuple[Path, dict], content: bytes
) -> None:
    folder, results = short
    record, weights = folder / "stages" / "train.json", folder / "train" / "final" / "model.safetensors"
    before, trained = record.read_bytes(), weights.stat().st_mtime_ns
    record.write_bytes(content)
    expected = rf"{re.escape(str(record))}: this record of the stage train is damaged.*\n.*bring.*--overwrite"
    with pytest.raises(ConfigError, match=expected):
        run(path, folder, "training.epochs=1")
    assert record.read_bytes() == content
    assert weights.stat().st_mtime_ns == trained
    record.write_bytes(before)
    assert run(path, folder, "training.epochs=1")["tests"] == results["tests"]
    assert weights.stat().st_mtime_ns == trained


def test_a_training_whose_record_is_damaged_is_overwritten_when_asked(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(InterruptedTrainingError):
        run(path, folder, "training.epochs=1", reporter=Recorder(3))
    (folder / "stages" / "train.json").write_bytes(b"{")
    with pytest.raises(ConfigError, match=r"train\.json: this record"):
        run(path, folder, "training.epochs=1")
    whole, anew = Recorder(), Recorder()
    run(path, tmp_path / "whole", "training.epochs=1", reporter=whole)
    run(path, folder, "training.epochs=1", reporter=anew, overwrite=True)
    assert anew.steps == whole.steps
    assert_same_training(folder, tmp_path / "whole")


def test_a_record_that_is_damaged_where_nothing_was_learnt_is_in_nobodys_way(path: Path, tmp_path: Path) -> None:
    record = tmp_path / "run" / "stages" / "train.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    reporter = Recorder()
    run(path, tmp_path / "run", "training.epochs=1", reporter=reporter)
    assert reporter.steps > 0
    assert not any("done before" in message for message in reporter.said)
    assert {"started", "seconds"} <= set(json.loads(record.read_text()))


def test_settings_that_are_damaged_keep_no_training_from_being_guarded(path: Path, tmp_path: Path) -> None:
    run(path, tmp_path / "run", "training.epochs=1")
    for content in (b"name: [", b"\xff", b"- 1\n"):
        (tmp_path / "run" / "config.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"a training with other .* is in this folder"):
            run(path, tmp_path / "run", "training.epochs=2")


def test_what_follows_a_training_that_is_done_again_is_done_again_too(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(path, folder, "training.epochs=1")
    trained, packaged = (file.read_bytes() for file in folder.rglob("model.safetensors"))
    assert trained == packaged
    shutil.rmtree(folder / "train")
    with pytest.MonkeyPatch.context() as patched, pytest.raises(RuntimeError, match="killed"):
        patched.setattr(stages, "recognise_manifest", Mock(side_effect=RuntimeError("killed")))
        run(path, folder, "training.epochs=1")
    again = Recorder()
    run(path, folder, "training.epochs=1", reporter=again)
    assert [message for message in again.said if "done before" in message][-1] == "[4/6] train: done before"


def test_a_signal_that_comes_twice_at_once_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with loop._signals_noted() as noted:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        assert noted[0] == "SIGINT"
        monkeypatch.setattr(loop, "AT_ONCE", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_two_trainings_do_not_work_in_one_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WAIT_FOR_OTHERS", 0.2)
    program = "import sys; from pathlib import Path; from asr.files import only_writer\n"
    program += "with only_writer(Path(sys.argv[1])):\n    print('in', flush=True)\n    input()"
    folder = tmp_path / "run"
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout.readline() == b"in\n"
        with pytest.raises(ConfigError, match=r"run: another asr is at work.*\n.*--run-dir"):
            run(path, folder, "training.epochs=1")
        other.kill()
    run(path, folder, "training.epochs=1")


def test_a_training_with_other_settings_is_not_overwritten(path: Path, tmp_path: Path) -> None:
    run(path, tmp_path / "run", "training.epochs=1")
    before = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=r"training.epochs: 1 there, 2 now") as raised:
        run(path, tmp_path / "run", "training.epochs=2")
    assert "--overwrite" in str(raised.value)
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == before
    # where and how fast it runs may change
    run(path, tmp_path / "run", "training.epochs=1", "training.workers=1")


def test_a_training_that_is_overwritten_leaves_no_report(path: Path, tmp_path: Path) -> None:
    run(path, tmp_path / "run", "training.epochs=1")
    stale = tmp_path / "run" / "evaluate" / "test, beam search.txt"
    stale.write_text("of the model that was here before", encoding="utf-8")
    wanted = read_recipe(path, [*SETTINGS, "training.epochs=2"])
    pipeline.run(wanted, tmp_path / "run", tmp_path / "data", Recorder(), overwrite=True)
    assert sorted(report.name for report in stale.parent.iterdir()) == ["test.txt", "tests.json"]


def test_a_training_depends_on_what_it_has_learnt_from_and_not_on_the_test_set(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, train=24)
    noise = tmp_path / "noise" / "hum.wav"
    noise.parent.mkdir()
    soundfile.write(noise, np.full(8000, 0.1), 8000)
    settings = ("training.epochs=1", f"augment={{noise: {{folder: {noise.parent}}}}}")
    folder = tmp_path / "run"
    figures = run(path, folder, *settings)["tests"][0]
    trained = (folder / "train" / "final" / "model.safetensors").stat().st_mtime_ns
    test, train = (tmp_path / "corpus" / f"{name}.jsonl" for name in ("test", "train"))
    lines = test.read_text().splitlines()
    test.write_text("\n".join(lines[:-1]) + "\n")
    assert run(path, folder, *settings)["tests"][0]["utterances"] == figures["utterances"] - 1
    assert (folder / "train" / "final" / "model.safetensors").stat().st_mtime_ns == trained
    before = train.read_text()

    def refused() -> list[str]:
        hint = r"--run-dir for a new folder \(training.init_from=\S* begins it with what is .*\), or --overwrite"
        with pytest.raises(ConfigError, match=hint) as raised:
            run(path, folder, *settings)
        return [line.strip() for line in raised.value.what.splitlines()]

    train.write_text(before.replace("middle", "muddle"))
    assert refused() == [
        "a training with other data is in this folder",
        f"{train}: 24 lines then, as many now, but not the same",
    ]
    train.write_text("".join(before.splitlines(keepends=True)[:-1]))
    assert refused() == ["a training with other data is in this folder", f"{train}: 24 lines then, 23 lines now"]
    record = folder / "stages" / "train.json"
    noted = json.loads(record.read_text())
    record.write_text(json.dumps({key: value for key, value in noted.items() if key != "files"}))  # as once
    assert refused()[1:] == ["what is learnt from: not the same there and now"]
    record.write_text(json.dumps(noted))
    train.write_text(before)
    shutil.copy(noise, noise.with_name("hiss.wav"))
    assert refused() == [
        "a training with other data is in this folder",
        f"{noise.parent}: 1 file then, 2 files now",
    ]


def test_a_training_that_never_began_is_in_nobodys_way(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no part 'fronted'"):
        run(path, tmp_path / "run", "training.epochs=1", "training.rates={fronted: 0.1}")
    run(path, tmp_path / "run", "training.epochs=1", "training.rates={frontend: 0.1}")


def test_global_normalisation_is_measured_and_saved_with_the_model(path: Path, tmp_path: Path) -> None:
    results = run(path, tmp_path / "run", "features.normalization=global")
    assert results["tests"][0]["wer"] == 0
    tensors = load_file(tmp_path / "run" / "model" / "model.safetensors")
    recipe = read_recipe(path, [*SETTINGS, "features.normalization=none"])
    extractor = build.features(recipe.features)
    waveforms = [torch.from_numpy(audio.load(u.audio, 8000))[None] for u in read_manifest(recipe.prepare.train)]
    frames = torch.cat([extractor(waveform, torch.tensor([waveform.shape[1]]))[0][0] for waveform in waveforms])
    torch.testing.assert_close(tensors["features.norm.mean"], frames.mean(0), atol=1e-3, rtol=0)
    torch.testing.assert_close(tensors["features.norm.std"], frames.std(0, correction=0), atol=1e-3, rtol=0)


def test_dev_and_test_words_that_training_lacks_count_as_errors(path: Path, tmp_path: Path) -> None:
    corpus = path.parent / "corpus"
    for name in ("dev", "test"):
        text = (corpus / f"{name}.jsonl").read_text(encoding="utf-8")
        (corpus / f"strange-{name}.jsonl").write_text(text.replace("middle", "muddle"), encoding="utf-8")
    words = [word for u in read_manifest(corpus / "test.jsonl") for word in u.text.split()]
    other = path.with_name("strange.yaml")
    recipe = path.read_text(encoding="utf-8")
    other.write_text(re.sub("corpus/(dev|test)", r"corpus/strange-\1", recipe), encoding="utf-8")
    reporter = Recorder()
    results = run(other, tmp_path / "run", LONG_ENOUGH, reporter=reporter)
    assert results["tests"][0]["wer"] == pytest.approx(words.count("middle") / len(words))
    assert any(
        message.startswith("test: 1 word is not in the training transcripts: muddle (")
        for message in reporter.warned
    )
    assert 0 < log(tmp_path / "run" / "train")[-1]["dev_loss"] < 0.5


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_schedules(kind: str) -> None:
    def at(progress: float) -> float:
        return learning_rate_factor(progress, 0.1, kind)

    assert at(0) == 0
    assert at(0.05) == pytest.approx(0.5)
    assert at(0.1) == pytest.approx(1)
    end, middle = {"cosine": (FINAL_FACTOR, 0.505), "linear": (FINAL_FACTOR, 0.505), "constant": (1, 1)}[kind]
    assert at(0.55) == pytest.approx(middle)
    assert at(1) == pytest.approx(end)
    assert learning_rate_factor(0.5, 1.0, kind) == 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing(value: float) -> None:
    model = nn.Linear(3, 2)
    optimization = Optimization(model, learning_rate=0.1, weight_decay=0.1, clip_norm=1.0, precision="fp32")
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    assert optimization.step((model(torch.ones(3)) * value).sum(), factor=1.0).skipped
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_parameters())
    assert not optimization.step(model(torch.ones(3)).sum(), factor=1.0).skipped
    assert not any(torch.equal(tensor, before[name]) for name, tensor in model.named_parameters())


def test_gradients_are_clipped_to_the_norm() -> None:
    model = nn.Linear(3, 2)
    optimization = Optimization(model, learning_rate=0.0, weight_decay=0.0, clip_norm=0.01, precision="fp32")
    update = optimization.step(model(torch.ones(3)).sum(), factor=1.0)
    norm = torch.stack([parameter.grad.norm() for parameter in model.parameters()]).norm().item()
    assert update.gradient_norm == pytest.approx(math.sqrt(8))  # 1 for each of the 6 weights and 2 biases
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_the_factor_scales_the_first_step() -> None:
    """Adam's first step is the learning rate, whatever the gradient (Kingma and Ba 2015)."""
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    optimization = Optimization(model, learning_rate=0.1, weight_decay=0.0, clip_norm=None, precision="fp32")
    optimization.step(model(torch.ones(3)).sum(), factor=0.5)
    torch.testing.assert_close(model.weight.detach(), before - 0.05)
    assert optimization.current_learning_rate == 0.05


def test_biases_and_normalisation_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.LSTM(8, 4))
    decayed, free = parameter_groups(model, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"0.weight", "2.weight_ih_l0", "2.weight_hh_l0"}
    assert len(free["params"]) == len(names) - 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_a_process_that_reads_data_and_is_killed_is_named_and_the_training_goes_on(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, steps = AcousticTask.loss, itertools.count()

    def watched(task: AcousticTask, *arguments: object) -> object:
        if next(steps) == 3:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)
        return loss(task, *arguments)

    monkeypatch.setattr(AcousticTask, "loss", watched)
    settings = ("training.epochs=2", "training.workers=1", "training.checkpoint_minutes=1e-9")
    with pytest.raises(ExhaustedError, match=r"^a process that reads data (was killed|has ended)") as raised:
        run(path, tmp_path / "run", *settings)
    assert "fewer training.workers" in raised.value.hint and "from the last checkpoint" in raised.value.hint
    again = Recorder()
    run(path, tmp_path / "run", *settings, reporter=again)
    assert any(said.startswith("resuming at epoch 1") for said in again.said)
