"""`asr train`: run a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

EPILOG = """
Examples:

  asr train quickstart

  asr train recipes/fsdd prepare.source=~/fsdd training.epochs=40 --run-dir runs/fsdd-long

  asr train my/recipe.yaml training.learning_rate=5e-4 model.encoder.cell=gru
"""


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="PATH_OR_NAME", help="A recipe's folder or file, or the name of a recipe that ships with asr."
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Settings in place of the recipe's, such as training.epochs=20."
        ),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Folder of the run.", show_default="runs/<recipe>", file_okay=False)
    ] = None,
    data_dir: Annotated[
        Path, typer.Option(help="Folder of prepared corpora, shared by runs.", file_okay=False)
    ] = Path("data"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away a training with other settings in the run's folder.")
    ] = False,
) -> None:
    """Train a recogniser: prepare, check, tokens, train, evaluate, package.

    The same command again skips the stages that are done and goes on with a training that was cut off.
    """
    from asr import catalogue, recipe_file
    from asr.cli.reporter import TerminalReporter

    path = catalogue.resolve(recipe)
    resolved = recipe_file.read_recipe(path, settings or ())
    folder = run_dir or Path("runs") / resolved.name
    reporter = TerminalReporter()
    reporter.say(f"recipe {path}, run in {folder}")
    from asr import recipe as recipes  # torch: only once the recipe is known to be right

    results = recipes.run(resolved, folder, data_dir, reporter, overwrite)
    reporter.say("")
    for test in results["tests"]:
        typer.echo(_line(test))
    typer.echo(f"model: {folder / 'model'}")
    typer.echo(f"use it: asr transcribe --model {folder / 'model'} FILE.wav")


def _line(test: dict[str, Any]) -> str:
    return (
        f"{test['name']}: WER {test['wer']:.2%} [{test['ci_low']:.2%}, {test['ci_high']:.2%}], "
        f"CER {test['cer']:.2%} ({test['words']} words in {test['utterances']} utterances)"
    )
