"""What is said to do nothing does nothing, and what is not said to does something."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recorder import Recorder
from tones import SETTINGS, write_recipe

from asr import idle, pipeline
from asr.config import Recipe
from asr.errors import ConfigError
from asr.files import file_fingerprint
from asr.recipe_file import read_recipe

SMALL = (*SETTINGS, "training.epochs=2", "training.average=1", "training.batch_seconds=12")
MASKS = "augment.spec_augment={freq_width: 3, time_width: 3}"
ROOM = "augment.reverb={probability: 1}"
NOISE = "augment.noise={probability: 1}"
START = "pretrain={epochs: 1}"
CASES: dict[str, tuple[str, Sequence[str], Sequence[str]]] = {
    "text.keep_characters": ("o", ("text.punctuation=keep",), ("text.punctuation=remove",)),
    "features.n_mels": ("20", ("features.kind=spectrogram",), ("features.kind=fbank",)),
    "features.n_mfcc": ("8", ("features.kind=fbank",), ("features.kind=mfcc",)),
    "augment.spec_augment.freq_width": (
        "5",
        (MASKS, "augment.spec_augment.freq_masks=0"),
        (MASKS, "augment.spec_augment.freq_masks=1"),
    ),
    "augment.spec_augment.time_width": (
        "9",
        (MASKS, "augment.spec_augment.time_masks=0"),
        (MASKS, "augment.spec_augment.time_masks=1"),
    ),
    "augment.spec_augment.time_fraction": (
        "0.01",
        (MASKS, "augment.spec_augment.time_masks=0"),
        (MASKS, "augment.spec_augment.time_masks=1"),
    ),
    "augment.reverb.rt60_seconds": ("[0.5, 0.6]", (ROOM, "augment.reverb.folder=sounds"), (ROOM,)),
    "augment.reverb.kind": ("image", (ROOM, "augment.reverb.folder=sounds"), (ROOM,)),
    "augment.reverb.rooms": ("2", (ROOM,), (ROOM, "augment.reverb.kind=image")),
    "augment.noise.colour": ("[-1, -1]", (NOISE, "augment.noise.folder=sounds"), (NOISE,)),
    "augment.noise.at_once": ("[2, 3]", (NOISE,), (NOISE, "augment.noise.folder=sounds")),
    "model.frontend.kernel": ("7", ("model.frontend.kind=resnet",), ("model.frontend.kind=conv1d",)),
    "model.frontend.groups": (
        "4",
        ("model.frontend.normalization=batch",),
        ("model.frontend.normalization=group",),
    ),
    "model.frontend.dropout_kind": (
        "ordinary",
        ("model.frontend.dropout=0",),
        ("model.frontend.dropout=0.2",),
    ),
    "model.encoder.dropout_kind": ("locked", ("model.encoder.dropout=0",), ("model.encoder.dropout=0.2",)),
    "model.encoder.forget_bias": ("0", ("model.encoder.cell=gru",), ("model.encoder.cell=lstm",)),
    "pretrain.noise.colour": ("[-1, -1]", (START, "pretrain.noise.folder=sounds"), (START,)),
    "pretrain.noise.at_once": ("[2, 3]", (START,), (START, "pretrain.noise.folder=sounds")),
    "pretrain.mask_span": ("3", (START, "pretrain.mask_share=0"), (START, "pretrain.mask_share=0.3")),
    "training.momentum": ("0.5", ("training.optimizer=sgd",), ("training.optimizer=momentum",)),
    "training.betas": ("[0.8, 0.9]", ("training.optimizer=rmsprop",), ("training.optimizer=nadam",)),
    "training.rho": ("0.5", ("training.optimizer=adam",), ("training.optimizer=rmsprop",)),
    "training.backstitch_interval": (
        "2",
        ("training.optimizer=sgd",),
        ("training.optimizer=sgd", "training.backstitch=0.3"),
    ),
    "training.final_factor": ("0.5", ("training.schedule=step",), ("training.schedule=linear",)),
    "training.step_at": ("[0.1]", ("training.schedule=cosine",), ("training.schedule=step",)),
    "training.step_factor": ("0.5", ("training.schedule=cosine",), ("training.schedule=step",)),
    "training.plateau_patience": (
        "0",
        ("training.schedule=cosine",),
        ("training.schedule=plateau", "training.learning_rate=1e-20", "training.epochs=3"),
    ),
    "training.batch_growth": (
        "4",
        ("training.schedule=constant",),
        ("training.schedule=linear", "training.epochs=4"),
    ),
}
"""A value of each setting, settings beside which it does nothing, and others beside which it does something."""
UNSEEN = {"text.keep_characters", "training.plateau_patience"}
"""Settings that show in no weights of such a training; other tests are theirs."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tones")
    (folder / "sounds").mkdir()
    for name in ("a", "b"):
        noise = np.random.default_rng(ord(name)).normal(0, 0.1, 4000)
        soundfile.write(folder / "sounds" / f"{name}.wav", noise * np.exp(-np.arange(4000) / 200), 8000)
    return write_recipe(folder, train=16)


