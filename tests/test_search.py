"""The search for settings: its notation, which trials it makes, how it goes on, and as a command."""

from __future__ import annotations

import contextlib
import errno
import functools
import html
import itertools
import json
import math
import os
import shlex
import sqlite3
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from recorder import Recorder
from tones import SETTINGS, write_recipe

from asr import axes, files, pipeline
from asr.cli import main
from asr.config import Recipe
from asr.errors import AsrError, ConfigError, DiskFullError, ExhaustedError, MissingDependencyError
from asr.files import atomic_path
from asr.recipe_file import read_recipe, with_settings
from asr.reporting import Silent
from asr.search import picture, report, space, study, trainings
from asr.search.space import Choices, Interval, resolve, split
from asr.search.study import Figures, OnEpoch, Plan, Trial
from asr.training import denoising, log
from asr.training.loop import InterruptedTrainingError
from asr.training.task import DivergedTrainingError

pytest.importorskip("optuna")


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def hasty(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    monkeypatch.setattr(sqlite3, "connect", hasty)


RECIPE = Recipe.model_validate({"name": "test", "prepare": {"corpus": "fsdd"}})


def one(argument: str, grid: bool = False) -> space.Space:
    (found,) = resolve(RECIPE, [split(argument)], grid)
    return found


def problem(*arguments: str, grid: bool = False) -> str:
    with pytest.raises(ConfigError) as raised:
        resolve(RECIPE, map(split, arguments), grid)
    assert raised.value.exit_code == 2
    return str(raised.value)


# ------------------------------------------------------------------------------------------ notation


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("training.learning_rate=log:1e-4..1e-2", Interval("training.learning_rate", 1e-4, 1e-2, logarithmic=True)),
        ("training.learning_rate=.1..1", Interval("training.learning_rate", 0.1, 1.0)),
        ("model.encoder.layers=2..5", Interval("model.encoder.layers", 2, 5, integer=True, step=1)),
        ("model.encoder.hidden=64..250/64", Interval("model.encoder.hidden", 64, 192, integer=True, step=64)),
        ("model.encoder.hidden=log:8..512", Interval("model.encoder.hidden", 8, 512, True, True)),
        ("training.max_norm=1..5", Interval("training.max_norm", 1.0, 5.0)),  # a number or null
        ("training.rates.frontend=0..1", Interval("training.rates.frontend", 0.0, 1.0)),  # a key of the user's own
        ("augment.gain_db.low=-10..-1", Interval("augment.gain_db.low", -10.0, -1.0)),  # of what is off
        ("model.encoder.cell=lstm,gru", Choices("model.encoder.cell", ("lstm", "gru"))),
        ("model.encoder.cell={gru, lstm}", Choices("model.encoder.cell", ("gru", "lstm"))),
        ("training.learning_rate=1e-4,1e-3", Choices("training.learning_rate", (1e-4, 1e-3))),
        ("training.ema={null,0.999}", Choices("training.ema", (None, 0.999))),
        ("model.encoder.bidirectional=true,false", Choices("model.encoder.bidirectional", (True, False))),
        ("model.frontend.strides={[2,2],[2,1]}", Choices("model.frontend.strides", ([2, 2], [2, 1]))),
        ("model.frontend.strides=[2,2],[2,1]", Choices("model.frontend.strides", ([2, 2], [2, 1]))),
        ('text.keep_characters={"\'","a, b"}', Choices("text.keep_characters", ("'", "a, b"))),
    ],
)
def test_notation(argument: str, expected: space.Space) -> None:
    assert one(argument) == expected
    assert one(str(expected)) == expected  # as it is shown, so it is read


def test_choices_between_sections_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    noise = one("augment.noise={null, {probability: 0.2}}")
    assert isinstance(noise, Choices)
    assert noise.values[0] is None
    assert with_settings(RECIPE, {noise.key: noise.values[1]}).augment.noise.probability == 0.2
    assert one("augment.noise={probability: 0.1},{probability: 0.2}").points[1] == noise.values[1]
    folders = one("augment.noise.folder=a,b/c")
    assert folders.points == [str(tmp_path / "a"), str(tmp_path / "b" / "c")]


numbers = st.floats(1e-6, 1e6)


@given(st.tuples(numbers, numbers).filter(lambda pair: pair[0] < pair[1]), st.booleans(), st.floats(0, 1))
def test_values_of_a_range_are_short_and_never_leave_it(
    ends: tuple[float, float], logarithmic: bool, share: float
) -> None:
    low, high = ends
    found = one(f"training.learning_rate={'log:' * logarithmic}{low!r}..{high!r}")
    assert found == Interval("training.learning_rate", low, high, logarithmic=logarithmic)
    number = low + share * (high - low)
    value = found.value(number)
    assert low <= value <= high
    assert value in (low, high) or value == float(f"{number:.4g}")


@given(st.integers(0, 50), st.integers(1, 200), st.integers(1, 50))
def test_steps_are_those_of_decimal_numbers(low: int, width: int, step: int) -> None:
    high = low + max(width, step)
    found = one(f"training.weight_decay={low / 100}..{high / 100}/{step / 100}", grid=True)
    assert found.points == [hundredths / 100 for hundredths in range(low, high + 1, step)]
    assert found.high == found.points[-1]


