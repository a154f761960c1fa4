"""The stages of every recipe: prepare, check, tokens, train, evaluate, package.

Those of some only are elsewhere: pretrain in `asr.pretraining`, language model and tune in `asr.language`.
"""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from asr import artefact, audio, build, origin
from asr.assess import recognise_manifest
from asr.card import model_card
from asr.config import CommandsCorpus, LibrispeechCorpus, ManifestsCorpus, Recipe, Speechocean762Corpus, Training
from asr.data import untranscribed
from asr.data.checks import check_sets, infeasible
from asr.data.corpora import prepared
from asr.data.corpora.registry import PREPARE
from asr.data.loading import Reader
from asr.data.manifest import Utterance, grouping_fields, read_manifest, write_manifest
from asr.decoder_settings import DecoderSettings
from asr.errors import DataError, ModelError, counted, is_or_are, listing, some
from asr.evaluation.report import format_report, format_totals, to_results
from asr.evaluation.wer import breakdown, score
from asr.features import FeatureExtractor, GlobalNorm, deaf_filters
from asr.files import (
    atomic_path,
    contents,
    file_fingerprint,
    fingerprint,
    missing_files,
    one_at_a_time,
    read_json,
    remove_folder,
    write_json,
    write_text,
)
from asr.recognizer import Recognizer
from asr.reporting import Reporter, length_of_sound
from asr.run_report import about
from asr.text import tokenizer as tokenizers
from asr.text.tokenizer import Tokenizer
from asr.training import acoustic as acoustic_training
from asr.training import denoising, loop, report
from asr.training.distributed import World
from asr.training.optimization import OptimizationMethods, resolve_precision
from asr.training.optimizers import OptimizerSettings, parameter_groups
from asr.training.schedule import ScheduleShape
from asr.workspace import Workspace

ENOUGH_FOR_STATISTICS = 2000
"""Utterances, evenly spaced over the training set, from which global normalisation is measured."""


# ------------------------------------------------------------------------------------------------ prepare


def _corpus_files(recipe: Recipe) -> list[Path]:
    """The files that the recipe's section on the corpus names."""
    section = recipe.prepare
    match section:
        case ManifestsCorpus():
            return [section.train, *section.extra, section.dev, *section.tests.values()]
        case CommandsCorpus():
            return [section.grammar]
        case Speechocean762Corpus():
            return [section.dev_speakers, *(path for path in section.extra if path.suffix == ".jsonl")]
        case _:
            return []


def _corpus_folders(recipe: Recipe) -> list[Path]:
    """The folders of recordings that it adds to a corpus, which may be added to themselves."""
    section = recipe.prepare
    if not isinstance(section, Speechocean762Corpus):
        return []
    return [path for path in section.extra if path.suffix != ".jsonl"]


def corpus_inputs(recipe: Recipe) -> Any:
    """What the prepared corpus depends on: the recipe's section, and what files and folders named there hold."""
    section, files = recipe.prepare, _corpus_files(recipe)
    if missing := missing_files(files):
        raise DataError(
            "the recipe names files that are not there: " + ", ".join(missing),
            hint="paths in a recipe are relative to its folder; on the command line, to where you are",
        )
    # What these files say counts, not where they lie; manifests name recordings by where they lie.
    by_content = {"grammar", "dev_speakers"}
    held = [contents(path) for path in (*files, *_corpus_folders(recipe))]
    return [section.model_dump(mode="json", exclude=by_content), held]


def learnt_inputs(recipe: Recipe) -> Any:
    """The same of that part of the corpus from which is learnt: not of test sets, where these can be chosen."""
    return corpus_inputs(without_tests(recipe))


def without_tests(recipe: Recipe) -> Recipe:
    """The recipe without the test sets that it names, of which no training knows."""
    section = recipe.prepare
    if isinstance(section, ManifestsCorpus):
        section = section.model_copy(update={"tests": {}})
    elif isinstance(section, LibrispeechCorpus):
        section = section.model_copy(update={"tests": ()})
    return recipe.model_copy(update={"prepare": section})


