"""The training of an acoustic model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from asr.augment import Silences
from asr.data.batching import Concatenation, Sample, plan_epoch, plan_in_order
from asr.data.loading import Batch, Loader, Reader
from asr.data.manifest import Utterance
from asr.features import FeatureExtractor
from asr.model.acoustic import AcousticModel
from asr.model.ctc import CtcLoss, ctc_loss, disagreement, divisor
from asr.reporting import Reporter
from asr.training import loop
from asr.training.distributed import ALONE, World
from asr.training.memory import Budget, padded_seconds, try_step
from asr.training.schedule import Schedule
from asr.training.task import Epoch, Loss, mean
from asr.training.validation import DevResult, validate, without_alignment


@dataclass(frozen=True)
class Job:
    """All that a training needs.

    Attributes:
        acoustic, extractor: on the device to train on; the weights are changed in place.
        train, dev: the utterances.
        train_reader, dev_reader: read them; the former augments.
        settings: of the loop.
        batch_seconds: most audio in a batch, padding included.
        seed: of shuffling and augmentation; dropout follows torch's generator.
        folder: of checkpoints and log.
        workers: processes that read batches beside the training.
        rounds: how often an epoch goes through the training set.
        shortest_first: whether the first of these begins with the shortest utterances.
        consistency: weight of what two views of an utterance disagree in; `train_reader` makes two where it counts
        concatenation: strings of utterances, or None.
        silences: draw silence around them, or None.
        spec_augment_start: first epoch in which the training reader's SpecAugment is used.
        on_epoch: see `loop.train`.
        world: the processes that share each batch, and the dev set.
    """

    acoustic: AcousticModel
    extractor: FeatureExtractor
    train: list[Utterance]
    dev: list[Utterance]
    train_reader: Reader
    dev_reader: Reader
    settings: loop.Settings
    batch_seconds: float
    seed: int
    folder: Path
    workers: int = 0
    rounds: int = 1
    shortest_first: bool = False
    consistency: float = 0.0
    concatenation: Concatenation | None = None
    silences: Silences | None = None
    spec_augment_start: int = 1
    on_epoch: Callable[[int, DevResult], None] = lambda epoch, dev: None
    world: World = ALONE


def train(job: Job, reporter: Reporter) -> loop.Outcome[DevResult]:
    """Train an acoustic model, or go on where its training was cut off: see `loop.train`.

    Raises:
        InterruptedTrainingError: a signal to stop came; a checkpoint was written first.
        AudioError: a recording can't be read.
        DataError: a sample alone does not fit into memory.
        ExhaustedError: a batch does not fit into memory, although a trial did; next time batches are smaller. Or a
            process that reads data was killed.
    """
    budget = Budget("training.batch_seconds", job.batch_seconds, job.folder)
    trial = AcousticTask(job)
    fitting = budget.fitting(trial.longest_batch, trial.attempt, reporter, job.world)
    job = replace(job, batch_seconds=fitting)
    task = AcousticTask(job)
    with budget.lowered_when_exhausted(fitting, lambda: task.latest):
        return loop.train(task, job.settings, job.folder, reporter, job.on_epoch, job.world)


def sample_seconds(job: Job) -> dict[str, float]:
    """How long the samples are that a model learns from: typically, and at most, but for one in a hundred."""
    plan = AcousticTask(job)._plan(1, job.batch_seconds)
    typical, long = np.percentile([sample.duration for batch in plan for sample in batch], [50, 99])
    return {"typical": round(float(typical), 2), "long": round(float(long), 2)}


class AcousticTask:
    """An acoustic model with its utterances, for the training loop."""

    def __init__(self, job: Job) -> None:
        self.job, self.model = job, job.acoustic
        self.device = next(job.acoustic.parameters()).device
        self.loader: Loader[Batch] | None = None
        self.latest: tuple[Sample, ...] = ()
        self._masked = False
        self._network: nn.Module = job.acoustic
        self._learning: list[bool] = []

    @property
    def network(self) -> nn.Module:
        """The model as it is trained together with other processes, which agree on what of it learns."""
        learning = [parameter.requires_grad for parameter in self.model.parameters()]
        if learning != self._learning:
            self._learning, self._network = learning, self.job.world.parallel(self.model)
        return self._network

    def epoch(self, number: int, done: int, growth: float = 1.0) -> Epoch:
        job, rounds = self.job, self.job.rounds
        budget = job.batch_seconds * growth
        turns = range((number - 1) * rounds + 1, number * rounds + 1)
        plan = [batch for turn in turns for batch in self._plan(turn, budget)]
        reader = self._train_reader(number)
        if self.loader is None or number == job.spec_augment_start:
            self.loader = self._loader(reader)
        self._masked = reader.spec_augment is not None
        return Epoch(len(plan), self.loader([job.world.share(batch) for batch in plan[done:]]))

    def loss(self, batch: Batch, autocast: AbstractContextManager[Any]) -> Loss:
        self.latest = batch.samples
        world, (loss, objective) = self.job.world, self._ctc(self.network, batch, autocast)
        infinite = without_alignment(loss, batch.samples)
        sums = world.sum(
            {
                "loss": loss.mean.detach() * loss.labels,
                "labels": loss.labels,
                "frames": loss.frames,
                "infinite": len(infinite),
                "masked": self._masked,
                "audio_seconds": sum(sample.duration for sample in batch.samples),
            }
        )
        if sums["infinite"]:
            infinite = [name for names in world.gather(infinite) for name in names]
        # The mean over the labels of all processes, once gradients are averaged over these.
        together = divisor(float(sums["labels"]), float(sums["frames"]))
        weight = world.size * divisor(loss.labels, loss.frames) / together
        return Loss(objective * weight, sums, infinite)

    def longest_batch(self, budget: float) -> list[Sample]:
        """The batch that needs most memory in the first epoch, with such a budget and batches fully grown."""
        settings, size = self.job.settings, self.job.world.size
        growth = Schedule(settings.schedule, settings.warmup, settings.shape).most_growth(settings.epochs)
        return max(self._plan(1, budget * growth), key=lambda batch: padded_seconds(batch, size))

    def attempt(self, samples: Sequence[Sample]) -> None:
        """A step with this process's share of a batch, which changes nothing: see `try_step`."""
        job, share = self.job, self.job.world.share(samples)
        try_step(
            self.model,
            job.settings.methods,
            job.settings.precision,
            lambda autocast: self._ctc(self.model, job.train_reader.read_batch(share), autocast)[1],
            job.world.local_size,
            job.workers,
            loop.has_begun(job.folder),
        )

    def validate(self) -> DevResult:
        job, self.latest = self.job, ()
        share = job.world.share(sorted(job.dev, key=lambda utterance: utterance.duration))
        plan = plan_in_order(share, job.batch_seconds / job.world.size)
        return validate(self.model, job.extractor, self._dev_loader(plan), job.dev_reader.tokenizer, job.world)

    def figures(self, totals: Mapping[str, float]) -> dict[str, Any]:
        return {
            "train_loss": mean(totals, "loss", "labels"),
            "infinite_losses": totals.get("infinite", 0.0),
            "audio_seconds": totals.get("audio_seconds", 0.0),
            "masked": totals.get("masked", 0.0) > 0,  # of this epoch: the next one may have begun to be read
        }

    def note(self, totals: Mapping[str, float]) -> str:
        return f"loss {mean(totals, 'loss', 'labels'):.3f}"

    def _ctc(
        self, network: nn.Module, batch: Batch, autocast: AbstractContextManager[Any]
    ) -> tuple[CtcLoss, Tensor]:
        """The loss, and what is to be minimised: per label, and with the disagreement of two views.

        In single precision: it adds up thousands of probabilities.
        """
        features, lengths = batch.to(self.device).features(self.job.extractor)
        with autocast:
            log_probs, lengths = network(features, lengths)
        # Counted here: those of the network would have to be fetched from a GPU.
        frames = self.model.output_length(batch.frames(self.job.extractor))
        loss = ctc_loss(log_probs, frames, batch.targets, batch.target_lengths)
        if len(log_probs) == len(batch.samples):
            return loss, loss.mean
        apart = disagreement(log_probs, lengths).sum() / divisor(loss.labels, loss.frames)
        return loss, loss.mean + self.job.consistency * apart

    def _plan(self, turn: int, budget: float) -> list[list[Sample]]:
        job = self.job
        return plan_epoch(
            job.train,
            batch_seconds=budget,
            seed=job.seed,
            epoch=turn,
            concatenation=job.concatenation,
            silences=job.silences,
            shortest_first=job.shortest_first and turn == 1,
        )

    @cached_property
    def _dev_loader(self) -> Loader[Batch]:
        return self._loader(self.job.dev_reader)

    def _train_reader(self, epoch: int) -> Reader:
        if epoch < self.job.spec_augment_start:
            return replace(self.job.train_reader, spec_augment=None, views=1)
        return self.job.train_reader

    def _loader(self, reader: Reader) -> Loader[Batch]:
        return Loader(reader, self.job.workers, self.device)