def test_all_errors_at_once_and_what_to_do() -> None:
    message = problem(
        "training.learning_rat=1..2",
        "training.warmup=0..2",
        "model.encoder.cell=rnn,gru",
        "model.encoder.layers=5..2",
        "model.encoder.hidden=1.5..3",
        "model.encoder.normalization=1..3",
        "model.frontend.strides=[2,2]",
        "model.frontend.kernel=3..9/x",
    )
    assert message.startswith("8 errors in what to vary\n")
    for part in (
        "training.learning_rat: there is no such key (did you mean training.learning_rate?)",
        "training.warmup=0..2: 2: should be 1 or less",
        "model.encoder.cell=rnn,gru: rnn: should be 'lstm' or 'gru'",
        "model.encoder.layers=5..2: the low end 5 is not below the high end 2",
        "1.5: should be a whole number",
        "no numbers; list them: a,b,c",
        "one value is no choice; to fix it, give model.frontend.strides=[2,2] without --vary",
        "the step x is not a whole number above 0 and no more than 6",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("training.learning_rate", "KEY=SPACE"),
        ("training.learning_rate=", "KEY=SPACE"),
        ("training.learning_rate=0..1", "0: should be above 0"),
        ("training.weight_decay=log:0..1", "begins above 0"),
        ("training.learning_rate=log:1e-4..1e-2/2", "no steps; list values: 0.0001,0.001,0.01"),
        ("training.learning_rate=1e-4..inf", "two finite numbers"),
        ("training.max_norm=null..2", "should be a number"),
        ("model.encoder.dropout=0..0.5/0.7", "no more than 0.5"),
        ("model.encoder.dropout=0..x", "should be a number"),
        ("model.encoder.cell=gru,gru", "gru stands twice"),
        ("model.encoder.cell={gru,[", "not YAML"),
        ("model.frontend=a,b", "should be a section"),
        ("prepare.train_utterances=1..3", "no such key"),  # of another corpus
        ("training.epochs.x=1,2", "no such key (did you mean training.epochs?)"),
    ],
)
def test_wrong_spaces(argument: str, expected: str) -> None:
    assert expected in problem(argument)


def test_what_a_grid_can_not_have_and_keys_that_are_varied_twice() -> None:
    message = problem("training.learning_rate=log:1e-4..1e-2", "training.warmup=0..1", "seed=1..3", grid=True)
    assert "list values: 0.0001,0.001,0.01" in message
    assert "add a step: training.warmup=0..1/0.25" in message
    assert message.startswith("2 errors")
    assert "seed is varied twice" in problem("seed=1..3", "seed=4,5")
    assert "one is a part of the other" in problem("augment.noise={null,{}}", "augment.noise.probability=0..1")
    assert "nothing is varied" in problem()


