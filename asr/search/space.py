"""What a search varies: keys of a recipe, each with the values that it may take, and their notation.

training.learning_rate=log:1e-4..1e-2      a range, all orders of magnitude alike
model.encoder.dropout=0..0.5/0.1           a range in steps
model.encoder.layers=2..5                  whole numbers, as the schema says
model.encoder.cell=lstm,gru                choices
model.frontend.strides={[2,2],[2,1]}       choices between lists
"""

from __future__ import annotations

import json
import math
import re
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from asr import recipe_file
from asr.config import Recipe
from asr.errors import ConfigError, counted
from asr.mistakes import in_words

_RANGE = re.compile(r"(?P<log>log:)?(?P<low>[^,\s]+?)\.\.(?P<high>[^,\s/]+)(?:/(?P<step>[^,\s]+))?")
_DIGITS = 4  # significant ones of a number from a continuous range: more would only be harder to read


@dataclass(frozen=True)
class Interval:
    """Numbers between two ends, both included.

    Attributes:
        key: of the recipe.
        low, high: the ends; with a step, the high one is a whole number of steps above the low one.
        integer: whether only whole numbers are meant.
        logarithmic: whether all orders of magnitude are alike.
        step: between neighbours, or None where every number is meant.
    """

    key: str
    low: float
    high: float
    integer: bool = False
    logarithmic: bool = False
    step: float | None = None

    def value(self, number: float) -> Any:
        """A number of the interval as the recipe is to have it."""
        if self.integer:
            return int(number)
        digits = _DIGITS if self.step is None else 12
        return min(max(float(f"{number:.{digits}g}"), self.low), self.high)

    @property
    def points(self) -> list[Any] | None:
        """All the numbers, where they are finitely many and of one distance."""
        if self.step is None:
            return None
        return [self.value(self.low + count * self.step) for count in range(self.steps + 1)]

    @property
    def most(self) -> Any:
        """The greatest number."""
        return self.value(self.high)

    @property
    def steps(self) -> int:
        """How many fit between the ends."""
        return 0 if self.step is None else math.floor((self.high - self.low) / self.step + 1e-9)

    def __str__(self) -> str:
        step = "" if self.step is None or (self.integer and self.step == 1) else f"/{self.step:g}"
        return f"{self.key}={'log:' * self.logarithmic}{text(self.low)}..{text(self.high)}{step}"


@dataclass(frozen=True)
class Choices:
    """A few values of any type that JSON has."""

    key: str
    values: tuple[Any, ...]

    @property
    def points(self) -> list[Any]:
        """All of them."""
        return list(self.values)

    @property
    def most(self) -> Any:
        """The greatest, where they can be compared."""
        return max(self.values)

    def __str__(self) -> str:
        return f"{self.key}={{{','.join(map(text, self.values))}}}"


Space = Interval | Choices


