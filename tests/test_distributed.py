"""Training in two processes: the same weights as in one, resumed exactly, each utterance measured once, no hang."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from logs import log
from shared_training import CUT, UNFREEZING, gradients, job, train
from tones import SETTINGS, write_recipe

import asr
from asr.cli import main
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.doctor import SAMPLE_RATE, TONES, synthesise
from asr.errors import ConfigError
from asr.training import distributed, launch
from asr.training.acoustic import AcousticTask
from asr.training.distributed import ALONE, World
from asr.training.loop import InterruptedTogetherError, Outcome

EQUAL = {"atol": 1e-5, "rtol": 1e-5}
WORKER = Path(__file__).with_name("shared_training.py")


def corpus(folder: Path) -> Path:
    """A small, uneven corpus: an utterance that fills a batch alone, and one that is too short for its text."""
    path = write_recipe(folder, train=24)
    manifest = folder / "corpus" / "train.jsonl"
    rng = np.random.default_rng(7)
    odd = {"long": "low high middle " * 5, "short": "high"}
    utterances = read_manifest(manifest)
    for name, text in odd.items():
        waveform = synthesise(text, rng)
        soundfile.write(folder / f"{name}.wav", waveform, SAMPLE_RATE)
        said = text if name == "long" else "low " * 200
        utterances.append(Utterance(folder / f"{name}.wav", len(waveform) / SAMPLE_RATE, said))
    write_manifest(manifest, utterances)
    return path


class Found(NamedTuple):
    """By one process, and by two: by the first of these, and by the second; and how it ended."""

    folder: Path
    one: dict[str, Any]
    two: dict[str, Any]
    second: dict[str, Any]
    code: int
    errors: str


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("distributed")
    corpus(folder)
    plan = AcousticTask(job(folder, "none"))._plan(1, 4.0)
    assert len({len(batch) for batch in plan} & {1}) == 1  # in which the second process has nothing to do
    train(job(folder, "begun-by-one"), after=CUT)
    command = [sys.executable, str(WORKER), str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as both:
        whole = job(folder, "one")
        one: dict[str, Any] = {"gradients": [gradients(job(folder, "none"), batch) for batch in range(len(plan))]}
        one["outcome"] = train(whole)
        one["whole"] = whole.acoustic.state_dict()
        unfrozen = job(folder, "unfrozen-by-one", UNFREEZING)
        train(unfrozen)
        one["unfrozen"] = unfrozen.acoustic.state_dict()
        _, errors = both.communicate()
    assert (folder / "found-1.pt").exists(), errors
    two, second = (torch.load(folder / f"found-{rank}.pt", weights_only=False) for rank in (0, 1))
    return Found(folder, one, two, second, both.returncode, errors)


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


def test_parts_that_learn_later_do_so_in_all_processes(found: Found) -> None:
    assert_equal(found.two["unfrozen"], found.one["unfrozen"])


def test_each_utterance_is_measured_once(found: Found) -> None:
    names = [str(utterance.audio) for utterance in read_manifest(found.folder / "corpus" / "dev.jsonl")]
    parts = [[answer.id for answer in answers] for answers in found.two["dev"]]
    assert sorted(parts[0] + parts[1]) == sorted(names)
    assert abs(len(parts[0]) - len(parts[1])) <= 1
    one, two = (part["outcome"].dev for part in (found.one, found.two))
    assert found.second["outcome"].dev == two
    assert (two.wer, two.cer) == (one.wer, one.cer)
    assert two.loss == pytest.approx(one.loss, abs=1e-5)


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
    assert found.code == 1
    assert found.errors == "error: disc.wav: this recording is broken\n"


def test_nothing_is_left_of_processes_that_stop_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL complains of a group that is left. This one is alone, so that the test need not start others."""
    where = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": launch._free_port()}
    for name, value in where.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with (
        pytest.raises(InterruptedTogetherError),
        distributed.joined(raised_by_all=InterruptedTogetherError),
    ):
        assert torch.distributed.is_initialized()
        raise InterruptedTogetherError("stopped by SIGINT")
    assert not torch.distributed.is_initialized()


ASR = [sys.executable, "-m", "asr"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "asr"]


