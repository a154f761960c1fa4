"""Running a recipe: stages that leave a product with a fingerprint of its inputs, so none is done twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from asr import artefact, config, idle, language, origin, pretraining, recipe_file, stages
from asr.config import Recipe
from asr.errors import ConfigError, DiskFullError, counted, quoted
from asr.files import (
    contents,
    files_in,
    fingerprint,
    only_writer,
    read_json,
    read_record,
    remove_folder,
    remove_partial,
    write_json,
    write_text,
)
from asr.reporting import Reporter
from asr.training import loop
from asr.training.checkpoint import other_training, unknown_training
from asr.training.distributed import ALONE, World
from asr.workspace import Workspace


@dataclass(frozen=True)
class Stage:
    """A step of a recipe.

    Attributes:
        name: as users see it.
        run: does it.
        product: what it leaves; the stage is done again where that is missing.
        needs: the stages whose fingerprints are among its inputs; `ORIGIN` for the weights to begin with, `LEARNT`
            for the corpus without its test sets.
        inputs: what else its product depends on.
        wanted: whether a recipe has it at all.
    """

    name: str
    run: Callable[[Workspace], None]
    product: Callable[[Workspace], Path]
    needs: tuple[str, ...]
    inputs: Callable[[Recipe], Any]
    wanted: Callable[[Recipe], bool] = lambda recipe: True


class _Record(BaseModel):
    """What a stage leaves besides its product; other keys are not looked at."""

    model_config = ConfigDict(strict=True)

    started: str
    finished: str = ""
    seconds: FiniteFloat
    files: dict[str, Annotated[list[str], Field(min_length=2, max_length=2)]] = {}


class _Figures(BaseModel):
    """What the evaluation leaves of a test set."""

    model_config = ConfigDict(strict=True)

    name: str
    utterances: int
    words: int
    wer: FiniteFloat
    cer: FiniteFloat
    ci_low: FiniteFloat
    ci_high: FiniteFloat


ORIGIN = "weights to begin with"
LEARNT = "what is learnt from"
GUARDED = ("pretrain", "train")
"""The stages whose products took somebody's time, so that nothing else takes their place unasked."""

STAGES = (
    Stage("prepare", stages.prepare, lambda work: work.corpus_file, (), stages.corpus_inputs),
    Stage("check", stages.check, lambda work: work.checked, ("prepare",), lambda recipe: recipe.text),
    Stage(
        "tokens",
        stages.tokens,
        lambda work: work.tokens,
        (LEARNT, ORIGIN),
        lambda recipe: (recipe.text, recipe.tokens, recipe.features, recipe.model.frontend),
    ),
    Stage(
        "pretrain",
        pretraining.pretrain,
        lambda work: work.pretrained,
        (LEARNT,),
        pretraining.inputs,
        wanted=lambda recipe: recipe.pretrain is not None,
    ),
    Stage(
        "language model",
        language.estimate,
        lambda work: work.language_model,
        (LEARNT,),
        language.inputs,
        wanted=lambda recipe: recipe.language_model is not None,
    ),
    Stage(
        "train",
        stages.train,
        lambda work: work.trained,
        ("tokens", "pretrain", ORIGIN),
        lambda recipe: (
            stages.augmentation_inputs(recipe),
            recipe.model,
            stages.what_decides_the_weights(recipe.training),
            recipe.seed,
        ),
    ),
    Stage(
        "tune",
        language.tune,
        lambda work: work.search,
        ("train", "language model"),
        lambda recipe: recipe.language_model and recipe.language_model.trials,
        wanted=lambda recipe: recipe.language_model is not None,
    ),
    Stage(
        "evaluate",
        stages.evaluate,
        lambda work: work.figures,
        ("prepare", "train", "tune"),
        lambda recipe: recipe.evaluate,
    ),
    Stage("package", stages.package, lambda work: work.model, ("evaluate",), lambda recipe: recipe.name),
)


def run(
    recipe: Recipe,
    folder: Path,
    data: Path,
    reporter: Reporter,
    overwrite: bool = False,
    world: World = ALONE,
) -> dict[str, Any]:
    """Run what is left to do of a recipe.

    Args:
        recipe: resolved.
        folder: of this run, made if it is not there.
        data: where corpora are prepared; runs of the same corpus share it.
        reporter: told what happens.
        overwrite: throw away a training with other settings that is in the folder.
        world: the processes that call this; they share the training, and the first one does all else.

    Returns:
        What `results.json` in the folder holds.

    Raises:
        ConfigError: the folder holds a training with other settings, or another process is at work in it.
        AsrError: a stage found something wrong; the stages before it stay done.
    """
    work = workspace(recipe, folder, data, reporter, world)
    if not world.leads:
        return _follow(work)
    found = identity(work)  # which misses files that the recipe names before there is a folder
    with only_writer(folder):
        _run_stages(work, stages_of(recipe), overwrite, *found)
        results = {
            "tests": read_json(work.figures),
            "stages": {stage.name: _read_record(work, stage.name)["seconds"] for stage in stages_of(recipe)},
        }
        write_json(work.results, results)
    return world.broadcast(results)


