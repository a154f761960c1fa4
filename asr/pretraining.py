"""The stage pretrain: a self-supervised start of the training, on recordings whose transcripts are not needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from asr import build
from asr.config import Augment, Pretrain, Recipe, Training
from asr.data import untranscribed
from asr.data.checks import check_recordings
from asr.data.corruption import CorruptingReader
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.errors import DataError
from asr.features import FeatureExtractor
from asr.files import contents
from asr.reporting import length_of_sound
from asr.stages import fit_features, reported
from asr.training import denoising, loop
from asr.workspace import Workspace


def inputs(recipe: Recipe) -> Any:
    """What the pretrained weights depend on beside the corpus."""
    section, augment = recipe.pretrain, recipe.augment
    assert section is not None
    voice = _voice(augment)
    settings = section.model_dump(mode="json", exclude={"audio", "layers"})
    if section.audio is not None and not section.audio.exists():
        what = "neither a folder nor a manifest is there"
        raise DataError(what, where=section.audio, expected="as pretrain.audio")
    folders = [section.audio, section.noise.folder if section.noise else None]
    heard = [None if folder is None else contents(folder) for folder in folders]
    # Of its recurrent layers, so many are pretrained.
    encoder = recipe.model.encoder.model_copy(update={"layers": section.layers or recipe.model.encoder.layers})
    network = (recipe.model.frontend, encoder)
    return (settings, heard, voice, recipe.features, network, recipe.training.precision, recipe.seed)


def _voice(augment: Augment) -> Augment:
    """What changes a recording itself, not what comes on its way."""
    return Augment(speed=augment.speed, pitch=augment.pitch, tempo=augment.tempo, gain_db=augment.gain_db)


def pretrain(work: Workspace) -> None:
    """Train the first layers to restore corrupted recordings, or go on where that was cut off, with a report."""
    places = (work.pretraining, work.pretraining_report, work.pretrained)
    with reported(work, *places, pretraining=True) as reporter:
        start = job(replace(work, reporter=reporter))
        denoising.train(start, reporter)
        denoising.save(start.model, work.pretrained)


def job(work: Workspace) -> denoising.Job:
    """All that the self-supervised start needs."""
    recipe, section = work.recipe, work.recipe.pretrain
    assert section is not None
    manifests = work.manifests()
    utterances, dev = read_manifest(manifests["train"]), read_manifest(manifests["dev"])
    extractor = fit_features(recipe, utterances)
    if section.audio is not None:
        utterances = [*utterances, *_untranscribed(work, section.audio)]
    device = build.device(recipe.training.device)
    torch.manual_seed(recipe.seed)  # of the first weights and of dropout
    model = build.denoising(recipe.model, section.layers, extractor.dim)
    length = length_of_sound(sum(utterance.duration for utterance in utterances))
    work.reporter.say(f"  {len(utterances)} recordings, {length}, to be restored; their mean would score 1")
    return denoising.Job(
        model=model.to(device),
        train=utterances,
        dev=dev,
        reader=_reader(recipe, section, extractor),
        settings=_pretraining_settings(section, recipe.training),
        batch_seconds=section.batch_seconds,
        seed=recipe.seed,
        folder=work.pretraining,
        workers=recipe.training.workers,
    )


def _untranscribed(work: Workspace, source: Path) -> list[Utterance]:
    """The recordings of `pretrain.audio`, checked and cut into pieces, unless a cut-off run has done so."""
    if work.untranscribed.exists():
        return read_manifest(work.untranscribed, transcribed=False)
    sets = work.sets()
    found = untranscribed.find(source)
    fresh = untranscribed.without(found, (utterance for known in sets.values() for utterance in known))
    if len(fresh) < len(found):
        work.reporter.say(f"  {len(found) - len(fresh)} of the recordings in {source} are in the corpus already")
    with work.reporter.progress("check", len(fresh)) as advance:
        check_recordings({"pretrain.audio": fresh}, advance)
    pieces = list(untranscribed.in_pieces(fresh))
    if not pieces:
        return []
    write_manifest(work.untranscribed, pieces)
    return read_manifest(work.untranscribed, transcribed=False)  # with times rounded, as a cut-off run has them


def _reader(recipe: Recipe, section: Pretrain, extractor: FeatureExtractor) -> CorruptingReader:
    rate = recipe.features.sample_rate
    return CorruptingReader(
        sample_rate=rate,
        extractor=extractor,
        masking=build.masking(section),
        noise=build.augmenter(Augment(noise=section.noise), rate),
        voice=build.augmenter(_voice(recipe.augment), rate),
    )


def _pretraining_settings(section: Pretrain, training: Training) -> loop.Settings:
    return loop.Settings(
        epochs=section.epochs,
        learning_rate=section.learning_rate,
        warmup=0.05,
        schedule="cosine",
        weight_decay=0.01,
        clip_norm=5.0,
        patience=section.patience,
        average=1,
        precision=training.precision,
        threads=loop.threads(training.threads, training.workers),
        checkpoint_minutes=training.checkpoint_minutes,
    )
