"""The training loop: epochs of steps, a look at the dev set after each, and nothing lost when it is cut off."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from asr.config import Training
from asr.data.batching import Concatenation, plan_epoch, plan_in_order
from asr.data.loading import Loader, Reader
from asr.data.manifest import Utterance
from asr.errors import AsrError
from asr.features import FeatureExtractor
from asr.model.acoustic import AcousticModel
from asr.reporting import Reporter
from asr.training.checkpoint import BestEpoch, Checkpoints, Progress
from asr.training.log import TrainingLog
from asr.training.schedule import learning_rate_factor
from asr.training.step import Stepper, StepResult, resolve_precision
from asr.training.validation import DevResult, validate

CORES = torch.get_num_threads()
"""Torch's own choice, before anything changes it: the physical cores."""


class InterruptedTrainingError(AsrError):
    """Stopped from outside; the checkpoint holds everything."""

    exit_code = 130


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


@dataclass(frozen=True)
class Outcome:
    """What a training brought.

    Attributes:
        dev: the dev set's figures with the weights that the model was left with.
        epochs: how many were trained.
    """

    dev: DevResult
    epochs: int


def train(job: Job, reporter: Reporter) -> Outcome:
    """Train until the last epoch, or until the dev set has not improved for `settings.patience` epochs.

    The model is left with the average of its best epochs' weights, or the best's if these do better on dev.

    A training that was cut off goes on from its checkpoint as if nothing had happened: on a CPU with the same
    number of threads its weights are bit for bit those of a training that ran through.

    Raises:
        InterruptedTrainingError: SIGINT or SIGTERM came; a checkpoint was written first.
    """
    return _Run(job, reporter).run()


