"""Mistakes in values, in words: what pydantic finds, of each kind that it may find in a recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from asr import mistakes


class Inner(BaseModel):
    key: int = 1


def refuse(value: int) -> int:
    raise ValueError("is of no use")


class Values(BaseModel):
    model_config = ConfigDict(extra="forbid")

    whole: int = 1
    number: float = 1.0
    finite: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    switch: bool = True
    text: Annotated[str, Field(min_length=2)] = "ab"
    name: Annotated[str, Field(pattern=r"^[a-z]+$")] = "ab"
    path: Path = Path()
    pair: Annotated[tuple[int, ...], Field(min_length=2, max_length=3)] = (1, 2)
    table: dict[str, int] = {}
    section: Inner = Inner()
    choice: Literal["one", "two", "three"] = "one"
    above: Annotated[float, Field(gt=0.5)] = 1.0
    least: Annotated[int, Field(ge=2)] = 2
    below: Annotated[float, Field(lt=1)] = 0.0
    most: Annotated[float, Field(le=1e6)] = 0.0
    own: Annotated[int, AfterValidator(refuse)] = 1


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("whole", "many", "should be a whole number"),
        ("whole", 1.5, "should be a whole number"),
        ("whole", [1], "should be a whole number"),
        ("number", "much", "should be a number"),
        ("number", None, "should be a number"),
        ("finite", float("inf"), "should be a finite number"),
        ("switch", "perhaps", "should be true or false"),
        ("switch", [], "should be true or false"),
        ("text", 7, "should be text (numbers, yes and no are text in quotation marks)"),
        ("text", "a", "should be text of 2 or more characters"),
        ("name", "a b", "should be letters, digits, “_”, “.” and “-”, the first one a letter or digit"),
        ("path", 3, "should be a path"),
        ("pair", 3, "should be a list: [a, b, …]"),
        ("pair", [1], "should be 2 or more entries"),
        ("pair", [1, 2, 3, 4], "should be 3 or fewer entries"),
        ("table", [1], "should be keys with values: {key: value, …}"),
        ("section", 1, "should be a section: keys below it, or {key: value, …}"),
        ("choice", "four", "should be 'one', 'two' or 'three'"),
        ("above", 0.5, "should be above 0.5"),
        ("least", 1, "should be 2 or more"),
        ("below", 1, "should be below 1"),
        ("most", 2e6, "should be 1e+06 or less"),
        ("own", 1, "is of no use"),
        ("other", 1, "there is no such key"),
    ],
)
def test_a_mistake_in_words(key: str, value: object, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Values.model_validate({key: value})
    assert [mistakes.in_words(details) for details in caught.value.errors()] == [said]


def test_what_is_missing() -> None:
    class Needed(BaseModel):
        key: int

    with pytest.raises(ValidationError) as caught:
        Needed.model_validate({})
    assert [mistakes.in_words(details) for details in caught.value.errors()] == ["missing"]


@pytest.mark.parametrize(
    "validate", [lambda: Values.model_validate(Inner()), lambda: Values.model_validate({"section": Path()})]
)
def test_a_section_that_is_something_else(validate: Callable[[], Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        validate()
    assert mistakes.in_words(caught.value.errors()[0]).startswith("should be a section: keys below it")
