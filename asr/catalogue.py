"""Recipes: those that ship with asr, and how a name or path on the command line means one."""

from __future__ import annotations

import difflib
import json
import re
import shutil
from pathlib import Path

from asr.errors import ConfigError
from asr.files import atomic_path, write_text

RECIPE = "recipe.yaml"
_PACKAGE = Path(__file__).parent


def shipped() -> dict[str, Path]:
    """The folders of the recipes that ship with asr, by name."""
    in_wheel, in_checkout = _PACKAGE / "_recipes", _PACKAGE.parent / "recipes"
    return _recipes_in(in_wheel if in_wheel.is_dir() else in_checkout)


def title(folder: Path) -> str:
    """What a recipe is for: the first sentence of its README below the heading, or nothing without one."""
    readme = folder / "README.md"
    paragraphs = readme.read_text(encoding="utf-8").split("\n\n") if readme.is_file() else []
    prose = next((text for text in paragraphs if text.strip() and not text.startswith("#")), "")
    return " ".join(prose.split()).partition(". ")[0].rstrip(".")


def resolve(path_or_name: str) -> Path:
    """The recipe file that is meant: a file itself, a folder's recipe.yaml, or a shipped recipe's name.

    Raises:
        ConfigError: nothing is meant; lists the recipes near by.
    """
    path, ours = Path(path_or_name), shipped()
    if path.is_file():
        return path
    if (path / RECIPE).is_file():
        return path / RECIPE
    if path_or_name in ours:
        return ours[path_or_name] / RECIPE
    if "=" in path_or_name:
        raise ConfigError(
            "a setting in a recipe's place", where=path_or_name, expected="RECIPE first, settings after it"
        )
    fault = f"this folder holds no {RECIPE}" if path.is_dir() else "there is no such recipe"
    nearby = [str(folder) for folder in _nearby()] + list(ours)
    close = difflib.get_close_matches(path_or_name, nearby + [Path(name).name for name in nearby], n=1)
    raise ConfigError(
        fault,
        where=path_or_name,
        expected=f"a recipe file, a folder with a {RECIPE}, or a name; there are: {', '.join(nearby) or 'none'}",
        hint=close[0] if close else "asr recipes list",
    )


def copy(name: str, destination: Path) -> Path:
    """Copy a shipped recipe's folder, to be changed at will, under a name of its own. Nothing is ever overwritten.

    Returns:
        The copy's folder.

    Raises:
        ConfigError: no recipe of this name ships, or the destination is taken, or no name for a recipe.
    """
    from asr.config import NAME, can_be_a_file

    if name not in shipped():
        raise ConfigError("no recipe of this name ships with asr", where=name, expected=", ".join(shipped()))
    if destination.exists():
        raise ConfigError(
            "already there", where=destination, hint=f"another place: asr recipes copy {name} {destination}-2"
        )
    if not (re.fullmatch(NAME, destination.name) and can_be_a_file(destination.name)):
        raise ConfigError(
            "a recipe can't have this folder's name",
            where=destination,
            expected="letters a to z, digits, and _ . - after the first",
            hint=f"asr recipes copy {name} {destination.with_name(f'my-{name}')}",
        )
    with atomic_path(destination) as temporary:
        shutil.copytree(shipped()[name], temporary)
        recipe = temporary / RECIPE
        text = recipe.read_text(encoding="utf-8")
        write_text(recipe, re.sub(r"^name: .*$", f"name: {json.dumps(destination.name)}", text, flags=re.MULTILINE))
    return destination


def _recipes_in(folder: Path) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{RECIPE}"))}


def _nearby() -> list[Path]:
    here = Path()
    return [folder for place in (here, here / "recipes") for folder in _recipes_in(place).values()]