def run_stages(work: Workspace, last: str) -> None:
    """Run what is left to do for one of the stages, as the folder's only writer; otherwise as `run`.

    The corpus is prepared and checked for any of them.
    """
    wanted, possible = {"prepare", "check", last}, stages_of(work.recipe)
    for stage in reversed(possible):
        if stage.name in wanted:
            wanted.update(stage.needs)
    _run_stages(work, [stage for stage in possible if stage.name in wanted], False, *identity(work))


def fingerprint_of(stage: str, work: Workspace) -> str:
    """What tells the product of one of a run's stages from others."""
    return identity(work)[0][stage]


def identity(work: Workspace) -> tuple[dict[str, str], str | None]:
    """The fingerprints of all stages, and that of the weights to begin with, if there are any.

    Raises:
        AsrError: something is missing that the recipe names.
    """
    begun_from = (origin.describe(work.recipe, work.origin) or {}).get("weights")
    return _fingerprints(idle.without(work.recipe), begun_from), begun_from


def _run_stages(
    work: Workspace,
    wanted: Sequence[Stage],
    overwrite: bool,
    fingerprints: dict[str, str],
    begun_from: str | None,
) -> None:
    stages.check_parts(work.recipe)
    if idle.without(work.recipe) != work.recipe:
        _renew_records(work, _fingerprints(work.recipe, begun_from), fingerprints)
    _guard_training(work, fingerprints, begun_from, overwrite)
    remove_partial(work.folder)
    write_text(work.config, recipe_file.to_yaml(work.recipe))
    for remark in idle.remarks(work.recipe):
        work.reporter.say(f"note: {remark}")
    for number, stage in enumerate(wanted, start=1):
        heading = f"[{number}/{len(wanted)}] {stage.name}"
        record = _read_record(work, stage.name)
        done = record.get("finished") == fingerprints[stage.name] and _is_whole(work, stage.product(work))
        if stage.name == "train":
            work.world.broadcast(not done)
        if done:
            work.reporter.say(f"{heading}: done before")
        else:
            work.reporter.say(heading)
            if stage.name in GUARDED:
                _forget_what_follows(work, stage.name)
            _run_stage(stage, work, record, fingerprints)


def _is_whole(work: Workspace, product: Path) -> bool:
    """Whether a product is there, and not damaged if it is in JSON; others are looked at where they are used."""
    if product == work.model:
        return not artefact.missing(product)
    if product.suffix != ".json":
        return product.exists()
    try:
        value = read_json(product)
        if product == work.figures:
            TypeAdapter(list[_Figures]).validate_python(value)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _renew_records(work: Workspace, whole: Mapping[str, str], fingerprints: Mapping[str, str]) -> None:
    """Let the records of a run count whose fingerprints are of settings that do nothing, too, as early ones are."""
    for stage in stages_of(work.recipe):
        before, now = whole[stage.name], fingerprints[stage.name]
        record = _read_record(work, stage.name) if before != now else {}
        renewed = {key: now for key in ("started", "finished") if record.get(key) == before}
        if renewed:
            _write_record(work, stage.name, {**record, **renewed})


def _follow(work: Workspace) -> dict[str, Any]:
    """What all processes but the first do: wait for it, and train with it if that is left to do."""
    if work.world.broadcast(False):
        stages.train(work)
    return work.world.broadcast({})


def workspace(recipe: Recipe, folder: Path, data: Path, reporter: Reporter, world: World = ALONE) -> Workspace:
    """Where the products of a run are; the arguments are those of `run`."""
    prepare = STAGES[0]
    corpus = f"{recipe.prepare.corpus}-{_fingerprint(prepare, recipe, {})[:8]}"
    return Workspace(folder, recipe, data / corpus, reporter, world=world)


def stages_of(recipe: Recipe) -> list[Stage]:
    """The stages that a recipe has, in order."""
    return [stage for stage in STAGES if stage.wanted(recipe)]


def _fingerprints(recipe: Recipe, weights: str | None) -> dict[str, str]:
    found = {LEARNT: fingerprint(_plain(stages.learnt_inputs(recipe)))}
    if weights is not None:
        found[ORIGIN] = weights
    for stage in stages_of(recipe):
        found[stage.name] = _fingerprint(stage, recipe, found)
    return found


def _fingerprint(stage: Stage, recipe: Recipe, found: dict[str, str]) -> str:
    """Of a stage, given those of the stages before it."""
    needs = [found[name] for name in stage.needs if name in found]
    return fingerprint([stage.name, needs, _plain(stage.inputs(recipe))])


