"""Calling `asr` in the process of a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from asr.cli import main


class Result(NamedTuple):
    """The exit code, and what was printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


def command(capsys: pytest.CaptureFixture[str], *words: str) -> Run:
    """What calls `asr`, these words, and then its arguments."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([*words, *map(str, arguments)])
        return Result(int(caught.value.code or 0), *capsys.readouterr())

    return call
