"""`asr train`: run a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asr.cli.recipe_options import DataDir, RecipeName, Settings
from asr.errors import ConfigError, counted, quoted
from asr.reporting import Silent
from asr.training import launch

if TYPE_CHECKING:
    from asr.config import Recipe
    from asr.preflight import Overfitting
    from asr.reporting import Reporter
    from asr.training.gradient_check import Comparison

EPILOG = """
Examples:

  asr train quickstart

  asr train recipes/fsdd prepare.source=~/fsdd training.epochs=40 --run-dir runs/fsdd-long

  asr train my/recipe.yaml training.learning_rate=5e-4 model.encoder.cell=gru

  asr train my/recipe.yaml --overfit 10

  asr train my/recipe.yaml --nproc 4
"""

WHAT_TO_CHECK = """\
a model that can't learn so few utterances by heart will not learn many; look at
  the recordings and texts in {manifest}: listen, does each text belong to its recording?
  the sample rates: {rates}; the recipe's features.sample_rate is {wanted} Hz
  the findings above, and the curves in {report}
  training.learning_rate: ten times smaller or larger"""


def train(
    recipe: RecipeName,
    settings: Settings = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of the run.", show_default="runs/<recipe>", file_okay=False),
    ] = None,
    data_dir: DataDir = Path("data"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away a training with other settings in the run's folder.")
    ] = False,
    overfit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Only see whether N utterances can be learnt by heart, in a folder of its own; "
            "the first thing to try on new data (10).",
        ),
    ] = None,
    check_gradients: Annotated[
        bool, typer.Option("--check-gradients", help="Only compare the model's gradients with numeric ones.")
    ] = False,
    nproc: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Train in N processes on this machine: one for each GPU, or to share the cores.",
        ),
    ] = None,
) -> None:
    """Train a recogniser: prepare, check, tokens, train, evaluate, package.

    With the section `pretrain` or `language_model`, a recipe also has the stages pretrain, language model and tune.
    The same command again skips the stages that are done and resumes a training that was interrupted.
    """
    from asr import catalogue, recipe_file
    from asr.cli.reporter import TerminalReporter

    path = catalogue.resolve(recipe)
    resolved = recipe_file.read_recipe(path, settings or ())
    folder = run_dir or Path("runs") / resolved.name
    count = _processes(nproc)
    if count > 1 and (overfit is not None or check_gradients):
        raise ConfigError(f"{count} processes for a trial that one does in seconds", where="--nproc")
    if overfit is not None and check_gradients:
        raise ConfigError("one trial at a time", where="--check-gradients", hint="first it, then --overfit")
    if count > launch.world_size():
        raise typer.Exit(launch.launch(count))
    launch.end_with_launcher()
    reporter = TerminalReporter()
    if overfit is not None:
        named = folder if folder.name.strip(".") else folder.resolve()  # "." and ".." are no names
        _overfit(resolved, overfit, named.with_name(f"{named.name}-overfit"), data_dir, reporter)
        return
    if check_gradients:
        _check_gradients(resolved, data_dir, reporter)
        return
    from asr import pipeline  # torch: only once the recipe is known to be right
    from asr.training import distributed
    from asr.training.loop import InterruptedTogetherError

    with distributed.joined(raised_by_all=InterruptedTogetherError) as world:
        if not world.leads:
            pipeline.run(resolved, folder, data_dir, Silent(), overwrite, world)
            return
        reporter.say(f"recipe {path}, run in {folder}")
        results = pipeline.run(resolved, folder, data_dir, reporter, overwrite, world)
    reporter.say("")
    for test in results["tests"]:
        typer.echo(_line(test))
    typer.echo(f"model: {folder / 'model'}")
    typer.echo(f"use it: asr transcribe --model {quoted(str(folder / 'model'))} FILE.wav")


def _processes(wanted: int | None) -> int:
    """How many processes are to train.

    Raises:
        ConfigError: others than those that this one was started with.
    """
    there = launch.world_size()
    if there > 1 and wanted not in (None, there):
        hint = "the launcher's number of processes alone, or --nproc alone"
        raise ConfigError(f"{wanted} processes wanted, {there} started", where="--nproc", hint=hint)
    return wanted or there


def _overfit(recipe: Recipe, count: int, folder: Path, data: Path, reporter: Reporter) -> None:
    from asr import preflight

    result = preflight.overfit(recipe, count, folder, data, reporter)
    for line in _verdict(result, folder, recipe.features.sample_rate):
        typer.echo(line)
    if not result.passed:
        raise typer.Exit(1)


def _verdict(result: Overfitting, folder: Path, sample_rate: int) -> list[str]:
    from asr import audio
    from asr.evaluation.report import format_worst
    from asr.preflight import MANIFEST

    score, epochs = result.score, result.epochs
    if result.passed:
        return [
            f"passed: {counted(score.utterances, 'utterance')} ({counted(score.words, 'word')}), "
            f"read without a fault after {counted(epochs, 'epoch')}"
        ]
    rates = sorted({audio.read_header(utterance.source).sample_rate for utterance in result.utterances})
    return [
        f"failed: {score.errors} of {score.words} words in {counted(score.utterances, 'utterance')} are wrong "
        f"after {counted(epochs, 'epoch')} (WER {score.wer:.2%})",
        format_worst(result.answers, worst=3),
        WHAT_TO_CHECK.format(
            manifest=folder / MANIFEST,
            rates=" and ".join(f"{rate} Hz" for rate in rates),
            wanted=sample_rate,
            report=folder / "report.html",
        ),
    ]


def _check_gradients(recipe: Recipe, data: Path, reporter: Reporter) -> None:
    from asr import preflight

    comparisons = preflight.compare_gradients(recipe, data, reporter)
    typer.echo(_table(comparisons))
    wrong = [comparison.name for comparison in comparisons if not comparison.right]
    if wrong:
        typer.echo(f"failed: the gradients of {', '.join(wrong)} are wrong")
        raise typer.Exit(1)
    typer.echo("passed: autograd and central differences agree in every layer")


def _table(comparisons: list[Comparison]) -> str:
    width = max(len(comparison.name) for comparison in comparisons)
    rows = [
        f"{each.name:{width}}  {each.weights:7d}  {each.analytic:9.2e}  {each.numeric:9.2e}  {each.error:8.1e}"
        + ("" if each.right else "  wrong")
        for each in comparisons
    ]
    return "\n".join([f"{'layer':{width}}  weights   autograd    numeric     error", *rows])


def _line(test: dict[str, Any]) -> str:
    return (
        f"{test['name']}: WER {test['wer']:.2%} [{test['ci_low']:.2%}, {test['ci_high']:.2%}], "
        f"CER {test['cer']:.2%} ({test['words']} words in {test['utterances']} utterances)"
    )