def _plain(value: Any) -> Any:
    """Sections of a recipe as plain values."""
    if isinstance(value, config.Section):
        return value.model_dump(mode="json")
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _run_stage(stage: Stage, work: Workspace, record: dict[str, Any], fingerprints: Mapping[str, str]) -> None:
    """Run a stage; its seconds add up over the times that it was cut off."""
    identity = fingerprints[stage.name]
    before = record["seconds"] if record.get("started") == identity and "finished" not in record else 0.0
    started = time.monotonic()
    record = {"started": identity, "seconds": before, LEARNT: fingerprints[LEARNT]}
    if stage.name in GUARDED:
        record["files"] = _files_learnt_from(work.recipe)
    _write_record(work, stage.name, record)
    try:
        stage.run(work)
        record["finished"] = identity
    finally:
        record["seconds"] = round(before + time.monotonic() - started, 1)
        with suppress(DiskFullError):  # what the stage raised says more; without a record it is done again
            _write_record(work, stage.name, record)


def _forget_what_follows(work: Workspace, name: str) -> None:
    """Have the stages that need this one done again too: the same settings need not lead to the same weights."""
    stale = {name}
    for stage in stages_of(work.recipe):
        if not stale.isdisjoint(stage.needs):
            stale.add(stage.name)
            record = _read_record(work, stage.name)
            if record.pop("finished", None) is not None:
                _write_record(work, stage.name, record)


def _guard_training(work: Workspace, fingerprints: dict[str, str], weights: str | None, overwrite: bool) -> None:
    """Refuse to train over a training with other settings, or with unknown ones, which took somebody's time."""
    places = ((work.pretraining, work.pretrained), (work.training, work.trained))
    anew = False
    for name, (folder, product) in zip(GUARDED, places, strict=True):
        if name not in fingerprints:
            continue
        record, is_there = _read_record(work, name), product.exists() or loop.has_begun(folder)
        is_unknown = is_there and not record and work.record(name).exists()
        anew = anew or is_unknown  # so is what has begun with it
        if not anew and record.get("started") in (None, fingerprints[name]):
            continue
        if is_there and not overwrite:
            if is_unknown:
                raise unknown_training(work.record(name), f"stage {name}")
            raise _other_training(work, record, weights, fingerprints[LEARNT])
        remove_folder(folder)
        remove_folder(work.figures.parent)  # the reports of what was learnt there


def _other_training(work: Workspace, record: dict[str, Any], weights: str | None, learnt: str) -> ConfigError:
    now = {**deciding_settings(idle.without(work.recipe)), ORIGIN: weights}
    there = _settings_there(work) or now
    files = _changed(record.get("files", {}), _files_learnt_from(work.recipe))
    if "files" not in record:  # as in runs that did not note them yet
        there, now = {**there, LEARNT: record.get(LEARNT)}, {**now, LEARNT: learnt}
    start = f"training.init_from={quoted(str(work.folder))}" if work.model.exists() else None
    return other_training(work.folder, there, now, files=files, start=start)


def _files_learnt_from(recipe: Recipe) -> dict[str, list[str]]:
    """Of each file how many lines it has, of each folder how many files, and what identifies these."""
    return {str(path): [_size(path), fingerprint(contents(path))] for path in stages.files_learnt_from(recipe)}


def _size(path: Path) -> str:
    if path.is_file():
        return counted(len(path.read_bytes().splitlines()), "line")
    return counted(len(list(files_in(path))), "file")


def _changed(then: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]) -> list[str]:
    """In words, what has become of files and folders that a training has learnt from and would learn from now."""
    return [
        f"{path}: {before} then, " + (f"{size} now" if size != before else "as many now, but not the same")
        for path, (size, identity) in now.items()
        for before, identity_before in [then.get(path, (size, identity))]
        if identity != identity_before
    ]


def _settings_there(work: Workspace) -> dict[str, Any]:
    """Those of the training in the folder that do something; none where they are not there, or damaged."""
    try:
        recipe = idle.without(recipe_file.read_recipe(work.config))
    except ConfigError:
        return {}
    return {**deciding_settings(recipe), ORIGIN: read_record(work.origin).get("weights")}


def deciding_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings that decide what a training learns, by their keys."""
    section = stages.without_tests(recipe).model_dump(mode="json", exclude={"name", "language_model", "evaluate"})
    elsewhere = {f"training.{name}" for name in stages.WHERE_AND_HOW_FAST}
    return {key: value for key, value in flat(section).items() if key not in elsewhere}


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """The values in nested mappings, under keys such as "training.epochs"."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    return {
        inner: leaf
        for key, part in value.items()
        for inner, leaf in flat(part, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _read_record(work: Workspace, name: str) -> dict[str, Any]:
    """What is known of a stage; nothing where its record is not there or damaged, so that it is done again."""
    record = read_record(work.record(name))
    try:
        _Record.model_validate(record)
    except ValidationError:
        return {}
    return record


def _write_record(work: Workspace, name: str, record: dict[str, Any]) -> None:
    write_json(work.record(name), record)
