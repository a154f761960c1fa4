"""`asr tune search`: settings for a recipe, found by training with different ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr import pictures
from asr.cli.recipe_options import DataDir, RecipeName, Settings
from asr.errors import ConfigError, DataError, quoted
from asr.files import write_text

if TYPE_CHECKING:
    from asr.config import Recipe
    from asr.search.space import Space
    from asr.search.study import Plan, Trial

TRIALS = 20
EPOCHS = "training.epochs"

EPILOG = """
KEY=SPACE varies a key of the recipe: low..high, whole numbers where the recipe has such; log:low..high, where all
orders of magnitude are alike; low..high/step; a,b,c or {[2,2],[2,1]}, choices. A file for --space holds the same,
as YAML: a line KEY: SPACE for each key.

Examples:

  asr tune search quickstart --vary training.learning_rate=log:1e-4..1e-2 --vary model.encoder.cell=lstm,gru

  asr tune search my/recipe.yaml --vary model.encoder.layers=1..4 --vary training.ema=null,0.999 --sampler grid

  asr tune search my/recipe.yaml --space search.yaml --hours 8
"""


class Sampler(StrEnum):
    """How settings are drawn."""

    tpe = "tpe"
    random = "random"
    grid = "grid"


class Metric(StrEnum):
    """What a trial is measured by."""

    cer = "cer"
    wer = "wer"


def search(
    recipe: RecipeName,
    settings: Settings = None,
    vary: Annotated[
        list[str] | None, typer.Option(metavar="KEY=SPACE", help="What to vary; may be given several times.")
    ] = None,
    space: Annotated[
        Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="YAML file of what to vary.")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="How many trials in all, those before an interruption included.",
            show_default=f"{TRIALS}; a whole grid; with --hours, as many as there is time for",
        ),
    ] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.0, metavar="HOURS", help="Start no trial after so many hours.")
    ] = None,
    sampler: Annotated[
        Sampler, typer.Option(help="How settings are drawn: tpe learns from the trials before.")
    ] = Sampler.tpe,
    prune: Annotated[
        bool, typer.Option("--prune/--no-prune", help="Stop trials that do worse than others (Hyperband).")
    ] = True,
    prune_after: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="EPOCH", help="Stop no trial before this epoch.", show_default="a sixth of them"
        ),
    ] = None,
    metric: Annotated[Metric, typer.Option(help="Error rate on the dev set to compare trials by.")] = Metric.cer,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Most epochs of a trial.", show_default="the recipe's training.epochs"
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Seed of the settings that are drawn; the trainings have the recipe's."
        ),
    ] = 0,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder of the search.", show_default="runs/<recipe>-search", file_okay=False
        ),
    ] = None,
    data_dir: DataDir = Path("data"),
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Throw away a search with other settings in its folder."),
    ] = False,
) -> None:
    """Find settings for a recipe: train with different ones, and compare the error rates on the dev set.

    Needs the extra search: `pip install -e ".[search]"`.

    The test sets are not looked at. The same command again resumes a search that was interrupted or, with more
    --trials, adds to it. The folder holds report.html (and report.png, with the extra `plot`), best.yaml, and
    the settings and the log of each trial; of the weights only those of the best, and of self-supervised starts.
    """
    from asr import catalogue, recipe_file
    from asr.cli.reporter import TerminalReporter

    path = catalogue.resolve(recipe)
    resolved = recipe_file.read_recipe(path, settings or ())
    spaces = _spaces(resolved, vary or (), space, sampler)
    if epochs is not None and any(each.key == EPOCHS for each in spaces):
        raise ConfigError(f"{EPOCHS} is varied", where="--epochs", hint="one of both")
    shortened = recipe_file.with_settings(resolved, {} if epochs is None else {EPOCHS: epochs})
    if trials is None and hours is None and sampler is not Sampler.grid:
        trials = TRIALS
    from asr.search import report, study, trainings  # torch: only once the arguments are known to be right
    from asr.training.loop import InterruptedTrainingError

    longest = _longest(spaces, shortened.training.epochs)
    plan = study.Plan(spaces, longest, sampler, prune, prune_after, metric, seed)
    folder = run_dir or Path("runs") / f"{resolved.name}-search"
    reporter = TerminalReporter()
    reporter.say(f"recipe {path}, search in {folder}")

    def show(trial: Trial) -> None:
        reporter.say(report.row(trial, plan))

    seconds = math.inf if hours is None else 3600 * hours
    command = ["asr", "train", recipe, *(settings or ())]
    with trainings.prepared(shortened, plan, folder, data_dir, reporter, overwrite):
        reporter.say(report.heading(plan))
        try:
            found = trainings.search(shortened, plan, folder, data_dir, reporter, trials, seconds, show)
        except InterruptedTrainingError:
            _conclude(study.ended(plan, folder), plan, resolved, folder, command)
            raise
        _conclude(found, plan, resolved, folder, command)
    if found and study.best(found, metric) is None:
        raise DataError(
            "no trial could be measured", where=folder / "trials", hint="`asr train RECIPE`, to see what is wrong"
        )


def _conclude(found: list[Trial], plan: Plan, recipe: Recipe, folder: Path, arguments: list[str]) -> None:
    """Tell what was found, if anything, and write it into the folder of the search."""
    from asr import recipe_file
    from asr.search import picture, report, study

    best = study.best(found, plan.metric)
    if best is None:
        return
    importances = study.importances(found, plan)
    for line in report.summary(found, plan, importances):
        typer.echo(line)
    command = " ".join(map(quoted, [*arguments, *report.arguments(best.settings)]))
    for name in ("report.html", "report.png") if pictures.images_possible() else ("report.html",):
        picture.draw(folder / name, f"Search for settings of {recipe.name}", found, plan, importances, command)
    write_text(folder / "best.yaml", recipe_file.to_yaml(recipe_file.with_settings(recipe, best.settings)))
    typer.echo("")
    typer.echo(f"report: {folder / 'report.html'}")
    typer.echo(f"best settings: {folder / 'best.yaml'}")
    typer.echo(f"try: {command}")


def _spaces(recipe: Recipe, vary: Sequence[str], file: Path | None, sampler: Sampler) -> tuple[Space, ...]:
    """What is varied, by arguments and by a file."""
    from asr.search import space

    in_file = space.read_file(file) if file else []
    return space.resolve(recipe, [*in_file, *map(space.split, vary)], sampler is Sampler.grid)


def _longest(spaces: Sequence[Space], usual: int) -> int:
    """Epochs of the longest trial."""
    varied = next((each for each in spaces if each.key == EPOCHS), None)
    return usual if varied is None else varied.most
