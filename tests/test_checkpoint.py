"""Checkpoints: whatever is killed, torn or full, there is a state to go on from, and all that it names is there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import logs
import pytest
import torch
from cut_off import changes, from_the, kill
from hypothesis import given, settings
from hypothesis import strategies as st
from recorder import Recorder
from tones import SETTINGS, write_recipe

from asr import pipeline
from asr.errors import DiskFullError, ModelError
from asr.files import PARTIAL
from asr.recipe_file import read_recipe
from asr.reporting import Silent
from asr.training import log
from asr.training.checkpoint import BestEpoch, Checkpoints, Progress, average
from asr.training.log import TrainingLog

resource = pytest.importorskip("resource", reason="processes are forked and limited as on POSIX")


RANKS = (3.0, 1.0, 2.0, 5.0, 0.5, 0.7)
"""Of the epochs of `training`."""


def training(checkpoints: Checkpoints, epochs: int = len(RANKS)) -> Iterator[int]:
    """What a training saves; yields the epoch under way after each state."""
    best: tuple[BestEpoch, ...] = ()
    for epoch, rank in enumerate(RANKS[:epochs], start=1):
        best = checkpoints.keep_best(best, BestEpoch((0.0, rank), epoch), {"w": torch.full((2,), float(epoch))})
        progress = Progress(epoch + 1, step=7 * epoch, totals={"loss": 1.5}, best=best, log=f"line {epoch}\n")
        checkpoints.save(progress, {"x": torch.full((3,), float(epoch))})
        yield epoch + 1


def saved(folder: Path, epochs: int = len(RANKS)) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=2, reporter=Recorder())
    list(training(checkpoints, epochs))
    return checkpoints


def loaded(folder: Path) -> tuple[Progress, dict, list[str]]:
    recorder = Recorder()
    progress, state = Checkpoints(folder, 2, recorder).load() or pytest.fail("nothing was saved")
    return progress, state, recorder.warned


# ---------------------------------------------------------------------------------------------------- sound


def test_the_best_are_kept_and_averaged(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, epochs=4)
    progress, state, warned = loaded(tmp_path)
    assert [epoch.epoch for epoch in progress.best] == [2, 3]
    assert sorted(path.name for path in tmp_path.glob("epoch*")) == [
        "epoch-0002.safetensors",
        "epoch-0003.safetensors",
    ]
    weights = checkpoints.weights(progress.best)
    assert [values["w"].tolist() for values in weights.values()] == [[2, 2], [3, 3]]
    assert average(list(weights.values()))["w"].tolist() == [2.5, 2.5]
    assert average([{"n": torch.tensor(2)}, {"n": torch.tensor(4)}])["n"].item() == 3
    assert (progress.epoch, progress.step, progress.totals, progress.log) == (5, 28, {"loss": 1.5}, "line 4\n")
    assert state["x"].tolist() == [4, 4, 4]
    assert not warned


def test_weights_that_others_have_open_are_removed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, "it is open")

    states = training(Checkpoints(tmp_path, 2, Recorder()), epochs=5)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        for _ in range(4):
            next(states)
    assert (tmp_path / "epoch-0001.safetensors").exists()
    next(states)
    assert [path.name for path in sorted(tmp_path.glob("epoch*"))] == [
        f"epoch-{number:04d}.safetensors" for number in (2, 3, 5)
    ]


def test_there_are_two_states_and_torch_reads_them(tmp_path: Path) -> None:
    saved(tmp_path, epochs=3)
    found = {torch.load(path, weights_only=True)["x"][0].item() for path in tmp_path.glob("state-*.pt")}
    assert found == {2, 3}


def test_both_states_find_their_weights(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 2, Recorder())
    for _ in training(checkpoints):
        for path in tmp_path.glob("state-*.pt"):
            best = json.loads(torch.load(path, weights_only=True)["progress"])["best"]
            assert all((tmp_path / f"epoch-{epoch['epoch']:04d}.safetensors").exists() for epoch in best)
    assert [path.name for path in sorted(tmp_path.glob("epoch*"))] == [
        f"epoch-{number:04d}.safetensors"
        for number in (2, 5, 6)  # 2 is named by the state before alone
    ]


# ---------------------------------------------------------------------------------------------------- damage

DAMAGES = st.tuples(st.sampled_from(["cut", "flip", "empty", "zeros", "longer"]), st.floats(0, 1, exclude_max=True))


def damage(path: Path, how: str, where: float) -> None:
    content = bytearray(path.read_bytes())
    place = int(where * len(content))
    match how:
        case "cut":
            del content[place:]
        case "flip":
            content[place] ^= 1 << place % 8
        case "empty":
            content.clear()
        case "zeros":  # as a file may be whose name reached the disk before what it holds
            content[place:] = bytes(len(content) - place)
        case "longer":
            content += b"\0"
    path.write_bytes(content)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints after four epochs, not to be changed."""
    folder = tmp_path_factory.mktemp("sound")
    saved(folder, epochs=4)
    return folder