def recipe(path: Path, *settings: str) -> Recipe:
    return read_recipe(
        path, [*SMALL, *(each.replace("=sounds", f"={path.parent / 'sounds'}") for each in settings)]
    )


@cache
def weights(path: Path, *settings: str) -> str:
    """What a training learns, as a fingerprint."""
    folder = path.parent / f"{abs(hash(settings))}"
    work = pipeline.workspace(recipe(path, *settings), folder, path.parent / "data", Recorder())
    pipeline.run_stages(work, "train")
    return file_fingerprint(work.trained / "model.safetensors")


def test_each_rule_has_a_case() -> None:
    assert list(CASES) == [rule.key for rule in idle.RULES]


@pytest.mark.parametrize("rule", idle.RULES, ids=lambda rule: rule.key)
def test_what_is_said_to_do_nothing_does_nothing(rule: idle.Rule, path: Path) -> None:
    value, others, _ = CASES[rule.key]
    setting = f"{rule.key}={value}"
    wanted = recipe(path, *others, setting)
    (remark,) = (remark for remark in idle.remarks(wanted) if remark.startswith(f"{rule.key}="))
    assert f" does nothing with {rule.other}=" in remark
    assert idle.without(wanted) == idle.without(recipe(path, *others))
    assert weights(path, *others, setting) == weights(path, *others)


@pytest.mark.parametrize("rule", idle.RULES, ids=lambda rule: rule.key)
def test_what_counts_is_not_remarked_upon(rule: idle.Rule, path: Path) -> None:
    value, _, others = CASES[rule.key]
    setting = f"{rule.key}={value}"
    wanted = recipe(path, *others, setting)
    assert idle.remarks(wanted) == []
    assert idle.without(wanted) == wanted
    if rule.key not in UNSEEN:
        assert weights(path, *others, setting) != weights(path, *others)


def test_recipes_as_they_come_say_nothing_in_vain() -> None:
    for file in Path(__file__).parents[1].glob("recipes/*/recipe.yaml"):
        assert idle.remarks(read_recipe(file)) == []


def test_what_never_begins_is_told(path: Path) -> None:
    late = recipe(path, "augment.spec_augment={start_epoch: 3}")
    assert idle.remarks(late) == [
        "augment.spec_augment does nothing: its start_epoch is 3, training.epochs 2",
    ]
    assert idle.remarks(recipe(path, "training.schedule=step", "training.step_at=[]")) == [
        "training.schedule=step does nothing with an empty training.step_at"
    ]


def test_values_are_told_as_recipes_have_them_and_one_may_lead_to_another(path: Path) -> None:
    folder = path.parent / "sounds"
    wanted = recipe(
        path,
        "training.betas=[0.8, 0.9]",
        "training.optimizer=sgd",
        f"augment.reverb={{folder: {folder}, rt60_seconds: [0.1, 0.2], kind: image, rooms: 9}}",
    )
    assert idle.remarks(wanted) == [
        f"augment.reverb.rt60_seconds=[0.1, 0.2] does nothing with augment.reverb.folder={folder}",
        f"augment.reverb.kind=image does nothing with augment.reverb.folder={folder}",
        "augment.reverb.rooms=9 does nothing with augment.reverb.kind=decay",
        "training.betas=[0.8, 0.9] does nothing with training.optimizer=sgd",
    ]


def test_records_of_runs_that_counted_what_does_nothing_are_taken_for_what_they_are(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> list[str]:
        reporter = Recorder()
        work = pipeline.workspace(
            recipe(path, "training.momentum=0.5", "training.epochs=1"),
            tmp_path / "run",
            path.parent / "data",
            reporter,
        )
        pipeline.run_stages(work, "train")
        return reporter.said

    with monkeypatch.context() as as_before:
        as_before.setattr(idle, "without", lambda recipe: recipe)
        said()
    assert "[4/4] train: done before" in said()
    assert "[4/4] train: done before" in said()


def test_a_refusal_names_what_counts_alone(path: Path, tmp_path: Path) -> None:
    def run(*settings: str) -> None:
        work = pipeline.workspace(recipe(path, *settings), tmp_path / "run", path.parent / "data", Recorder())
        pipeline.run_stages(work, "train")

    run("training.epochs=1")
    with pytest.raises(ConfigError, match=r"training\.epochs: 1 there, 2 now") as refused:
        run("training.momentum=0.5")
    assert "momentum" not in str(refused.value)


def test_the_user_is_told_and_a_training_stays_as_it_is(path: Path, tmp_path: Path) -> None:
    reporter = Recorder()

    def run(*settings: str) -> None:
        work = pipeline.workspace(recipe(path, *settings), tmp_path / "run", path.parent / "data", reporter)
        pipeline.run_stages(work, "train")

    run("training.momentum=0.5")
    assert "note: training.momentum=0.5 does nothing with training.optimizer=adamw" in reporter.said
    run()
    assert "[4/4] train: done before" in reporter.said
    with pytest.raises(ConfigError, match=r"training\.momentum"):
        run("training.optimizer=momentum", "training.momentum=0.5")