def augmentation_inputs(recipe: Recipe) -> Any:
    """What augmentation depends on: the recipe's section, and the recordings in the folders that it names."""
    return [recipe.augment.model_dump(mode="json"), [contents(folder) for folder in _augmentation_folders(recipe)]]


def _augmentation_folders(recipe: Recipe) -> list[Path]:
    parts = [part for part in (recipe.augment.noise, recipe.augment.reverb) if part is not None]
    return [part.folder for part in parts if part.folder is not None]


def files_learnt_from(recipe: Recipe) -> list[Path]:
    """The files and folders that the recipe names and whose content decides what a training learns."""
    paths = [*_corpus_files(without_tests(recipe)), *_corpus_folders(recipe), *_augmentation_folders(recipe)]
    if recipe.pretrain is not None:
        noise = recipe.pretrain.noise
        paths += [path for path in (recipe.pretrain.audio, noise.folder if noise else None) if path is not None]
    return paths


def prepare(work: Workspace) -> None:
    """Get the corpus and write its manifests, unless another run has done so or, waited for, does so now.

    What the training will need besides, a device and recordings of noise and rooms, is looked for first, as corpora
    can take hours.
    """
    build.device(work.recipe.training.device)
    build.augmenter(work.recipe.augment, work.recipe.features.sample_rate)
    if work.corpus_file.exists():  # which is written last
        return
    with one_at_a_time(
        work.corpus.with_name(f".{work.corpus.name}.lock"),
        lambda: work.reporter.say(f"  waiting: another process prepares {work.corpus}"),
    ):
        if not work.corpus_file.exists():
            _prepare(work)


def _prepare(work: Workspace) -> None:
    section = work.recipe.prepare
    if isinstance(section, ManifestsCorpus):
        manifest = str(section.train)
        if section.extra:
            manifest = "train.jsonl"
            parts = (section.train, *section.extra)
            write_manifest(
                work.corpus / manifest, [utterance for path in parts for utterance in read_manifest(path)]
            )
        tests = {name: str(path) for name, path in section.tests.items()}
        write_json(work.corpus_file, {"train": manifest, "dev": str(section.dev), "tests": tests})
        return
    settings = {key: getattr(section, key) for key in type(section).model_fields if key != "corpus"}
    with work.reporter.progress("prepare") as advance:
        PREPARE[section.corpus](
            **settings,
            output=work.corpus,
            progress=lambda done, total, unit="": advance(done, f"of {total} {unit}".rstrip() if total else unit),
        )


# -------------------------------------------------------------------------------------- check and tokens


def check(work: Workspace) -> None:
    """Look at every recording and transcript before time is spent on them."""
    sets = work.sets()
    if not isinstance(work.recipe.prepare, ManifestsCorpus):
        prepared.refuse_missing(work.corpus, chain.from_iterable(sets.values()))
    normalizer = build.normalizer(work.recipe.text)
    total = sum(len(utterances) for utterances in sets.values())
    with work.reporter.progress("check", total) as advance:
        summaries, warnings = check_sets(sets, normalizer, advance)
    warnings += _heard_before(work, sets)
    for name, summary in summaries.items():
        trained = f" ({summary.trained_speakers} of them in train)" if summary.trained_speakers else ""
        work.reporter.say(
            f"  {name}: {counted(summary.utterances, 'utterance')}, {length_of_sound(3600 * summary.hours)}, "
            f"{counted(summary.words, 'word')}, {counted(summary.speakers, 'speaker')}{trained}"
        )
    removed = Counter(chain.from_iterable(normalizer.removed(utterance.text) for utterance in sets["train"]))
    if removed:
        counts = some([f"“{character}” {count}" for character, count in removed.most_common()], most=10)
        work.reporter.say(f"  removed as punctuation: {counts} (text.keep_characters keeps them)")
    digits = sum(any(map(str.isdecimal, normalizer(utterance.text))) for utterance in sets["train"])
    if digits:
        work.reporter.say(
            f"  digits in {counted(digits, 'training transcript')}, learnt as they are written: "
            "text.replacements and text.patterns can have them written as they are spoken"
        )
    for warning in warnings:
        work.reporter.warn(warning)
    found = {"sets": {name: asdict(summary) for name, summary in summaries.items()}, "warnings": warnings}
    write_json(work.checked, found)