class _Run:
    """One call of `train`."""

    def __init__(self, job: Job, reporter: Reporter) -> None:
        self.job, self.settings, self.reporter = job, job.settings, reporter
        self.device = next(job.acoustic.parameters()).device
        # A thread that shares its core with a worker holds up all the others at every operation's end.
        torch.set_num_threads(job.settings.threads or max(CORES - job.settings.workers, 1))
        self.stepper = Stepper(
            job.acoustic,
            job.extractor,
            learning_rate=job.settings.learning_rate,
            weight_decay=job.settings.weight_decay,
            clip_norm=job.settings.clip_norm,
            precision=resolve_precision(job.settings.precision, self.device),
        )
        self.checkpoints = Checkpoints(job.folder / "checkpoints", job.settings.average)
        self.progress = Progress()
        self._restore()
        self.log = TrainingLog(job.folder, self.progress.log_bytes, self.progress.step)
        self.dev_loader = self._loader(job.dev_reader)
        self.saved_at = time.monotonic()

    def run(self) -> Outcome:
        with closing(self.log), _signals_noted() as signals:
            self.signals = signals
            train_loader = None
            while self.progress.epoch <= self.settings.epochs and not self._out_of_patience():
                if train_loader is None or self.progress.epoch == self.job.spec_augment_start:
                    train_loader = self._loader(self._train_reader())
                self._run_epoch(train_loader)
        return self._finish()

    def _run_epoch(self, loader: Loader) -> None:
        progress, started = self.progress, time.monotonic()
        plan = plan_epoch(
            self.job.train,
            batch_seconds=self.settings.batch_seconds,
            seed=self.job.seed,
            epoch=progress.epoch,
            concatenation=self.job.concatenation,
            shortest_first=self.settings.sorted_first_epoch and progress.epoch == 1,
        )
        name = f"epoch {progress.epoch}/{self.settings.epochs}"
        with self.reporter.progress(name, len(plan)) as advance:
            waiting_since = time.monotonic()
            for batch in loader(plan[progress.batch :]):
                waited = time.monotonic() - waiting_since
                share = (progress.epoch - 1 + progress.batch / len(plan)) / self.settings.epochs
                factor = learning_rate_factor(share, self.settings.warmup, self.settings.schedule)
                self._note(self.stepper(batch, factor), sum(s.duration for s in batch.samples), waited)
                progress.batch += 1
                progress.step += 1
                advance(progress.batch, f"loss {self._mean('loss', 'labels'):.3f}")
                self._save_if_asked()
                waiting_since = time.monotonic()
        self._end_epoch(time.monotonic() - started)

    def _note(self, result: StepResult, audio_seconds: float, waited: float) -> None:
        totals = self.progress.totals
        for name, value in (
            ("steps", 1),
            ("loss", 0.0 if result.skipped else result.loss),
            ("labels", 0 if result.skipped else result.labels),
            ("infinite", result.infinite),
            ("skipped", result.skipped),
            ("gradient_norm", 0.0 if result.skipped else result.gradient_norm),
            ("audio_seconds", audio_seconds),
            ("waited", waited),
        ):
            totals[name] = totals.get(name, 0.0) + value

    def _mean(self, name: str, by: str) -> float:
        totals = self.progress.totals
        return totals[name] / max(totals[by], 1)

    def _end_epoch(self, seconds: float) -> None:
        progress, totals = self.progress, self.progress.totals
        dev = self._validate()
        self.log.write(
            {
                "epoch": progress.epoch,
                "step": progress.step,
                "learning_rate": self.stepper.optimizer.param_groups[0]["lr"],
                "train_loss": self._mean("loss", "labels"),
                "dev_loss": dev.loss,
                "dev_wer": dev.wer,
                "dev_cer": dev.cer,
                "gradient_norm": self._mean("gradient_norm", "steps"),
                "infinite_losses": totals["infinite"],
                "skipped_steps": totals["skipped"],
                "seconds": seconds,
                "seconds_waiting_for_data": totals["waited"],
                "audio_seconds": totals["audio_seconds"],
            }
        )
        self.reporter.say(
            f"epoch {progress.epoch:3d}  train loss {self._mean('loss', 'labels'):.3f}  dev loss {dev.loss:.3f}  "
            f"dev WER {dev.wer:.2%}  CER {dev.cer:.2%}  {seconds:.0f} s"
        )
        self._warn_of_losses(dev)
        weights = self.job.acoustic.state_dict()
        epoch = BestEpoch(dev.rank, progress.epoch)
        progress.best = self.checkpoints.keep_best(progress.best, epoch, weights)
        progress.epoch, progress.batch, progress.totals = progress.epoch + 1, 0, {}
        self._save()
        self.checkpoints.prune(progress.best)

    def _warn_of_losses(self, dev: DevResult) -> None:
        totals = self.progress.totals
        if totals["infinite"] or dev.infinite:
            self.reporter.warn(
                f"{totals['infinite']:.0f} training and {dev.infinite} dev utterances have an infinite loss: "
                "too few frames for their labels (less subsampling, or longer tokens)"
            )
        if totals["skipped"]:
            self.reporter.warn(f"{totals['skipped']:.0f} steps had a gradient that is not finite and were skipped")

    def _validate(self) -> DevResult:
        plan = plan_in_order(self.job.dev, self.settings.batch_seconds)
        batches = self.dev_loader(plan)
        return validate(self.job.acoustic, self.job.extractor, batches, self.job.dev_reader.tokenizer)

    def _out_of_patience(self) -> bool:
        if self.settings.patience is None or not self.progress.best:
            return False
        return self.progress.epoch - 1 - self.progress.best[0].epoch >= self.settings.patience

    def _train_reader(self) -> Reader:
        if self.progress.epoch < self.job.spec_augment_start:
            return replace(self.job.train_reader, spec_augment=None)
        return self.job.train_reader

    def _loader(self, reader: Reader) -> Loader:
        return Loader(reader, self.settings.workers, pin_memory=self.device.type == "cuda")

    def _restore(self) -> None:
        saved = self.checkpoints.load()
        if saved is None:
            return
        self.progress, state = saved
        self.stepper.restore(state)
        if self.progress.epoch <= self.settings.epochs:
            self.reporter.say(f"resuming at epoch {self.progress.epoch}, after {self.progress.step} steps")

    def _save(self) -> None:
        self.progress.log_bytes = self.log.size
        self.checkpoints.save(self.progress, self.stepper.state())
        self.saved_at = time.monotonic()

    def _save_if_asked(self) -> None:
        if self.signals:
            self._save()
            raise InterruptedTrainingError(
                f"stopped by {self.signals[0]} at epoch {self.progress.epoch}, step {self.progress.step}; "
                "everything is saved",
                hint="the same command again, to go on from here",
            )
        if time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes:
            self._save()

    def _finish(self) -> Outcome:
        acoustic, best = self.job.acoustic, self.progress.best
        candidates = [self.checkpoints.best_weights(best)]
        if len(best) > 1:
            candidates.append(self.checkpoints.average(best))
        results = []
        for weights in candidates:
            acoustic.load_state_dict(weights)
            results.append(self._validate())
        winner = min(range(len(candidates)), key=lambda index: results[index].rank)
        acoustic.load_state_dict(candidates[winner])
        acoustic.eval()
        what = f"average of {len(best)} epochs" if winner else f"epoch {best[0].epoch}"
        dev = results[winner]
        self.reporter.say(f"kept: {what}, dev loss {dev.loss:.3f}, WER {dev.wer:.2%}, CER {dev.cer:.2%}")
        return Outcome(dev, self.progress.epoch - 1)


@contextmanager
def _signals_noted() -> Iterator[list[str]]:
    """Collect SIGINT and SIGTERM, to stop between two steps; a second SIGINT stops at once."""
    noted: list[str] = []

    def note(number: int, _: object) -> None:
        noted.append(signal.Signals(number).name)
        if len(noted) > 1:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield noted  # only the main thread may ask for signals
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
