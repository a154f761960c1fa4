"""The training loop: epochs of steps, a look at the dev set after each, and nothing lost when it is cut off."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple

import torch
from torch import Tensor, nn

from asr import stop_signals
from asr.data.loading import lost_workers_named
from asr.errors import AsrError, DiskFullError, ModelError, counted
from asr.reporting import Reporter
from asr.training import randomness
from asr.training.checkpoint import BestEpoch, Checkpoints, Progress, average
from asr.training.diagnosis import NewFindings
from asr.training.distributed import ALONE, World
from asr.training.log import TrainingLog
from asr.training.memory import is_lack_of_memory
from asr.training.optimization import Optimization, OptimizationMethods
from asr.training.schedule import Schedule, ScheduleShape
from asr.training.task import DivergedTrainingError, Epoch, ResultT, Task, mean
from asr.training.watch import averages, is_due, watched_step

CORES = torch.get_num_threads()
"""Torch's own choice, before anything changes it: the physical cores."""
AT_ONCE = 1.0
"""Seconds in which two signals are one: programs such as timeout send each to a process, and to its group too."""


class InterruptedTrainingError(AsrError):
    """Stopped from outside; the checkpoint holds everything."""

    exit_code = 130


class InterruptedTogetherError(InterruptedTrainingError):
    """Likewise, in all processes of a training at the same step."""


@dataclass(frozen=True)
class Settings:
    """What the trainings of all models have in common.

    Attributes:
        epochs: at most.
        learning_rate: the highest: at the end of the warm-up, or of one_cycle's rise.
        warmup: share of all steps in which the learning rate rises from zero.
        schedule: how it falls then: one of `SCHEDULES`.
        weight_decay: of matrices; decoupled in adamw, an L2 penalty in the other optimisers.
        clip_norm: gradients with a larger L2 norm are scaled down to it.
        patience: stop after this many epochs without a better dev result, or None.
        average: how many of the best epochs' weights are averaged.
        precision: auto, fp32, bf16 or fp16.
        threads: of the CPU, or None for as many as there are cores.
        checkpoint_minutes: a checkpoint is written at each epoch's end, and this often inside long epochs.
        target: stop when the dev set's error, the first number of its rank, is no more than this; or None.
        methods: how steps are taken, and what else is done to gradients and weights.
        shape: of the schedule.
    """

    epochs: int
    learning_rate: float
    warmup: float
    schedule: str
    weight_decay: float
    clip_norm: float | None
    patience: int | None
    average: int
    precision: str = "auto"
    threads: int | None = None
    checkpoint_minutes: float = 10.0
    target: float | None = None
    methods: OptimizationMethods = field(default_factory=OptimizationMethods)
    shape: ScheduleShape = field(default_factory=ScheduleShape)


@dataclass(frozen=True)
class Outcome(Generic[ResultT]):
    """What a training brought.

    Attributes:
        dev: the dev set's figures with the weights that the model was left with.
        epochs: how many were trained.
    """

    dev: ResultT
    epochs: int


def train(
    task: Task[Any, ResultT],
    settings: Settings,
    folder: Path,
    reporter: Reporter,
    on_epoch: Callable[[int, ResultT], None] = lambda epoch, dev: None,
    world: World = ALONE,
) -> Outcome[ResultT]:
    """Train until the last epoch, or until the dev set has not improved for `settings.patience` epochs.

    The model is left with the average of its best epochs' weights, or the best's if these do better on dev.

    A training that was cut off goes on from its checkpoint as if nothing had happened: on a CPU with the same
    number of threads its weights are bit for bit those of a training that ran through. It may go on in fewer or
    more processes than before, and on a GPU after a CPU; then only what dropout draws is different.

    Args:
        task: the model and its data; its weights are changed in place.
        settings: the same as before, where it goes on.
        folder: of checkpoints and log.
        reporter: told what happens.
        on_epoch: told the dev set's figures after each epoch, when a checkpoint is written; what it raises ends the
            training.
        world: the processes that train together; the task gives each its share of a batch, and of the dev set. The
            first one alone reads and writes the folder; see `Budget` for the exception.

    Raises:
        InterruptedTrainingError: a signal to stop came, to any of them; a checkpoint was written first.
        ModelError: the checkpoint is damaged, or of another model.
        ExhaustedError: a process that reads data was killed, as it is where memory runs out.
    """
    with lost_workers_named():
        return _Run(task, settings, folder, reporter, on_epoch, world).run()