@settings(max_examples=50)
@given(DAMAGES, DAMAGES)
def test_a_damaged_state_falls_back_to_the_one_before(
    tmp_path_factory: pytest.TempPathFactory, sound: Path, first: tuple[str, float], second: tuple[str, float]
) -> None:
    folder = shutil.copytree(sound, tmp_path_factory.mktemp("damaged") / "checkpoints")
    newest, before = folder / "state-2.pt", folder / "state-1.pt"
    damage(newest, *first)
    progress, state, warned = loaded(folder)
    assert (progress.epoch, state["x"].tolist()) == (4, [3, 3, 3])
    (warning,) = warned
    assert warning.startswith(f"{newest}: this checkpoint can't be read")
    assert f"training goes on from {before.name}, at epoch 4, step 21" in warning
    damage(before, *second)
    with pytest.raises(ModelError) as caught:
        Checkpoints(folder, 2, Recorder()).load()
    assert str(newest) in str(caught.value)
    assert str(before) in str(caught.value)


def test_an_epoch_that_begins_anew_is_the_newest(tmp_path: Path) -> None:
    """As where memory was short: its batches are others then, of which fewer may be done."""
    checkpoints = Checkpoints(tmp_path, 2, Recorder())
    for batch, step in ((0, 1000), (500, 1500), (300, 1800)):
        checkpoints.save(Progress(3, batch=batch, step=step), {})
    progress, _, _ = loaded(tmp_path)
    assert (progress.batch, progress.step) == (300, 1800)


def test_the_state_before_is_not_what_the_next_one_replaces(tmp_path: Path) -> None:
    newest = saved(tmp_path, epochs=4).state_path
    (before,) = set(tmp_path.glob("state-*.pt")) - {newest}
    damage(newest, "cut", 0.5)
    sound = before.read_bytes()
    checkpoints = Checkpoints(tmp_path, 2, Recorder())
    progress, state = checkpoints.load() or pytest.fail("nothing was saved")
    checkpoints.save(progress, state)
    assert before.read_bytes() == sound
    assert checkpoints.state_path == newest


def test_a_state_that_may_not_be_read_is_no_reason_to_go_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest, read = saved(tmp_path, epochs=4).state_path, Path.read_bytes

    def refused(path: Path) -> bytes:
        if path == newest:
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(ModelError, match=rf"{newest.name}: .*Permission denied"):
        Checkpoints(tmp_path, 2, Recorder()).load()


@settings(max_examples=50)
@given(DAMAGES)
def test_damaged_weights_are_left_out(
    tmp_path_factory: pytest.TempPathFactory, sound: Path, how: tuple[str, float]
) -> None:
    folder = shutil.copytree(sound, tmp_path_factory.mktemp("damaged") / "checkpoints")
    recorder = Recorder()
    checkpoints = Checkpoints(folder, 2, recorder)
    progress, _ = checkpoints.load() or pytest.fail("nothing was saved")
    best, other = (folder / f"epoch-{epoch.epoch:04d}.safetensors" for epoch in progress.best)
    damage(best, *how)
    (left,) = checkpoints.weights(progress.best).items()
    assert (left[0].epoch, left[1]["w"].tolist()) == (3, [3, 3])
    assert recorder.warned == [
        f"{best}: the weights of epoch 2 are damaged; they are left out, 1 of the best epochs remain"
    ]
    other.unlink()
    with pytest.raises(ModelError, match=r"epoch 2 are damaged\n.*epoch 3 are missing"):
        checkpoints.weights(progress.best)


# ---------------------------------------------------------------------------------------------------- killed


