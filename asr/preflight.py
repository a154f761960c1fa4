"""What to try before a training: can ten utterances be learnt by heart, are the gradients right, and which learning
rate suits it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from asr import artefact, build, origin, pipeline, stages
from asr.assess import recognise_manifest
from asr.config import Augment, ManifestsCorpus, Recipe
from asr.data.batching import Sample
from asr.data.checks import check_sets
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.errors import DataError, counted
from asr.evaluation import wer
from asr.files import clear_folder, only_writer, refuse_folder_of_others
from asr.model.ctc import ctc_loss
from asr.recognizer import Recognizer
from asr.reporting import Reporter
from asr.text.normalize import Normalizer
from asr.training import log
from asr.training.acoustic import AcousticTask
from asr.training.gradient_check import Comparison, check_gradients
from asr.training.loop import InterruptedTrainingError
from asr.training.memory import fitting_budget
from asr.training.range_test import RangeTest, range_test

ROUNDS = 20
"""Times that each utterance is heard in an epoch."""
EPOCHS = 30
"""At most; the learning rate falls accordingly. Pipelines that are well need three to ten."""
POOL = 10
"""Utterances are drawn from the shortest, so many times as many as are wanted."""
CHECKED_UTTERANCES = 2
MANIFEST = "utterances.jsonl"
"""In the folder of a trial: what is to be learnt."""


@dataclass(frozen=True)
class Overfitting:
    """How well some utterances were learnt by heart.

    Attributes:
        utterances: what was to be learnt.
        answers: what the trained model, saved and loaded, hears in them.
        score: of these.
        epochs: how many it took, or how many were not enough.
    """

    utterances: list[Utterance]
    answers: list[wer.Answer]
    score: wer.Score
    epochs: int

    @property
    def passed(self) -> bool:
        """Whether every word is right."""
        return self.score.errors == 0


def overfit(recipe: Recipe, count: int, folder: Path, data: Path, reporter: Reporter) -> Overfitting:
    """Train a recipe's model on a few utterances alone until it reads them without a fault.

    Nothing makes it harder: no augmentation, dropout or penalty, and no part is frozen. A pipeline that can't do
    that is broken, and a longer training won't mend it.

    Args:
        recipe: whose model learns them.
        count: of utterances.
        folder: for what the trial leaves behind; that of an earlier trial is thrown away.
        data: where corpora are prepared.
        reporter: told what happens.

    Raises:
        ConfigError: the folder holds something else, or another process is at work in it.
        DataError: the recordings can't be used.
    """
    refuse_folder_of_others(folder, MANIFEST, "an earlier trial")
    with only_writer(folder):
        clear_folder(folder, MANIFEST)
        return _overfit(recipe, count, folder, data, reporter)


def _overfit(recipe: Recipe, count: int, folder: Path, data: Path, reporter: Reporter) -> Overfitting:
    manifest = (folder / MANIFEST).absolute()
    work = pipeline.workspace(recipe, folder, data, reporter)
    stages.prepare(work)
    normalizer = build.normalizer(recipe.text)
    utterances = choose(read_manifest(work.manifests()["train"]), count, normalizer, recipe.seed)
    reporter.say(f"learning {counted(len(utterances), 'utterance')} by heart, in {folder}")
    check_sets({"train": utterances}, normalizer)
    write_manifest(manifest, utterances)
    stages.tokens(work)
    trial = replace(work, recipe=_bare(recipe, manifest), corpus=folder / "corpus")
    stages.prepare(trial)
    try:
        stages.train(trial, target=0.0)
    except InterruptedTrainingError as error:
        stopped = error.what.partition(";")[0]
        raise InterruptedTrainingError(f"{stopped}; a trial begins anew each time") from None
    device = build.device(recipe.training.device)
    answers = recognise_manifest(Recognizer(artefact.load(trial.trained, device), device), utterances)
    return Overfitting(utterances, answers, wer.score(answers, bootstrap=1), len(log.read(trial.training)))


def choose(utterances: Sequence[Utterance], count: int, normalizer: Normalizer, seed: int) -> list[Utterance]:
    """Draw some of the shortest utterances, each with a text of its own as far as there are enough.

    Raises:
        DataError: there are no utterances in which something is said.
    """
    spoken = [utterance for utterance in utterances if normalizer(utterance.text)]
    if not spoken:
        raise DataError("all training transcripts are empty")
    pool = sorted(spoken, key=lambda utterance: utterance.duration)[: POOL * count]
    drawn = [pool[index] for index in np.random.default_rng(seed).permutation(len(pool))]
    first = {normalizer(utterance.text): utterance for utterance in reversed(drawn)}
    return sorted(drawn, key=lambda utterance: first[normalizer(utterance.text)] is not utterance)[:count]


def compare_gradients(recipe: Recipe, data: Path, reporter: Reporter) -> list[Comparison]:
    """Compare the gradients of a recipe's model before training, on two short utterances, with numeric ones.

    In double precision on the CPU, without augmentation and dropout, which would make the loss a random number.

    Raises:
        DataError: the utterances are too short for their texts.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = pipeline.workspace(_bare(recipe), Path(folder), data, reporter)
        stages.prepare(work)
        train = read_manifest(work.manifests()["train"])
    bare, normalizer = work.recipe, build.normalizer(recipe.text)
    tokenizer = origin.tokens(bare, [normalizer(utterance.text) for utterance in train])
    utterances = choose(train, CHECKED_UTTERANCES, normalizer, bare.seed)
    extractor = stages.fit_features(bare, utterances)
    reader = stages.reader(bare, extractor, tokenizer, torch.device("cpu"), augmented=False)
    batch = reader.read_batch([Sample((utterance,)) for utterance in utterances])
    features, frames = batch.features(extractor)
    torch.manual_seed(bare.seed)
    acoustic = build.acoustic(bare.model, extractor.dim, len(tokenizer.surfaces))
    origin.inherit(bare, acoustic, tokenizer, reporter)
    acoustic.double().train()

    def loss() -> torch.Tensor:
        log_probs, lengths = acoustic(features.double(), frames)
        found = ctc_loss(log_probs, lengths, batch.targets, batch.target_lengths)
        if not found.labels:
            names = ", ".join(str(utterance.source) for utterance in utterances)
            raise DataError("these utterances have fewer frames than their labels need", where=names)
        return found.mean

    layers = sum(any(True for _ in module.parameters(recurse=False)) for module in acoustic.modules())
    found = []
    with reporter.progress("gradients", layers) as advance:
        for comparison in check_gradients(acoustic, loss, torch.Generator().manual_seed(bare.seed)):
            found.append(comparison)
            advance(len(found), comparison.name)
    return found