def _heard_before(work: Workspace, sets: Mapping[str, Sequence[Utterance]]) -> list[str]:
    """Warns of test sets that the recipe had not yet when `pretrain` heard their recordings."""
    if not work.untranscribed.exists():
        return []
    heard = read_manifest(work.untranscribed, transcribed=False)
    tests = list(chain.from_iterable(sets[name] for name in sets if name not in ("train", "dev")))
    found = len(tests) - len(untranscribed.without(tests, heard))
    if not found:
        return []
    return [
        f"{counted(found, 'recording')} of the test sets {is_or_are(found)} among those that pretrain has heard: "
        f"remove {work.pretraining} and {work.training} to learn without them"
    ]


def tokens(work: Workspace) -> None:
    """Derive the tokens from the training transcripts, and see whether they suit all the sets."""
    recipe = work.recipe
    normalizer = build.normalizer(recipe.text)
    sets = work.sets()
    texts = {name: [normalizer(utterance.text) for utterance in utterances] for name, utterances in sets.items()}
    tokenizer = origin.tokens(recipe, texts["train"])
    units = "word" if tokenizer.kind == "words" else "character"
    work.reporter.say(f"  {len(tokenizer.surfaces)} tokens ({tokenizer.kind}), the blank among them")
    for name, normalized in texts.items():
        strange = tokenizers.uncovered(tokenizer, normalized)
        if strange:
            listed = [
                f"{unit} ({counted(found.occurrences, 'time')}, as in “{found.examples[0]}”)"
                for unit, found in strange.items()
            ]
            work.reporter.warn(
                f"{name}: {counted(len(strange), units)} {is_or_are(len(strange))} not in the training "
                f"transcripts: {some(listed)}"
            )
    if all(map(tokenizer.unknown, texts["dev"])):
        raise DataError(
            f"every utterance of the dev set has a {units} that no training transcript has",
            expected="some that the model can write, to see how well it does",
            hint="other recordings for the dev set" + ("; or tokens.kind=characters" if units == "word" else ""),
        )
    _warn_of_infeasible(work, sets["train"], tokenizer)
    with atomic_path(work.tokens) as temporary:
        temporary.mkdir()
        tokenizer.save(temporary)


def check_parts(recipe: Recipe) -> None:
    """See, before hours are spent on other stages, whether the model has the parts that `training` names.

    Raises:
        ConfigError: it has not, or nothing is left to train.
    """
    section = recipe.training
    if section.rates or section.unfreeze:
        model = build.acoustic(recipe.model, build.features(recipe.features).dim, vocab_size=2)
        parameter_groups(model, section.weight_decay, section.rates, section.layer_decay, section.unfreeze)


def _warn_of_infeasible(work: Workspace, train: list[Utterance], tokenizer: Tokenizer) -> None:
    """Name the utterances too short for their transcript, which can't be learnt from."""
    extractor = build.features(work.recipe.features)
    if deaf := deaf_filters(extractor):
        work.reporter.warn(
            f"{counted(deaf, 'mel filter')} of {work.recipe.features.n_mels} {is_or_are(deaf)} too narrow to hear "
            "anything: a smaller features.n_mels would tell as much"
        )
    acoustic = build.acoustic(work.recipe.model, extractor.dim, len(tokenizer.surfaces))
    sample_rate = work.recipe.features.sample_rate

    def frames(duration: float) -> int:
        return acoustic.output_length(extractor.num_frames(round(duration * sample_rate)))

    normalizer = build.normalizer(work.recipe.text)
    found = infeasible(train, lambda text: tokenizer.encode(normalizer(text)), frames)
    if len(found) == len(train):
        raise DataError(
            "no training utterance has enough frames for its transcript",
            expected="at least one output frame for each token, and one between equal neighbours",
            hint="smaller model.frontend.strides, or longer tokens (tokens.kind=bpe)",
        )
    if found:
        work.reporter.warn(
            f"{counted(len(found), 'training utterance')} {is_or_are(len(found))} too short for the transcript, so "
            f"the loss is infinite and nothing is learnt there\n{listing(found)}"
        )


# -------------------------------------------------------------------------------------------------- train