def threads(wanted: int | None, workers: int, world: World = ALONE) -> int:
    """Threads of the network: as many as are wanted, or (None) the cores that the loader's processes leave.

    A thread that shares its core with a worker holds up all the others at every operation's end.
    """
    return wanted or max(world.cores(CORES) - workers, 1)


def has_begun(folder: Path) -> bool:
    """Whether a training has left a checkpoint in its folder, to go on from."""
    return any((folder / "checkpoints").glob("state-*.pt"))


def optimization(model: nn.Module, settings: Settings) -> Optimization:
    """A model with the optimiser that the settings ask for."""
    return Optimization(
        model,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        precision=settings.precision,
        methods=settings.methods,
    )


class _Ahead(NamedTuple):
    """An epoch that is read before it begins, with batches so many times larger."""

    number: int
    growth: float
    epoch: Epoch


class _Run(Generic[ResultT]):
    """One call of `train`."""

    def __init__(
        self,
        task: Task[Any, ResultT],
        settings: Settings,
        folder: Path,
        reporter: Reporter,
        on_epoch: Callable[[int, ResultT], None],
        world: World,
    ) -> None:
        self.task, self.settings, self.reporter = task, settings, reporter
        self.on_epoch, self.world = on_epoch, world
        torch.set_num_threads(settings.threads or world.cores(CORES))
        self.optimization = optimization(task.model, settings)
        self.schedule = Schedule(settings.schedule, settings.warmup, settings.shape)
        self.checkpoints = Checkpoints(folder / "checkpoints", settings.average, reporter)
        self.progress, self.saved = Progress(), "the start"
        self._restore()
        self.ahead: _Ahead | None = None
        self.log = TrainingLog(folder, self.progress.log, self.progress.step) if world.leads else None
        self.findings = NewFindings(self.log.entries if self.log else [])
        self.saved_at = time.monotonic()

    def run(self) -> Outcome[ResultT]:
        with _signals_noted() as signals:
            self.signals = signals
            try:
                while self.progress.epoch <= self.settings.epochs and not self._reason_to_stop():
                    self._run_epoch()
            except DiskFullError as error:
                # Nor can it go on without: which epochs are averaged would depend on the room on the disk.
                hint = f"free some space, then the same command again: it goes on from {self.saved}"
                raise DiskFullError(error.what, where=error.where, hint=hint) from error
        return self._finish()

    def _run_epoch(self) -> None:
        progress = self.progress
        self._unfreeze()
        epoch = self._batches()
        progress.batches = epoch.size
        with self.reporter.progress(f"epoch {progress.epoch}/{self.settings.epochs}", epoch.size) as advance:
            waiting_since = time.monotonic()
            for batch in epoch.batches:
                waited = time.monotonic() - waiting_since
                self._step(batch, share=self._done(progress.epoch - 1 + progress.batch / epoch.size))
                self._add({"waited": waited, "seconds": time.monotonic() - waiting_since})
                progress.batch += 1
                progress.step += 1
                advance(progress.batch, self.task.note(progress.totals))
                self._save_if_asked()
                waiting_since = time.monotonic()
        if progress.epoch < self.settings.epochs:
            self.ahead = self._read_ahead()
        self._end_epoch()

    def _batches(self) -> Epoch:
        """Those of the epoch that begins; its first ones may be ready."""
        progress, ahead = self.progress, self.ahead
        growth = self.schedule.begin_epoch(self._done(progress.epoch - 1))
        if ahead and (ahead.number, ahead.growth) == (progress.epoch, growth):
            return ahead.epoch
        epoch = self.task.epoch(progress.epoch, progress.batch, growth)
        if progress.batch and epoch.size != progress.batches:
            self.reporter.say(f"epoch {progress.epoch} begins anew, as its batches are others than before")
            progress.batch, progress.totals = 0, {}
            epoch = self.task.epoch(progress.epoch, 0, growth)
        return epoch

    def _read_ahead(self) -> _Ahead:
        """Let the loader's processes begin the next epoch while the dev set is measured."""
        number = self.progress.epoch + 1
        growth = self.schedule.growth_at(self._done(number - 1))
        return _Ahead(number, growth, self.task.epoch(number, 0, growth))

    def _done(self, epochs: float) -> float:
        """The share of the training that is done after so many epochs."""
        return epochs / self.settings.epochs

    def _unfreeze(self) -> None:
        now = self.progress.epoch
        self.optimization.begin_epoch(now)
        if (begun := self._begun()) and not self.progress.batch:
            self.reporter.say(f"epoch {now:3d}  {begun}")

    def _begun(self) -> str:
        """Which parts of the model begin to learn in this epoch; empty for none."""
        now = self.progress.epoch
        parts = [part for part, first in self.settings.methods.unfreeze.items() if first == now > 1]
        return f"learning from here on: {', '.join(parts)}" if parts else ""

    def _step(self, batch: Any, share: float) -> None:
        """Learn from a batch when such a share of the training is done."""
        self.optimization.prepare_model()
        factor = self.schedule.factor(share)
        with self._watching(factor) as figures:
            loss, update = self.optimization.learn(
                lambda: self.task.loss(batch, self.optimization.autocast), factor
            )
        self._add({"skipped": update.skipped})
        highest = max(self.optimization.current_learning_rate, self.progress.totals.get("highest_rate", 0.0))
        self.progress.totals["highest_rate"] = highest
        if not update.skipped:
            self._add({"learnt": 1, "gradient_norm": update.gradient_norm, **loss.sums, **figures})
        for name in loss.infinite:
            self.progress.infinite.setdefault(name, self.progress.epoch)

    def _watching(self, factor: float) -> AbstractContextManager[dict[str, float]]:
        """Watch a step where one is due; not the first of a warm-up, which changes nothing."""
        due = self.log and factor and is_due(self.progress.totals, self.progress.totals.get("learnt", 0))
        return watched_step(self.task.model) if due else nullcontext({})

    def _add(self, sums: Mapping[str, Tensor | float]) -> None:
        totals = self.progress.totals
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + float(value)

    def _end_epoch(self) -> None:
        progress = self.progress
        with self.optimization.averaged():
            dev = self._validate()
            epoch, weights = BestEpoch(dev.rank, progress.epoch), self.task.model.state_dict()
            progress.best = self.world.first(lambda: self.checkpoints.keep_best(progress.best, epoch, weights))
        fallen = self.schedule.end_epoch(dev.rank)
        if self.log:
            self._tell(self.log, dev, fallen)
        progress.epoch, progress.batch, progress.totals = progress.epoch + 1, 0, {}
        self._save()
        self._stop_if_asked()  # before `on_epoch`, which may end this training to begin another one
        self.on_epoch(progress.epoch - 1, dev)

    def _validate(self) -> ResultT:
        try:
            return self.task.validate()
        except DivergedTrainingError:
            if self.log:  # so that there is a report of how it came
                self.log.write(self._figures())
            raise

    def _tell(self, log: TrainingLog, dev: ResultT, fallen: float) -> None:
        """Log an epoch, and say how it went, and whether the learning rate has fallen at its end."""
        totals, epoch = self.progress.totals, f"epoch {self.progress.epoch:3d}"
        per = "" if self.schedule.shape.batch_growth == 1 else " over the size of batches"
        told = f"a plateau: from here on the learning rate{per} is {fallen:g} times what it was"
        plateau = told if fallen < 1 else ""
        events = [event for event in (self._begun(), plateau) if event]
        log.write({**self._figures(), "events": events, **dev.logged})
        learnt = self.task.note(totals) if "learnt" in totals else "loss unknown, as all steps were skipped"
        self.reporter.say(f"{epoch}  train {learnt}  {dev}  {totals['seconds']:.0f} s")
        if plateau:
            self.reporter.say(f"{epoch}  {plateau}")
        if self.progress.epoch < self.settings.epochs:  # at the end, the report tells them all
            for finding in self.findings.since(log.entries):
                self.reporter.warn(str(finding))

    def _figures(self) -> dict[str, Any]:
        """What to log of the epoch's steps."""
        progress, totals = self.progress, self.progress.totals
        return {
            "epoch": progress.epoch,
            "epochs": self.settings.epochs,
            "step": progress.step,
            "learning_rate": self.optimization.current_learning_rate,
            "highest_learning_rate": totals.get("highest_rate", self.optimization.current_learning_rate),
            "batch_growth": self.schedule.growth,
            **self.task.figures(totals),
            "infinite": [name for name, first in progress.infinite.items() if first == progress.epoch],
            "gradient_norm": mean(totals, "gradient_norm", "learnt"),
            "skipped_steps": totals["skipped"],
            "layers": self._layers(),
            "seconds": totals["seconds"],
            "seconds_waiting_for_data": totals["waited"],
        }

    def _layers(self) -> dict[str, dict[str, float]]:
        """What a step does to each layer; and its learning rate, where that is not the same for all."""
        figures = averages(self.progress.totals)
        for name, rate in self.optimization.rates_of_layers().items():
            figures.setdefault(name, {})["learning_rate"] = rate
        return figures

    def _reason_to_stop(self) -> str | None:
        """Why the training ends before its last epoch, if it does."""
        if not self.progress.best:
            return None
        best, settings = self.progress.best[0], self.settings
        if settings.target is not None and best.rank[0] <= settings.target:
            return "the dev set's error is as low as was asked for"
        if settings.patience is not None and self.progress.epoch - 1 - best.epoch >= settings.patience:
            return f"nothing better on dev for {counted(settings.patience, 'epoch')}, since epoch {best.epoch}"
        return None

    def _restore(self) -> None:
        world = self.world
        saved = world.first(self.checkpoints.load)
        if saved is None:
            if world.size > 1:
                randomness.separate(world.rank, step=0)
            return
        self.progress, state = saved
        self.saved = str(self.progress)
        try:
            self.optimization.restore(state)
            self.schedule.restore(state["schedule"])
            other = randomness.restore(
                state["random"], self.optimization.device, world.rank, world.size, self.progress.step
            )
        except (KeyError, ValueError, RuntimeError) as error:
            if is_lack_of_memory(error):
                raise
            hint = "remove the folder that it is in, to train from the start"
            what = f"this checkpoint is of another model, or of another version of asr ({error})"
            raise ModelError(what, where=self.checkpoints.state_path, hint=hint) from None
        if self.progress.epoch <= self.settings.epochs:
            self.reporter.say(f"resuming at epoch {self.progress.epoch}, after {self.progress.step} steps")
            if other:
                self.reporter.say(f"{other}: dropout draws anew from here on")

    def _save(self) -> None:
        random = self.world.gather(randomness.state(self.optimization.device))
        if self.log:
            self.progress.log = self.log.content
            state = {**self.optimization.state(), "schedule": self.schedule.state(), "random": random}
            self.checkpoints.save(self.progress, state)
        self.saved, self.saved_at = str(self.progress), time.monotonic()

    def _save_if_asked(self) -> None:
        due = time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes
        stopped, due = self.world.any(bool(self.signals), due)
        if stopped:
            self._save()
            self._stop_if_asked()
        elif due:
            try:
                self._save()
            except DiskFullError as error:  # which may pass until the epoch's end
                self.saved_at = time.monotonic()
                minutes = f"{self.settings.checkpoint_minutes:g} minutes"
                self.reporter.warn(f"{error.where_and_what}; going on, and trying again in {minutes}")

    def _stop_if_asked(self) -> None:
        """Stop, with all saved, where a signal has come to any process."""
        if self.world.any(bool(self.signals))[0]:
            signals = [name for names in self.world.gather(self.signals) for name in names]
            interrupted = InterruptedTogetherError if self.world.size > 1 else InterruptedTrainingError
            raise interrupted(
                f"stopped by {signals[0]} at epoch {self.progress.epoch}, step {self.progress.step}; "
                "everything is saved",
                hint="the same command again, to go on from here",
            )

    def _finish(self) -> Outcome[ResultT]:
        model, epochs = self.task.model, self.progress.epoch - 1
        if epochs < self.settings.epochs:
            self.reporter.say(f"ended after {counted(epochs, 'epoch')}: {self._reason_to_stop()}")
        kept = self.world.first(lambda: self.checkpoints.weights(self.progress.best))
        candidates = list(kept.values())[:1]
        if len(kept) > 1:
            candidates.append(average(list(kept.values())))
        results = []
        for weights in candidates:
            model.load_state_dict(weights)
            results.append(self.task.validate())
        winner = min(range(len(candidates)), key=lambda index: results[index].rank)
        model.load_state_dict(candidates[winner])
        model.eval()
        what = f"average of {len(kept)} epochs" if winner else f"epoch {next(iter(kept)).epoch}"
        self.reporter.say(f"kept: {what}, {results[winner]}")
        return Outcome(results[winner], epochs)


@contextmanager
def _signals_noted() -> Iterator[list[str]]:
    """Collect those that ask it to stop, between two steps; a second SIGINT, later, stops at once."""
    noted: list[str] = []
    first = 0.0

    def note(number: int, _: object) -> None:
        nonlocal first
        name, now = signal.Signals(number).name, time.monotonic()
        if name == "SIGINT" and name not in noted:
            first = now
        elif name == "SIGINT" and now - first > AT_ONCE:
            raise KeyboardInterrupt
        noted.append(name)

    in_main_thread = threading.current_thread() is threading.main_thread()
    with stop_signals.handled_by(note) if in_main_thread else nullcontext():
        yield noted
