"""`asr recipes`: the recipes that ship with asr."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr import catalogue
from asr.errors import ConfigError
from asr.files import read_text

if TYPE_CHECKING:
    from asr.reference import Part

app = typer.Typer(no_args_is_help=True, help="List, show and copy recipes; say what can be set in them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A recipe of `asr recipes list`.")]


@app.command("list")
def list_recipes() -> None:
    """Name the recipes, and say what each is for."""
    shipped = catalogue.shipped()
    width = max(map(len, shipped), default=0)
    for name, folder in shipped.items():
        typer.echo(f"{name:{width}}  {catalogue.title(folder)}".rstrip())


@app.command(epilog="\nExample:\n\n  asr recipes show quickstart")
def show(name: Name) -> None:
    """Print a recipe file; a path will do as well as a name."""
    typer.echo(read_text(catalogue.resolve(name), error=ConfigError), nl=False)


@app.command(epilog="\nExample:\n\n  asr recipes copy quickstart my-recipe && asr train my-recipe")
def copy(
    name: Name,
    destination: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Folder to make.", show_default="./NAME")
    ] = None,
) -> None:
    """Copy a recipe's folder, to be changed at will. Nothing is overwritten."""
    folder = catalogue.copy(name, destination or Path(name))
    typer.echo(f"{folder / catalogue.RECIPE} is yours to change; then: asr train {folder}")


@app.command(
    short_help="Say what can be set in a recipe.",
    epilog="\nExamples:\n\n  asr recipes settings training\n\n"
    "  asr recipes settings augment.noise training.schedule",
)
def settings(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY", help="Sections or single settings.", show_default="names of all"),
    ] = None,
) -> None:
    """Say what can be set in a recipe: the default of each setting, what it may be, and what it means."""
    from asr import reference

    width = min(shutil.get_terminal_size().columns, 116)
    if not keys:
        blocks = [_names(part, width) for part in reference.parts()]
    else:
        blocks = [block for part in reference.about(*keys) for block in _described(part, width)]
    typer.echo("\n\n".join("\n".join(lines) for lines in blocks))


def _heading(part: Part) -> str:
    choice = f" (corpus: {part.choice})" if part.choice else ""
    off = " (off unless a recipe has it)" if part.off else " (null turns it off)" if part.can_be_off else ""
    return f"{part.key}{choice}: {part.meaning}{off}" if part.key else "Outside of all sections:"


def _names(part: Part, width: int) -> list[str]:
    names = ", ".join(setting.key.rpartition(".")[2] for setting in part.settings)
    return [*_indented(_heading(part), width, 0), *_indented(names, width, 2)]


def _described(part: Part, width: int) -> Iterator[list[str]]:
    """A block for the section and one for each setting."""
    yield _indented(_heading(part), width, 0)
    for setting in part.settings:
        value = "" if setting.default is None else f" = {setting.default}"
        yield [
            f"  {setting.key}{value}",
            *_indented(setting.allowed + ("; has to be given" if setting.default is None else ""), width, 6),
            *_indented(setting.meaning, width, 6),
        ]


def _indented(text: str, width: int, spaces: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=" " * spaces, subsequent_indent=" " * spaces, break_on_hyphens=False
    )
