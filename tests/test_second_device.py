"""What computes on a device keeps its tensors there: on one that is imitated, figures are those of the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from logs import log
from tones import SETTINGS, write_recipe
from torch import nn

import asr
from asr import build, pipeline, stages
from asr.cli import main
from asr.doctor import SAMPLE_RATE, synthesise
from asr.recipe_file import read_recipe
from asr.reporting import Silent
from asr.text import word2vec_torch
from asr.text.word2vec import Piece, initial
from asr.training.acoustic import AcousticTask
from asr.training.optimization import Optimization, OptimizationMethods, autocast_to
from asr.training.optimizers import OPTIMIZERS, OptimizerSettings

PLACE = "imitated:0"

Elsewhere = Callable[..., Any]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    """Calls a function in a process of its own, where the device is there, and stands for the CPU."""
    with ProcessPoolExecutor(1, get_context("spawn"), _use_second_device) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def _use_second_device() -> None:
    import second_device

    second_device.begin()
    build.device = lambda name: second_device.DEVICE


# -------------------------------------------------------------------------------------------- the imitation


def test_the_device_is_as_strict_as_a_gpu(elsewhere: Elsewhere) -> None:
    for mixing, told in (
        (_add_to_the_cpus, "at least two devices, imitated:0 and cpu"),
        (_stack_with_the_cpus, "at least two devices, imitated:0 and cpu"),
        (_draw_with_the_cpus, "the generator is on another device"),
        (_take_for_the_cpus, "not supported for tensor subclasses"),
    ):
        with pytest.raises(RuntimeError, match=told):
            elsewhere(mixing)
    elsewhere(_what_a_gpu_may)


def _add_to_the_cpus() -> None:
    torch.ones(2, device=PLACE) + torch.ones(2)


def _stack_with_the_cpus() -> None:
    torch.stack([torch.ones(2, device=PLACE).sum(), torch.tensor(1.0)])


def _draw_with_the_cpus() -> None:
    torch.rand(2, device=PLACE, generator=torch.Generator())


def _take_for_the_cpus() -> None:
    torch.ones(2, device=PLACE).numpy()


def _what_a_gpu_may() -> None:
    there = torch.arange(3.0, device=PLACE)
    assert str(there.device) == PLACE
    assert there[torch.tensor([2, 0])].tolist() == [2, 0]
    assert (there + torch.tensor(1.0)).cpu().tolist() == [1, 2, 3]
    assert torch.rand(2, device=PLACE, generator=torch.Generator(PLACE)).device == there.device


# ------------------------------------------------------------------------------------------------- training

# Dropout draws differently on GPUs, and here: with it, figures are not compared.
RECIPES = {
    "lstm": (
        "features={sample_rate: 8000, n_mels: 16, frame_shift_ms: 20, normalization: global, deltas: 1}",
        "augment={noise: {}, reverb: {}, speed: [0.9, 1.1], concatenate: {max_utterances: 2}}",
        "augment.silence={alone: 0.2}",
        "augment.spec_augment={freq_masks: 1, freq_width: 2, time_masks: 1, time_width: 2}",
        "model.frontend={kind: conv2d, channels: [4], strides: [2]}",
        "model.encoder={cell: lstm, layers: 1, hidden: 8, dropout: 0, projection: 8, bidirectional: false}",
        "model.encoder.normalization=batch",
        "pretrain={layers: 1, epochs: 1, batch_seconds: 6, noise: {}}",
        "language_model={order: 2, trials: 2}",
        "training.consistency=0.2",
        "training.unfreeze={encoder: 2}",
        "training.layer_decay=0.5",
        "training.ema=0.9",
        "training.l1=1e-4",
        "training.max_norm=2",
        "training.clip_value=0.5",
    ),
    "gru": (
        "features={sample_rate: 8000, kind: mfcc, n_mels: 16, n_mfcc: 8, frame_shift_ms: 20}",
        "model.frontend={kind: resnet, channels: [8], strides: [2], normalization: group, activation: mish}",
        "model.encoder={cell: gru, layers: 1, hidden: 8, dropout: 0}",
        "training.optimizer=sgd",
        "training.backstitch=0.3",
        "training.schedule=plateau",
        "training.batch_growth=2",
        "evaluate.bootstrap=1",
    ),
    "dropout": (
        "features={sample_rate: 8000, n_mels: 16, frame_shift_ms: 20}",
        "model.frontend={kind: inception, channels: [8], strides: [2], dropout: 0.2, normalization: weight}",
        "model.encoder={cell: lstm, layers: 1, hidden: 8, weight_dropout: 0.3, dropout: 0.2, dropout_kind: locked}",
        "evaluate.bootstrap=1",
    ),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("tones"), train=12)


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_goes_as_on_the_cpu(name: str, path: Path, tmp_path: Path, elsewhere: Elsewhere) -> None:
    ours, theirs = tmp_path / "cpu", tmp_path / "there"
    here, there = _trained(path, ours, RECIPES[name]), elsewhere(_trained, path, theirs, RECIPES[name])
    assert len(here) == len(there) == 2
    assert here[0].keys() == there[0].keys()
    if name != "dropout":
        for one, other in zip(here, there, strict=True):
            assert one == pytest.approx(other, rel=1e-2, abs=1e-5)
    waveform = np.concatenate(
        [synthesise("high low middle " * 3, np.random.default_rng(seed)) for seed in range(20)]
    )
    soundfile.write(tmp_path / "long.wav", waveform, SAMPLE_RATE)
    model = theirs / "model"
    assert elsewhere(_heard, model, tmp_path / "long.wav") == _heard(model, tmp_path / "long.wav")


def _trained(path: Path, folder: Path, settings: Sequence[str]) -> list[dict[str, float]]:
    """The figures of each epoch, but for those that leap when two answers are about as likely."""
    common = ("training={epochs: 2, batch_seconds: 6, workers: 0, threads: 1, precision: fp32, average: 1}",)
    recipe = read_recipe(path, [*SETTINGS, *common, *settings])
    pipeline.run(recipe, folder, folder.parent / "data", Silent())
    figures = [pipeline.flat(entry) for entry in log(folder / "train")]
    left_out = ("seconds", "dev_wer", "dev_cer", "dev_blank", "dev_empty")
    return [
        {key: value for key, value in entry.items() if isinstance(value, float) and not key.startswith(left_out)}
        for entry in figures
    ]


def _heard(model: Path, recording: Path) -> str:
    return asr.load(model).transcribe(recording).text


def test_a_step_does_not_wait_for_the_network(path: Path, tmp_path: Path, elsewhere: Elsewhere) -> None:
    assert elsewhere(_fetched, path, tmp_path) == []


def _fetched(path: Path, folder: Path) -> list[str]:
    """What is fetched from the device while a loss and its gradients are computed."""
    from second_device import DEVICE, FETCHED

    recipe = read_recipe(path, [*SETTINGS, "augment.spec_augment={}", "training.consistency=0.2"])
    work = pipeline.workspace(recipe, folder / "run", folder / "data", Silent())
    pipeline.run_stages(work, "tokens")
    task = AcousticTask(stages.training_job(work))
    batch = next(iter(task.epoch(1, 0).batches))
    task.model.train()
    FETCHED.clear()
    torch.autograd.backward(task.loss(batch, autocast_to("fp32", DEVICE)).mean)
    return FETCHED


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_that_was_restored_fetches_no_more_than_before(name: str, elsewhere: Elsewhere) -> None:
    before, after = elsewhere(_fetched_by_steps, name)
    assert before == after
    assert len(before) == 1  # the norm of the gradient


def _fetched_by_steps(name: str) -> list[list[str]]:
    """What a step fetches, and what it fetches in a training that goes on from there."""
    from second_device import DEVICE, FETCHED

    model, inputs = nn.Linear(3, 2).to(DEVICE), torch.ones(1, 3, device=DEVICE)
    methods = OptimizationMethods(OptimizerSettings(name))
    rules = {"learning_rate": 0.1, "weight_decay": 0.01, "clip_norm": 1.0, "precision": "fp32"}
    first, second = (Optimization(model, methods=methods, **rules) for _ in range(2))
    first.step(model(inputs).sum(), 1.0)
    second.restore(first.state())
    fetched = []
    for optimization in (first, second):
        FETCHED.clear()
        optimization.step(model(inputs).sum(), 1.0)
        fetched.append(list(FETCHED))
    return fetched


# --------------------------------------------------------------------------------------------- text models


@pytest.mark.parametrize("softmax", ["full", "sampled", "adaptive"])
def test_a_language_model_learns_as_on_the_cpu(softmax: str, tmp_path: Path, elsewhere: Elsewhere) -> None:
    words = [f"w{number}" for number in range(120) for _ in range(1 + number % 4)]
    lines = np.random.default_rng(1).permutation(words).reshape(-1, 6)
    (tmp_path / "text.txt").write_text("".join(" ".join(line) + "\n" for line in lines))
    for name, call in (("cpu", lambda function, *arguments: function(*arguments)), ("there", elsewhere)):
        call(_learn_text, tmp_path / "text.txt", tmp_path / name, softmax)
    here, there = (log(tmp_path / name)[-1] for name in ("cpu", "there"))
    assert there["dev_perplexity"] == pytest.approx(here["dev_perplexity"], rel=1e-3)


def _learn_text(text: Path, folder: Path, softmax: str) -> None:
    out = folder.with_name(f"{folder.name}.safetensors")
    files = map(str, (text, "--dev", text, "--out", out, "--run-dir", folder))
    sizes = ("--epochs", "2", "--hidden", "32", "--embedding", "8", "--batch-units", "64", "--min-count", "1")
    chosen = ("--softmax", softmax, "--dropout", "0", "--precision", "fp32", "--threads", "1")
    with pytest.raises(SystemExit) as caught:
        main(["lm", "train", *files, *sizes, *chosen])
    assert not caught.value.code


def test_word_vectors_are_learnt(elsewhere: Elsewhere) -> None:
    here, there = _vectors("cpu"), elsewhere(_vectors, PLACE)
    np.testing.assert_allclose(there, here, rtol=1e-5)
    assert not np.allclose(there, _vectors(None))


def _vectors(device: str | None) -> np.ndarray:
    model = initial(np.array([5, 4, 3, 2, 1]), 4, False, "negative", 2, 2, np.random.default_rng(0))
    if device is not None:
        with word2vec_torch.training(model, device, 0.05) as learn:
            learn([Piece(np.array([0, 1, 2, 3, 4] * 4, np.int32), 0.05, seed) for seed in (1, 2)])
    return model.inputs
