"""The trials of a search as trainings of a recipe, each in a folder of its own."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr import pipeline, recipe_file, stages
from asr.config import Recipe
from asr.files import (
    clear_folder,
    contents,
    fingerprint,
    only_writer,
    read_record,
    refuse_folder_of_others,
    write_bytes,
)
from asr.reporting import Advance, Noted, Reporter, Silent
from asr.run_folder import RunFolder
from asr.search import study
from asr.search.study import Figures, Objective, OnEpoch, Plan, Trial
from asr.training import log
from asr.training.checkpoint import Checkpoints, claim
from asr.training.report import OUTPUT
from asr.workspace import Workspace

_IDENTITY = "study.json"  # in the folder of a search: the settings that it is bound to


@contextmanager
def prepared(
    recipe: Recipe, plan: Plan, folder: Path, data: Path, reporter: Reporter, overwrite: bool = False
) -> Iterator[None]:
    """Make a folder that of a search, or see that it is; and look at the corpus, once for all trials.

    Until the block ends, no other search works in the folder.

    Args:
        recipe: the settings that stay; with the epochs of a trial.
        plan: what to try.
        folder: of the search, made if it is not there.
        data: where corpora are prepared; the trials share it.
        reporter: told what happens.
        overwrite: throw away a search with other settings that is in the folder.

    Raises:
        ConfigError: the folder holds a search with other settings, or something else, or another search is at work
            in it.
        DataError: the recordings can't be used.
        MissingDependencyError: Optuna is not installed.
    """
    study.load_optuna()
    refuse_folder_of_others(folder, _IDENTITY, "a search")
    with only_writer(folder):
        work = pipeline.workspace(recipe, folder, data, reporter)
        record, clear = folder / _IDENTITY, lambda: clear_folder(folder, _IDENTITY)
        claim(record, _identity(work, plan), overwrite, clear, "search")
        pipeline.run_stages(work, "check")
        yield


def search(
    recipe: Recipe,
    plan: Plan,
    folder: Path,
    data: Path,
    reporter: Reporter,
    trials: int | None,
    seconds: float = math.inf,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Train with different settings, or go on where that was cut off. No test set is measured.

    Args:
        recipe, plan, folder, data, reporter: see `prepared`, in whose block this runs.
        trials, seconds, on_trial: see `study.run`.

    Returns:
        All trials, in their order; the weights of the best are kept.

    Raises:
        DiskFullError: the trial under way goes on next time.
        InterruptedTrainingError: stopped by a signal.
    """
    done = study.ended(plan, folder)

    def end(trial: Trial) -> None:
        done.append(trial)
        remove_weights(folder, done, study.best(done, plan.metric))
        on_trial(trial)

    return study.run(plan, folder, objective(recipe, folder, data, reporter), trials, seconds, end)


def objective(recipe: Recipe, folder: Path, data: Path, reporter: Reporter) -> Objective:
    """What runs a trial: the stages of the recipe up to the training, with the trial's settings."""

    def train(number: int, settings: Mapping[str, Any], on_epoch: OnEpoch) -> None:
        place = RunFolder(trial_folder(folder, number))
        with_settings = recipe_file.with_settings(recipe, settings)
        for entry in _epochs_done(place.training):
            if "dev_cer" in entry:  # as all have but one that has diverged
                on_epoch(entry["epoch"], Figures(entry["dev_cer"], entry["dev_wer"], entry["dev_loss"]))
        # The corpus is looked at once: where a trial has the same, it needs no other check.
        checked = RunFolder(folder)
        _copy({checked.checked: place.checked, checked.record("check"): place.record("check")})
        noted = Noted(_Bars(reporter, f"trial {number}, "), place.folder / OUTPUT)
        work = pipeline.workspace(with_settings, place.folder, data, noted)
        with _pretrained_once(work, folder):
            pipeline.run_stages(replace(work, on_epoch=on_epoch), "train")

    return train


def _epochs_done(training: Path) -> list[dict[str, Any]]:
    """The log of a trial that was cut off, as its checkpoint has it; its file may be damaged, or ahead of that."""
    saved = Checkpoints(training / "checkpoints", keep=1, reporter=Silent()).load()
    return [] if saved is None else log.parse(saved[0].log.encode(), training)


def trial_folder(folder: Path, number: int) -> Path:
    """Where a trial leaves its log, its settings and, while it is the best, its model."""
    return folder / "trials" / f"{number:03d}"


@contextmanager
def _pretrained_once(work: Workspace, folder: Path) -> Iterator[None]:
    """Let a trial have the self-supervised start of an earlier one, if its own would be the same; or keep its own.

    Args:
        work: of the trial, which makes its start, if it has one, while the block runs.
        folder: of the search.
    """
    if work.recipe.pretrain is None:
        yield
        return
    kept = folder / "starts" / pipeline.fingerprint_of("pretrain", work)
    copies = {work.pretrained: kept / work.pretrained.name, work.record("pretrain"): kept / "record.json"}
    if not work.pretraining.exists() and all(copy.exists() for copy in copies.values()):
        _copy({copy: place for place, copy in copies.items()})
    try:
        yield
    finally:
        if "finished" in read_record(work.record("pretrain")) and not (kept / "record.json").exists():
            _copy(copies)


def _copy(files: Mapping[Path, Path]) -> None:
    """Copy files, in their order: the record of a stage after its product."""
    for source, copy in files.items():
        write_bytes(copy, source.read_bytes())


def remove_weights(folder: Path, trials: Sequence[Trial], best: Trial | None) -> None:
    """Remove the weights of trials that have ended, but those of the best."""
    for trial in trials:
        if trial is not best:
            place = RunFolder(trial_folder(folder, trial.number))
            for weights in (place.training / "checkpoints", place.trained, place.pretraining / "checkpoints"):
                shutil.rmtree(weights, ignore_errors=True)
            place.pretrained.unlink(missing_ok=True)


def _identity(work: Workspace, plan: Plan) -> dict[str, Any]:
    """What decides how the trials of a search do.

    Raises:
        AsrError: something is missing that the recipe names.
    """
    _, begun_from = pipeline.identity(work)
    return {
        **pipeline.deciding_settings(work.recipe),
        pipeline.ORIGIN: begun_from,
        "what the recipe's files hold": fingerprint([*map(contents, stages.files_learnt_from(work.recipe))]),
        "--vary": [str(space) for space in plan.spaces],
        "--sampler": plan.sampler,
        "--prune": plan.prune,
        "--prune-after": plan.prune_after,
        "--metric": plan.metric,
        "--seed": plan.seed,
    }


@dataclass(frozen=True)
class _Bars(Silent):
    """Says nothing, and names the trial on the bars."""

    reporter: Reporter
    name: str

    @contextmanager
    def progress(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Show a bar while the block runs."""
        with self.reporter.progress(self.name + name, total) as advance:
            yield advance
