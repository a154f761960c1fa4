"""Reading a recipe file: its errors are reported all at once, with key, what was found and what is allowed."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from asr.config import CORPORA, FromCommandLine, Recipe, Section
from asr.errors import ConfigError


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe as a whole.

    Args:
        path: the YAML file; paths in it are relative to its folder.
        overrides: `key.path=value`, the value in YAML; paths in it are relative to the working folder.

    Raises:
        ConfigError: the file can't be read, or keys and values are wrong: all of them together.
    """
    values = _parse(path.read_text(encoding="utf-8"), path, _StrictLoader)
    if not isinstance(values, dict):
        raise ConfigError("a recipe is a mapping of keys to values", where=path)
    for override in overrides:
        _apply(values, override)
    try:
        return Recipe.model_validate(values, context=path.parent.resolve())
    except ValidationError as error:
        problems = [_describe(details) for details in error.errors()]
        raise ConfigError(
            f"{len(problems)} {'error' if len(problems) == 1 else 'errors'}\n  " + "\n  ".join(problems),
            where=path,
            hint="`asr recipes show quickstart` for a complete recipe",
        ) from None


def to_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not a silent loss of the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"{key_node.value!r} stands twice", key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


class _ArgumentLoader(_StrictLoader):
    """YAML from the command line."""


def _typed(_: yaml.SafeLoader, node: yaml.ScalarNode) -> FromCommandLine:
    return FromCommandLine(node.value)


_ArgumentLoader.add_constructor("tag:yaml.org,2002:str", _typed)


def _parse(text: str, where: object, loader: type[yaml.SafeLoader]) -> Any:
    try:
        return yaml.load(text, loader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ConfigError(f"not YAML: {error.problem}", where=f"{where}{line}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}", where=where) from None


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError("not a setting", where=repr(override), expected="key=value, such as training.epochs=20")
    *sections, last = key.strip().split(".")
    for section in sections:
        inner = values.get(section)
        if not isinstance(inner, dict):  # a section that is absent or null comes to life
            inner = values[section] = {}
        values = inner
    values[last] = _parse(text, repr(override), _ArgumentLoader)


def _describe(details: ErrorDetails) -> str:
    """One problem: where, what was found, what is allowed."""
    path = [part for part in details["loc"] if part not in CORPORA]
    where = ".".join(str(part) for part in path) or "recipe"
    if details["type"] == "extra_forbidden":
        allowed = _keys_allowed_at(details["loc"])
        close = difflib.get_close_matches(str(path[-1]), allowed, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        return f"{where}: there is no such key{meant}; allowed: {', '.join(allowed)}"
    if details["type"] == "missing":
        return f"{where}: missing"
    message = details["msg"].removeprefix("Value error, ").replace("Input should", "should")
    found = details["input"]
    return f"{where}: {message}" + ("" if isinstance(found, dict) else f"; found {found!r}")


def _keys_allowed_at(loc: tuple[int | str, ...]) -> list[str]:
    sections: list[type[Section]] = [Recipe]
    for part in loc[:-1]:
        if part in CORPORA:
            sections = [CORPORA[part]]
        else:
            sections = [
                inner
                for section in sections
                if part in section.model_fields
                for inner in _sections_in(section.model_fields[str(part)].annotation)
            ]
    return [key for section in sections for key in section.model_fields]


def _sections_in(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in typing.get_args(annotation) for section in _sections_in(part)]
