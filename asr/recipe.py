"""Running a recipe: stages that leave a product with a fingerprint of its inputs, so none is done twice."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from asr import config, recipe_file, stages
from asr.config import Recipe
from asr.files import fingerprint, write_json, write_text
from asr.reporting import Reporter
from asr.stages import Workspace
from asr.training.checkpoint import other_training
from asr.training.distributed import ALONE, World


@dataclass(frozen=True)
class Stage:
    """A step of a recipe.

    Attributes:
        name: as users see it.
        run: does it.
        product: what it leaves; the stage is done again where that is missing.
        needs: the stages whose fingerprints are among its inputs.
        inputs: what else its product depends on.
    """

    name: str
    run: Callable[[Workspace], None]
    product: Callable[[Workspace], Path]
    needs: tuple[str, ...]
    inputs: Callable[[Recipe], Any]


STAGES = (
    Stage("prepare", stages.prepare, lambda work: work.corpus_file, (), stages.corpus_inputs),
    Stage("check", stages.check, lambda work: work.folder / "check.json", ("prepare",), lambda recipe: recipe.text),
    Stage(
        "tokens",
        stages.tokens,
        lambda work: work.tokens,
        ("prepare",),
        lambda recipe: (recipe.text, recipe.tokens, recipe.features, recipe.model.frontend),
    ),
    Stage(
        "train",
        stages.train,
        lambda work: work.trained,
        ("tokens",),
        lambda recipe: (
            recipe.augment,
            recipe.model,
            stages.what_decides_the_weights(recipe.training),
            recipe.seed,
        ),
    ),
    Stage("evaluate", stages.evaluate, lambda work: work.figures, ("train",), lambda recipe: recipe.evaluate),
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
        ConfigError: the folder holds a training with other settings.
        AsrError: a stage found something wrong; the stages before it stay done.
    """
    work = workspace(recipe, folder, data, reporter, world)
    if not world.leads:
        return _follow(work)
    fingerprints = _fingerprints(recipe)
    _guard_training(work, fingerprints["train"], overwrite)
    write_text(work.folder / "config.yaml", recipe_file.to_yaml(recipe))
    for number, stage in enumerate(STAGES, start=1):
        heading = f"[{number}/{len(STAGES)}] {stage.name}"
        record = _read_record(work, stage.name)
        done = record.get("finished") == fingerprints[stage.name] and stage.product(work).exists()
        if stage.name == "train":
            world.broadcast(not done)
        if done:
            reporter.say(f"{heading}: done before")
            continue
        reporter.say(heading)
        _run_stage(stage, work, record, fingerprints[stage.name])
    results = {
        "tests": json.loads(work.figures.read_text(encoding="utf-8")),
        "stages": {stage.name: _read_record(work, stage.name)["seconds"] for stage in STAGES},
    }
    write_json(work.folder / "results.json", results)
    return world.broadcast(results)


def _follow(work: Workspace) -> dict[str, Any]:
    """What all processes but the first do: wait for it, and train with it if that is left to do."""
    if work.world.broadcast(False):
        stages.train(work)
    return work.world.broadcast({})


def workspace(recipe: Recipe, folder: Path, data: Path, reporter: Reporter, world: World = ALONE) -> Workspace:
    """Where the products of a run are; the arguments are those of `run`."""
    corpus = f"{recipe.prepare.corpus}-{_fingerprints(recipe)['prepare'][:8]}"
    return Workspace(recipe, folder, data / corpus, reporter, world)


def _fingerprints(recipe: Recipe) -> dict[str, str]:
    found: dict[str, str] = {}
    for stage in STAGES:
        found[stage.name] = fingerprint(
            [stage.name, [found[name] for name in stage.needs], _plain(stage.inputs(recipe))]
        )
    return found


def _plain(value: Any) -> Any:
    """Sections of a recipe as plain values."""
    if isinstance(value, config.Section):
        return value.model_dump(mode="json")
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _run_stage(stage: Stage, work: Workspace, record: dict[str, Any], identity: str) -> None:
    """Run a stage; its seconds add up over the times that it was cut off."""
    before = record["seconds"] if record.get("started") == identity and "finished" not in record else 0.0
    started = time.monotonic()
    record = {"started": identity, "seconds": before}
    _write_record(work, stage.name, record)
    try:
        stage.run(work)
        record["finished"] = identity
    finally:
        record["seconds"] = round(before + time.monotonic() - started, 1)
        _write_record(work, stage.name, record)


def _guard_training(work: Workspace, identity: str, overwrite: bool) -> None:
    """Refuse to train over a training with other settings, which took somebody's time."""
    before = _read_record(work, "train").get("started")
    if before in (None, identity):
        return
    if not overwrite:
        settings = _flat(work.recipe.model_dump(mode="json"))
        raise other_training(work.folder, _settings_there(work) or settings, settings)
    shutil.rmtree(work.training, ignore_errors=True)


def _settings_there(work: Workspace) -> dict[str, Any]:
    path = work.folder / "config.yaml"
    return _flat(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    return {
        inner: leaf
        for key, part in value.items()
        for inner, leaf in _flat(part, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _record_path(work: Workspace, name: str) -> Path:
    return work.folder / "stages" / f"{name}.json"


def _read_record(work: Workspace, name: str) -> dict[str, Any]:
    path = _record_path(work, name)
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return record


def _write_record(work: Workspace, name: str, record: dict[str, Any]) -> None:
    write_json(_record_path(work, name), record)