def command(folder: Path, start: Sequence[str], *settings: str) -> list[str]:
    """`asr train`, or torchrun with it, of a small corpus that is made."""
    recipe = folder / "recipe.yaml"
    if not recipe.exists():
        write_recipe(folder, train=24)
    folders = ["--run-dir", str(folder / "run"), "--data-dir", str(folder / "data")]
    return [*start, "train", str(recipe), *SETTINGS, *settings, *folders]


@pytest.mark.parametrize(("start", "settings"), [(ASR, ("--nproc", "2")), (TORCHRUN, ())], ids=["asr", "torchrun"])
def test_the_command_trains_in_two_processes(tmp_path: Path, start: list[str], settings: tuple[str, ...]) -> None:
    words = command(tmp_path, start, "training.epochs=2", *settings)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr.count("in 2 processes") == done.stderr.count("epoch   1") == done.stdout.count("model: ") == 1
    )
    text = asr.load(tmp_path / "run" / "model").transcribe(tmp_path / "corpus" / "test" / "000.wav").text
    assert set(text.split()) <= set(TONES)


def test_a_mistake_is_told_once_and_without_backtraces(tmp_path: Path) -> None:
    words = command(tmp_path, ASR, "training.rates={frontend: 0, encoder: 0, head: 0}", "--nproc", "2")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    _, mistake = done.stderr.split("error: ")
    assert mistake == (
        "training.rates: every part of the model is frozen\n  expected: a part with a rate above 0\n"
    )


def test_torchrun_hands_on_what_ends_it_and_all_is_saved(tmp_path: Path) -> None:
    """As Slurm ends a job: SIGTERM to torchrun, which hands it on and waits; the same command then goes on."""
    words = command(tmp_path, TORCHRUN, "training.epochs=300", "training.average=1")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        assert any(line.startswith("epoch   2") for line in training.stderr)
        training.send_signal(signal.SIGTERM)
        _, said = training.communicate(timeout=300)
    assert training.returncode != 0
    assert said.count("stopped by SIGTERM") == 1
    log = tmp_path / "run" / "train" / "log.jsonl"
    done = len(log.read_text().splitlines())
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        assert any(line.startswith(f"resuming at epoch {done + 1},") for line in training.stderr)
        training.send_signal(signal.SIGTERM)
        training.communicate(timeout=300)


def test_an_interruption_while_one_process_works_alone_ends_all(tmp_path: Path) -> None:
    words = command(tmp_path, ASR, "pretrain={epochs: 500}", "--nproc", "2")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        assert any(line.startswith("epoch   1") for line in training.stderr)
        training.send_signal(signal.SIGINT)
        _, said = training.communicate(timeout=300)
    assert training.returncode == 130
    assert "stopped by SIGINT" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nproc", "0"], "Invalid value for '--nproc'"),
        (["--nproc", "2", "--overfit", "10"], "--nproc: 2 processes for a trial"),
        (["--nproc", "2", "training.epochs=none"], "training.epochs"),
    ],
)
def test_what_can_not_be_done_in_several_processes_is_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["train", "quickstart", *options])
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_other_numbers_of_processes_than_there_are_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(SystemExit):
        main(["train", "quickstart", "--nproc", "2"])
    assert "--nproc: 2 processes wanted, 4 started" in capsys.readouterr().err


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    second = World(rank=3, size=4, local_rank=1, local_size=2)
    assert second.device(torch.device("cuda")) == torch.device("cuda", 1)
    assert second.device(torch.device("cpu")) == torch.device("cpu")
    assert ALONE.device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match="4 processes on a machine with 2 CUDA devices"):
        World(size=4, local_size=4).device(torch.device("cuda"))
    with pytest.raises(ConfigError, match="on the device cuda:0"):
        second.device(torch.device("cuda", 0))


