"""Arguments of the commands that read a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="PATH_OR_NAME", help="A recipe's folder or file, or the name of a recipe that ships with asr."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings in place of the recipe's, such as training.epochs=20."),
]
DataDir = Annotated[Path, typer.Option(help="Folder of prepared corpora, shared by runs.", file_okay=False)]
