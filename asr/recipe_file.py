"""Reading a recipe file: its errors are reported all at once, with key, what was found and what is allowed."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from asr.config import CORPORA, FromCommandLine, Range, Recipe, Section
from asr.errors import ConfigError, counted, did_you_mean
from asr.files import read_text
from asr.mistakes import in_words


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe as a whole.

    Args:
        path: the YAML file; paths in it are relative to its folder.
        overrides: `key.path=value`, the value in YAML; paths in it are relative to the working folder.

    Raises:
        ConfigError: the file can't be read, or keys and values are wrong: all of them together.
    """
    path = Path(path)
    values = read_mapping(path, "values")
    for override in overrides:
        _apply(values, override)
    given = [override.partition("=")[0].strip() for override in overrides]
    return _validated(values, path.parent.resolve(), path, given)


def read_mapping(path: Path, to: str) -> dict[Any, Any]:
    """Read a YAML file that maps keys to something, which messages call what `to` says.

    Raises:
        ConfigError: the file can't be read, or holds no such mapping.
    """
    values = parse(read_text(path, error=ConfigError), path)
    if not isinstance(values, dict):
        raise ConfigError(f"not a mapping of keys to {to}", where=path)
    return values


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """A recipe with other values for some of its keys, such as `training.epochs`.

    Raises:
        ConfigError: the values are wrong, or do not suit each other.
    """
    values = recipe.model_dump(mode="json")
    for key, value in settings.items():
        _put(values, key, value)
    return _validated(values, Path.cwd(), "these settings")


def key_type(recipe: Recipe, key: str) -> Any:
    """The type that the values of a key have, with the limits of the schema, as `pydantic.TypeAdapter` takes it.

    Raises:
        ConfigError: a recipe with this corpus has no such key.
    """
    expected: Any = Recipe
    value: Any = recipe
    for part in key.split("."):
        sections = _sections_of(value, expected)
        fields = [section for section in sections if part in section.model_fields]
        if fields:
            expected = typing.get_type_hints(fields[0], include_extras=True)[part]
        elif typing.get_origin(expected) is dict:
            expected = typing.get_args(expected)[1]
        else:
            meant = did_you_mean(key, _keys_below(recipe, Recipe), cutoff=0.8)
            raise ConfigError(f"there is no such key{meant}", where=key)
        value = getattr(value, part, None)
    return expected


def keys_named(name: str) -> list[str]:
    """All keys that a recipe can have with this name, or this end, such as `training.epochs` for `epochs`."""
    return [key for key in _keys_below(None, Recipe) if f".{key}".endswith(f".{name}")]


def to_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def value_to_yaml(value: Any) -> str:
    """A value of a recipe, or of one that was dumped, as command lines have it."""
    if isinstance(value, Range):
        value = value.model_dump()
    if isinstance(value, dict) and value.keys() == {"low", "high"}:
        value = [value["low"], value["high"]]
    return yaml.safe_dump(_plain(value), default_flow_style=True, width=1000).removesuffix("...\n").strip()


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not a silent loss of the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(None, None, "a list or section as a key", key_node.start_mark)
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"{key_node.value!r} stands twice", key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


class _ArgumentLoader(_StrictLoader):
    """YAML from the command line."""


def _typed(_: yaml.SafeLoader, node: yaml.ScalarNode) -> FromCommandLine:
    return FromCommandLine(node.value)


_ArgumentLoader.add_constructor("tag:yaml.org,2002:str", _typed)


