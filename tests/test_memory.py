"""The trial of the longest batch: it finds a budget that fits, names what never fits, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from recorder import Recorder
from tones import SETTINGS, write_recipe
from torch import nn

from asr import pipeline
from asr.data.batching import Sample
from asr.data.corruption import CorruptingReader
from asr.data.loading import Batch
from asr.data.manifest import Utterance, read_manifest
from asr.errors import AsrError, DataError
from asr.recipe_file import read_recipe
from asr.reporting import Silent
from asr.training.acoustic import AcousticTask
from asr.training.denoising import DenoisingTask
from asr.training.memory import Budget, fitting_budget, padded_seconds, try_step
from asr.training.optimization import OptimizationMethods
from asr.training.optimizers import OptimizerSettings

AnyTask = AcousticTask | DenoisingTask


def batch(seconds: float) -> list[Sample]:
    """As many utterances of two seconds as there is room for; at least one."""
    return [Sample((Utterance(Path(f"{index}.wav"), 2.0, "a"),)) for index in range(max(int(seconds / 2), 1))]


def memory(seconds: float, error: Exception) -> Callable[[Sequence[Sample]], None]:
    def attempt(samples: Sequence[Sample]) -> None:
        if padded_seconds(samples) > seconds:
            raise error

    return attempt


ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried …"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    MemoryError(),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_budget_is_lowered_until_the_batch_fits(error: Exception) -> None:
    reporter = Recorder()
    found = fitting_budget(60.0, batch, memory(30.0, error), reporter)
    assert found == pytest.approx(60 * 4 / 9)  # 40 is too much as well
    assert len(reporter.warned) == 2
    assert "batch_seconds=60" in reporter.warned[0]
    assert "30 utterances of up to 2.0 s" in reporter.warned[0]
    assert "going on with 40" in reporter.warned[0]


def test_a_budget_that_fits_is_kept_without_a_word() -> None:
    reporter = Recorder()
    assert fitting_budget(60.0, batch, memory(60.0, MemoryError()), reporter) == 60
    assert reporter.warned == []


def test_an_utterance_that_alone_does_not_fit_is_named() -> None:
    with pytest.raises(DataError, match=r"0\.wav: these 2 seconds alone do not fit into memory"):
        fitting_budget(60.0, batch, memory(1.0, MemoryError()), Silent())


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="sizes of tensors"):
        fitting_budget(60.0, batch, memory(1.0, RuntimeError("sizes of tensors must match")), Silent())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recipe(tmp_path, train=30)


def run(path: Path, folder: Path, reporter: Silent, *settings: str) -> None:
    wanted = read_recipe(path, [*SETTINGS, "training.epochs=1", "model.frontend.dropout=0.1", *settings])
    pipeline.run(wanted, folder, folder.parent / "data", reporter)


TASKS = [
    (AcousticTask, 6.0, ()),
    (AcousticTask, 3 * 6.0, ("training.batch_growth=3", "training.schedule=exponential", "training.epochs=2")),
    (AcousticTask, 6.0, ("training.batch_growth=3", "training.schedule=exponential")),  # and then it ends
    (AcousticTask, 6.0, ("training.batch_growth=3", "training.schedule=constant")),  # it has nothing to fall
    (DenoisingTask, 8.0, ()),
]
PRETRAINED = "pretrain={epochs: 1, batch_seconds: 8}"


@pytest.mark.parametrize(("kind", "budget", "settings"), TASKS)
def test_the_trial_changes_nothing_and_sees_the_longest_batch(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[AnyTask],
    budget: float,
    settings: Sequence[str],
) -> None:
    attempt, seen = kind.attempt, []

    def watched(task: AnyTask, samples: Sequence[Sample]) -> None:
        before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
        generator = torch.get_rng_state()
        attempt(task, samples)
        assert torch.equal(generator, torch.get_rng_state())
        assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.state_dict().items())
        assert all(parameter.grad is None for parameter in task.model.parameters())
        seen.append((padded_seconds(samples), max(map(padded_seconds, task._plan(1, budget)))))

    monkeypatch.setattr(kind, "attempt", watched)
    run(path, tmp_path / "run", Silent(), PRETRAINED, *settings)
    ((tried, longest),) = seen
    assert tried == longest


def test_several_processes_try_the_batch_that_is_longest_in_one_of_them() -> None:
    short, long = (
        [Sample((Utterance(Path("a.wav"), seconds, "a"),))] * count for seconds, count in ((1.0, 15), (5.0, 2))
    )
    assert padded_seconds(short) > padded_seconds(long)
    assert padded_seconds(short, processes=4) < padded_seconds(long, processes=4) == 5.0


@pytest.mark.parametrize(("together", "copies"), [(False, 2), (True, 3)])
def test_the_trial_has_what_will_be_remembered_beside_it(
    monkeypatch: pytest.MonkeyPatch, together: bool, copies: int
) -> None:
    """Two numbers of Adam's for each weight; and in several processes the buckets of gradients."""
    model, made = nn.Linear(10, 10), []
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda tensor: made.append(tensor.numel()) or empty_like(tensor))
    monkeypatch.setattr(dist, "is_initialized", lambda: together)
    adam = OptimizationMethods(OptimizerSettings("adam"))
    try_step(model, adam, "fp32", lambda autocast: model(torch.ones(1, 10)).sum())
    assert sum(made) == copies * 110


