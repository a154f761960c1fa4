"""A search with Optuna: which settings to try next, which trials to stop early, and none of it lost.

All that is known of the trials is in a SQLite file. How a setting of trial 7 is drawn depends on the seed, on 7 and
on the trials before it: a search that is cut off goes on to the same trials as one that ran through.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from asr.errors import AsrError, ConfigError, DiskFullError, ExhaustedError, MissingDependencyError, how_to_install
from asr.search import space as spaces
from asr.search.space import Choices, Interval, Space
from asr.training.loop import InterruptedTrainingError
from asr.training.task import DivergedTrainingError

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "random", "grid")
STARTUP = 5
"""Random trials before TPE has seen enough; with Hyperband, in each of its brackets."""
REDUCTION = 3
"""Of three trials that reach one of Hyperband's rungs, one goes on (Li et al. 2018)."""
GRACE = 6
"""No trial is stopped in the first sixth of its epochs, unless said otherwise: CTC begins with nothing but blanks,
when all have a CER of 100 %."""
TIE = 1e-6
"""By less than this error rate, the loss decides between equals."""
DIVERGED = 1.0
"""The error rate of a training that diverged: that of a recogniser which says nothing."""
RUNG = "completed_rung_"
"""So begin the names under which Optuna's successive halving notes a trial's value at each rung."""
MOST_STARTS = 3
"""A trial that was cut off so often within one epoch has failed: it may be what kills the program."""


class Figures(NamedTuple):
    """What the dev set tells of an epoch: error rates as fractions, and the loss."""

    cer: float
    wer: float
    loss: float


class Measured(Protocol):
    """Whatever has these figures."""

    @property
    def cer(self) -> float: ...
    @property
    def wer(self) -> float: ...
    @property
    def loss(self) -> float: ...


OnEpoch = Callable[[int, Measured], None]
Objective = Callable[[int, Mapping[str, Any], OnEpoch], None]
"""Runs a trial, given its number and settings, and tells the figures after each epoch, counted from 1; those of
epochs that were done before the trial was cut off are told again."""
State = Literal["finished", "pruned", "diverged", "failed"]


@dataclass(frozen=True)
class Plan:
    """What a search tries.

    Attributes:
        spaces: what is varied.
        epochs: of a trial, at most.
        sampler: one of `SAMPLERS`.
        prune: whether trials that do worse than others after as many epochs are stopped (Hyperband).
        prune_after: the first epoch after which they may be, or None for a sixth of all.
        metric: "cer" or "wer": a trial is measured by the least of its epochs.
        seed: of what is drawn.
    """

    spaces: tuple[Space, ...]
    epochs: int
    sampler: str = "tpe"
    prune: bool = True
    prune_after: int | None = None
    metric: str = "cer"
    seed: int = 0


@dataclass(frozen=True)
class Trial:
    """A trial that has ended.

    Attributes:
        number: from 1.
        settings: by key.
        state: how it ended.
        curve: the figures after each epoch.
        fault: why it failed, or diverged.
    """

    number: int
    settings: Mapping[str, Any]
    state: State
    curve: tuple[Figures, ...] = ()
    fault: str = ""

    def best(self, metric: str) -> Figures | None:
        """The figures of its best epoch; of epochs that do equally well, those with the least loss."""
        return min(self.curve, key=lambda figures: (getattr(figures, metric), figures.loss), default=None)

    def rank(self, metric: str) -> tuple[Any, ...]:
        """Smaller is better: trials that ran to their end, those that were stopped, those that failed."""
        best = self.best(metric)
        order = ("finished", "pruned", "diverged", "failed").index(self.state)
        return order, math.inf if best is None else getattr(best, metric), best.loss if best else 0.0, self.number


