"""The training of an acoustic model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from asr.config import Training
from asr.data.batching import Concatenation, plan_epoch, plan_in_order
from asr.data.loading import Batch, Loader, Reader
from asr.data.manifest import Utterance
from asr.features import FeatureExtractor
from asr.model.acoustic import AcousticModel
from asr.model.ctc import ctc_loss
from asr.reporting import Reporter
from asr.training import loop
from asr.training.task import Epoch, Loss, mean
from asr.training.validation import DevResult, validate


@dataclass(frozen=True)
class Job:
    """All that a training needs.

    Attributes:
        acoustic, extractor: on the device to train on; the weights are changed in place.
        train, dev: the utterances.
        train_reader, dev_reader: read them; the former augments.
        settings: the recipe's section.
        seed: of shuffling and augmentation; dropout follows torch's generator.
        folder: of checkpoints and log.
        concatenation: strings of utterances, or None.
        spec_augment_start: first epoch in which the training reader's SpecAugment is used.
    """

    acoustic: AcousticModel
    extractor: FeatureExtractor
    train: list[Utterance]
    dev: list[Utterance]
    train_reader: Reader
    dev_reader: Reader
    settings: Training
    seed: int
    folder: Path
    concatenation: Concatenation | None = None
    spec_augment_start: int = 1


def train(job: Job, reporter: Reporter) -> loop.Outcome[DevResult]:
    """Train an acoustic model, or go on where its training was cut off: see `loop.train`.

    Raises:
        InterruptedTrainingError: SIGINT or SIGTERM came; a checkpoint was written first.
        AudioError: a recording can't be read.
    """
    section = job.settings
    settings = loop.Settings(
        epochs=section.epochs,
        learning_rate=section.learning_rate,
        warmup=section.warmup,
        schedule=section.schedule,
        weight_decay=section.weight_decay,
        clip_norm=section.clip_norm,
        patience=section.patience,
        average=section.average,
        precision=section.precision,
        # A thread that shares its core with a worker holds up all the others at every operation's end.
        threads=section.threads or max(loop.CORES - section.workers, 1),
        checkpoint_minutes=section.checkpoint_minutes,
    )
    return loop.train(AcousticTask(job), settings, job.folder, reporter)


class AcousticTask:
    """An acoustic model with its utterances, for the training loop."""

    def __init__(self, job: Job) -> None:
        self.job, self.model = job, job.acoustic
        self.device = next(job.acoustic.parameters()).device
        self.loader: Loader | None = None

    def epoch(self, number: int, done: int) -> Epoch:
        job = self.job
        plan = plan_epoch(
            job.train,
            batch_seconds=job.settings.batch_seconds,
            seed=job.seed,
            epoch=number,
            concatenation=job.concatenation,
            shortest_first=job.settings.sorted_first_epoch and number == 1,
        )
        if self.loader is None or number == job.spec_augment_start:
            self.loader = self._loader(self._train_reader(number))
        return Epoch(len(plan), self.loader(plan[done:]))

    def loss(self, batch: Batch, autocast: AbstractContextManager[Any]) -> Loss:
        """CTC's, in single precision: it adds up thousands of probabilities."""
        batch = batch.to(self.device)
        features, lengths = batch.features(self.job.extractor)
        with autocast:
            log_probs, lengths = self.model(features, lengths)
        loss = ctc_loss(log_probs, lengths, batch.targets, batch.target_lengths)
        sums: dict[str, Tensor | float] = {
            "loss": loss.mean.detach() * loss.labels,
            "labels": loss.labels,
            "infinite": loss.infinite,
            "audio_seconds": sum(sample.duration for sample in batch.samples),
        }
        return Loss(loss.mean, sums)

    def validate(self) -> DevResult:
        plan = plan_in_order(self.job.dev, self.job.settings.batch_seconds)
        return validate(self.model, self.job.extractor, self._dev_loader(plan), self.job.dev_reader.tokenizer)

    def figures(self, totals: Mapping[str, float], dev: DevResult) -> dict[str, float]:
        return {
            "train_loss": mean(totals, "loss", "labels"),
            "dev_loss": dev.loss,
            "dev_wer": dev.wer,
            "dev_cer": dev.cer,
            "infinite_losses": totals.get("infinite", 0.0),
            "audio_seconds": totals.get("audio_seconds", 0.0),
        }

    def note(self, totals: Mapping[str, float]) -> str:
        return f"loss {mean(totals, 'loss', 'labels'):.3f}"

    def warnings(self, totals: Mapping[str, float], dev: DevResult) -> Iterator[str]:
        infinite = totals.get("infinite", 0.0)
        if infinite or dev.infinite:
            yield (
                f"{infinite:.0f} training and {dev.infinite} dev utterances have an infinite loss: "
                "too few frames for their labels (less subsampling, or longer tokens)"
            )

    @cached_property
    def _dev_loader(self) -> Loader:
        return self._loader(self.job.dev_reader)

    def _train_reader(self, epoch: int) -> Reader:
        if epoch < self.job.spec_augment_start:
            return replace(self.job.train_reader, spec_augment=None)
        return self.job.train_reader

    def _loader(self, reader: Reader) -> Loader:
        return Loader(reader, self.job.settings.workers, pin_memory=self.device.type == "cuda")
