"""`asr data speak`: recordings of text that nobody has read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.texts import Texts, read_sentences
from asr.errors import ConfigError, DataError, counted, some
from asr.reporting import length_of_sound

EPILOG = """
Examples:

  asr data speak books.txt --out spoken --count 5000 --longest 12

  asr data speak satser.txt --out talt --language sv

A recipe adds it to your recordings: prepare.extra=[spoken/manifest.jsonl].
"""


def speak(
    texts: Texts,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to make: recordings and manifest.jsonl.")],
    count: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Make this many utterances, drawn at random.", show_default="all"),
    ] = None,
    longest: Annotated[
        int | None, typer.Option(metavar="WORDS", min=1, help="Cut longer sentences into pieces of random length.")
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="eSpeak's name of a language or accent; may be given several times: each "
            "utterance has one of them, drawn at random.",
            show_default="English",
        ),
    ] = None,
    rate: Annotated[str, typer.Option(metavar="LOW,HIGH", help="Words per minute.")] = "130,220",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of voices, rooms and what is drawn.")] = 1,
) -> None:
    """Have text read by eSpeak NG in many voices, as training material beside real recordings.

    A recogniser learns from it which words there are and how they are spelt; how people sound, it does not. Needs
    the extra synth: pip install -e ".[synth]".
    """
    speeds = _rate(rate)
    if out.exists():
        raise ConfigError("already there", where=out, expected="a folder to make")

    import numpy as np

    from asr.cli.reporter import TerminalReporter
    from asr.data import synthesis

    synthesis.require()
    rng = np.random.default_rng(seed)
    lines = [" ".join(line.split()) for line in read_sentences(texts, None)]
    pieces = [piece for line in lines for piece in (synthesis.in_pieces(line, longest, rng) if longest else [line])]
    pieces = [piece for piece in pieces if any(map(str.isalnum, piece))]
    pieces = [pieces[index] for index in rng.permutation(len(pieces))[:count]]
    if not pieces:
        raise DataError("the text has no words", expected="a sentence to a line")
    reporter = TerminalReporter()
    with reporter.progress("speak", len(pieces)) as advance:
        made = synthesis.read_aloud(
            pieces,
            out,
            seed,
            language or synthesis.ACCENTS,
            speeds,
            progress=lambda done, total: advance(done),
        )
    if silent := len(pieces) - len(made):
        said = {utterance.text for utterance in made}
        examples = some([f"“{piece}”" for piece in dict.fromkeys(pieces) if piece not in said])
        reporter.warn(
            f"{counted(silent, 'utterance')} left out, in which eSpeak NG finds nothing to say: {examples}"
        )
    length = length_of_sound(sum(utterance.duration for utterance in made))
    voices = len({utterance.speaker for utterance in made})
    spoken = ", ".join(language) if language else "English"
    heard = counted(voices, "voice", ",")
    typer.echo(f"{counted(len(made), 'utterance', ',')}, {length}, {heard}, in {spoken}")
    typer.echo(f"manifest: {out / synthesis.MANIFEST}")


def _rate(given: str) -> tuple[int, int]:
    try:
        low, high = (int(part) for part in given.split(","))
    except ValueError:
        low, high = 0, 0
    if not 80 <= low <= high <= 450:  # what eSpeak can do
        raise ConfigError(f"{given!r} is no rate", where="--rate", expected="LOW,HIGH between 80 and 450")
    return low, high