def run(
    plan: Plan,
    folder: Path,
    objective: Objective,
    trials: int | None,
    seconds: float = math.inf,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Try settings, or go on where a search was cut off.

    Args:
        plan: the same as before, where it goes on.
        folder: of the search, in which nobody else is at work.
        objective: runs a trial.
        trials: how many in all, those from before included; or None for as many as time allows.
        seconds: after which no more trial begins.
        on_trial: told of each trial that ends.

    Returns:
        All trials, in their order.

    Raises:
        DiskFullError: there is no room for what the trial under way writes; it goes on next time.
        InterruptedTrainingError: the trial under way was interrupted; it goes on next time.
        MissingDependencyError: Optuna is not installed.
    """
    until = time.monotonic() + seconds
    limit = math.inf if trials is None else trials
    if plan.sampler == "grid":
        limit = min(limit, spaces.size(plan.spaces))
    with _open(plan, folder) as study:
        while (trial := _next(study, plan, limit, until)) is not None:
            on_trial(_attempt(study, plan, trial, objective))
        return _ended(study)


def ended(plan: Plan, folder: Path) -> list[Trial]:
    """The trials of a search that have ended, in their order."""
    with _open(plan, folder) as study:
        return _ended(study)


def best(trials: Sequence[Trial], metric: str) -> Trial | None:
    """The best trial, if any has figures."""
    return min(
        (trial for trial in trials if trial.best(metric)), key=lambda trial: trial.rank(metric), default=None
    )


def importances(trials: Sequence[Trial], plan: Plan) -> dict[str, float]:
    """How much of the variance of the error rate each key explains by itself, the greatest first.

    By fANOVA (Hutter et al. 2014), over the space as it is searched. It makes something of few trials, where
    PED-ANOVA, which looks at the best tenth of them, needs hundreds. Trials that were stopped count with the best
    that they reached: left out, they would take along what is known of bad settings.

    Returns:
        Shares that add up to 1; nothing where too few trials differ.
    """
    optuna = load_optuna()
    measured = [trial for trial in trials if trial.state != "failed"]
    values = [
        DIVERGED if trial.state == "diverged" else getattr(trial.best(plan.metric), plan.metric)
        for trial in measured
    ]
    if len(set(values)) < 2 or len(values) <= len(plan.spaces):
        return {}
    scales = {space.key: _Scale(optuna, space) for space in plan.spaces}
    study = optuna.create_study()
    study.add_trials(
        optuna.trial.create_trial(
            params={key: scale.place(trial.settings[key]) for key, scale in scales.items()},
            distributions={key: scale.distribution for key, scale in scales.items()},
            value=value,
        )
        for trial, value in zip(measured, values, strict=True)
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=plan.seed)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: float(share) for key, share in found.items()}


# ---------------------------------------------------------------------------------------------- one trial


class _PrunedError(Exception):
    """Stops a trial."""


@dataclass
class _Watch:
    """Follows a trial, epoch by epoch, and stops it where that is best."""

    trial: optuna.Trial
    metric: str
    epochs: int
    reported: int
    curve: list[Figures] = field(default_factory=list)

    def __call__(self, epoch: int, dev: Measured) -> None:
        if epoch <= len(self.curve):
            return  # of a training that has begun again, since memory had run out
        self.curve.append(Figures(dev.cer, dev.wer, dev.loss))
        if epoch > self.reported:
            self.trial.set_user_attr("starts", 0)
            self.trial.report(self.value, epoch)
        if self.reported <= epoch < self.epochs and self._is_to_stop(epoch):
            raise _PrunedError

    def _is_to_stop(self, epoch: int) -> bool:
        """Ask Hyperband.

        It judges a trial once at each rung, and notes the rung first: where the program was killed before the
        verdict was noted too, it judges again, with the same trials to compare to.
        """
        study = self.trial.study
        trial = study.get_trials()[self.trial.number]
        if epoch == self.reported:
            value = trial.intermediate_values[epoch]
            trial.system_attrs = {
                name: noted
                for name, noted in trial.system_attrs.items()
                if not (name.startswith(RUNG) and noted == value)
            }
        return bool(study.pruner.prune(study, trial))

    @property
    def value(self) -> float:
        return min(
            float(getattr(figures, self.metric)) + TIE * figures.loss / (1 + figures.loss) for figures in self.curve
        )


def _attempt(study: optuna.Study, plan: Plan, trial: optuna.Trial, objective: Objective) -> Trial:
    """Run a trial, and note down what became of it."""
    settings = {}
    for place, space in enumerate(plan.spaces):
        study.sampler = _sampler(plan, trial.number, place)
        settings[space.key] = _suggest(trial, space)
    reported = study.get_trials(deepcopy=False)[trial.number].last_step or 0
    watch = _Watch(trial, plan.metric, settings.get("training.epochs", plan.epochs), reported)
    starts = trial.user_attrs.get("starts", 0)
    trial.set_user_attr("starts", starts + 1)
    state: State = "finished"
    fault = ""
    try:
        if starts >= MOST_STARTS:
            raise ConfigError(f"cut off {starts} times within one epoch: there may be too little memory for it")
        _persist(objective, trial.number + 1, settings, watch)
    except _PrunedError:
        state = "pruned"
    except (InterruptedTrainingError, KeyboardInterrupt):
        trial.set_user_attr("starts", 0)
        raise InterruptedTrainingError(
            f"stopped in trial {trial.number + 1}; everything is saved",
            hint="the same command again, to go on from here",
        ) from None
    except DiskFullError:
        with suppress(load_optuna().exceptions.StorageInternalError):  # the database may find no room either
            trial.set_user_attr("starts", 0)
        raise
    except DivergedTrainingError as error:
        state, fault = "diverged", _said(error)
    except (AsrError, ArithmeticError, MemoryError, RuntimeError, ValueError) as error:  # the last two of torch
        state, fault = "failed", _said(error)
    told = {"settings": settings, "state": state, "curve": watch.curve, "fault": fault}
    trial.set_user_attr("ended", told)
    match state:
        case "finished":
            study.tell(trial, watch.value)
        case "diverged":
            study.tell(trial, DIVERGED)
        case "pruned":
            study.tell(trial, state=load_optuna().trial.TrialState.PRUNED)
        case "failed":
            study.tell(trial, state=load_optuna().trial.TrialState.FAIL)
    return _read(trial.number, told)


def _persist(objective: Objective, number: int, settings: Mapping[str, Any], watch: _Watch) -> None:
    """Run a training; where memory runs out, a few times more, each of which goes on with smaller batches."""
    for _ in range(MOST_STARTS - 1):
        with suppress(ExhaustedError):
            return objective(number, settings, watch)
    return objective(number, settings, watch)


def _said(error: Exception) -> str:
    """What an error says, without what to do next: that is for a command of its own."""
    if not isinstance(error, AsrError):
        return str(error) or type(error).__name__
    return error.where_and_what + ("" if error.expected is None else f"; expected: {error.expected}")


def _suggest(trial: optuna.Trial, space: Space) -> Any:
    match space:
        case Choices(key, values):
            texts = [spaces.text(value) for value in values]  # the database takes no lists
            return values[texts.index(trial.suggest_categorical(key, texts))]
        case Interval(key, low, high, integer=True):
            step = int(space.step or 1)
            return trial.suggest_int(key, int(low), int(high), step=step, log=space.logarithmic)
        case Interval(key, low, high):
            return space.value(trial.suggest_float(key, low, high, step=space.step, log=space.logarithmic))


# ---------------------------------------------------------------------------------------------- the study


def _next(study: optuna.Study, plan: Plan, limit: float, until: float) -> optuna.Trial | None:
    """The trial that was cut off, or else a new one if there is to be one more."""
    optuna = load_optuna()
    known = study.get_trials(deepcopy=False)
    cut_off = [trial for trial in known if not trial.state.is_finished()]
    number = cut_off[0].number if cut_off else len(known)
    if number >= limit or time.monotonic() >= until:
        return None
    if cut_off and cut_off[0].state is optuna.trial.TrialState.RUNNING:
        return optuna.trial.Trial(study, cut_off[0]._trial_id)
    if plan.sampler == "grid" and not cut_off:
        study.enqueue_trial(_point(plan, number))
    return study.ask()


def _ended(study: optuna.Study) -> list[Trial]:
    finished = (trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished())
    return [_read(trial.number, trial.user_attrs["ended"]) for trial in finished]


def _read(number: int, told: Mapping[str, Any]) -> Trial:
    curve = tuple(Figures(*figures) for figures in told["curve"])
    return Trial(number + 1, told["settings"], told["state"], curve, told["fault"])


def _sampler(plan: Plan, number: int, place: int) -> optuna.samplers.BaseSampler:
    """What draws one setting of a trial: by itself, as the program may be killed before the next one is drawn."""
    seed = int(np.random.SeedSequence([plan.seed, number, place]).generate_state(1)[0])
    samplers = load_optuna().samplers
    if plan.sampler == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
    return samplers.RandomSampler(seed=seed)


def _point(plan: Plan, number: int) -> dict[str, Any]:
    """A point of the grid, in random order: Optuna's GridSampler fails at its last one under ask and tell."""
    points = {space.key: space.points or [] for space in plan.spaces}
    order = np.random.default_rng(plan.seed).permutation(spaces.size(plan.spaces))
    places = np.unravel_index(order[number], [len(values) for values in points.values()])
    point = {key: values[place] for (key, values), place in zip(points.items(), places, strict=True)}
    return {
        space.key: spaces.text(point[space.key]) if isinstance(space, Choices) else point[space.key]
        for space in plan.spaces
    }


def _pruner(plan: Plan) -> optuna.pruners.BasePruner:
    pruners = load_optuna().pruners
    if not plan.prune:
        return pruners.NopPruner()
    first = min(plan.prune_after or max(plan.epochs // GRACE, 1), plan.epochs)
    return pruners.HyperbandPruner(min_resource=first, max_resource=plan.epochs, reduction_factor=REDUCTION)


@contextmanager
def _open(plan: Plan, folder: Path) -> Iterator[optuna.Study]:
    optuna = load_optuna()
    connect = partial(sqlite3.connect, folder / "search.db")  # a URL would trip over some characters of a path
    storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect})
    try:
        yield optuna.create_study(
            storage=storage,
            study_name="search",
            load_if_exists=True,
            pruner=_pruner(plan),
        )
    finally:
        storage.remove_session()
        storage.engine.dispose()


class _Scale:
    """A space as fANOVA is to see it: where one part of it counts as much as another."""

    def __init__(self, optuna: Any, space: Space) -> None:
        self.space, distributions = space, optuna.distributions
        if isinstance(space, Choices):
            self.distribution = distributions.CategoricalDistribution(range(len(space.values)))
        else:
            self.distribution = distributions.FloatDistribution(self.place(space.low), self.place(space.high))

    def place(self, value: Any) -> float:
        if isinstance(self.space, Choices):
            return self.space.values.index(value)
        return math.log(value) if self.space.logarithmic else float(value)


def load_optuna() -> Any:
    """Optuna, silenced: the commands say what there is to say.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingDependencyError(
            "Optuna, which finds the settings, is not installed", hint=how_to_install("search")
        ) from error
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    return optuna
