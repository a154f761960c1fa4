"""Schedules against torch's own and against closed forms; batches that grow in place of a falling rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from logs import log
from torch import nn
from torch.optim import lr_scheduler

from asr.config import Training
from asr.reporting import Silent
from asr.training import loop
from asr.training.optimization import OptimizationMethods
from asr.training.optimizers import OptimizerSettings
from asr.training.schedule import SCHEDULES, Schedule, ScheduleShape, learning_rate_factor
from asr.training.task import Epoch, Loss

STEPS = 100
SHAPE = ScheduleShape(final_factor=0.02, step_at=(0.3, 0.8), step_factor=0.2)


def test_a_recipe_names_every_schedule() -> None:
    assert set(get_args(Training.model_fields["schedule"].annotation)) == set(SCHEDULES)


def torchs(kind: str, optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
    final = SHAPE.final_factor
    match kind:
        case "constant":
            return lr_scheduler.ConstantLR(optimizer, factor=1.0)
        case "linear":
            return lr_scheduler.LinearLR(optimizer, 1.0, final, STEPS)
        case "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, STEPS, final)
        case "exponential":
            return lr_scheduler.ExponentialLR(optimizer, final ** (1 / STEPS))
        case "step":
            return lr_scheduler.MultiStepLR(optimizer, [30, 80], 0.2)
        case "one_cycle":
            # Torch counts the rise from the first step to the one before pct_start × total_steps.
            rise = (0.3 * STEPS + 1) / (STEPS + 1)
            return lr_scheduler.OneCycleLR(
                optimizer, 1.0, STEPS + 1, pct_start=rise, cycle_momentum=False, final_div_factor=1 / (25 * final)
            )
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "exponential", "step", "one_cycle"])
def test_factors_are_those_of_torch(kind: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torchs(kind, optimizer)
    for step in range(STEPS + 1):
        assert learning_rate_factor(step / STEPS, 0.0, kind, SHAPE) == pytest.approx(
            optimizer.param_groups[0]["lr"], rel=1e-9
        ), step
        if step < STEPS:
            optimizer.step()
            scheduler.step()


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="'cosin' is no schedule: constant, linear"):
        Schedule("cosin", 0.0)


def test_inverse_time_decay() -> None:
    """1 / (1 + k t), with k such that the final factor is met at the end."""
    values = [learning_rate_factor(t / 10, 0.0, "inverse_time", SHAPE) for t in range(11)]
    assert values == pytest.approx([1 / (1 + 49 * t / 10) for t in range(11)])
    assert values[-1] == pytest.approx(0.02)


@given(
    kind=st.sampled_from(SCHEDULES),
    warmup=st.floats(0.01, 0.29),
    share=st.floats(0, 1),
    further=st.floats(0, 1),
)
def test_a_warm_up_leads_from_zero_to_the_start_and_then_the_rate_falls(
    kind: str, warmup: float, share: float, further: float
) -> None:
    def at(progress: float) -> float:
        return learning_rate_factor(progress, warmup, kind, SHAPE)

    start = learning_rate_factor(0.0, 0.0, kind, SHAPE)
    assert start == pytest.approx(0.04 if kind == "one_cycle" else 1.0)
    assert at(0.0) == 0
    assert at(share * warmup) == pytest.approx(share * start)
    assert at(warmup) == pytest.approx(start)
    assert at(math.nextafter(warmup, 0)) == pytest.approx(start)
    if kind not in ("constant", "step", "plateau"):
        assert at(1.0) == pytest.approx(SHAPE.final_factor)
    peak = warmup + 0.3 * (1 - warmup) if kind == "one_cycle" else warmup
    assert at(peak) == pytest.approx(1.0)
    place = peak + share * (1 - peak)
    assert at(min(place + further * (1 - place), 1.0)) <= at(place) + 1e-12


@given(
    errors=st.lists(st.sampled_from([0.5, 0.4, 0.3, 0.2, 0.1]), min_size=1, max_size=40),
    patience=st.integers(0, 4),
    cut=st.integers(0, 40),
)
def test_plateaus_are_those_of_torch_and_are_remembered(errors: list[float], patience: int, cut: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience, threshold=0, min_lr=0.1, eps=0
    )
    shape = ScheduleShape(final_factor=0.1, step_factor=0.5, plateau_patience=patience)
    schedule = Schedule("plateau", 0.0, shape)
    for epoch, error in enumerate(errors):
        if epoch == cut:
            state = schedule.state()
            schedule = Schedule("plateau", 0.0, shape)
            schedule.restore(state)
        schedule.begin_epoch(epoch / len(errors))
        assert schedule.factor(epoch / len(errors)) == pytest.approx(optimizer.param_groups[0]["lr"])
        schedule.end_epoch((error, 0.0))
        reference.step(error)


def test_a_loss_that_falls_is_no_plateau_where_all_is_blank() -> None:
    schedule = Schedule("plateau", 0.0, ScheduleShape(plateau_patience=0))
    for loss in (3.0, 2.5, 2.0):
        schedule.end_epoch((1.0, loss))
    assert schedule.factor(0.5) == 1.0
    schedule.end_epoch((1.0, 2.0))
    assert schedule.factor(0.5) < 1.0


def test_only_plateau_heeds_the_dev_set() -> None:
    schedule = Schedule("constant", 0.0, ScheduleShape(plateau_patience=0))
    for _ in range(3):
        schedule.end_epoch((1.0, 0.0))
    assert schedule.factor(0.5) == 1.0


# ------------------------------------------------------------------------------------------ batch growth


def test_batches_grow_in_place_of_steps_of_the_rate_as_far_as_they_may() -> None:
    """Smith et al. 2018: the ratio of rate and batch is that of the schedule."""
    shape = ScheduleShape(step_at=(0.25, 0.5, 0.75), step_factor=0.5, batch_growth=4.0)
    schedule = Schedule("step", 0.0, shape)
    seen = [(schedule.begin_epoch(epoch / 8), schedule.factor(epoch / 8)) for epoch in range(8)]
    assert seen == [(1, 1), (1, 1), (2, 1), (2, 1), (4, 1), (4, 1), (4, 0.5), (4, 0.5)]


@pytest.mark.parametrize("kind", SCHEDULES)
def test_batches_do_not_grow_while_the_rate_rises(kind: str) -> None:
    """However small it is then."""
    schedule = Schedule(kind, 0.25, ScheduleShape(batch_growth=8.0))
    assert [schedule.begin_epoch(epoch / 16) for epoch in range(4)] == [1, 1, 1, 1]
    cycle = Schedule("one_cycle", 0.0, ScheduleShape(batch_growth=8.0))
    assert [cycle.begin_epoch(epoch / 10) for epoch in range(4)] == [1, 1, 1, 1]
    assert cycle.begin_epoch(0.9) > 2


@given(
    kind=st.sampled_from(SCHEDULES),
    warmup=st.floats(0, 0.3),
    most=st.floats(1, 64),
    epoch=st.integers(0, 9),
    within=st.floats(0, 0.99),
)
def test_rate_over_batch_follows_the_schedule(
    kind: str, warmup: float, most: float, epoch: int, within: float
) -> None:
    shape = ScheduleShape(batch_growth=most)
    schedule = Schedule(kind, warmup, shape)
    growth = schedule.begin_epoch(epoch / 10)
    progress = (epoch + within) / 10
    assert 1 <= growth <= most * (1 + 1e-12)
    assert schedule.factor(progress) / growth == pytest.approx(learning_rate_factor(progress, warmup, kind, shape))
    assert schedule.factor(progress) <= 1 + 1e-9
    if epoch / 10 < warmup or (kind == "one_cycle" and epoch < 3):
        assert growth == 1


@pytest.mark.parametrize("kind", SCHEDULES)
@given(
    warmup=st.floats(0, 0.3),
    most=st.floats(1, 64),
    final=st.sampled_from([0.01, 0.5]),
    patience=st.integers(0, 3),
    epochs=st.integers(1, 12),
)
def test_batches_grow_as_far_as_is_told_before_and_no_farther(
    kind: str, warmup: float, most: float, final: float, patience: int, epochs: int
) -> None:
    shape = ScheduleShape(final, step_factor=0.4, plateau_patience=patience, batch_growth=most)
    schedule, grown = Schedule(kind, warmup, shape), []
    told = schedule.most_growth(epochs)
    for epoch in range(epochs):
        grown.append(schedule.begin_epoch(epoch / epochs))
        schedule.end_epoch((1.0,))  # nothing better ever comes
    assert told == pytest.approx(max(grown)) or (kind == "plateau" and warmup > 0)
    assert max(grown) <= told * (1 + 1e-12)


# ---------------------------------------------------------------------------------------- in the training


class Dev(NamedTuple):
    """The error is what the dev set's script says."""

    error: float

    @property
    def rank(self) -> tuple[float, float]:
        return self.error, 0.0

    @property
    def logged(self) -> dict[str, float]:
        return {"dev_error": self.error}

    def __str__(self) -> str:
        return f"dev {self.error}"


