"""`asr report`: what the curves of a training say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from asr.cli.lm_train import SETTINGS
from asr.errors import DataError
from asr.run_folder import RunFolder

EPILOG = """
Examples:

  asr report runs/quickstart

  asr report runs/quickstart/pretrain

  asr report runs/my-language-model
"""


def report(
    run: Annotated[
        Path,
        typer.Argument(
            help="Folder of a run, finished or not; or the folder pretrain in it, or that of `asr lm train`."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Page to write.", show_default="report.html in the folder", dir_okay=False),
    ] = None,
) -> None:
    """Write the report of a training as a page with its curves, and say in short what is wrong with them.

    `asr train` and `asr lm train` do so by themselves when they end; a page that is there is replaced.
    """
    from asr.training import log
    from asr.training import report as reports

    found = _training(run)
    entries = log.read(found.folder)
    if not entries:
        raise DataError(
            "no epoch of a training has ended here", where=run, expected="a run's folder with train/log.jsonl"
        )
    settings = found.settings.read_text(encoding="utf-8") if found.settings.is_file() else ""
    page = out or found.page
    for line in reports.write(page, found.title, entries, settings, found.product.exists()):
        typer.echo(line)
    typer.echo(f"report: {page}")


class _Training(NamedTuple):
    folder: Path
    page: Path
    title: str
    settings: Path
    product: Path


def _training(path: Path) -> _Training:
    """The training that a folder holds: a run's, its self-supervised start, or a language model's."""
    run = RunFolder(path)
    if run.training.is_dir():
        return _Training(run.training, run.report, _name(run), run.config, run.trained)
    around = RunFolder(path.resolve().parent)
    if path.resolve() == around.pretraining and around.config.is_file():
        title = f"{_name(around)}, before any transcript"
        return _Training(path, path / around.pretraining_report.name, title, around.config, around.pretrained)
    # Where a language model's file is, its folder does not tell; and its report is the same before it is there.
    return _Training(path, run.report, _name(run), path / SETTINGS, path)


def _name(run: RunFolder) -> str:
    from asr.recipe_file import read_mapping

    recipe = read_mapping(run.config, "values") if run.config.is_file() else {}
    return str(recipe.get("name", run.folder.resolve().name))