def test_a_self_supervised_start_has_smaller_batches_too(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_small(task: DenoisingTask, samples: Sequence[Sample]) -> None:
        if padded_seconds(samples) > 6:
            raise MemoryError

    monkeypatch.setattr(DenoisingTask, "attempt", too_small)
    sizes: list[float] = []
    read = CorruptingReader.read_batch

    def watched(reader: CorruptingReader, samples: Sequence[Sample]) -> object:
        sizes.append(padded_seconds(samples))
        return read(reader, samples)

    monkeypatch.setattr(CorruptingReader, "read_batch", watched)
    reporter = Recorder()
    run(path, tmp_path / "run", reporter, PRETRAINED)
    assert any("out of memory with pretrain.batch_seconds=8" in message for message in reporter.warned)
    assert json.loads((tmp_path / "run" / "pretrain" / "batch_seconds.json").read_text()) == pytest.approx(4.8)
    assert max(sizes) <= 6


def test_memory_that_runs_out_later_lowers_the_budget_for_the_next_time(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, room = AcousticTask.loss, [3]
    heard: list[str] = []

    def runs_out(task: AcousticTask, batch: Batch, autocast: object) -> object:
        room[0] -= 1
        if not room[0]:
            heard.clear()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        heard.extend(sample.name for sample in batch.samples)
        return loss(task, batch, autocast)

    monkeypatch.setattr(AcousticTask, "loss", runs_out)
    with pytest.raises(AsrError, match="the same command again, which goes on with") as raised:
        run(path, tmp_path / "run", Silent(), "training.checkpoint_minutes=1e-9")
    assert "out of memory with training.batch_seconds=" in raised.value.what
    budget = json.loads((tmp_path / "run" / "train" / "batch_seconds.json").read_text())
    again = Recorder()
    run(path, tmp_path / "run", again)
    # Where it had come to among other batches says nothing now: no utterance may be left out.
    assert "epoch 1 begins anew, as its batches are others than before" in again.said
    assert sorted(heard) == sorted(
        str(each.audio) for each in read_manifest(path.parent / "corpus" / "train.jsonl")
    )
    wanted = read_recipe(path, SETTINGS).training.batch_seconds
    assert budget == pytest.approx(wanted * 2 / 3)


def test_a_sample_that_is_too_long_alone_is_named_later_too(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joined anew in each epoch, samples may be longer than those of the trial. Smaller batches are of no use."""
    ctc, room = AcousticTask._ctc, [3]

    def runs_out(*arguments: object) -> object:
        room[0] -= 1
        if not room[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return ctc(*arguments)

    monkeypatch.setattr(AcousticTask, "_ctc", runs_out)
    with pytest.raises(DataError, match=r"\.wav: these \d+ seconds alone do not fit into memory"):
        run(path, tmp_path / "run", Silent(), "training.batch_seconds=0.1")
    assert not (tmp_path / "run" / "train" / "batch_seconds.json").exists()


def test_a_lowered_budget_holds_for_the_training_and_when_it_is_resumed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_small(task: AcousticTask, samples: Sequence[Sample]) -> None:
        if padded_seconds(samples) > 4:
            raise MemoryError

    sizes: list[float] = []
    loss = AcousticTask.loss

    def watched(task: AcousticTask, batch: object, autocast: object) -> object:
        sizes.append(padded_seconds(batch.samples))
        if len(sizes) == 3:
            raise AsrError("cut off")
        return loss(task, batch, autocast)

    monkeypatch.setattr(AcousticTask, "attempt", too_small)
    monkeypatch.setattr(AcousticTask, "loss", watched)
    reporter = Recorder()
    with pytest.raises(AsrError, match="cut off"):
        run(path, tmp_path / "run", reporter)
    assert any("out of memory" in message for message in reporter.warned)
    assert json.loads((tmp_path / "run" / "train" / "batch_seconds.json").read_text()) == pytest.approx(3.6)
    again = Recorder()
    run(path, tmp_path / "run", again)
    assert not any("out of memory" in message for message in again.warned)
    assert max(sizes) <= 4


@pytest.mark.parametrize("content", [b"{", b"\xff", b'"3.6"', b"[3.6]", b"0", b"true", b"1e999", b"NaN"])
def test_a_damaged_record_of_a_budget_is_found_anew(tmp_path: Path, content: bytes) -> None:
    budget = Budget("training.batch_seconds", 60.0, tmp_path)
    budget.record.write_bytes(b"30.0")
    assert budget.fitting(batch, memory(80.0, MemoryError()), Silent()) == 30
    budget.record.write_bytes(content)
    assert budget.fitting(batch, memory(80.0, MemoryError()), Silent()) == 60
