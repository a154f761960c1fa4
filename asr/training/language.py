"""The training of a neural language model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.errors import AsrError
from asr.reporting import Reporter
from asr.text.neural import NeuralLm
from asr.text.padding import NOTHING, fill_batches, pad
from asr.text.perplexity import Perplexity, measure
from asr.text.units import BOUNDARY, Units
from asr.training import loop
from asr.training.memory import is_lack_of_memory
from asr.training.task import Epoch, Loss, comparable, mean


@dataclass(frozen=True)
class Job:
    """All that a training needs.

    Attributes:
        model: on the device to train on; the weights are changed in place.
        train, dev: sentences, their words apart by white space.
        settings: of the loop.
        seed: of shuffling and sampling; dropout follows torch's generator.
        folder: of checkpoints and log.
        batch_units: most units in a batch, padding included.
        longest: units; longer sentences are learnt in pieces, each from the zero state on.
        draws: how many units a sampled softmax draws in each batch.
    """

    model: NeuralLm
    train: Sequence[str]
    dev: Sequence[str]
    settings: loop.Settings
    seed: int
    folder: Path
    batch_units: int = 2048
    longest: int = 256
    draws: int = 4096


@dataclass(frozen=True)
class DevResult:
    """How well the model foresees the dev set."""

    measured: Perplexity

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better: the perplexity per word."""
        return comparable(self.measured.perplexity), 0.0

    @property
    def logged(self) -> Mapping[str, float]:
        """What the log has of them."""
        return {
            "dev_perplexity": self.measured.perplexity,
            "dev_perplexity_known": self.measured.perplexity_known,
        }

    def __str__(self) -> str:
        return f"dev perplexity {self.measured.perplexity:.2f}"


class Batch(NamedTuple):
    """Sentences, as `padding.pad` gives them, and the seed of what is drawn for them."""

    inputs: Tensor
    targets: Tensor
    seed: int


def train(job: Job, reporter: Reporter) -> loop.Outcome[DevResult]:
    """Train a language model, or go on where its training was cut off: see `loop.train`.

    Raises:
        InterruptedTrainingError: a signal to stop came; a checkpoint was written first.
        AsrError: a batch does not fit into memory.
    """
    try:
        return loop.train(LanguageTask(job), job.settings, job.folder, reporter)
    except (RuntimeError, MemoryError) as error:
        if not is_lack_of_memory(error):
            raise
        raise AsrError(
            f"out of memory with batches of {job.batch_units} units",
            hint="a smaller --batch-units; a smaller --hidden or --vocabulary",
        ) from None


class LanguageTask:
    """A language model with its text, for the training loop."""

    def __init__(self, job: Job) -> None:
        self.job, self.model = job, job.model.network
        self.examples = list(_examples(job.train, job.model.units, job.longest))

    def epoch(self, number: int, done: int, growth: float = 1.0) -> Epoch:
        rng = np.random.default_rng((self.job.seed, number))
        # A little noise on the length keeps the same sentences from meeting in every epoch.
        factors = rng.uniform(0.9, 1.1, len(self.examples))
        lengths = (len(example) - 1 for example in self.examples)
        noisy = [length * factor for length, factor in zip(lengths, factors, strict=True)]
        batches = fill_batches(noisy, int(self.job.batch_units * growth))
        order = rng.permutation(len(batches))
        seeds = rng.integers(2**63, size=len(batches))
        return Epoch(len(batches), self._batches([batches[place] for place in order[done:]], seeds[done:]))

    def loss(self, batch: Batch, autocast: AbstractContextManager[Any]) -> Loss:
        device = self.job.model.device
        targets = batch.targets.to(device)
        there = targets != NOTHING
        generator = torch.Generator(device).manual_seed(batch.seed)
        with autocast:
            features, _ = self.model(batch.inputs.to(device))
            losses = self.model.loss(features[there], targets[there], self.job.draws, generator)
        return Loss(losses.mean(), {"loss": losses.detach().sum(), "units": len(losses)})

    def validate(self) -> DevResult:
        return DevResult(measure(self.job.model, self.job.dev))

    def figures(self, totals: Mapping[str, float]) -> dict[str, Any]:
        return {"train_loss": mean(totals, "loss", "units"), "units": totals.get("units", 0.0)}

    def note(self, totals: Mapping[str, float]) -> str:
        return f"loss {mean(totals, 'loss', 'units'):.3f}"

    def _batches(self, batches: Sequence[Sequence[int]], seeds: NDArray[np.int64]) -> Iterator[Batch]:
        for places, seed in zip(batches, seeds, strict=True):
            yield Batch(*pad([self.examples[place] for place in places]), int(seed))


def _examples(sentences: Sequence[str], units: Units, longest: int) -> Iterator[NDArray[np.int64]]:
    """The units of sentences between boundaries, or of pieces of them, which share a unit with the piece before."""
    for sentence in sentences:
        numbers = [BOUNDARY, *(number for word in units.encode(sentence.split()) for number in word), BOUNDARY]
        for start in range(0, len(numbers) - 1, longest):
            yield np.array(numbers[start : start + longest + 1], np.int64)