def forked_and_killed(folder: Path, operation: int) -> int | None:
    """The last epoch that was saved when a process was killed before such an operation; None if it never came."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads in a process that forks: the child starts and needs none
        process = os.fork()
    if process == 0:
        from_the(operation, changes, kill)
        for epoch in training(Checkpoints(folder, 2, Silent()), epochs=4):
            os.write(writer, bytes([epoch]))
        os._exit(0)
    os.close(writer)
    killed = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    with os.fdopen(reader, "rb") as pipe:
        epochs = pipe.read()
    return ([1, *epochs][-1]) if killed else None


def test_killed_before_any_operation_there_is_a_state_with_its_weights(tmp_path: Path) -> None:
    operation = 0
    while (last := forked_and_killed(tmp_path / str(operation), operation + 1)) is not None:
        folder, recorder = tmp_path / str(operation), Recorder()
        checkpoints = Checkpoints(folder, 2, recorder)
        found = checkpoints.load()
        assert (found[0].epoch if found else 1) in (last, last + 1)
        if found:
            assert len(checkpoints.weights(found[0].best)) == min(found[0].epoch - 1, 2)
            assert found[1]["x"][0] == found[0].epoch - 1
        assert not recorder.warned
        assert not list(folder.rglob(f"*{PARTIAL}*"))
        operation += 1
    assert operation > 30


# ---------------------------------------------------------------------------------------------------- full disks


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A limit of the system, on all that this process writes: EFBIG, not a mock."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_state_for_which_there_is_no_room_leaves_all_as_it_was(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, epochs=4)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    progress, state = checkpoints.load() or pytest.fail("nothing was saved")
    with files_of_at_most(100_000), pytest.raises(DiskFullError) as caught:
        checkpoints.save(progress, {**state, "large": torch.zeros(50_000)})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert "state-1.pt: there is no room to write it (file too large): 0.2 MB are needed" in str(caught.value)
    with files_of_at_most(100_000), pytest.raises(DiskFullError, match="epoch-0009"):
        checkpoints.keep_best(progress.best, BestEpoch((0.0, 0.0), 9), {"w": torch.zeros(50_000)})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    progress.batch += 1
    checkpoints.save(progress, {**state, "large": torch.zeros(50_000)})
    assert len(loaded(tmp_path)[1]["large"]) == 50_000


class StopsForRoom(Recorder):
    """Limits the size of files when so many steps are done, in two ways: for a while, or from then on."""

    def __init__(self, step: int, until: int | None) -> None:
        super().__init__()
        self.step, self.until = step, until

    def step_done(self) -> None:
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        if self.steps == self.step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, unlimited))
        if self.steps == self.until:
            resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))


# ---------------------------------------------------------------------------------------------------- a whole run

SMALL = (
    *SETTINGS,
    "training.epochs=3",
    "training.average=2",
    "training.checkpoint_minutes=1e-9",
    "augment.spec_augment={freq_masks: 1, freq_width: 2, time_masks: 1, time_width: 2}",
    "evaluate.bootstrap=10",
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("tones"), train=24)


def run(recipe: Path, folder: Path, reporter: Recorder | None = None) -> None:
    pipeline.run(read_recipe(recipe, SMALL), folder, folder.parent / "data", reporter or Recorder())


@pytest.fixture(scope="module")
def cut_off_once(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder of an uninterrupted run and of some that were cut off at random, and the seed of that."""
    folder, seed = tmp_path_factory.mktemp("cut-off"), int(os.environ.get("CUT_OFF_SEED", secrets.randbits(32)))
    program = Path(__file__).with_name("cut_off.py")
    text = folder / "text.txt"
    text.write_text("".join(f"{word} low {word} high\n" for word in ("one", "two", "three") for _ in range(20)))
    command = [sys.executable, program, str(seed), recipe, text, folder, *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"CUT_OFF_SEED={seed}\n{done.stderr}"
    (folder / "said.json").write_text(done.stdout)
    return folder, seed


@pytest.fixture
def cut_off(cut_off_once: tuple[Path, int]) -> Path:
    """The folder of `cut_off_once`; each test that fails shows the seed, which the same variable sets."""
    folder, seed = cut_off_once
    print(f"CUT_OFF_SEED={seed}")
    return folder


def logged(folder: Path) -> list[dict]:
    return logs.without_times(logs.log(folder))


def assert_same(folder: Path, other: Path) -> None:
    """Weights, figures and log of two runs are the same, to the bit; but for the time that they took."""
    for name in ("train/final/model.safetensors", "model/model.safetensors", "evaluate/tests.json"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    assert logged(folder / "train") == logged(other / "train")
    assert not list(folder.rglob(f"*{PARTIAL}*"))


@pytest.mark.parametrize("how", ["time", "operation", "full"])
def test_cut_off_at_random_a_run_ends_as_if_nothing_had_happened(cut_off: Path, how: str) -> None:
    assert_told(cut_off, f"train {how}")
    assert_same(cut_off / how, cut_off / "uninterrupted")


@pytest.mark.parametrize("how", ["operation", "full"])
def test_so_does_the_training_of_a_language_model(cut_off: Path, how: str) -> None:
    assert_told(cut_off, f"train_lm {how}")
    model = f"{how}.safetensors"
    assert (cut_off / model).read_bytes() == (cut_off / "uninterrupted.safetensors").read_bytes()
    assert logged(cut_off / f"lm-{how}") == logged(cut_off / "lm-uninterrupted")


def assert_told(folder: Path, way: str) -> None:
    """Several processes were cut off, and those with a full disk said so."""
    said = json.loads((folder / "said.json").read_text())[way]
    assert len(said) >= 2
    if way.endswith("full"):
        assert all("there is no room to write it (no space left on device)" in message for message in said)


def test_a_disk_that_is_full_for_a_while_costs_nothing(recipe: Path, cut_off: Path, tmp_path: Path) -> None:
    reporter = StopsForRoom(step=2, until=4)
    run(recipe, tmp_path / "run", reporter)
    assert len([message for message in reporter.warned if "going on, and trying again" in message]) == 2
    assert_same(tmp_path / "run", cut_off / "uninterrupted")


def test_a_disk_that_stays_full_stops_the_training_where_it_can_go_on(
    recipe: Path, cut_off: Path, tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(DiskFullError, match=r"epoch-0001\.safetensors: .*\n.*goes on from epoch 1, step 2$"):
            run(recipe, tmp_path / "run", StopsForRoom(step=3, until=None))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    run(recipe, tmp_path / "run")
    assert_same(tmp_path / "run", cut_off / "uninterrupted")


# ---------------------------------------------------------------------------------------------------- the log


@pytest.mark.parametrize("found", [None, b"", b'{"epoch": 1, "st', b"\0" * 200, b"mine"])
def test_the_log_begins_with_what_the_checkpoint_has(tmp_path: Path, found: bytes | None) -> None:
    first = TrainingLog(tmp_path)
    for epoch in (1, 2):
        first.write({"epoch": epoch, "step": 10 * epoch, "loss": 1 / 3, "layers": {"head": {"gradient": 0.1}}})
    path = tmp_path / "log.jsonl"
    assert path.read_text() == first.content
    if found is None:
        path.unlink()
    else:
        path.write_bytes(found)
    again = TrainingLog(tmp_path, first.content, step=20)
    again.write({"epoch": 3, "step": 30, "loss": 0.5, "events": ["no number"]})
    assert [entry["epoch"] for entry in log.read(tmp_path)] == [1, 2, 3]
    assert again.entries == log.read(tmp_path)
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(again.content.encode()).digest()


def test_a_disk_without_room_for_the_folder_of_curves_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def full(path: Path, *arguments: Any, **options: Any) -> None:
        if path.name == "tensorboard":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(DiskFullError, match="tensorboard: there is no room to write it"):
        TrainingLog(tmp_path)


def test_tensorboard_reads_the_curves_and_hides_what_was_trained_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = TrainingLog(tmp_path)
    for epoch in (1, 2):
        first.write({"epoch": epoch, "step": 10 * epoch, "loss": epoch / 8, "layers": {"head": {"gradient": 0.5}}})
    TrainingLog(tmp_path, step=15).write({"epoch": 2, "step": 20, "loss": 4.0})
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {(point.step, point.value) for point in curves.Scalars("loss")} == {(10, 0.125), (20, 4.0)}
    assert [point.value for point in curves.Scalars("layers/head/gradient")] == [0.5]
