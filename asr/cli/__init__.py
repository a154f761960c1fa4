"""The command `asr`."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from asr.cli import (
    data,
    data_augment,
    data_import,
    data_shard,
    data_speak,
    doctor,
    embed,
    evaluate,
    lm,
    recipes,
    report,
    train,
    transcribe,
    tune,
    tune_lr,
    tune_search,
    vocab,
)
from asr.cli.recipe_options import RecipeCommand
from asr.errors import AsrError

EPILOG = """
Start here:

  asr train quickstart

  asr transcribe recording.wav

`asr COMMAND --help` has examples. `asr --install-completion` completes commands with the tab key.
"""
INTERRUPTED, PIPE_CLOSED = 128 + 2, 128 + 13  # as a shell reports SIGINT and SIGPIPE

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, epilog=EPILOG)
app.command("train", cls=RecipeCommand, epilog=train.EPILOG, short_help="Train a recogniser from a recipe.")(
    train.train
)
app.command("transcribe", epilog=transcribe.EPILOG, short_help="Write down what is said in recordings.")(
    transcribe.transcribe
)
app.command("evaluate", epilog=evaluate.EPILOG, short_help="Measure a model's error rates.")(evaluate.evaluate)
app.command("report", epilog=report.EPILOG, short_help="Say what the curves of a training show.")(report.report)
app.command("doctor", short_help="Show what is installed, and test that it works.")(doctor.doctor)
tune.app.command("lr", cls=RecipeCommand, epilog=tune_lr.EPILOG, short_help="Find a learning rate for a recipe.")(
    tune_lr.lr
)
tune.app.command("search", cls=RecipeCommand, epilog=tune_search.EPILOG, short_help="Find settings for a recipe.")(
    tune_search.search
)
data.app.command("import", epilog=data_import.EPILOG, short_help="Make manifests of recordings.")(
    data_import.import_
)
data.app.command("shard", epilog=data_shard.EPILOG, short_help="Pack a corpus into tar files.")(data_shard.shard)
data.app.command("index", epilog=data_shard.INDEX_EPILOG, short_help="List what is in tar files.")(data_shard.index)
data.app.command(
    "augment",
    cls=RecipeCommand,
    epilog=data_augment.EPILOG,
    short_help="Write what training hears of a recording.",
)(data_augment.augment)
data.app.command("speak", epilog=data_speak.EPILOG, short_help="Make recordings of text that nobody has read.")(
    data_speak.speak
)
app.add_typer(recipes.app, name="recipes")
app.add_typer(data.app, name="data")
app.add_typer(tune.app, name="tune")
app.add_typer(vocab.app, name="vocab")
app.add_typer(lm.app, name="lm")
app.add_typer(embed.app, name="embed")


def _print_version(wanted: bool) -> None:
    if wanted:
        import asr

        typer.echo(f"asr {asr.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Train a speech recogniser on your own recordings, and use it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 failed, 2 wrongly called, 130 interrupted.

    Args:
        arguments: without the program's name; by default the process's own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    wanted = [argument for argument in given if argument != "--debug"]  # which may stand anywhere
    _write_utf_8()
    try:
        app(wanted, prog_name="asr")
    except (AsrError, OSError) as error:  # the latter where a folder may not be written to, or the like
        _flush()  # which ends it where the reader of our output has gone: Windows has no error of its own for that
        if len(wanted) < len(given):
            traceback.print_exc()
        else:
            typer.echo(f"error: {_in_words(error)}", err=True)
        sys.exit(error.exit_code if isinstance(error, AsrError) else 1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        _flush()


def _in_words(error: AsrError | OSError) -> str:
    if isinstance(error, AsrError):
        return str(error)
    place = f"{error.filename}: " if error.filename else ""
    return place + (error.strerror or str(error)).lower()


def _write_utf_8() -> None:
    """Into files and pipes, for which Windows has another encoding, in which most languages can't be written."""
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if "PYTHONIOENCODING" not in os.environ and isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            stream.reconfigure(encoding="utf-8", errors=errors)


def _flush() -> None:
    """Write what is left, and mind not that the reader of our output, such as `head`, has gone."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if not (isinstance(error, BrokenPipeError) or (sys.platform == "win32" and error.errno == errno.EINVAL)):
            raise
        # Python would flush again at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)