def test_a_file_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(
        "training.learning_rate: log:1e-4..1e-2\nmodel.encoder.layers: 1..3\n"
        "model.encoder.cell: [lstm, gru]\nmodel.frontend.strides: [[2, 2], [2, 1]]\n",
        encoding="utf-8",
    )
    arguments = [
        "training.learning_rate=log:1e-4..1e-2",
        "model.encoder.layers=1..3",
        "model.encoder.cell=lstm,gru",
    ]
    arguments.append("model.frontend.strides={[2,2],[2,1]}")
    assert resolve(RECIPE, space.read_file(path)) == resolve(RECIPE, map(split, arguments))
    path.write_text("- a\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="a mapping"):
        space.read_file(path)
    path.write_bytes("seed: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="byte 6 is not UTF-8"):
        space.read_file(path)
    path.write_text("model.encoder.layers: 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="neither a range"):
        resolve(RECIPE, space.read_file(path))


# -------------------------------------------------------------------------------------------- the study

SPACES = tuple(
    one(argument)
    for argument in (
        "training.learning_rate=log:1e-4..1e-2",
        "model.encoder.dropout=0..0.5",
        "model.encoder.layers=1..4",
        "model.frontend.strides={[2,2],[2,1]}",
    )
)
GRID = tuple(
    one(argument)
    for argument in (
        "model.encoder.dropout=0..0.3/0.1",
        "model.encoder.layers=1..3",
        "model.frontend.strides={[2,2],[2,1]}",
    )
)


def error(settings: Mapping[str, Any]) -> float:
    """Least at a learning rate of 1e-3 and a dropout of 0.2."""
    rate = abs(math.log10(settings.get("training.learning_rate", 1e-3)) + 3)
    return 0.1 + 0.3 * rate + abs(settings["model.encoder.dropout"] - 0.2)


def fake(settings: Mapping[str, Any], epoch: int) -> Figures:
    """Falls from epoch to epoch."""
    value = error(settings) + 0.5 / epoch
    return Figures(value, value + 0.01, 2 * value)


def objective(epochs: int) -> study.Objective:
    def run(number: int, settings: Mapping[str, Any], on_epoch: OnEpoch) -> None:
        for epoch in range(1, epochs + 1):
            on_epoch(epoch, fake(settings, epoch))

    return run


def plan(sampler: str = "tpe", prune: bool = False, epochs: int = 2, seed: int = 0) -> Plan:
    return Plan(GRID if sampler == "grid" else SPACES, epochs, sampler, prune, seed=seed)


@pytest.mark.parametrize("sampler", study.SAMPLERS)
def test_trials_lie_in_the_space_and_no_warning_leaks(
    sampler: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = plan(sampler)
    trials = study.run(wanted, tmp_path, objective(2), 8)
    assert [trial.number for trial in trials] == list(range(1, 9))
    assert study.ended(wanted, tmp_path) == trials
    for trial in trials:
        for each in wanted.spaces:
            value = trial.settings[each.key]
            if each.points is None:
                assert isinstance(each, Interval)
                assert each.low <= value <= each.high
            else:
                assert value in each.points
        with_settings(RECIPE, trial.settings)  # refuses what is none of the recipe's
        assert trial.curve == (fake(trial.settings, 1), fake(trial.settings, 2))
        assert trial.best("wer") == trial.curve[1]
    assert len({json.dumps(trial.settings) for trial in trials}) == 8
    assert study.run(plan(sampler), tmp_path, objective(2), 8) == trials  # there is nothing left to do
    assert capfd.readouterr() == ("", "")


def test_another_seed_draws_others(tmp_path: Path) -> None:
    drawn = []
    for seed in (1, 2, 1):
        folder = tmp_path / str(len(drawn))
        folder.mkdir()
        drawn.append([trial.settings for trial in study.run(plan("tpe", seed=seed), folder, objective(1), 4)])
    assert drawn[0] == drawn[2] != drawn[1]


def test_a_grid_is_visited_once_and_then_the_search_ends(tmp_path: Path) -> None:
    trials = study.run(plan("grid"), tmp_path, objective(1), None)
    visited = sorted(tuple(map(json.dumps, trial.settings.values())) for trial in trials)
    points = itertools.product([0.0, 0.1, 0.2, 0.3], [1, 2, 3], [[2, 2], [2, 1]])
    assert visited == sorted(tuple(map(json.dumps, point)) for point in points)


def test_tpe_comes_closer_than_chance(tmp_path: Path) -> None:
    """The mean of the later trials: TPE dwells where it is good."""
    means = []
    for sampler in ("tpe", "random"):
        (tmp_path / sampler).mkdir()
        trials = study.run(plan(sampler), tmp_path / sampler, objective(1), 24)
        means.append(sum(error(trial.settings) for trial in trials[-12:]) / 12)
    assert means[0] < 0.8 * means[1]


def test_hyperband_stops_the_worse(tmp_path: Path) -> None:
    wanted = plan("random", prune=True, epochs=9)
    trials = study.run(wanted, tmp_path, objective(9), 20)
    stopped = [trial for trial in trials if trial.state == "pruned"]
    finished = [trial for trial in trials if trial.state == "finished"]
    assert len(stopped) > 8
    assert len(finished) > 3
    assert all(len(trial.curve) == 9 for trial in finished)
    assert {len(trial.curve) for trial in stopped} == {1, 3}  # the rungs, and never at the very end
    for trial in stopped:  # somebody else was better after as many epochs
        rivals = [other for other in trials[: trial.number - 1] if len(other.curve) >= len(trial.curve)]
        assert any(error(other.settings) < error(trial.settings) for other in rivals)
    mean = {state: sum(error(t.settings) for t in group) / len(group) for state, group in
            (("stopped", stopped), ("finished", finished))}  # fmt: skip
    assert mean["finished"] < mean["stopped"]
    best = study.best(trials, "cer")
    assert error(best.settings) == min(error(trial.settings) for trial in finished)
    trained = sum(len(trial.curve) for trial in trials)
    assert f"{trained} epochs, pruning spared {180 - trained} more" in report.headline(trials, wanted)


def test_nothing_is_stopped_before_its_time_nor_where_that_is_off(tmp_path: Path) -> None:
    for name, wanted, fewest in (
        ("off", plan("random", prune=False, epochs=9), 9),
        ("after 4", Plan(SPACES, 9, "random", prune_after=4), 4),
        ("a sixth", Plan(SPACES, 12, "random"), 2),
        ("never", Plan(SPACES, 2, "random", prune_after=5), 2),
    ):
        (tmp_path / name).mkdir()
        trials = study.run(wanted, tmp_path / name, objective(wanted.epochs), 7)
        assert min(len(trial.curve) for trial in trials) == fewest, name


def test_between_equal_error_rates_the_loss_decides(tmp_path: Path) -> None:
    """All have an error rate of 100 %, as CTC begins; the later a trial, the greater its loss."""

    def run(number: int, settings: Mapping[str, Any], on_epoch: OnEpoch) -> None:
        for epoch in range(1, 10):
            on_epoch(epoch, Figures(1.0, 1.0, 10.0 * number))

    trials = study.run(plan("random", prune=True, epochs=9), tmp_path, run, 12)
    assert {trial.state for trial in trials[5:]} == {"finished", "pruned"}
    assert study.best(trials, "cer").number == 1


class KilledError(BaseException):
    """Like SIGKILL: nobody gets to catch it."""


def interrupted_objective(
    epochs: int, at: set[tuple[int, int]], log: dict[int, int], how: BaseException
) -> study.Objective:
    """As `objective`, cut off after some epochs of some trials; `log` holds the epochs that each has trained."""

    def run(number: int, settings: Mapping[str, Any], on_epoch: OnEpoch) -> None:
        for epoch in range(1, epochs + 1):
            trained = log.get(number, 0) < epoch
            log[number] = max(epoch, log.get(number, 0))
            if trained and (number, epoch) in at:
                raise how
            on_epoch(epoch, fake(settings, epoch))

    return run


@pytest.mark.parametrize(
    ("sampler", "how"),
    [
        *((sampler, KilledError()) for sampler in study.SAMPLERS),
        ("tpe", KeyboardInterrupt()),
        ("tpe", InterruptedTrainingError("SIGINT")),
        ("tpe", DiskFullError("there is no room")),
    ],
)
def test_a_search_that_is_cut_off_goes_on_to_the_same_trials(
    sampler: str, how: BaseException, tmp_path: Path
) -> None:
    wanted = plan(sampler, prune=True, epochs=4)
    folders = [tmp_path / name for name in ("through", "cut")]
    for folder in folders:
        folder.mkdir()
    expected = study.run(wanted, folders[0], objective(4), 10)
    log: dict[int, int] = {}
    at = {(1, 1), (1, 3), (7, 1), (9, 1)}  # no trial is stopped sooner
    starts, found = 0, None
    while found is None:
        starts += 1
        try:
            found = study.run(wanted, folders[1], interrupted_objective(4, at, log, how), 10)
        except (KilledError, DiskFullError):
            pass
        except InterruptedTrainingError as error:
            assert error.exit_code == 130
            assert "the same command again" in str(error)
    assert starts == 1 + len(at)
    assert found == expected
    assert log == {trial.number: len(trial.curve) for trial in expected}


def test_so_does_one_that_is_killed_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, left = Plan(SPACES[:2], 4, "random", prune_after=1, seed=3), math.inf

    def counting(write: Any) -> Any:
        @functools.wraps(write)
        def until_it_is_killed(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            written = write(*arguments, **options)
            left -= 1
            if left == 0:
                raise KilledError
            return written

        return until_it_is_killed

    storage = pytest.importorskip("optuna").storages.RDBStorage
    for name in dir(storage):
        if name.startswith("set_trial_") or name == "create_new_trial":
            monkeypatch.setattr(storage, name, counting(getattr(storage, name)))
    through = tmp_path / "through"
    through.mkdir()
    expected = study.run(wanted, through, objective(4), 3)
    assert [trial.state for trial in expected] == ["finished", "finished", "pruned"]
    for writes in itertools.count(1):
        folder, left = tmp_path / str(writes), writes
        folder.mkdir()
        with contextlib.suppress(KilledError):
            study.run(wanted, folder, objective(4), 3)
        killed = left == 0
        assert study.run(wanted, folder, objective(4), 3) == expected
        if not killed:
            break
    assert writes > 25


@pytest.mark.parametrize("epochs", [0, 1])
def test_what_kills_the_program_again_and_again_fails(epochs: int, tmp_path: Path) -> None:
    def kill(number: int, settings: Mapping[str, Any], on_epoch: OnEpoch) -> None:
        if number == 2 and epochs == 0:
            raise KilledError
        on_epoch(1, fake(settings, 1))
        if number == 2:
            raise KilledError

    for _ in range(study.MOST_STARTS + epochs):  # the epoch was done in the first of them
        with pytest.raises(KilledError):
            study.run(plan(), tmp_path, kill, 3)
    trials = study.run(plan(), tmp_path, kill, 3)
    assert [trial.state for trial in trials] == ["finished", "failed", "finished"]
    assert "cut off 3 times" in trials[1].fault


def test_a_full_disk_fails_no_trial(tmp_path: Path) -> None:
    """However often it is full: the trial waits for room, with its checkpoint."""
    checkpoint, room = tmp_path / "checkpoint", False

    def run(number: int, settings: Mapping[str, Any], on_epoch: OnEpoch) -> None:
        for epoch in (1, 2):
            if not checkpoint.exists() or int(checkpoint.read_text()) < epoch:
                with atomic_path(checkpoint) as temporary:
                    if epoch == 2 and not room:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    temporary.write_text(str(epoch))
            on_epoch(epoch, fake(settings, epoch))

    def end(trial: Trial) -> None:
        ended.append(trial)
        checkpoint.unlink()

    ended: list[Trial] = []
    for _ in range(study.MOST_STARTS + 1):
        with pytest.raises(DiskFullError, match=r"checkpoint: there is no room.*\n.*free some space"):
            study.run(plan(epochs=2), tmp_path, run, 2, on_trial=end)
        assert (ended, checkpoint.read_text()) == ([], "1")
    room = True
    assert study.run(plan(epochs=2), tmp_path, run, 2, on_trial=end) == ended
    assert [(trial.number, trial.state, len(trial.curve)) for trial in ended] == [
        (1, "finished", 2),
        (2, "finished", 2),
    ]


def test_a_disk_that_is_full_for_the_database_too(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="processes are limited as on POSIX")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def run(number: int, settings: Mapping[str, Any], on_epoch: OnEpoch) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # EFBIG, not a mock
        with atomic_path(tmp_path / "checkpoint") as temporary:
            temporary.write_text("1")

    try:
        with pytest.raises(DiskFullError, match="checkpoint: there is no room"):
            study.run(plan(), tmp_path, run, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (trial,) = study.run(plan(), tmp_path, objective(1), 1)
    assert trial.state == "finished"


def test_a_trial_that_runs_out_of_memory_goes_on_a_few_times_and_its_fault_has_no_hint(tmp_path: Path) -> None:
    calls: list[int] = []

    def run(number: int, settings: Mapping[str, Any], on_epoch: OnEpoch) -> None:
        calls.append(number)
        for epoch in range(1, calls.count(number) + 1):  # those that were done are told again
            on_epoch(epoch, fake(settings, epoch))
        if number == 2 or calls.count(number) < 2:
            raise ExhaustedError("out of memory", where="here", hint="the same command again")

    trials = study.run(plan(), tmp_path, run, 2)
    assert calls == [1, 1, 2, 2, 2]
    assert [(trial.state, trial.fault) for trial in trials] == [("finished", ""), ("failed", "here: out of memory")]
    assert trials[0].curve == tuple(fake(trials[0].settings, epoch) for epoch in (1, 2))


def test_failures_and_divergence_are_noted_and_do_not_end_the_search(tmp_path: Path) -> None:
    faults = {2: ConfigError("refused", hint="something else"), 3: RuntimeError("out of memory"), 4: MemoryError()}
    faults[8] = DivergedTrainingError("NaN")  # in the first epoch

    def run(number: int, settings: Mapping[str, Any], on_epoch: OnEpoch) -> None:
        if number in faults:
            raise faults[number]
        on_epoch(1, Figures(0.5, 0.5, 1.0))
        if number == 5:
            raise DivergedTrainingError("NaN")
        on_epoch(2, Figures(0.9, 0.9, 0.5))

    trials = study.run(plan(), tmp_path, run, 7)
    assert [trial.state for trial in trials] == ["finished", *["failed"] * 3, "diverged", "finished", "finished"]
    assert [trial.fault for trial in trials[1:4]] == ["refused", "out of memory", "MemoryError"]
    assert trials[4].rank("cer") > max(trials[place].rank("cer") for place in (0, 5, 6))
    assert study.best(trials[1:4], "cer") is None
    lines = report.summary(trials, plan(), {})
    assert lines[0].startswith("7 trials: 1 diverged, 3 failed, 3 finished")
    assert "failed: refused" in "\n".join(lines)
    assert "diverged: NaN" in "\n".join(lines)
    trials = study.run(plan(), tmp_path, run, 8)
    assert (trials[7].state, trials[7].curve) == ("diverged", ())
    with study._open(plan(), tmp_path) as told:
        assert [trial.value for trial in told.trials if trial.number in (4, 7)] == [study.DIVERGED] * 2
    assert study.importances(trials, plan("random")).keys() == {space.key for space in SPACES}


def test_time_is_up(tmp_path: Path) -> None:
    assert study.run(plan(), tmp_path, objective(1), None, seconds=0.0) == []


def test_importances_are_shares_of_the_variance() -> None:
    """Of a sum of independent parts, here in the ratio 9 : 1 : 0."""
    rng = np.random.default_rng(1)
    trials = []
    for number in range(1, 101):
        rate, dropout = rng.random(2)
        settings = {
            "training.learning_rate": 10 ** (2 * rate - 4),  # evenly over orders of magnitude
            "model.encoder.dropout": dropout / 2,
            "model.encoder.layers": int(rng.integers(1, 5)),
            "model.frontend.strides": [2, int(rng.integers(1, 3))],
        }
        trials.append(Trial(number, settings, "finished", (Figures(3 * rate + dropout, 0.5, 1.0),)))
    found = study.importances(trials, plan("random"))
    assert list(found)[:2] == ["training.learning_rate", "model.encoder.dropout"]
    assert sum(found.values()) == pytest.approx(1)
    assert found["training.learning_rate"] == pytest.approx(0.9, abs=0.05)
    assert found["model.encoder.dropout"] == pytest.approx(0.1, abs=0.05)
    assert study.importances(trials, Plan(SPACES, 1, metric="wer")) == {}  # all alike
    assert study.importances(trials[:4], plan("random")) == {}  # too few


def test_without_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match=r'pip install -e "\.\[search\]"'):
        study.load_optuna()


# ---------------------------------------------------------------------------------- words and pictures


def some_trials() -> list[Trial]:
    return [
        Trial(1, dict(zip([s.key for s in SPACES], [1e-3, 0.25, 2, [2, 2]], strict=True)), "finished",
              (Figures(0.9, 0.95, 3.0), Figures(0.02, 0.03, 0.1))),
        Trial(2, dict(zip([s.key for s in SPACES], [1e-4, 0.5, 4, [2, 1]], strict=True)), "pruned",
              (Figures(0.8, 0.9, 2.0),)),
        Trial(3, dict(zip([s.key for s in SPACES], [1e-2, 0.0, 1, [2, 1]], strict=True)), "failed",
              fault="this <fault>\n  has lines"),
    ]  # fmt: skip


def test_names_are_as_short_as_they_can_be() -> None:
    keys = ["model.encoder.dropout", "model.frontend.dropout", "training.learning_rate", "seed"]
    assert list(report.short_names(keys).values()) == [
        "encoder.dropout",
        "frontend.dropout",
        "learning_rate",
        "seed",
    ]


def test_the_table_and_the_arguments() -> None:
    wanted = plan(prune=True)
    lines = report.summary(some_trials()[::-1], wanted, {"training.learning_rate": 0.75})
    assert [line.split()[0] for line in lines[3:6]] == ["1", "2", "3"]
    assert lines[3].split() == ["1", "2.00", "2", "0.001", "0.25", "2", "[2,", "2]"]
    assert lines[4].endswith("pruned") and "80.00" in lines[4]
    assert lines[5].endswith("failed: this <fault> has lines")
    assert "learning_rate   75%  " + "#" * 30 in lines[-1]
    assert report.summary(some_trials(), wanted, {}, most=2)[-1] == "… and 1 more in the report"
    written = report.arguments({**some_trials()[0].settings, "training.ema": None, "text.keep_characters": "'"})
    assert written[3:] == ["model.frontend.strides=[2, 2]", "training.ema=null", 'text.keep_characters="\'"']


def test_the_page_is_complete_in_itself_and_its_dots_are_right() -> None:
    page = picture.page("a <recipe>", some_trials(), plan(), {"training.learning_rate": 1.0}, "asr train 'a&b'")
    assert "a &lt;recipe&gt;" in page and "this &lt;fault&gt;" in page and "&amp;b" in page
    assert "http" not in page and "<script" not in page
    drawings = [ET.fromstring("<svg" + part.split("</svg>")[0] + "</svg>") for part in page.split("<svg")[1:]]
    assert len(drawings) == len(SPACES)
    rate = list(drawings[0].iter("circle"))
    assert [dot.get("class") for dot in rate] == ["best", "pruned"]  # the third has no figures
    (x1, y1), (x2, y2) = ((float(dot.get("cx")), float(dot.get("cy"))) for dot in rate)
    assert x1 - x2 == pytest.approx((420 - axes.LEFT - axes.RIGHT) / 2, abs=0.2)  # a decade of two
    assert y1 > y2  # a lower error rate
    texts = [text.text for text in drawings[0].iter("text")]
    assert {"0.0001", "0.001", "0.01", "10 %"} <= set(texts)
    assert {"[2, 2]", "[2, 1]"} <= {text.text for text in drawings[3].iter("text")}


def test_images(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture.draw(tmp_path / "x.png", "a $recipe$", some_trials(), plan(), {SPACES[0].key: 1.0}, "")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


SCHEDULE = space.Choices(
    "training.schedule",
    ("constant", "cosine", "linear", "plateau", "step", "exponential", "cosine_restarts", "inverse_sqrt"),
)


def schedules() -> tuple[list[Trial], Plan]:
    trials = [
        Trial(number, {SCHEDULE.key: value}, "finished", (Figures(number / 10, number / 10, 1.0),))
        for number, value in enumerate(SCHEDULE.values, start=1)
    ]
    return trials, Plan((SCHEDULE,), 1)


def test_names_too_long_to_stand_beside_each_other_are_turned_on_the_page() -> None:
    trials, wanted = schedules()
    page = picture.page("x", trials, wanted, {}, "")
    drawing = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    labels = [text for text in drawing.iter("text") if text.text in SCHEDULE.values]
    assert len(labels) == 8
    assert all("rotate(-90)" in text.get("transform") for text in labels)
    height = int(drawing.get("viewBox").split()[3])
    above = [int(text.get("transform").split(")")[0].split()[1]) for text in labels]
    assert height - max(above) >= 6 * len("cosine_restarts")


def test_no_words_of_an_image_overlap_and_there_are_no_axes_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    drawn: list[Any] = []
    monkeypatch.setattr(picture.pictures, "save", lambda figure, path: drawn.append(figure))
    trials, wanted = schedules()
    picture.draw(tmp_path / "x.png", "x", trials, wanted, {}, "")
    figure = drawn[0]
    figure.draw_without_rendering()
    bars, plot = figure.axes
    boxes = [label.get_window_extent() for label in plot.get_xticklabels()]
    assert len(boxes) == 8
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    assert not bars.axison
    assert [text.get_text() for text in bars.texts] == ["importance for the CER\nToo few trials to tell."]


# ------------------------------------------------------------------------------------------- trainings


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("tones"), train=24)


def test_real_trainings_interrupted_and_continued_are_those_that_ran_through(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path, [*SETTINGS, "training.epochs=2"])
    varied = resolve(recipe, [split("training.learning_rate=log:1e-3..1e-1"), split("model.encoder.hidden=4..8/4")])
    wanted, data = Plan(varied, 2), tmp_path / "data"

    def searched(folder: Path, reporter: Any) -> list[Trial]:
        with trainings.prepared(recipe, wanted, folder, data, reporter):
            return trainings.search(recipe, wanted, folder, data, reporter, trials=2)

    expected = searched(tmp_path / "through", Silent())
    reporter = Recorder(interrupt_after=8)  # of some 20 in each trial
    with pytest.raises(InterruptedTrainingError, match="stopped in trial 1"):
        searched(tmp_path / "cut", reporter)
    assert study.ended(wanted, tmp_path / "cut") == []
    damaged = trainings.trial_folder(tmp_path / "cut", 1) / "train" / "log.jsonl"
    damaged.write_text("no JSON\n" + damaged.read_text())
    assert searched(tmp_path / "cut", Silent()) == expected
    best = study.best(expected, "cer")
    for folder, trial in itertools.product(("through", "cut"), expected):
        place = trainings.trial_folder(tmp_path / folder, trial.number)
        assert (place / "train" / "final").exists() == (trial.number == best.number)
        assert (place / "train" / "checkpoints").exists() == (trial.number == best.number)
        assert {"config.yaml", "output.txt"} < {file.name for file in place.iterdir()}
        assert not (place / "evaluate").exists()  # the test set is not looked at

    def begin(
        recipe: Recipe, wanted: Plan = wanted, folder: Path = tmp_path / "cut", overwrite: bool = False
    ) -> None:
        with trainings.prepared(recipe, wanted, folder, data, Silent(), overwrite):
            pass

    for change in ({"seed": 2}, {"model.encoder.dropout": 0.2}):
        with pytest.raises(ConfigError, match="a search with other settings"):
            begin(with_settings(recipe, change))
    with pytest.raises(ConfigError, match=r"--sampler: tpe there, random now"):
        begin(recipe, Plan(varied, 2, "random"))
    with pytest.raises(ConfigError, match="not the folder of a search"):
        begin(recipe, folder=data)
    run = tmp_path / "run"  # of a training whose search is tuned
    run.mkdir()
    (run / "search.json").write_text('{"alpha": 0.5}', encoding="utf-8")
    with pytest.raises(ConfigError, match="not the folder of a search"):
        begin(recipe, folder=run, overwrite=True)
    assert (run / "search.json").exists()
    for change in ({"training.workers": 1}, {"evaluate.bootstrap": 10}, {"language_model": {"order": 2}}):
        begin(with_settings(recipe, change))
    assert len(study.ended(wanted, tmp_path / "cut")) == 2
    begin(with_settings(recipe, {"seed": 2}), overwrite=True)
    assert not (tmp_path / "cut" / "trials").exists()
    assert study.ended(wanted, tmp_path / "cut") == []


def test_a_search_depends_on_what_its_folders_hold_and_not_on_the_test_set(tmp_path: Path) -> None:
    path, data, noise = write_recipe(tmp_path, train=24), tmp_path / "data", tmp_path / "noise"
    noise.mkdir()
    soundfile.write(noise / "hum.wav", np.full(8000, 0.1), 8000)
    test, pretrain = tmp_path / "corpus" / "test.jsonl", f"pretrain={{noise: {{folder: {noise}}}}}"

    def begin(*settings: str, overwrite: bool = False) -> None:
        recipe = read_recipe(path, [*SETTINGS, "training.epochs=1", pretrain, *settings])
        wanted = Plan(resolve(recipe, [split("model.encoder.hidden=4,8")]), 1)
        with trainings.prepared(recipe, wanted, tmp_path / "search", data, Silent(), overwrite):
            pass

    begin()
    begin("name=other")
    test.write_text("".join(test.read_text().splitlines(keepends=True)[1:]))
    begin()
    begin(f"prepare.tests={{first: {test}, second: {test}}}")
    trials = tmp_path / "search" / "trials"
    trials.mkdir()
    with pytest.raises(AsrError, match="neither a folder nor a manifest"):
        begin(f"pretrain.audio={tmp_path / 'absent'}", overwrite=True)
    with pytest.raises(AsrError, match="absent"):
        begin("pretrain=null", f"training.init_from={tmp_path / 'absent'}", overwrite=True)
    assert trials.exists()
    soundfile.write(noise / "hiss.wav", np.full(8000, 0.1), 8000)
    with pytest.raises(ConfigError, match="what the recipe's files hold: not the same there and now"):
        begin()


def test_a_trial_does_nothing_but_learn_and_leaves_weights_only_if_it_is_the_best(
    path: Path, tmp_path: Path
) -> None:
    settings = ("training.epochs=1", "language_model={order: 2}", "pretrain={epochs: 1}")
    recipe = read_recipe(path, [*SETTINGS, *settings])
    wanted = Plan(resolve(recipe, [split("training.learning_rate=1e-3,1e-2")]), 1, "grid")
    folder, data = tmp_path / "search", tmp_path / "data"
    with trainings.prepared(recipe, wanted, folder, data, Silent()):
        trials = trainings.search(recipe, wanted, folder, data, Silent(), trials=2)
    best = study.best(trials, "cer")
    for trial in trials:
        place = trainings.trial_folder(folder, trial.number)
        assert not (place / "lm.ngram").exists()
        weights = {path.parent.name for path in place.rglob("*.safetensors")}
        assert weights == ({"checkpoints", "final", "pretrain"} if trial.number == best.number else set())


def test_what_is_learnt_from_sound_alone_is_learnt_once_where_trials_do_not_differ_in_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, heard = denoising.train, []

    def counted(job: denoising.Job, reporter: Any) -> Any:
        heard.append(job.folder.parent.name)
        return train(job, reporter)

    monkeypatch.setattr(denoising, "train", counted)
    recipe = read_recipe(path, [*SETTINGS, "training.epochs=1", "model.encoder.hidden=8", "pretrain={epochs: 1}"])
    varied = [split("training.learning_rate=1e-3,1e-2"), split("model.encoder.hidden=6,4")]
    wanted, folder, data = Plan(resolve(recipe, varied), 1, "grid"), tmp_path / "search", tmp_path / "data"
    with trainings.prepared(recipe, wanted, folder, data, Silent()):
        trials = trainings.search(recipe, wanted, folder, data, Silent(), trials=4)
    assert len(heard) == 2  # one for each size of the network
    starts = {file.name for file in (folder / "starts").rglob("*.*")}
    assert starts == {"final.safetensors", "record.json"}
    # A training by itself comes to the same.
    *_, alone = (trial for trial in trials if trial.settings["model.encoder.hidden"] == 6)
    run = pipeline.workspace(with_settings(recipe, alone.settings), tmp_path / "run", data, Silent())
    pipeline.run_stages(run, "train")
    last = log.read(run.training)[-1]
    assert (last["dev_cer"], last["dev_loss"]) == (alone.curve[-1].cer, alone.curve[-1].loss)


def test_a_search_in_a_folder_where_one_is_at_work_is_refused_and_touches_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WAIT_FOR_OTHERS", 0.2)
    recipe = read_recipe(path, [*SETTINGS, "training.epochs=1"])
    wanted = Plan(resolve(recipe, [split("training.learning_rate=1e-3,1e-2")]), 1)

    def begin(seed: int) -> AbstractContextManager[None]:
        settings = with_settings(recipe, {"seed": seed})
        return trainings.prepared(settings, wanted, tmp_path / "run", tmp_path / "data", Silent(), overwrite=True)

    with begin(seed=1):
        pass
    with begin(seed=2):  # which throws away what was there, but not its own claim
        checkpoint = tmp_path / "run" / "trials" / "001" / f".state.pt{files.PARTIAL}x" / "state.pt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        for seed in (2, 3):
            with pytest.raises(ConfigError, match="run: another asr is at work"), begin(seed):
                pass
        assert checkpoint.exists()


def test_settings_that_do_not_suit_each_other_fail_and_are_not_run(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path, [*SETTINGS, "training.epochs=1"])
    arguments = ["training.optimizer=sgd,adamw", "training.backstitch=0.1,0.2", "model.frontend.strides=[2],[4]"]
    wanted = Plan(resolve(recipe, map(split, arguments), grid=True), 1, "grid")
    tmp_path.joinpath("search").mkdir()
    run = trainings.objective(recipe, tmp_path / "search", tmp_path / "data", Silent())
    told: list[Figures] = []
    with pytest.raises(ConfigError, match="backstitch is of optimizer sgd, not of adamw"):
        run(1, {"training.optimizer": "adamw", "training.backstitch": 0.1}, lambda epoch, dev: told.append(dev))
    assert told == []
    assert not trainings.trial_folder(tmp_path / "search", 1).exists()
    assert space.size(wanted.spaces) == 8


# ------------------------------------------------------------------------------------------ the command

Ask = Callable[..., int]


@pytest.fixture
def ask(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.chdir(tmp_path)

    def ask(*arguments: str) -> int:
        with pytest.raises(SystemExit) as raised:
            main(["tune", "search", str(path), *SETTINGS, *arguments])
        return int(raised.value.code or 0)

    return ask


def test_the_command(ask: Ask, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    varied = ("--vary", "training.learning_rate=0.01,0.02", "--vary", "model.frontend.strides=[2],[4]")
    wanted = ("--epochs", "1", *varied, "--sampler", "grid")
    assert ask(*wanted, "--trials", "2") == 0
    assert capsys.readouterr().out.startswith("2 trials: 2 finished")
    assert ask(*wanted) == 0  # the rest of the grid
    said = capsys.readouterr()
    assert said.out.startswith("4 trials: 4 finished; 4 epochs\n")
    assert len([line for line in said.err.splitlines() if line.split()[:1] in (["3"], ["4"])]) == 2
    command = shlex.split(said.out.rpartition("try: ")[2])
    assert command[:3] == ["asr", "train", str(path)]
    folder = tmp_path / "runs" / "tones-search"
    best = read_recipe(folder / "best.yaml")
    assert best == read_recipe(path, command[3:])
    assert best.training.epochs == 8  # a trial's length is not among what was found
    assert html.escape(shlex.join(command)) in (folder / "report.html").read_text(encoding="utf-8")


def test_wrong_arguments_are_named_before_anything_runs(
    ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, expected in (
        ((), "nothing is varied"),
        (("--vary", "training.epoch=1..2"), "did you mean training.epochs?"),
        (("--vary", "training.epochs=1..2", "--epochs", "3"), "training.epochs is varied"),
        (("--vary", "training.warmup=0..1", "--sampler", "grid"), "has no steps for a grid"),
        (("--vary", "training.warmup=0..1", "--sampler", "annealing"), "tpe"),
    ):
        assert ask(*arguments) == 2
        assert expected in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_search_in_which_nothing_can_be_measured(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("--vary", "training.backstitch=0.1,0.2", "--trials", "2") == 1
    said = capsys.readouterr()
    assert "backstitch is of optimizer sgd" in said.err
    assert "no trial could be measured" in said.err
