"""`asr tune lr`: a learning rate for a recipe."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from asr import pictures
from asr.cli.inputs import check_outputs
from asr.cli.recipe_options import DataDir, RecipeName, Settings
from asr.errors import ConfigError, quoted

EPILOG = """
Examples:

  asr tune lr quickstart

  asr tune lr my/recipe.yaml training.optimizer=nesterov --highest 10 --out lr.html
"""


def lr(
    recipe: RecipeName,
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the curve: .html, or, with the extra plot, .png.")
    ] = None,
    lowest: Annotated[float, typer.Option(metavar="X", help="Learning rate to begin with.")] = 1e-6,
    highest: Annotated[float, typer.Option(metavar="X", help="Learning rate to end with.")] = 1.0,
    steps: Annotated[int, typer.Option(metavar="N", min=20, help="Batches to learn from.")] = 300,
    data_dir: DataDir = Path("data"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it is there.")] = False,
) -> None:
    """Find a learning rate: train a little while it grows, and see where the loss falls and where it diverges.

    Proposes a tenth of the rate at which the smoothed loss is least. No run's folder is touched.
    """
    from asr import catalogue, recipe_file
    from asr.cli.reporter import TerminalReporter

    if not 0 < lowest < highest < math.inf:
        expected = "0 < --lowest < --highest, both finite"
        raise ConfigError(f"from {lowest:g} to {highest:g}", where="--lowest", expected=expected)
    if out is not None:
        pictures.check_name(out)
        check_outputs([out], overwrite)
    path = catalogue.resolve(recipe)
    resolved = recipe_file.read_recipe(path, settings or ())
    reporter = TerminalReporter()
    reporter.say(f"recipe {path}, learning rates from {lowest:g} to {highest:g}")
    from asr import preflight  # torch: only once the recipe is known to be right
    from asr.training import range_plot

    test = preflight.find_learning_rate(resolved, data_dir, reporter, lowest, highest, steps)
    typer.echo("rate         loss")
    for line in range_plot.text(test):
        typer.echo(line)
    typer.echo(range_plot.verdict(test))
    if out is not None:
        range_plot.draw(test, out, f"Learning rates for {resolved.name}")
        reporter.say(f"wrote {out}")
    if not test.learnt:
        reporter.warn(
            "more --steps, another --highest, or `asr train RECIPE --overfit 10`, to see whether it learns"
        )
        raise typer.Exit(1)
    if test.proposed is None:
        reporter.warn(f"nothing is proposed until it diverges: the same with --highest {10 * highest:g}")
        raise typer.Exit(1)
    command = ["asr", "train", recipe, *(settings or ()), f"training.learning_rate={test.proposed:g}"]
    typer.echo(f"try: {' '.join(map(quoted, command))}")