class Line:
    """A straight line to fit; notes how large its batches were, and the weights that were measured."""

    def __init__(self, errors: tuple[float, ...] = (1.0,) * 10) -> None:
        torch.manual_seed(4)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.2), nn.Linear(4, 1))
        self.errors = iter(errors)
        self.growths: list[float] = []
        self.measured: list[torch.Tensor] = []
        self.weights: list[torch.Tensor] = []

    def epoch(self, number: int, done: int, growth: float = 1.0) -> Epoch:
        self.growths.append(growth)
        return Epoch(4, iter(range(done, 4)))

    def loss(self, batch: int, autocast: AbstractContextManager[Any]) -> Loss:
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(batch))
        self.weights.append(self.model[0].weight.detach().clone())
        loss = (self.model(x)[:, 0] - x.sum(1)).square().mean()
        return Loss(loss, {"loss": loss.detach()})

    def validate(self) -> Dev:
        self.model.eval()
        self.measured.append(self.model[0].weight.detach().clone())
        return Dev(next(self.errors))

    def figures(self, totals: Mapping[str, float]) -> dict[str, float]:
        return {"train_loss": totals["loss"]}

    def note(self, totals: Mapping[str, float]) -> str:
        return ""


def settings(**changed: Any) -> loop.Settings:
    values = {
        "epochs": 6,
        "learning_rate": 0.05,
        "warmup": 0.0,
        "schedule": "constant",
        "weight_decay": 0.0,
        "clip_norm": None,
        "patience": None,
        "average": 1,
        "precision": "fp32",
        "threads": 1,
    }
    return loop.Settings(**{**values, **changed})


