"""The learning-rate range test: on a problem of which the limit is known, and as a command."""

from __future__ import annotations

import math
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from recorder import Recorder
from tones import SETTINGS, write_recipe
from torch import nn

from asr import pipeline, stages
from asr.cli import main
from asr.data.batching import Sample
from asr.errors import ConfigError
from asr.preflight import find_learning_rate
from asr.recipe_file import read_recipe
from asr.reporting import Silent
from asr.training import loop, range_plot
from asr.training.acoustic import AcousticTask
from asr.training.memory import padded_seconds
from asr.training.optimization import OptimizationMethods
from asr.training.optimizers import OptimizerSettings
from asr.training.range_test import Point, RangeTest, range_test
from asr.training.task import Epoch, Loss

CURVATURE = 8.0


class Regression:
    """Least squares of which both curvatures are known, with noise in the targets; ten batches to an epoch."""

    def __init__(self, learnable: bool = True) -> None:
        torch.manual_seed(1)
        self.model = nn.Linear(2, 1, bias=False)
        nn.init.constant_(self.model.weight, 3.0 if learnable else 0.0)
        self.epochs: list[int] = []

    def epoch(self, number: int, done: int, growth: float = 1.0) -> Epoch:
        self.epochs.append(number)
        return Epoch(10, iter(range(10 * number, 10 * number + 10)))

    def loss(self, batch: int, autocast: AbstractContextManager[Any]) -> Loss:
        assert self.model.training
        generator = torch.Generator().manual_seed(batch)
        inputs = torch.tensor([[CURVATURE**0.5, 0.0], [0.0, (CURVATURE / 4) ** 0.5]]) * 2**0.5
        targets = torch.randn(50, 2, generator=generator)
        loss = (self.model(inputs)[:, 0] - targets).square().mean() / 2
        return Loss(loss, {})

    def validate(self) -> Any:
        raise AssertionError("there is nothing to measure")

    def figures(self, totals: Mapping[str, float], dev: Any) -> dict[str, float]:
        raise AssertionError("nor to log")

    def note(self, totals: Mapping[str, float]) -> str:
        return ""


def settings(optimizer: str = "sgd", **changed: Any) -> loop.Settings:
    return loop.Settings(
        **{
            "epochs": 1,
            "learning_rate": 123.0,
            "warmup": 0.5,
            "schedule": "cosine",
            "weight_decay": 0.0,
            "clip_norm": None,
            "patience": None,
            "average": 1,
            "precision": "fp32",
            "threads": 1,
            "methods": OptimizationMethods(OptimizerSettings(optimizer)),
            **changed,
        }
    )