def find_learning_rate(
    recipe: Recipe, data: Path, reporter: Reporter, lowest: float, highest: float, steps: int
) -> RangeTest:
    """Try learning rates on a recipe's model while it is new: see `range_test`.

    Batches come in random order: were the short ones first, the loss would rise with their length.

    Args:
        recipe: whose model learns.
        data: where corpora are prepared.
        reporter: told what happens.
        lowest, highest: the rates to begin and to end with.
        steps: batches to learn from.
    """
    training = recipe.training.model_copy(update={"sorted_first_epoch": False, "batch_growth": 1.0})
    with tempfile.TemporaryDirectory() as folder:
        unsorted = recipe.model_copy(update={"training": training, "pretrain": None})
        work = pipeline.workspace(unsorted, Path(folder), data, reporter)
        stages.prepare(work)
        stages.tokens(work)
        job = stages.training_job(work)
        trial = AcousticTask(job)
        fitting = fitting_budget(job.batch_seconds, trial.longest_batch, trial.attempt, reporter)
        job = replace(job, batch_seconds=fitting)
        reporter.say(f"  {steps} steps, from a learning rate of {lowest:g} to one of {highest:g}")
        with reporter.progress("tune", steps) as advance:
            return range_test(AcousticTask(job), job.settings, lowest, highest, steps, advance)


def _bare(recipe: Recipe, manifest: Path | None = None) -> Recipe:
    """A recipe without all that makes learning by heart harder, of the utterances of a manifest if one is given."""
    model, training = recipe.model, recipe.training
    still = {"dropout": 0.0}
    return recipe.model_copy(
        update={
            "prepare": recipe.prepare
            if manifest is None
            else ManifestsCorpus(corpus="manifests", train=manifest, dev=manifest, tests={"the same": manifest}),
            "augment": Augment(),
            "pretrain": None,
            "model": model.model_copy(
                update={
                    "frontend": model.frontend.model_copy(update=still),
                    "encoder": model.encoder.model_copy(update={**still, "weight_dropout": 0.0}),
                }
            ),
            "training": training.model_copy(
                update={
                    "epochs": EPOCHS,
                    "rounds": ROUNDS,
                    "rates": {},
                    "layer_decay": 1.0,
                    "unfreeze": {},
                    "weight_decay": 0.0,
                    "l1": 0.0,
                    "consistency": 0.0,
                    "max_norm": None,
                    "ema": None,
                    "patience": None,
                    "average": 1,
                }
            ),
        }
    )
