"""`asr report`: what the curves of a training say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from asr.cli.lm_train import SETTINGS
from asr.errors import DataError
from asr.run_folder import RunFolder

if TYPE_CHECKING:
    from asr.training.report import About

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
            metavar="RUN",
            help="Folder of a run, finished or not; or the folder pretrain in it, or that of `asr lm train`.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Page to write.", show_default="report.html in the folder", dir_okay=False
        ),
    ] = None,
) -> None:
    """Write the report of a training as a page with its curves, and say in short what is wrong with them.

    `asr train` and `asr lm train` do so by themselves when they end; a page that is there is replaced.
    """
    from asr.training import report as reports

    if not run.is_dir():
        raise DataError("there is no such folder", where=run, expected="a run's")
    found = _training(run)
    page = out or found.page
    lines = reports.write(page, found.about, found.folder, found.product.exists())
    if not lines:
        raise DataError(
            "no epoch of a training has ended here", where=run, expected="a run's folder with train/log.jsonl"
        )
    for line in lines:
        typer.echo(line)
    typer.echo(f"report: {page}")


class _Training(NamedTuple):
    folder: Path
    page: Path
    product: Path
    about: About


def _training(path: Path) -> _Training:
    """The training that a folder holds: a run's, its self-supervised start, or a language model's."""
    run, around = RunFolder(path), RunFolder(path.resolve().parent)
    if run.training.is_dir():
        return _Training(run.training, run.report, run.trained, _about(run))
    if path.resolve() == around.pretraining and around.config.is_file():
        page = path / around.pretraining_report.name
        return _Training(path, page, around.pretrained, _about(around, pretraining=True))
    # Where a language model's file is, its folder does not tell; and its report is the same before it is there.
    return _Training(path, run.report, path, _about_language_model(path))


def _about(run: RunFolder, pretraining: bool = False) -> About:
    from asr import recipe_file, run_report
    from asr.training.report import About

    if not run.config.is_file():
        return About(run.folder.resolve().name)
    return run_report.about(recipe_file.read_recipe(run.config), pretraining)


def _about_language_model(folder: Path) -> About:
    from asr.files import read_text
    from asr.training.report import About

    settings = folder / SETTINGS
    return About(folder.resolve().name, read_text(settings) if settings.is_file() else "")
