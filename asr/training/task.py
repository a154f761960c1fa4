"""What the training loop asks of a model: an epoch's batches, a loss to minimise, a look at the dev set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor, nn

from asr.errors import AsrError

BatchT = TypeVar("BatchT", contravariant=True)
ResultT = TypeVar("ResultT", bound="Result")
DevResultT = TypeVar("DevResultT", bound="Result", covariant=True)


class DivergedTrainingError(AsrError):
    """The weights have run away so far that the model answers with what is not a number."""


class Result(Protocol):
    """Figures of a pass over the dev set; as a string, for the terminal."""

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better; the second number decides between equals."""
        ...

    @property
    def logged(self) -> Mapping[str, Any]:
        """What the log has of them."""
        ...


class Epoch(NamedTuple):
    """The batches of an epoch that are still to be done, and how many it has in all."""

    size: int
    batches: Iterator[Any]


class Loss(NamedTuple):
    """The loss of a batch.

    Attributes:
        mean: to be minimised; a scalar.
        sums: what `Task.figures` wants to know of all the steps of an epoch, as numbers or scalars.
        infinite: names of the examples of which the loss is infinite, and which `mean` leaves out.
    """

    mean: Tensor
    sums: Mapping[str, Tensor | float]
    infinite: Sequence[str] = ()


class Task(Protocol[BatchT, DevResultT]):
    """A model, what it is trained on and how it is measured.

    What happens in an epoch may depend on the epoch, a seed and torch's generator, which the loop saves, but on
    nothing else: a training that is cut off goes on in a new process.
    """

    @property
    def model(self) -> nn.Module:
        """On the device to train on."""
        ...

    def epoch(self, number: int, done: int, growth: float = 1.0) -> Epoch:
        """An epoch, counted from 1, of which so many batches are done; they are so many times larger than usual.

        Asked for when all batches of the epoch before it were taken, so that it can be read ahead.
        """
        ...

    def loss(self, batch: BatchT, autocast: AbstractContextManager[Any]) -> Loss:
        """The loss of a batch, wherever its tensors are; in `autocast`, operations may lose precision."""
        ...

    def validate(self) -> DevResultT:
        """Measure the model on the dev set; leaves it in evaluation mode.

        Raises:
            DivergedTrainingError: what the model answers is not a number.
        """
        ...

    def figures(self, totals: Mapping[str, float]) -> dict[str, Any]:
        """What to log of an epoch, from the sums of its losses."""
        ...

    def note(self, totals: Mapping[str, float]) -> str:
        """How well training goes, such as "loss 0.123"."""
        ...


def mean(totals: Mapping[str, float], name: str, by: str) -> float:
    """One sum divided by another; 0 where there was nothing."""
    return totals.get(name, 0.0) / max(totals.get(by, 0.0), 1)


def comparable(loss: float) -> float:
    """Infinity for what is not a number: no comparison with that is true."""
    return math.inf if math.isnan(loss) else loss
