"""Arguments of the commands that read a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from asr.errors import ConfigError

RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="PATH_OR_NAME", help="A recipe's folder or file, or the name of a recipe that ships with asr."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings in place of the recipe's, such as training.epochs=20."),
]
DataDir = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Folder of prepared corpora, shared by runs.", file_okay=False)
]


class RecipeCommand(TyperCommand):
    """A command with `Settings`, which says how one is given where it is taken for an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for name in (argument.partition("=")[0] for argument in args):
            if name.startswith("--") and name not in options:
                _refuse_setting(name)
        return super().parse_args(ctx, args)


def _refuse_setting(option: str) -> None:
    from asr import recipe_file

    keys = recipe_file.keys_named(option.removeprefix("--").replace("-", "_"))
    if keys:
        expected = f"a setting of the recipe without dashes: {' or '.join(f'{key}=VALUE' for key in keys)}"
        raise ConfigError("there is no such option", where=option, expected=expected)
