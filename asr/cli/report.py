"""`asr report`: what the curves of a training say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.errors import DataError

EPILOG = """
Examples:

  asr report runs/quickstart

  asr report runs/quickstart/pretrain
"""


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, finished or not; or the folder pretrain in it.")],
    out: Annotated[
        Path | None, typer.Option(help="Page to write.", show_default="report.html in the run", dir_okay=False)
    ] = None,
) -> None:
    """Write the report of a training as a page with its curves, and say in short what is wrong with them.

    `asr train` does so by itself when it ends; a page that is there is replaced.
    """
    from asr.training import log
    from asr.training import report as reports

    training = run / "train" if (run / "train").is_dir() else run
    entries = log.read(training)
    if not entries:
        raise DataError(
            "no epoch of a training has ended here", where=run, expected="a run's folder with train/log.jsonl"
        )
    config, path = run / "config.yaml", out or run / "report.html"
    settings = config.read_text(encoding="utf-8") if config.is_file() else ""
    finished = (training / "final").exists()
    for line in reports.write(path, run.resolve().name, entries, settings, finished):
        typer.echo(line)
    typer.echo(f"report: {path}")