WHERE_AND_HOW_FAST = ("device", "workers", "threads", "checkpoint_minutes")
"""The settings of a training that don't change what it learns."""


def what_decides_the_weights(training: Training) -> dict[str, Any]:
    """The settings of a training without those that say where and how fast it runs.

    Of the model that it begins with, the weights count, not where they lie: see `origin.describe`.
    """
    return training.model_dump(mode="json", exclude={"init_from", *WHERE_AND_HOW_FAST})


def train(work: Workspace, target: float | None = None) -> None:
    """Train the acoustic model, or go on where it was cut off; either way, write a report of its curves.

    Args:
        work: has a corpus and tokens.
        target: stop when the CER on the dev set is no more than this, or None.
    """
    with reported(work, work.training, work.report, work.trained) as reporter:
        _train(replace(work, reporter=reporter), target)


def reported(
    work: Workspace, training: Path, page: Path, product: Path, pretraining: bool = False
) -> AbstractContextManager[Reporter]:
    """Has a training of the run reported by the process that leads: see `report.reported`."""
    if not work.world.leads:
        return nullcontext(work.reporter)
    return report.reported(training, page, product, work.reporter, lambda: about(work.recipe, pretraining))


def training_job(work: Workspace, target: float | None = None) -> acoustic_training.Job:
    """All that the training of a new model needs; the arguments are those of `train`."""
    recipe = work.recipe
    manifests = work.manifests()
    utterances, dev = read_manifest(manifests["train"]), read_manifest(manifests["dev"])
    tokenizer = tokenizers.load(work.tokens)
    device = work.world.device(build.device(recipe.training.device))
    extractor = work.world.first(lambda: fit_features(recipe, utterances))
    torch.manual_seed(recipe.seed)  # of the first weights and of dropout
    acoustic = build.acoustic(recipe.model, extractor.dim, len(tokenizer.surfaces))
    if not loop.has_begun(work.training):
        origin.inherit(recipe, acoustic, tokenizer, work.reporter)
    parameters = sum(parameter.numel() for parameter in acoustic.parameters())
    processes = f" in {work.world.size} processes" if work.world.size > 1 else ""
    precision = resolve_precision(recipe.training.precision, device)
    where = f"{device} in {precision}{processes}"
    work.reporter.say(f"  {parameters:,} parameters on {where}, {counted(len(utterances), 'utterance')}")
    cores = os.cpu_count() or 1
    if recipe.training.workers > cores:
        found = f"training.workers={recipe.training.workers}, on {counted(cores, 'core')}"
        work.reporter.warn(f"{found}: fewer processes would read as much, and leave more to the training")
    if recipe.pretrain is not None:
        taken = denoising.take_over(acoustic, work.pretrained)
        layers = f"{recipe.pretrain.layers or recipe.model.encoder.layers} of {recipe.model.encoder.layers}"
        work.reporter.say(f"  {taken:,} of them pretrained: the front-end and {layers} recurrent layers")
    return acoustic_training.Job(
        acoustic=acoustic.to(device),
        extractor=copy.deepcopy(extractor).to(device),  # the readers' own goes to other processes
        train=utterances,
        dev=dev,
        train_reader=reader(recipe, extractor, tokenizer, device, augmented=True),
        dev_reader=reader(recipe, extractor, tokenizer, device, augmented=False),
        settings=_loop_settings(recipe.training, work.world, target),
        batch_seconds=recipe.training.batch_seconds,
        seed=recipe.seed,
        folder=work.training,
        workers=recipe.training.workers,
        rounds=recipe.training.rounds,
        shortest_first=recipe.training.sorted_first_epoch,
        consistency=recipe.training.consistency,
        concatenation=build.concatenation(recipe.augment),
        silences=build.silences(recipe.augment),
        spec_augment_start=recipe.augment.spec_augment.start_epoch if recipe.augment.spec_augment else 1,
        on_epoch=work.on_epoch,
        world=work.world,
    )


