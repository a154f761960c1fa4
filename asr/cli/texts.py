"""Text for commands: the arguments that name it, and its sentences."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from asr.reporting import Advance

TEXTS_HELP = "Text files in UTF-8 (.gz too), a sentence to a line, or manifests (.jsonl); - for standard input."

Texts = Annotated[list[str], typer.Argument(metavar="TEXT", help=TEXTS_HELP)]
Recogniser = Annotated[
    Path | None,
    typer.Option("--model", metavar="FOLDER", help="Normalise the text as this recogniser writes."),
]


def read_sentences(names: Iterable[str], model: Path | None) -> Iterator[str]:
    """The sentences of texts, normalised as a recogniser's transcripts, where one is named."""
    lines = chain.from_iterable(map(_lines, names))
    if model is None:
        return lines
    from asr import artefact
    from asr import build as assembly
    from asr.recipe_file import read_recipe

    recipe = read_recipe(artefact.locate(model) / artefact.CONFIG)
    return filter(None, map(assembly.normalizer(recipe.text), lines))


def _lines(name: str) -> Iterator[str]:
    from asr.data import texts

    return texts.read(sys.stdin.buffer if name == "-" else Path(name))


def with_progress(sentences: Iterable[str], advance: Advance) -> Iterator[str]:
    """Sentences, with word of how many there were so far."""
    for number, sentence in enumerate(sentences, start=1):
        if number % 1000 == 0:
            advance(number, "sentences")
        yield sentence
