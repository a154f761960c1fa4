"""Learning a few utterances by heart: a pipeline that is well does, one that is broken is told what to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tones import SETTINGS, write_recipe

from asr import artefact, files, preflight, stages
from asr.cli import main
from asr.config import Augment
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.errors import DataError
from asr.text.normalize import Normalizer
from asr.training import log
from asr.training.loop import InterruptedTrainingError

Capture = pytest.CaptureFixture[str]

HARD = (
    "augment.spec_augment={freq_masks: 2, freq_width: 16}",
    "training.consistency=0.2",
    "model.encoder.dropout=0.9",
    "training.weight_decay=1.0",
    "training.ema=0.9999",
)
"""What makes learning by heart harder; the trial leaves it out."""


def overfit(path: Path, folder: Path, *settings: str, count: int = 6) -> int:
    arguments = ["train", str(path), *SETTINGS, *settings, "--overfit", str(count)]
    with pytest.raises(SystemExit) as exit:
        main([*arguments, "--run-dir", str(folder / "run"), "--data-dir", str(folder / "data")])
    return int(exit.value.code or 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recipe(tmp_path, train=70)


def test_the_folder_where_one_is_has_a_name(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(SystemExit):
        main(["train", str(path), *SETTINGS, "--overfit", "2", "--run-dir", ".", "--data-dir", str(tmp_path)])
    assert list(here.iterdir()) == []
    assert (tmp_path / "here-overfit" / "report.html").is_file()


def test_what_can_be_learnt_passes(path: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "mine").write_text("untouched")
    assert overfit(path, tmp_path, *HARD) == 0
    said = capsys.readouterr()
    assert "passed: 6 utterances" in said.out
    assert "learning 6 utterances by heart" in said.err
    assert [file.name for file in run.iterdir()] == ["mine"]
    folder = tmp_path / "run-overfit"
    assert (folder / "report.html").is_file()
    entries = log.read(folder / "train")
    assert entries[-1]["dev_wer"] == 0  # it stops there
    assert all(entry["dev_wer"] > 0 for entry in entries[:-1])
    assert len(entries) < preflight.EPOCHS
    trained = artefact.load(folder / "train" / "final").config
    assert trained.augment == Augment()
    assert trained.model.encoder.dropout == trained.training.weight_decay == 0
    # Each is heard so many times in an epoch.
    heard = preflight.ROUNDS * sum(utterance.duration for utterance in read_manifest(folder / "utterances.jsonl"))
    assert entries[0]["audio_seconds"] == pytest.approx(heard, rel=1e-3)


def test_recordings_without_speech_fail(
    path: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "EPOCHS", 2)
    for utterance in read_manifest(tmp_path / "corpus" / "train.jsonl"):
        samples, rate = soundfile.read(utterance.audio)
        soundfile.write(utterance.audio, np.zeros(len(samples)), rate)
    assert overfit(path, tmp_path) == 1
    shown = capsys.readouterr()
    assert "failed:" in shown.out
    assert "words in 6 utterances are wrong after 2 epochs" in shown.out
    assert "REF:" in shown.out
    assert "the sample rates: 8000 Hz; the recipe's features.sample_rate is 8000 Hz" in shown.out
    assert str(tmp_path / "run-overfit" / "utterances.jsonl") in shown.out
    assert "Traceback" not in shown.err


def test_texts_that_are_too_long_for_their_recordings_fail_by_name(
    path: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "EPOCHS", 1)
    manifest = tmp_path / "corpus" / "train.jsonl"
    utterances = read_manifest(manifest)
    swapped = [Utterance(u.audio, u.duration, u.text + " low high" * 40, u.fields) for u in utterances[:-1]]
    write_manifest(manifest, [*swapped, utterances[-1]])
    assert overfit(path, tmp_path) == 1
    assert "infinite losses" in capsys.readouterr().err


def test_a_second_trial_starts_anew(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "EPOCHS", 1)
    overfit(path, tmp_path, count=3)
    overfit(path, tmp_path, count=2)
    assert len(read_manifest(tmp_path / "run-overfit" / "utterances.jsonl")) == 2
    assert len(log.read(tmp_path / "run-overfit" / "train")) == 1


def test_a_trial_that_is_stopped_does_not_promise_to_go_on(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def stopped(*arguments: Any, **options: Any) -> None:
        raise InterruptedTrainingError("stopped by SIGINT at epoch 1, step 2; everything is saved", hint="go on")

    monkeypatch.setattr(stages, "train", stopped)
    assert overfit(path, tmp_path, count=3) == 130
    assert "error: stopped by SIGINT at epoch 1, step 2; a trial begins anew each time\n" in capsys.readouterr().err


def test_a_folder_that_is_not_of_a_trial_is_left_alone(path: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "run-overfit").mkdir()
    (tmp_path / "run-overfit" / "mine").write_text("untouched")
    assert overfit(path, tmp_path) == 2
    assert "not the folder of an earlier trial" in capsys.readouterr().err
    assert (tmp_path / "run-overfit" / "mine").read_text() == "untouched"


def test_a_folder_in_which_a_trial_is_at_work_is_left_alone(
    path: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WAIT_FOR_OTHERS", 0.2)
    folder = tmp_path / "run-overfit"
    with files.only_writer(folder):
        files.write_text(folder / preflight.MANIFEST, "untouched")
        assert overfit(path, tmp_path) == 2
        assert "another asr is at work" in capsys.readouterr().err
        assert (folder / preflight.MANIFEST).read_text() == "untouched"


# -------------------------------------------------------------------------------------------------- choice


PLAIN = Normalizer("lower", "remove", "")


def utterances(*texts: str) -> list[Utterance]:
    return [Utterance(Path(f"{index}.wav"), float(index), text) for index, text in enumerate(texts)]


def test_as_many_are_said_to_be_learnt_as_there_are(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise DataError("enough")

    monkeypatch.setattr(preflight.stages, "tokens", stop)
    assert overfit(write_recipe(tmp_path, train=5), tmp_path, count=1000) == 1
    assert "learning 5 utterances by heart" in capsys.readouterr().err


def test_two_trials_at_once_are_refused(capsys: Capture, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        main(["train", "quickstart", "--overfit", "2", "--check-gradients", "--data-dir", str(tmp_path)])
    assert left.value.code == 2
    assert "--check-gradients: one trial at a time" in capsys.readouterr().err


def test_short_utterances_with_different_texts_are_chosen() -> None:
    many = utterances(*(["yes"] * 15 + ["no", "why"] + ["never", "always"] * 50))
    chosen = preflight.choose(many, 3, PLAIN, seed=1)
    assert len({utterance.text for utterance in chosen}) == 3
    assert max(utterance.duration for utterance in chosen) < preflight.POOL * 3
    assert chosen == preflight.choose(many, 3, PLAIN, seed=1)
    assert len({tuple(each.audio for each in preflight.choose(many, 3, PLAIN, seed)) for seed in range(9)}) > 1


def test_where_texts_are_few_they_come_more_than_once() -> None:
    chosen = preflight.choose(utterances(*["yes", "no"] * 4), 5, PLAIN, seed=1)
    assert len({utterance.audio for utterance in chosen}) == 5
    assert {utterance.text for utterance in chosen[:2]} == {"yes", "no"}


def test_silence_is_not_chosen() -> None:
    assert [each.text for each in preflight.choose(utterances("", "!", "yes"), 3, PLAIN, seed=1)] == ["yes"]
    with pytest.raises(DataError, match="empty"):
        preflight.choose(utterances("", "!"), 3, PLAIN, seed=1)
