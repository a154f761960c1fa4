"""How mistakes are told."""

from __future__ import annotations

import sys

import pytest

from asr.errors import quoted


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        ("linux", {"a.wav": "a.wav", "my file": "'my file'", "it's": "'it'\"'\"'s'"}),
        (
            "win32",
            {r"C:\a\b.wav": r"C:\a\b.wav", r"C:\my file": r'"C:\my file"', "a&b": '"a&b"', 'x="y"': r'"x=\"y\""'},
        ),
    ],
)
def test_commands_are_quoted_as_the_shell_of_the_platform_reads_them(
    monkeypatch: pytest.MonkeyPatch, platform: str, words: dict[str, str]
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert {word: quoted(word) for word in words} == words