def _loop_settings(section: Training, world: World, target: float | None) -> loop.Settings:
    """What a recipe says to the training loop."""
    return loop.Settings(
        epochs=section.epochs,
        learning_rate=section.learning_rate,
        warmup=section.warmup,
        schedule=section.schedule,
        weight_decay=section.weight_decay,
        clip_norm=section.clip_norm,
        patience=section.patience,
        average=section.average,
        precision=section.precision,
        threads=loop.threads(section.threads, section.workers, world),
        checkpoint_minutes=section.checkpoint_minutes,
        target=target,
        methods=OptimizationMethods(
            optimizer=OptimizerSettings(section.optimizer, section.momentum, section.betas, section.rho),
            rates=section.rates,
            layer_decay=section.layer_decay,
            unfreeze=section.unfreeze,
            clip_value=section.clip_value,
            backstitch=section.backstitch,
            backstitch_interval=section.backstitch_interval,
            l1=section.l1,
            max_norm=section.max_norm,
            ema=section.ema,
        ),
        shape=ScheduleShape(
            final_factor=section.final_factor,
            step_at=section.step_at,
            step_factor=section.step_factor,
            plateau_patience=section.plateau_patience,
            batch_growth=section.batch_growth,
        ),
    )


def _train(work: Workspace, target: float | None) -> None:
    recipe, begun_from = work.recipe, origin.describe(work.recipe, work.origin)
    job = training_job(work, target)
    if begun_from is not None and work.world.leads:
        write_json(work.origin, begun_from)
    outcome = acoustic_training.train(job, work.reporter)
    if not work.world.leads:
        return
    parameters = sum(parameter.numel() for parameter in job.acoustic.parameters())
    training = {
        "epochs": outcome.epochs,
        "parameters": parameters,
        "precision": resolve_precision(recipe.training.precision, next(job.acoustic.parameters()).device),
        "dev": outcome.dev.figures,
        "sample_seconds": acoustic_training.sample_seconds(job),
    }
    artefact.save(
        work.trained,
        config=recipe,
        tokenizer=job.train_reader.tokenizer,
        features=job.extractor,
        acoustic=job.acoustic,
        metadata={"name": recipe.name, "seed": recipe.seed, "training": training, "begun_from": begun_from},
        card="A model that has not been evaluated yet.\n",
    )