def logged(folder: Path, name: str) -> list[float]:
    return [entry[name] for entry in log(folder)]


def test_the_training_grows_its_batches(tmp_path: Path) -> None:
    task = Line()
    shape = ScheduleShape(step_at=(0.5,), step_factor=0.25, batch_growth=2.0)
    loop.train(task, settings(schedule="step", shape=shape), tmp_path, Silent())
    assert task.growths == [1, 1, 1, 2, 2, 2]
    assert logged(tmp_path, "learning_rate") == pytest.approx([0.05] * 3 + [0.025] * 3)


ERRORS = (0.5, 0.4, 0.4, 0.4, 0.3, 0.3, 0.3)
PLATEAU = {"schedule": "plateau", "shape": ScheduleShape(plateau_patience=0, step_factor=0.5)}


def test_the_training_waits_for_plateaus(tmp_path: Path) -> None:
    loop.train(Line(ERRORS), settings(**PLATEAU), tmp_path, Silent())
    assert logged(tmp_path, "learning_rate") == pytest.approx([0.05, 0.05, 0.05, 0.025, 0.0125, 0.0125])


def test_the_training_measures_and_keeps_the_moving_average_and_goes_on_with_the_weights(tmp_path: Path) -> None:
    plain = Line()
    loop.train(plain, settings(), tmp_path / "plain", Silent())
    task = Line((0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 0.0))
    loop.train(task, settings(methods=OptimizationMethods(ema=0.9)), tmp_path / "ema", Silent())
    assert all(map(torch.equal, plain.weights, task.weights))
    history = [*task.weights[1:5]]
    shares = [0.9 ** (4 - t) for t in range(1, 5)]
    expected = sum(share * weights for share, weights in zip(shares, history, strict=True)) / sum(shares)
    torch.testing.assert_close(task.measured[0], expected)
    assert torch.equal(task.model[0].weight, task.measured[5])  # the last epoch's, which was the best
    assert not torch.equal(task.measured[5], plain.measured[5])


class CutError(Exception):
    """Thrown in the middle of a training."""


@pytest.mark.parametrize("cut", [9, 17])
def test_a_training_with_everything_on_resumes_exactly(tmp_path: Path, cut: int) -> None:
    methods = OptimizationMethods(
        optimizer=OptimizerSettings("sgd"),
        backstitch=0.3,
        backstitch_interval=3,
        ema=0.9,
        l1=1e-3,
        max_norm=2.0,
        clip_value=0.5,
    )
    shape = ScheduleShape(plateau_patience=0, step_factor=0.5, batch_growth=2.0)
    given = settings(schedule="plateau", shape=shape, methods=methods, warmup=0.2, checkpoint_minutes=0.0)
    whole = Line(ERRORS)
    loop.train(whole, given, tmp_path / "whole", Silent())
    first = Line(ERRORS)
    compute, calls = first.loss, []

    def loss(batch: int, autocast: AbstractContextManager[Any]) -> Loss:
        calls.append(batch)
        if len(calls) == cut:
            raise CutError
        return compute(batch, autocast)

    first.loss = loss  # type: ignore[method-assign]
    with pytest.raises(CutError):
        loop.train(first, given, tmp_path / "cut", Silent())
    done = len(logged(tmp_path / "cut", "epoch"))
    second = Line(ERRORS[done:])
    loop.train(second, given, tmp_path / "cut", Silent())
    assert all(map(torch.equal, whole.model.state_dict().values(), second.model.state_dict().values()))
    assert logged(tmp_path / "cut", "learning_rate") == logged(tmp_path / "whole", "learning_rate")
    assert logged(tmp_path / "cut", "train_loss") == logged(tmp_path / "whole", "train_loss")
