"""What `test_distributed` runs in one process and in two: `python shared_training.py FOLDER` starts two."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from asr.training import launch

    if launch.world_size() == 1:  # before torch, which the one that starts the others need not wait for
        sys.exit(launch.launch(2))

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from recorder import Recorder
from tones import SETTINGS

from asr import pipeline, stages
from asr.data.batching import Sample
from asr.data.loading import Batch, Reader
from asr.errors import AsrError, DataError
from asr.recipe_file import read_recipe
from asr.reporting import Silent
from asr.training import acoustic, validation
from asr.training.acoustic import AcousticTask, Job
from asr.training.distributed import ALONE, World, joined
from asr.training.loop import InterruptedTogetherError, InterruptedTrainingError, Outcome
from asr.training.validation import DevResult

PLAIN = (
    "model.encoder.dropout=0",
    "model.encoder.normalization=batch",
    "augment={speed: [0.95, 1.0], gain_db: [-3, 3], spec_augment: {freq_width: 4, start_epoch: 2}}",
    "training={epochs: 2, batch_seconds: 4, learning_rate: 0.003, consistency: 0.2, average: 2, workers: 0,"
    " threads: 1, device: cpu, precision: fp32}",
)
UNFREEZING = "training.unfreeze={frontend: 2}"
RANDOM = "model.encoder.dropout=0.3"
CUT = 5
"""Steps, in the first epoch, after which a training is stopped."""


def job(folder: Path, name: str, *settings: str, world: World = ALONE) -> Job:
    """A training of the corpus in a folder; only the first process has a folder to write to."""
    recipe = read_recipe(folder / "recipe.yaml", [*SETTINGS, *PLAIN, *settings])
    work = pipeline.workspace(recipe, folder / "run", folder / "data", Silent(), world)
    if world.leads and not work.tokens.exists():
        stages.prepare(work)
        stages.tokens(work)
    world.wait()
    return replace(stages.training_job(work), folder=folder / name if world.leads else folder / "never")


def train(wanted: Job, after: int | None = None, reporter: Recorder | None = None) -> Outcome[DevResult] | None:
    """The outcome of a training, or None if it was stopped."""
    try:
        return acoustic.train(wanted, reporter or Recorder(after))
    except InterruptedTrainingError:
        return None


def gradients(wanted: Job, batch: int) -> dict[str, torch.Tensor]:
    """Those of a batch of the first epoch."""
    task = AcousticTask(wanted)
    task.model.train()
    batches = list(task.epoch(1, 0).batches)
    loss = task.loss(batches[batch], torch.autocast("cpu", enabled=False))
    loss.mean.backward()
    found = {name: parameter.grad.clone() for name, parameter in task.model.named_parameters()}
    return {
        **found,
        "loss": torch.tensor(float(loss.sums["loss"]) / max(float(loss.sums["labels"]), 1)),
        "infinite": torch.tensor(len(loss.infinite)),
    }


def measure(folder: Path, world: World) -> dict[str, Any]:
    """Gradients, weights and dev results of two processes."""
    found: dict[str, Any] = {}
    batches = len(AcousticTask(job(folder, "none"))._plan(1, 4.0))
    found["gradients"] = [gradients(job(folder, "none", world=world), batch) for batch in range(batches)]
    wanted = job(folder, "whole", world=world)
    found["outcome"] = train(wanted)
    found["whole"] = wanted.acoustic.state_dict()
    found["dev"] = [part.answers for part in world.gather(_counts(wanted))]

    wanted = job(folder, "begun-by-two", world=world)
    found["begun"] = train(wanted, CUT if world.rank == 1 else None)  # one process's signal stops all

    reporter = Recorder()
    wanted = job(folder, "begun-by-one", world=world)
    train(wanted, reporter=reporter)
    found["ended"], found["said"] = wanted.acoustic.state_dict(), reporter.said

    wanted = job(folder, "unfrozen", UNFREEZING, world=world)
    train(wanted)
    found["unfrozen"] = wanted.acoustic.state_dict()

    wanted = job(folder, "random", RANDOM, world=world)
    train(wanted)
    found["random"] = wanted.acoustic.state_dict()
    train(job(folder, "random-cut", RANDOM, world=world), after=CUT)
    wanted = job(folder, "random-cut", RANDOM, world=world)
    train(wanted)
    found["random-cut"] = wanted.acoustic.state_dict()
    found["draws"] = world.gather(torch.rand(3))
    return found


def _counts(wanted: Job) -> Any:
    """What this process alone measures of the dev set."""
    seen = []
    original = validation._count
    validation._count = lambda *arguments: seen.append(original(*arguments)) or seen[-1]
    AcousticTask(wanted).validate()
    validation._count = original
    return seen[-1]


def fail(folder: Path, world: World) -> None:
    """The second process can't read its part of the third batch."""
    read, batches = Reader.read_batch, count()

    def broken(reader: Reader, samples: Sequence[Sample]) -> Batch:
        if next(batches) == 3 and world.rank == 1:  # the first is that of the memory trial
            raise DataError("this recording is broken", where="disc.wav")
        return read(reader, samples)

    Reader.read_batch = broken
    train(job(folder, "failing", world=world))


def main(folder: Path) -> None:
    try:
        with joined(raised_by_all=InterruptedTogetherError) as world:
            torch.save(measure(folder, world), folder / f"found-{world.rank}.pt")
            fail(folder, world)
    except AsrError as error:
        print("error:", error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