def parse(text: str, where: object, from_command_line: bool = False) -> Any:
    """Read YAML; strings from the command line are marked, as paths among them are relative to the working folder.

    Raises:
        ConfigError: it is not YAML, is nested too deeply, or a key stands twice in it.
    """
    try:
        return yaml.load(text, _ArgumentLoader if from_command_line else _StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        hints = {
            "mapping values are": "a space behind each colon, there and in the line before it",
            "found character '\\t'": "spaces in place of tabs",
        }
        hint = next((hint for fault, hint in hints.items() if str(error.problem).startswith(fault)), None)
        raise ConfigError(f"not YAML: {error.problem}", where=f"{where}{line}", hint=hint) from None
    except RecursionError:
        what = "lists or sections are nested in one another, hundreds deep"
        raise ConfigError(what, where=where, expected="a few levels, and each bracket closed") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}", where=where) from None
    except ValueError as error:
        quotes = "what looks like a date or number, and is none, in quotation marks"
        raise ConfigError(f"not YAML: {error}", where=where, hint=quotes) from None


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError("not a setting", where=repr(override), expected="key=value, such as training.epochs=20")
    where = repr(override if len(override) <= 100 else f"{override[:99]}…")
    _put(values, key.strip(), parse(text, where, from_command_line=True))


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = values.get(section)
        if not isinstance(inner, dict):  # a section that is absent or null comes to life
            inner = values[section] = {}
        values = inner
    values[last] = value


def _validated(values: dict[str, Any], folder: Path, where: object, given: Sequence[str] = ()) -> Recipe:
    """The recipe with these values, some of the command line; paths among them are relative to the folder."""
    try:
        return Recipe.model_validate(values, context=folder)
    except ValidationError as error:
        problems = [_describe(details) for details in error.errors()]
        keys = [problem.partition(":")[0] for problem in problems]
        changed = any(_concerns(key, other) for key in keys for other in given)
        raise ConfigError(
            f"{counted(len(problems), 'error')}\n  " + "\n  ".join(problems),
            where=f"{where}, as changed on the command line" if changed else where,
            hint="`asr recipes show quickstart` for a complete recipe",
        ) from None


def _concerns(key: str, other: str) -> bool:
    """Whether an error at one key may be of another one: of a section it may be of what is in it."""
    return key == "recipe" or f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _describe(details: ErrorDetails) -> str:
    """One problem: where, what was found, what is allowed."""
    path = [part for part in details["loc"] if part not in CORPORA and part != "[key]"]
    where, found = ".".join(str(part) for part in path) or "recipe", details["input"]
    match details["type"]:
        case "extra_forbidden":
            meant = keys_named(str(path[-1])) if len(path) == 1 else []
            if meant:
                return f"{where}: there is no such key; {' or '.join(meant)} may be meant"
            return f"{where}: {_none_such('key', path[-1], _keys_allowed_at(details['loc']))}"
        case "union_tag_invalid":
            return f"{where}.corpus: {_none_such('corpus', found['corpus'], CORPORA)}"
        case "union_tag_not_found":
            return f"{where}.corpus: missing; allowed: {', '.join(map(str, CORPORA))}"
        case "missing":
            return f"{where}: missing"
    return f"{where}: {in_words(details)}" + ("" if isinstance(found, dict) else f"; found {_as_yaml(found)}")


def _none_such(kind: str, name: object, known: Iterable[object]) -> str:
    allowed = [str(each) for each in known]
    meant = did_you_mean(str(name), allowed)
    return f"there is no such {kind}{meant}; allowed: {', '.join(allowed)}"


def _as_yaml(value: object) -> str:
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))


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
                for inner in sections_in(section.model_fields[str(part)].annotation)
            ]
    return [key for section in sections for key in section.model_fields]


def sections_in(annotation: Any) -> list[type[Section]]:
    """The sections that a value of a type may be."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in typing.get_args(annotation) for section in sections_in(part)]


def _sections_of(value: Any, annotation: Any) -> list[type[Section]]:
    """The section that a value is; of what is not set, those that it may be."""
    return [type(value)] if isinstance(value, Section) else sections_in(annotation)


def _keys_below(value: Any, annotation: Any, prefix: str = "") -> Iterator[str]:
    for section in _sections_of(value, annotation):
        for name, field in section.model_fields.items():
            yield f"{prefix}{name}"
            yield from _keys_below(getattr(value, name, None), field.annotation, f"{prefix}{name}.")