def text(value: Any) -> str:
    """A value as a recipe or the command line has it."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    plain = isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) and yaml.safe_load(value) == value
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def read_file(path: Path) -> list[tuple[str, Any]]:
    """What a YAML file varies: keys, each with a range or choices in the notation, or with a list of choices.

    Raises:
        ConfigError: it can't be read, or is no mapping.
    """
    values = recipe_file.read_mapping(path, "ranges or choices")
    return [(str(key), value) for key, value in values.items()]


def split(argument: str) -> tuple[str, str]:
    """The key and the values of an argument KEY=SPACE.

    Raises:
        ConfigError: it is none.
    """
    key, equals, values = argument.partition("=")
    if not equals or not key.strip() or not values.strip():
        raise ConfigError(
            "nothing that can be varied",
            where=repr(argument),
            expected="KEY=SPACE, such as training.learning_rate=log:1e-4..1e-2 or model.encoder.cell=lstm,gru",
        )
    return key.strip(), values.strip()


def resolve(recipe: Recipe, varied: Iterable[tuple[str, Any]], grid: bool = False) -> tuple[Space, ...]:
    """The spaces that are meant, each value by itself allowed by the schema.

    Args:
        recipe: the settings that stay.
        varied: keys with what they may be: in the notation, or as a list of choices.
        grid: whether each combination is to be tried, so that there must be finitely many.

    Raises:
        ConfigError: some are wrong: all of them together.
    """
    spaces: list[Space] = []
    problems: list[str] = []
    for key, values in varied:
        try:
            space = _space(recipe, key, values)
            if grid and isinstance(space, Interval) and space.points is None:
                raise ConfigError(f"{space} has no steps for a grid; {_stepped(space)}")
            spaces.append(space)
        except ConfigError as error:
            problems.append(str(error))
    problems += _overlaps([space.key for space in spaces])
    if problems:
        count = counted(len(problems), "error")
        raise ConfigError(f"{count} in what to vary\n  " + "\n  ".join(problems))
    if not spaces:
        raise ConfigError(
            "nothing is varied", where="--vary", expected="KEY=SPACE", hint="asr tune search --help, for examples"
        )
    return tuple(spaces)


def size(spaces: Sequence[Space]) -> int:
    """How many points a grid of these spaces has."""
    return math.prod(len(space.points or ()) for space in spaces)


def _space(recipe: Recipe, key: str, values: Any) -> Space:
    expected = recipe_file.key_type(recipe, key)
    numbers = _numbers(expected)
    found = _RANGE.fullmatch(values) if isinstance(values, str) else None
    if found and numbers:
        return _interval(key, found, expected, numbers is int)
    if found and all(map(_is_number, found.group("low", "high"))):
        raise ConfigError(f"{key}={values}: a range, but the values of this key are no numbers; list them: a,b,c")
    return _choices(key, values, expected)


def _interval(key: str, found: re.Match[str], expected: Any, integer: bool) -> Interval:
    where, logarithmic = f"{key}={found.group()}", bool(found["log"])
    low, high = (_checked(expected, found[end], f"{where}: {found[end]}") for end in ("low", "high"))
    if not all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high)):
        raise ConfigError(f"{where}: a range needs two finite numbers")
    if low >= high:
        raise ConfigError(f"{where}: the low end {low:g} is not below the high end {high:g}")
    if logarithmic and low <= 0:
        raise ConfigError(f"{where}: a logarithmic range begins above 0")
    if logarithmic and found["step"]:
        stepped = _stepped(Interval(key, low, high, integer, logarithmic))
        raise ConfigError(f"{where}: a logarithmic range has no steps; {stepped}")
    step: float | None = 1 if integer and not logarithmic else None
    if found["step"]:
        step = _step(found["step"], high - low, integer, where)
    space = Interval(key, low, high, integer, logarithmic, step)
    return space if step is None else Interval(key, low, space.value(low + space.steps * step), integer, step=step)


def _step(written: str, width: float, integer: bool, where: str) -> float:
    kind = "a whole number" if integer else "a number"
    step = float(written) if _is_number(written) else math.nan
    if not 0 < step <= width * (1 + 1e-9) or (integer and step % 1):
        raise ConfigError(f"{where}: the step {written} is not {kind} above 0 and no more than {width:g}")
    return int(step) if integer else step


def _choices(key: str, values: Any, expected: Any) -> Choices:
    where = f"{key}={values}"
    if isinstance(values, str):
        values = _listed(values, where)
    if not isinstance(values, list):
        raise ConfigError(f"{where}: neither a range, such as 1..5, nor choices, such as a,b,c")
    checked = [_checked(expected, value, f"{where}: {value}") for value in values]
    twice = next((one for one, other in combinations(checked, 2) if one == other), _NONE)
    if twice is not _NONE:
        raise ConfigError(f"{where}: {text(twice)} stands twice")
    if len(checked) < 2:
        raise ConfigError(f"{where}: one value is no choice; to fix it, give {where} without --vary")
    return Choices(key, tuple(checked))


_NONE = object()


def _listed(written: str, where: str) -> Any:
    """The values in a text: divided by commas, in braces or without."""
    try:
        node = yaml.compose(f"[{written}]")
    except yaml.YAMLError:
        node = None  # which is told below
    if isinstance(node, yaml.SequenceNode) and [type(part) for part in node.value] == [yaml.MappingNode]:
        written = written[1:-1]
    return recipe_file.parse(f"[{written}]", where, from_command_line=True)


def _checked(expected: Any, value: Any, where: str) -> Any:
    """A value as the schema understands it, as plain data."""
    adapter = TypeAdapter(expected)
    try:
        return adapter.dump_python(adapter.validate_python(value, context=Path.cwd()), mode="json")
    except ValidationError as error:
        raise ConfigError(f"{where}: {in_words(error.errors()[0])}") from None


def _numbers(expected: Any) -> type[int] | type[float] | None:
    """Which numbers a key takes, if any."""
    if expected in (int, float):
        return typing.cast(type[float], expected)
    if typing.get_origin(expected) not in (typing.Union, types.UnionType, typing.Annotated):
        return None
    kinds = [kind for part in typing.get_args(expected) if (kind := _numbers(part))]
    return float if float in kinds else int if kinds else None


def _is_number(written: str) -> bool:
    try:
        float(written)
    except ValueError:
        return False
    return True


def _stepped(space: Interval) -> str:
    """How a range could be part of a grid."""
    if space.logarithmic:
        middle = Interval(space.key, space.low, space.high, space.integer).value(math.sqrt(space.low * space.high))
        return f"list values: {space.low:g},{text(middle)},{space.high:g}"
    return f"add a step: {space}/{(space.high - space.low) / 4:g}"


def _overlaps(keys: Sequence[str]) -> list[str]:
    return [
        f"{one} is varied twice" if one == other else f"{one} and {other}: one is a part of the other"
        for one, other in combinations(keys, 2)
        if one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")
    ]