def fit_features(recipe: Recipe, utterances: Sequence[Utterance]) -> FeatureExtractor:
    """The features of a recipe; if it asks for statistics, those of the model to begin with or the training set."""
    section = recipe.features
    if section.normalization != "global":
        return build.features(section)
    if recipe.training.init_from is not None:
        return origin.features(recipe.training.init_from)
    plain = build.features(section.model_copy(update={"normalization": "none"}))
    step = max(len(utterances) // ENOUGH_FOR_STATISTICS, 1)
    waveforms = (audio.load(utterance.source, section.sample_rate) for utterance in utterances[::step])
    features = (plain.each([torch.from_numpy(waveform)])[0] for waveform in waveforms)
    return build.features(section, GlobalNorm.fit(features))


def reader(
    recipe: Recipe, extractor: FeatureExtractor, tokenizer: Tokenizer, device: torch.device, *, augmented: bool
) -> Reader:
    """What reads the utterances of a recipe for a training on a device."""
    return Reader(
        sample_rate=recipe.features.sample_rate,
        extractor=extractor,
        normalizer=build.normalizer(recipe.text),
        tokenizer=tokenizer,
        on_device=device.type != "cpu",
        augmenter=build.augmenter(recipe.augment, recipe.features.sample_rate) if augmented else None,
        spec_augment=build.spec_augment(recipe.augment) if augmented else None,
        views=2 if augmented and recipe.training.consistency else 1,
    )


# ---------------------------------------------------------------------------------- evaluate and package


def evaluate(work: Workspace) -> None:
    """Measure the model on every test set: greedily, and with the search that was tuned for it."""
    device = build.device(work.recipe.training.device)
    model, settings = artefact.load(work.trained, device), search_settings(work)
    recognizers = {"": Recognizer(model, device)}
    if settings is not None:
        recognizers["beam search"] = Recognizer(replace(model, decoder=settings), device)
    tests = {name: read_manifest(path) for name, path in work.tests().items()}
    _warn_of_unknown_fields(work, chain.from_iterable(tests.values()))
    remove_folder(work.figures.parent)  # with reports of what was measured before, and is no more
    figures = [
        _measure(work, recognizer, utterances, ", ".join(filter(None, (name, how))))
        for name, utterances in tests.items()
        for how, recognizer in recognizers.items()
    ]
    write_json(work.figures, figures)


def _warn_of_unknown_fields(work: Workspace, tests: Iterable[Utterance]) -> None:
    """Warns of fields that the recipe itself names (the default may be missing) and that no test set has."""
    section, utterances = work.recipe.evaluate, list(tests)
    unknown = [field for field in section.fields if not any(field in each.fields for each in utterances)]
    if unknown and "fields" in section.model_fields_set:
        there = ", ".join(grouping_fields(utterances)) or "none"
        work.reporter.warn(f"evaluate.fields: no test set has {' or '.join(unknown)}; there are: {there}")


def search_settings(work: Workspace) -> DecoderSettings | None:
    """How the model's output is searched; greedily, where there are no settings."""
    if work.recipe.language_model is None:
        return None
    settings = read_json(work.search)
    if settings is None:
        return None
    # Not where the file says, if it does: the folder may have been moved since.
    return DecoderSettings.model_validate({**settings, "lm": work.language_model})


def _measure(
    work: Workspace, recognizer: Recognizer, utterances: Sequence[Utterance], name: str
) -> dict[str, str | int | float]:
    """Measure a recogniser on a test set; its report gets the name."""
    section = work.recipe.evaluate
    with work.reporter.progress(f"evaluate {name}", len(utterances)) as advance:
        answers = recognise_manifest(recognizer, utterances, progress=advance)
    result = score(answers, section.bootstrap, section.confidence)
    known = [field for field in section.fields if any(field in answer.fields for answer in answers)]
    breakdowns = {field: breakdown(answers, field, section.bootstrap, section.confidence) for field in known}
    write_text(work.figures.parent / f"{name}.txt", format_report(name, answers, result, breakdowns) + "\n")
    work.reporter.say(f"  {name}: {format_totals(result).splitlines()[0]}")
    return to_results(name, result)


def package(work: Workspace) -> None:
    """Put together the folder that a user takes along.

    What `asr tune` has put into it since it was made last stays, as long as the network and the recipe's own search
    are what they were.
    """
    model, own = artefact.load(work.trained), search_settings(work)
    search = _identity(own)
    metadata = {
        **model.metadata,
        "name": work.recipe.name,  # which may have changed since it was trained
        "manifests": {name: file_fingerprint(path) for name, path in work.manifests().items()},
        "tests": read_json(work.figures),
        "search": search,
    }
    artefact.save(
        work.model,
        config=work.recipe,
        tokenizer=model.tokenizer,
        features=model.features,
        acoustic=model.acoustic,
        metadata=metadata,
        card=model_card(work.recipe, metadata),
        decoder=_tuned_since(work, search) or own,
    )


def _tuned_since(work: Workspace, search: str | None) -> DecoderSettings | None:
    """What `asr tune` has put into the model that is there, if it is still of use; warns if it is not.

    Args:
        work: the run.
        search: the identity of the recipe's own search.
    """
    try:
        there, found = artefact.identity(work.model), artefact.read_decoder(work.model)
    except ModelError:  # there is none, or it is damaged
        return None
    packaged = read_json(work.model / artefact.METADATA).get("search")
    if found is None or _identity(found) == packaged:
        return None
    if there["weights"] != file_fingerprint(work.trained / artefact.WEIGHTS):
        changed = "the network"
    elif packaged != search:
        changed = "the recipe's own search"
    else:
        return found
    work.reporter.warn(
        f"{changed} has changed, so what `asr tune` had put into {work.model} is left out: tune it again"
    )
    return None


def _identity(settings: DecoderSettings | None) -> str | None:
    """Tells one search from another, wherever its files are."""
    if settings is None:
        return None
    files = {name: getattr(settings, name) for name in ("lm", "lexicon", "rescore")}
    contents_of = {name: path and file_fingerprint(path) for name, path in files.items()}
    return fingerprint([settings.model_dump(mode="json", exclude=set(files)), contents_of])