def test_cores_are_divided_unless_the_user_has_divided_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [World(size=4, local_size=count).cores(8) for count in (1, 3, 16)] == [8, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert World(size=4, local_size=4).cores(8) == 8


PROCESS = """
import os, signal, sys, time
from asr.errors import AsrError
from asr.training import launch
launch.GRACE = {grace}
if launch.world_size() == 1:
    try:
        sys.exit(launch.launch(3))
    except AsrError as error:
        sys.exit(f"error: {error}")
rank = int(os.environ["RANK"])
"""


UNTIL_INTERRUPTED = """
got = []
signal.signal(signal.SIGINT, lambda number, _: got.append(number))
os.write(1, b"here\\n")
while not got:
    time.sleep(0.01)
"""


def program(behaviour: str, grace: float = 20.0) -> list[str]:
    """A command that runs three processes which do so; that many seconds are not too few on a busy machine."""
    return [sys.executable, "-c", PROCESS.replace("{grace}", str(grace)) + behaviour]


def launched(behaviour: str, interrupt: bool = False, grace: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Run three processes that do so, and interrupt what started them once all say that they are there."""
    command = program(behaviour, grace)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if interrupt:
            for _ in range(3):
                assert process.stdout.readline() == "here\n"
            process.send_signal(signal.SIGINT)
        out, errors = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


def test_an_interruption_is_handed_on_once_and_waited_for() -> None:
    behaviour = """
time.sleep(0.3 * rank)
assert got == [signal.SIGINT]
os.write(1, b"saved\\n")
sys.exit(130)
"""
    done = launched(UNTIL_INTERRUPTED + behaviour, interrupt=True)
    assert done.returncode == 130, done.stderr
    assert done.stdout == "saved\n" * 3
    assert done.stderr == ""


def test_an_interrupted_process_may_end_after_one_that_misses_it() -> None:
    behaviour = """
if rank > 0:
    sys.exit(1)
time.sleep(0.5)
sys.exit(130)
"""
    assert launched(UNTIL_INTERRUPTED + behaviour, interrupt=True).returncode == 130


def test_windows_interrupts_all_processes_of_a_console_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        def poll(self) -> None: ...

        def send_signal(self, number: int) -> None:
            raise ValueError(f"Unsupported signal: {number}")  # as on Windows

    monkeypatch.setattr(launch, "os", SimpleNamespace(name="nt"))
    with launch._handing_on_signals([Process()]) as signals:
        signal.raise_signal(signal.SIGINT)
    assert signals == [signal.SIGINT]


def test_a_process_that_hangs_when_another_has_failed_is_killed() -> None:
    done = launched("sys.exit(3) if rank == 1 else time.sleep(1000)", grace=1.0)
    assert (done.returncode, done.stderr) == (3, "")


def test_a_process_that_fails_does_not_wait_for_what_the_others_have_not_sent() -> None:
    behaviour = """
import torch
from asr.training.distributed import joined
from asr.training.loop import InterruptedTogetherError
try:
    with joined(raised_by_all=InterruptedTogetherError) as world:
        if rank == 1:
            torch.distributed.all_reduce(torch.zeros(1), async_op=True)
            raise AsrError("this one has no memory left")
        time.sleep(60)
        os.write(1, b"waited in vain\\n")
except AsrError as error:
    os.write(2, f"error: {error}\\n".encode())
    sys.exit(error.exit_code)
"""
    done = launched(behaviour)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: this one has no memory left\n")


def test_a_process_that_was_killed_is_named() -> None:
    done = launched("os.kill(os.getpid(), signal.SIGKILL) if rank == 2 else sys.exit(0)")
    assert done.returncode == 1
    assert done.stderr.startswith("error: process 3 of 3 was killed by SIGKILL\n  try: was there enough memory?")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that end a process")
def test_one_that_gave_up_waiting_is_not_said_to_lack_memory() -> None:
    done = launched("os.abort() if rank == 2 else sys.exit(0)")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: process 3 of 3 was killed by SIGABRT\n  try: see what it wrote; NCCL ends so"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't send SIGKILL")
def test_processes_whose_launcher_was_killed_are_told_to_stop_and_save() -> None:
    behaviour = """
got = []
signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
launch.end_with_launcher()
os.write(1, b"here\\n")
deadline = time.monotonic() + 60
while not got and time.monotonic() < deadline:
    time.sleep(0.01)
os.write(1, b"saved\\n" if got else b"left alone\\n")
"""
    with subprocess.Popen(program(behaviour), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)] == ["here\n"] * 3
        process.kill()
        assert process.stdout.read() == "saved\n" * 3  # at whose end all are gone


def test_processes_that_do_well_say_nothing() -> None:
    done = launched("assert os.environ['MASTER_PORT'] and rank == int(os.environ['LOCAL_RANK'])")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
