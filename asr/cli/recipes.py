"""`asr recipes`: the recipes that ship with asr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr import catalogue

app = typer.Typer(no_args_is_help=True, help="List, show and copy the recipes that ship with asr.")

Name = Annotated[str, typer.Argument(help="A recipe of `asr recipes list`.")]


@app.command("list")
def list_recipes() -> None:
    """Name the recipes, and say what each is for."""
    shipped = catalogue.shipped()
    width = max(map(len, shipped), default=0)
    for name, folder in shipped.items():
        typer.echo(f"{name:{width}}  {catalogue.title(folder)}".rstrip())


@app.command()
def show(name: Name) -> None:
    """Print a recipe file; a path will do as well as a name."""
    typer.echo(catalogue.resolve(name).read_text(encoding="utf-8"), nl=False)


@app.command(epilog="Example:\n\n  asr recipes copy quickstart my-recipe && asr train my-recipe")
def copy(
    name: Name,
    destination: Annotated[
        Path | None, typer.Argument(metavar="[DEST]", help="Folder to make.", show_default="./NAME")
    ] = None,
) -> None:
    """Copy a recipe's folder, to be changed at will. Nothing is overwritten."""
    folder = catalogue.copy(name, destination or Path(name))
    typer.echo(f"{folder / catalogue.RECIPE} is yours to change; then: asr train {folder}")
