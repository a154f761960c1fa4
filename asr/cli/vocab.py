"""`asr vocab`: what can be said, from a grammar or a list of phrases."""

from __future__ import annotations

import math
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.decoding import COMPILED_GRAMMAR as SUFFIX
from asr.cli.inputs import OverwriteFile, check_outputs
from asr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asr.decoding.automaton import Automaton
    from asr.text.grammar import Grammar
    from asr.text.normalize import Normalizer
    from asr.text.tokenizer import Tokenizer

MOST_EXAMPLES = 5
MOST_COUNTED = 10**15  # sentences; of more, only the power of ten is told

app = typer.Typer(no_args_is_help=True, help="Make and look into what may be said: phrases or a grammar.")

Vocabulary = Annotated[Path, typer.Argument(metavar="FILE", help=f"What `asr vocab build` made: a {SUFFIX} file.")]

EPILOG = """
A list of phrases, one to a line, will do. A grammar says more with less:

  <command> = turn (on | off){state} [all] the <room>{room} lights ;

  <room> = kitchen | living room | hall ;

  a | b    one or the other

  [ a ]    may be left out; a* any number of times, a+ once or more

  <number 0-59>    a number, in words (needs the extra `numbers`)

  {name}   what is said before it fills this slot; {=value} has it mean this

  # or // begin a comment

The first rule is what can be said, or the one with `public` before its name.

Examples:

  asr vocab build commands.txt --model runs/quickstart

  asr transcribe memo.wav --grammar commands.vocab
"""


@app.command(epilog=EPILOG)
def build(
    commands: Annotated[
        Path, typer.Argument(metavar="COMMANDS", help="Text file: a phrase to a line, or a grammar.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to make.", show_default=f"COMMANDS{SUFFIX}")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Check that this model can write all words."),
    ] = None,
    language: Annotated[str, typer.Option(metavar="CODE", help="Language of numbers: en, de, fr, …")] = "en",
    overwrite: OverwriteFile = False,
) -> None:
    """Compile phrases or a grammar, for the --grammar of other commands."""
    if commands.is_dir():
        raise ConfigError("this is a folder", where=commands, expected="a text file")
    destination = commands.with_suffix(SUFFIX) if out is None else out
    if destination.suffix != SUFFIX:
        raise ConfigError(
            "another kind of file", where=f"--out {destination}", expected=f"a name that ends in {SUFFIX}"
        )
    check_outputs([destination], overwrite, made_from=[commands])
    from asr.decoding import automaton
    from asr.text import grammar

    rules = grammar.read(commands, language)
    if model is not None:
        _refuse_unwritable(rules.words(), model, commands)
    vocabulary = automaton.compile(rules)
    automaton.save(vocabulary, destination)
    typer.echo(f"{destination}\n{_summary(vocabulary)}")


@app.command(epilog="\nExample:\n\n  asr vocab show commands.vocab")
def show(file: Vocabulary) -> None:
    """Say what is in a vocabulary, with a few of its sentences."""
    from asr.decoding import automaton

    vocabulary = automaton.load(file)
    typer.echo(_summary(vocabulary))
    for sentence in _examples(vocabulary.grammar):
        typer.echo(f"    {sentence}")


@app.command(
    short_help="Tell whether a sentence is in it, and its slots.",
    epilog='\nExample:\n\n  asr vocab match commands.vocab "turn on the kitchen lights"',
)
def match(
    file: Vocabulary,
    sentence: Annotated[str, typer.Argument(metavar="SENTENCE", help="A sentence, written as the model writes.")],
) -> None:
    """Tell whether a sentence is in a vocabulary, and what fills its slots.

    The exit code is 1 where it is not.
    """
    from asr.decoding import automaton

    vocabulary = automaton.load(file)
    words = unicodedata.normalize("NFC", sentence).split()
    if not vocabulary.accepts(" ".join(words)):
        typer.echo(f"outside: {_breach(vocabulary, words)}")
        raise typer.Exit(1)
    typer.echo("inside")
    for slot in vocabulary.slots(" ".join(words)):
        typer.echo(f"  {slot.name}: {slot.value}")


def _summary(vocabulary: Automaton) -> str:
    grammar = vocabulary.grammar
    return "\n".join(
        (
            f"  sentences  {'endless' if grammar.endless else _number(grammar.count())}",
            f"  words      {len(vocabulary.words)}",
            f"  states     {len(vocabulary.accepting)}",
            f"  slots      {', '.join(vocabulary.slot_names) or 'none'}",
        )
    )


def _number(count: int) -> str:
    # Python writes no integer of more than some thousand digits, and nobody reads one of a hundred.
    return f"{count}" if count < MOST_COUNTED else f"about 10^{math.log10(count):.0f}"


def _examples(grammar: Grammar) -> list[str]:
    """A few sentences: all if there are no more, else some by chance, the same ones each time."""
    import numpy as np

    if not grammar.endless and grammar.count() <= MOST_EXAMPLES:
        return list(dict.fromkeys(grammar.sentences()))
    rng = np.random.default_rng(0)
    return list(dict.fromkeys(grammar.sample(rng) for _ in range(MOST_EXAMPLES)))


def _breach(vocabulary: Automaton, words: Sequence[str]) -> str:
    """Where a sentence leaves the vocabulary."""
    said = ""
    for word in words:
        if vocabulary.follow(f"{said}{word} ") < 0:
            return f"“{word}” can't come " + (f"after “{said.strip()}”" if said else "first")
        said += f"{word} "
    return "there is more to come" if said else "something must be said"


def _refuse_unwritable(words: Iterable[str], model: Path, commands: Path) -> None:
    """Make sure that a model can hear the words.

    Raises:
        DataError: some are not written as its transcripts are, or not with its tokens; all of them are named.
    """
    from asr import artefact
    from asr import build as objects
    from asr.recipe_file import read_recipe
    from asr.text import tokenizer as tokenizers

    folder = artefact.locate(model)
    tokenizer = tokenizers.load(folder)
    normalizer = objects.normalizer(read_recipe(folder / artefact.CONFIG).text)
    faults = [fault for word in sorted(words) if (fault := _fault(word, normalizer, tokenizer))]
    if faults:
        raise DataError(
            f"{len(faults)} of its words can't be heard by this model\n  " + "\n  ".join(faults),
            where=commands,
            expected=f"words as {folder} has learnt to write them",
            hint="change them in the grammar, or train with transcripts that have them",
        )


def _fault(word: str, normalizer: Normalizer, tokenizer: Tokenizer) -> str | None:
    """Why a model can't write a word, if so."""
    normal = normalizer(word)
    unknown = list(dict.fromkeys(tokenizer.unknown(normal)))
    if unknown == [normal]:
        return f"“{word}”: the model does not know it"
    if unknown:
        return f"“{word}”: there is no token for " + ", ".join(f"“{unit}”" for unit in unknown)
    if not normal:
        return f"“{word}”: leave it out, it is not spoken"
    return None if normal == word else f"“{word}”: write “{normal}”"
