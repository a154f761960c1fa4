"""The settings of recipes as users are told of them: keys, defaults, what is allowed, and what they mean."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union

import annotated_types
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from asr.config import CORPORA, Gain, Range, Recipe, Section, Within
from asr.errors import ConfigError, did_you_mean
from asr.recipe_file import sections_in, value_to_yaml


class Setting(NamedTuple):
    """A key of a recipe with a value.

    Attributes:
        key: such as "training.epochs".
        default: in YAML, or None where a recipe has to say it.
        allowed: in words.
        meaning: in words.
    """

    key: str
    default: str | None
    allowed: str
    meaning: str


class Part(NamedTuple):
    """A section of a recipe.

    Attributes:
        key: such as "augment.noise"; empty for the recipe itself.
        choice: the corpus, where the keys depend on it.
        can_be_off: whether it can be null.
        off: whether it is null unless a recipe has it.
        meaning: in words.
        settings: those of it that are no sections themselves.
    """

    key: str
    choice: str | None
    can_be_off: bool
    off: bool
    meaning: str
    settings: tuple[Setting, ...]


def parts() -> list[Part]:
    """All sections, in the order of a recipe."""
    return list(_parts(Recipe, "", None, False, False))


def about(*keys: str) -> list[Part]:
    """Sections with all that is below them, and settings of such a name, or end of a name, with their sections.

    Raises:
        ConfigError: there is no such key.
    """
    known = parts()
    wanted: dict[tuple[str, str | None], set[Setting]] = {}
    for key in keys:
        for part in _about(key, known):
            wanted.setdefault((part.key, part.choice), set()).update(part.settings)
    return [
        part._replace(settings=tuple(setting for setting in part.settings if setting in there))
        for part in known
        if (there := wanted.get((part.key, part.choice))) is not None
    ]


def _about(key: str, known: Sequence[Part]) -> list[Part]:
    def those(test: Callable[[Setting], bool]) -> list[Part]:
        return [part._replace(settings=few) for part in known if (few := tuple(filter(test, part.settings)))]

    found = (
        [part for part in known if f"{part.key}.".startswith(f"{key}.")]
        or those(lambda setting: setting.key == key)
        or those(lambda setting: setting.key.endswith(f".{key}"))
    )
    if not found:
        keys = [name for part in known for name in (part.key, *(setting.key for setting in part.settings))]
        meant = did_you_mean(key, [*keys, *(name.rpartition(".")[2] for name in keys)])
        raise ConfigError(f"there is no such setting{meant}", where=key, hint="asr recipes settings, to list them")
    return found


def changed(recipe: Recipe) -> list[tuple[str, str]]:
    """What a recipe sets otherwise than by default, beside its corpus: "key=value" in YAML, and what it means.

    Of sections that are off by default, all that they have; of those, also what they are.
    """
    values, found = recipe.model_dump(mode="json"), []
    for part in parts():
        section = _at(values, part.key)
        if section is None and part.can_be_off and not part.off and _at(values, part.key.rpartition(".")[0]):
            found.append((f"{part.key}=null", part.meaning))
        if section is None or part.choice is not None:
            continue
        if part.off:
            found.append((part.key, part.meaning))
        for setting in part.settings:
            value = value_to_yaml(section[setting.key.rpartition(".")[2]])
            if setting.key != "name" and (part.off or value != setting.default):
                found.append((f"{setting.key}={value}", setting.meaning))
    return found


def _at(values: Any, key: str) -> Any:
    for name in filter(None, key.split(".")):
        values = None if values is None else values[name]
    return values


def _parts(section: type[Section], key: str, choice: str | None, can_be_off: bool, off: bool) -> Iterator[Part]:
    types = typing.get_type_hints(section, include_extras=True)
    settings: list[Setting] = []
    below: list[tuple[type[Section], str, str | None, bool, bool]] = []
    for name, field in section.model_fields.items():
        inner = f"{key}.{name}".lstrip(".")
        sections = _sections(types[name])
        if name == "prepare":
            below += [(each, inner, str(corpus), False, False) for corpus, each in CORPORA.items()]
        elif sections:
            below.append((sections[0], inner, None, NoneType in _members(types[name]), field.default is None))
        elif choice is None or name != "corpus":
            settings.append(Setting(inner, _default(field), _allowed(types[name]), _line(field.description)))
    yield Part(key, choice, can_be_off, off, _line(section.__doc__), tuple(settings))
    for each in below:
        yield from _parts(*each)


def _sections(annotation: Any) -> list[type[Section]]:
    """The sections among the types of a value, without ranges, which are values."""
    return [kind for kind in sections_in(annotation) if not issubclass(kind, Range) or kind is Gain]


def _members(annotation: Any) -> list[Any]:
    """The types in a union, or the one that it is."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _members(typing.get_args(annotation)[0])
    return list(typing.get_args(annotation)) if origin in (Union, UnionType) else [annotation]


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    return value_to_yaml(field.get_default(call_default_factory=True))


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _allowed(annotation: Any, limits: Sequence[Any] = ()) -> str:
    """What a value may be."""
    if typing.get_origin(annotation) is Annotated:
        annotation, *own = typing.get_args(annotation)
        return _allowed(annotation, [*_constraints(own), *limits])
    members = _members(annotation)
    if NoneType in members:
        (member,) = (member for member in members if member is not NoneType)
        return f"{_allowed(member, limits)}, or null"
    match typing.get_origin(annotation), typing.get_args(annotation):
        case origin, values if origin is Literal:
            *others, last = values
            return f"{', '.join(others)} or {last}" if others else str(last)
        case origin, (part, more) if origin is tuple and more is Ellipsis:
            return "pairs {from: to}" if typing.get_origin(part) is tuple else f"a list; each: {_allowed(part)}"
        case origin, (first, *_) if origin is tuple:
            return f"a pair; each: {_allowed(first)}"
        case origin, (_, value) if origin is dict:
            return f"{{name: value}}; each value: {_allowed(value)}"
    if annotation is Range:
        bounds = [limit.func for limit in limits if isinstance(limit, AfterValidator)]
        within = next((each for each in bounds if isinstance(each, Within)), None)
        return "a range [low, high]" + (f" within {within.least:g} and {within.most:g}" if within else "")
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return words[annotation] + _limits(limits)


def _constraints(own: Sequence[Any]) -> Iterator[Any]:
    """What limits a type, taken out of pydantic's fields."""
    for each in own:
        if isinstance(each, FieldInfo):
            yield from each.metadata
        else:
            yield each


def _limits(limits: Sequence[Any]) -> str:
    found = []
    for limit in limits:
        match limit:
            case annotated_types.Ge(ge=least):
                found.append(f"{least} or more")
            case annotated_types.Gt(gt=least):
                found.append(f"above {least}")
            case annotated_types.Le(le=most):
                found.append(f"at most {most}")
            case annotated_types.Lt(lt=most) if most != 2**63:
                found.append(f"below {most}")
    return f", {', '.join(found)}" if found else ""
