"""The self-supervised start: front-end and first recurrent layers learn from recordings without transcripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors

from asr.data.batching import Sample, plan_epoch
from asr.data.corruption import CorruptedBatch, CorruptingReader
from asr.data.loading import Loader
from asr.data.manifest import Utterance
from asr.errors import ModelError
from asr.files import write_bytes
from asr.model.acoustic import AcousticModel
from asr.model.denoising import DenoisingModel, SquaredErrors, squared_errors
from asr.reporting import Reporter
from asr.training import loop
from asr.training.memory import Budget, padded_seconds, try_step
from asr.training.task import Epoch, Loss, comparable

PARTS = ("frontend.", "encoder.")
"""How the names of the tensors begin that an acoustic model takes over; the head's work is done."""


@dataclass(frozen=True)
class Job:
    """All that a training needs.

    Attributes:
        model: on the device to train on; the weights are changed in place.
        train, dev: recordings; what is said in them is not looked at.
        reader: reads and spoils them.
        settings: of the loop.
        batch_seconds: most audio in a batch, padding included.
        seed: of shuffling and corruption; dropout follows torch's generator.
        folder: of checkpoints and log.
        workers: processes that read.
    """

    model: DenoisingModel
    train: Sequence[Utterance]
    dev: Sequence[Utterance]
    reader: CorruptingReader
    settings: loop.Settings
    batch_seconds: float
    seed: int
    folder: Path
    workers: int = 0


@dataclass(frozen=True)
class DevResult:
    """How well the dev set is restored.

    Attributes:
        loss: weighted mean squared error; 1 is what the mean of the features scores.
        masked, visible: mean squared errors of what was masked, and of what was only noisy.
    """

    loss: float
    masked: float
    visible: float

    @property
    def logged(self) -> Mapping[str, float]:
        """What the log has of them."""
        return {"dev_restoration": self.loss, "dev_masked": self.masked, "dev_visible": self.visible}

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better."""
        return comparable(self.loss), 0.0

    def __str__(self) -> str:
        return f"dev loss {self.loss:.3f} (masked {self.masked:.3f}, visible {self.visible:.3f})"


def train(job: Job, reporter: Reporter) -> loop.Outcome[DevResult]:
    """Train a denoising model, or go on where its training was cut off: see `loop.train`.

    Raises:
        InterruptedTrainingError: a signal to stop came; a checkpoint was written first.
        AudioError: a recording can't be read.
        DataError: a recording alone does not fit into memory.
        ExhaustedError: a batch does not fit into memory, although a trial did; next time batches are smaller. Or a
            process that reads data was killed.
    """
    budget = Budget("pretrain.batch_seconds", job.batch_seconds, job.folder)
    trial = DenoisingTask(job)
    fitting = budget.fitting(trial.longest_batch, trial.attempt, reporter)
    with budget.lowered_when_exhausted(fitting):
        return loop.train(DenoisingTask(replace(job, batch_seconds=fitting)), job.settings, job.folder, reporter)


class DenoisingTask:
    """A denoising model with its recordings, for the training loop."""

    def __init__(self, job: Job) -> None:
        self.job, self.model = job, job.model
        self.device = next(job.model.parameters()).device

    def epoch(self, number: int, done: int, growth: float = 1.0) -> Epoch:
        plan = self._plan(number, self.job.batch_seconds * growth)
        return Epoch(len(plan), self._train_loader(plan[done:]))

    def loss(self, batch: CorruptedBatch, autocast: AbstractContextManager[Any]) -> Loss:
        errors = self._errors(batch, autocast)
        sums = {name: total.detach() for name, total in errors._asdict().items()}
        return Loss(errors.mean, {**sums, "audio_seconds": batch.seconds})

    def longest_batch(self, budget: float) -> list[Sample]:
        """The batch that needs most memory in the first epoch, with such a budget."""
        return max(self._plan(1, budget), key=padded_seconds)

    def attempt(self, samples: Sequence[Sample]) -> None:
        """A step with a batch, which changes nothing: see `try_step`."""
        settings, reader = self.job.settings, self.job.reader
        try_step(
            self.model,
            settings.methods,
            settings.precision,
            lambda autocast: self._errors(reader.read_batch(samples), autocast).mean,
            readers=self.job.workers,
            begun=loop.has_begun(self.job.folder),
        )

    @torch.inference_mode()
    def validate(self) -> DevResult:
        """On the dev set, corrupted in the same way each time."""
        self.model.eval()
        job = self.job
        plan = plan_epoch(job.dev, batch_seconds=job.batch_seconds, seed=job.seed, epoch=0, shortest_first=True)
        found = [self._errors(batch, nullcontext()) for batch in self._dev_loader(plan)]
        total = SquaredErrors(*(torch.stack(parts).sum() for parts in zip(*found, strict=True)))
        return DevResult(
            loss=total.mean.item(),
            masked=(total.masked / total.masked_values.clamp(min=1)).item(),
            visible=(total.visible / total.visible_values.clamp(min=1)).item(),
        )

    def figures(self, totals: Mapping[str, float]) -> dict[str, Any]:
        return {"train_restoration": _mean(totals), "audio_seconds": totals.get("audio_seconds", 0.0)}

    def note(self, totals: Mapping[str, float]) -> str:
        return f"loss {_mean(totals):.3f}"

    def _plan(self, number: int, budget: float) -> list[list[Sample]]:
        return plan_epoch(self.job.train, batch_seconds=budget, seed=self.job.seed, epoch=number)

    def _errors(self, batch: CorruptedBatch, autocast: AbstractContextManager[Any]) -> SquaredErrors:
        batch = batch.to(self.device)
        with autocast:
            restored = self.model(batch.features, batch.lengths)
        return squared_errors(restored, batch.clean, batch.masked, batch.lengths)

    @cached_property
    def _train_loader(self) -> Loader[CorruptedBatch]:
        return self._loader(self.job.reader)

    @cached_property
    def _dev_loader(self) -> Loader[CorruptedBatch]:
        return self._loader(replace(self.job.reader, voice=None))

    def _loader(self, reader: CorruptingReader) -> Loader[CorruptedBatch]:
        return Loader(reader, self.job.workers, self.device)


def _mean(totals: Mapping[str, float]) -> float:
    """The mean error of the steps of an epoch."""
    return SquaredErrors(*(torch.tensor(totals.get(name, 0.0)) for name in SquaredErrors._fields)).mean.item()


def save(model: DenoisingModel, path: Path) -> None:
    """Write what an acoustic model can take over."""
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if name.startswith(PARTS)
    }
    write_bytes(path, to_safetensors(tensors))


def take_over(acoustic: AcousticModel, path: Path) -> int:
    """Give an acoustic model the weights of a file that `save` wrote; returns how many parameters they are.

    Raises:
        ModelError: the file is missing, damaged, or holds something that this model has not.
    """
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"the pretrained weights can't be read ({error})", where=path, hint="remove it, to pretrain again"
        ) from None
    own = acoustic.state_dict()
    strange = [name for name, tensor in stored.items() if name not in own or own[name].shape != tensor.shape]
    if strange or not stored:
        raise ModelError(
            f"these pretrained weights are of another model: {', '.join(strange[:3])}",
            where=path,
            hint="remove it, to pretrain again",
        )
    acoustic.load_state_dict(stored, strict=False)
    return sum(parameter.numel() for name, parameter in acoustic.named_parameters() if name in stored)