def test_the_test_ends_where_descent_becomes_unstable_and_proposes_less() -> None:
    """Descent on a parabola diverges above the rate 2 / curvature."""
    task = Regression()
    test = range_test(task, settings(), lowest=1e-5, highest=10.0)
    limit = 2 / CURVATURE
    assert test.learnt
    assert test.diverged
    assert limit < test.points[-1].rate < 2 * limit
    assert test.proposed == pytest.approx(test.lowest.rate / 10, rel=0.05)
    assert limit / 100 < test.proposed < limit / 5
    assert test.points[-1].smoothed <= 4 * test.lowest.smoothed < test.points[0].smoothed
    assert task.epochs == list(range(1, len(test.points) // 10 + 2))


def test_rates_grow_by_the_same_factor_and_the_loss_is_smoothed() -> None:
    test = range_test(Regression(), settings(), lowest=1e-4, highest=1e-2, steps=61)
    rates = [point.rate for point in test.points]
    assert rates == pytest.approx([10 ** (-4 + step / 30) for step in range(61)])
    for place, point in enumerate(test.points):
        weights = [0.75 ** (place - other) for other in range(place + 1)]
        losses = [point.loss for point in test.points[: place + 1]]
        mean = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
        assert point.smoothed == pytest.approx(mean)
    assert not test.diverged
    assert test.proposed is None


def test_few_steps_find_what_many_do() -> None:
    """Nearly: in few steps less is learnt at each rate, and so it may be higher."""
    tests = [range_test(Regression(), settings(), steps=steps, highest=10) for steps in (20, 75, 300, 900)]
    proposed = [test.proposed or 0.0 for test in tests]
    assert min(proposed) > 0
    assert max(proposed) < 3 * min(proposed)


def test_the_optimiser_is_the_settings_own() -> None:
    """Adam's steps are no longer than the rate: the loss is least when rates add up to the way of 3, or later."""
    test = range_test(Regression(), settings("adam"), lowest=1e-5, highest=1e3)
    rates = [point.rate for point in test.points]
    there = next(rate for place, rate in enumerate(rates) if sum(rates[:place]) > 2.9)
    assert test.diverged
    assert test.points[-1].rate > 10 * 2 / CURVATURE  # where plain descent would have diverged
    assert there < test.lowest.rate < test.points[-1].rate


def test_what_can_not_be_learnt_gives_no_proposal() -> None:
    test = range_test(Regression(learnable=False), settings(), lowest=1e-6, highest=1e-3, steps=50)
    assert not test.learnt
    assert range_plot.verdict(test) == "the loss did not fall at any rate"
    assert not any("proposed" in line for line in range_plot.text(test))
    assert "proposed" not in range_plot.page(test, "")


# --------------------------------------------------------------------------------------------- pictures


def curve(rate_of_least: float = 1e-2) -> RangeTest:
    """A valley, eight steps to a decade."""
    points = []
    for step in range(41):
        rate = 10 ** (-5 + step / 8)
        loss = 1 + abs(math.log10(rate / rate_of_least))
        points.append(Point(rate, loss + (step % 2) / 10, loss))
    return RangeTest(tuple(points), diverged=True, lag=3)


def test_the_terminal_shows_the_curve() -> None:
    lines = list(range_plot.text(curve()))
    assert len(lines) == 21
    bars = [line.count("#") for line in lines]
    least = bars.index(min(bars))
    assert lines[least].startswith("1.0e-02") and lines[least].endswith("least")
    assert bars[:least] == sorted(bars[:least], reverse=True)
    assert bars[least:] == sorted(bars[least:])
    assert [line for line in lines if line.endswith("proposed")] == [line for line in lines if "1.0e-03" in line]
    assert range_plot.verdict(curve()).endswith("proposed is a tenth of that, 0.001")


def test_the_page_is_complete_in_itself_and_its_curve_is_right() -> None:
    page = range_plot.page(curve(), "a <recipe> & more")
    assert "a &lt;recipe&gt; &amp; more" in page
    assert "http" not in page and "<script" not in page
    drawing = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    smoothed = next(path for path in drawing.iter("path") if path.get("class") == "smoothed").get("d")
    places = [tuple(map(float, place.split())) for place in smoothed[1:].split("L")]
    assert len(places) == 41
    assert max(range(41), key=lambda place: places[place][1]) == 24  # the least loss is the lowest on the page
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    texts = [text.text for text in drawing.iter("text")]
    assert {"1e-05", "1", "least loss 1.0e-02", "proposed 1.0e-03"} <= set(texts)


def test_a_rate_below_all_that_were_tried_is_on_the_page_and_so_is_its_name() -> None:
    """As after `--lowest 1e-3`; the line is where its name says, and the name in the drawing."""
    test = RangeTest(tuple(point for point in curve(5.6e-3).points if point.rate >= 9.9e-4), True, 3)
    page = range_plot.page(test, "")
    drawing = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    least, proposed = [text for text in drawing.iter("text") if not text.text[0].isdigit()]
    assert proposed.text == "proposed 5.6e-04"
    lines = [path.get("d") for path in drawing.iter("path") if path.get("class") == "mark"]
    curve_begins = next(path for path in drawing.iter("path") if path.get("class") == "smoothed").get("d")
    assert float(lines[1][1:].split()[0]) < float(curve_begins[1:].split()[0])
    assert (proposed.get("text-anchor"), least.get("text-anchor")) == ("start", "end")


def test_images(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    range_plot.draw(curve(), tmp_path / "lr.png", "a $recipe$")
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")


# -------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("tones"), train=60)


Ask = Callable[..., int]


@pytest.fixture
def ask(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.chdir(tmp_path)

    def ask(*arguments: str) -> int:
        with pytest.raises(SystemExit) as raised:
            main(["tune", "lr", str(recipe), *SETTINGS, *arguments])
        return int(raised.value.code or 0)

    return ask


def test_the_command_proposes_a_rate_that_works_and_touches_no_run(
    ask: Ask, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs" / "tones"
    runs.mkdir(parents=True)
    assert ask("--steps", "120", "--highest", "10", "--out", "lr.html") == 0
    said = capsys.readouterr().out
    assert "proposed" in said
    assert shlex.split(said.rpartition("try: ")[2])[:3] == ["asr", "train", str(recipe)]
    proposed = float(said.rpartition("training.learning_rate=")[2])
    assert 2e-3 < proposed < 2e-1  # 0.02 is what the tests of training learn this language with
    assert (tmp_path / "lr.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert list(runs.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "lr.html", "runs"]
    assert ask("--out", "lr.html") == 2
    assert "already there" in capsys.readouterr().err


def test_nothing_is_proposed_before_it_diverges(
    ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("--steps", "60", "--highest", "0.005", "--out", "lr.html") == 1
    said = capsys.readouterr()
    assert "it has not diverged at 5.0e-03, so none is proposed" in said.out
    assert "try: asr" not in said.out and "the same with --highest 0.05" in said.err
    page = (tmp_path / "lr.html").read_text(encoding="utf-8")
    assert "least loss" in page and "proposed 1" not in page and "proposed 2" not in page


def test_wrong_arguments_are_named(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (("--lowest", "1", "--highest", "0.1"), ("--highest", "inf")):
        assert ask(*wrong) == 2
        assert "0 < --lowest < --highest" in capsys.readouterr().err
    assert ask("--out", "lr.pdf") == 2
    assert ".png or .html" in capsys.readouterr().err


def test_a_part_that_the_model_lacks_is_named(recipe: Path, tmp_path: Path) -> None:
    wanted = read_recipe(recipe, [*SETTINGS, "training.rates={head: 0.5, encoder.layers.9: 0.1}"])
    with pytest.raises(ConfigError, match=r"no part 'encoder\.layers\.9'"):
        find_learning_rate(wanted, tmp_path, Silent(), 1e-6, 1.0, 2)


def test_batches_that_do_not_fit_into_memory_are_smaller(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_small(task: AcousticTask, samples: Sequence[Sample]) -> None:
        if padded_seconds(samples) > 4:
            raise MemoryError

    monkeypatch.setattr(AcousticTask, "attempt", too_small)
    said = Recorder()
    find_learning_rate(read_recipe(recipe, SETTINGS), tmp_path, said, 1e-6, 1e-5, 2)
    assert "out of memory with training.batch_seconds=" in said.warned[0]


def test_batches_of_a_later_epoch_are_larger(recipe: Path, tmp_path: Path) -> None:
    work = pipeline.workspace(read_recipe(recipe, SETTINGS), tmp_path / "run", tmp_path / "data", Silent())
    stages.prepare(work)
    stages.tokens(work)
    task = AcousticTask(stages.training_job(work))
    seconds = sum(utterance.duration for utterance in task.job.train)
    small, large = task.epoch(2, 0), task.epoch(2, 0, 3.0)
    assert small.size > seconds / 6 > large.size > seconds / 18
    sizes = [len(batch.samples) for batch in task.epoch(2, 0, 3.0).batches]
    assert sum(sizes) == 60
