"""`asr data shard` and `asr data index`: corpora as tar files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.inputs import check_outputs
from asr.errors import ConfigError, counted

if TYPE_CHECKING:
    from asr.data.manifest import Utterance

SHARD_SIZE = "256MB"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

EPILOG = """
Examples:

  asr data shard train.jsonl --out shards/train

  asr data shard train.jsonl --out shards/train --shard-size 1GB --seed 7

A recipe then names shards/train/train.jsonl in place of train.jsonl.
"""

INDEX_EPILOG = """
Example:

  asr data index webdataset/train --out webdataset/train.jsonl
"""


def shard(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="JSONL manifest of the corpus.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to make, for the shards and their index.")],
    shard_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Most that a shard holds, such as 1GB.", show_default=SHARD_SIZE),
    ] = None,
    utterances: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Most utterances in a shard, in place of --shard-size.")
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of the order in which utterances are packed.")
    ] = 1,
) -> None:
    """Pack the recordings of a manifest into tar files, in random order, and write their index.

    For file systems that are slow to open files: a training reads each shard from beginning to end. Shards are
    plain tars, as WebDataset has them; their index is a manifest, and all commands take it in place of the old one.
    """
    if shard_size is not None and utterances is not None:
        raise ConfigError("a shard has one limit", where="--utterances", expected="it or --shard-size, not both")
    most_bytes = None if utterances is not None else _bytes(shard_size or SHARD_SIZE)
    if out.exists():
        raise ConfigError("already there", where=out, expected="a folder to make")

    import numpy as np

    from asr.cli.reporter import TerminalReporter
    from asr.data import shards
    from asr.data.manifest import read_manifest

    reporter = TerminalReporter()
    corpus = read_manifest(manifest)
    with reporter.progress("shard", len(corpus)) as advance:
        packed = shards.write(
            corpus,
            out,
            manifest.stem,
            np.random.default_rng(seed),
            most_bytes=most_bytes,
            most_utterances=utterances,
            progress=advance,
        )
    count = len({utterance.audio.parent for utterance in packed})
    typer.echo(f"{counted(len(packed), 'utterance', ',')} in {counted(count, 'shard', ',')}")
    typer.echo(f"index: {out / manifest.stem}.jsonl")


def index(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of tar files.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Manifest to make: .jsonl.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
) -> None:
    """List the utterances in tar files of WebDataset's convention, so that all commands read them.

    Recordings need a .json with “text”, or a .txt, of the same name beside them. Every tar file is
    read through once.
    """
    check_outputs([out], overwrite)
    paths = sorted(folder.glob("*.tar"))
    if not paths:
        raise ConfigError("there are no .tar files in it", where=folder, expected="a folder of shards")

    from asr.cli.reporter import TerminalReporter
    from asr.data import shards
    from asr.data.manifest import write_manifest

    utterances: list[Utterance] = []
    with TerminalReporter().progress("index", len(paths)) as advance:
        for number, path in enumerate(paths, start=1):
            utterances += shards.scan(path)
            advance(number, path.name)
    write_manifest(out, utterances)
    typer.echo(f"{counted(len(utterances), 'utterance', ',')} in {counted(len(paths), 'shard', ',')}")
    typer.echo(f"index: {out}")


def _bytes(size: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)I?B?", size.strip().upper())
    if found is None or float(found[1]) <= 0:
        raise ConfigError(f"{size!r} is no size", where="--shard-size", expected="such as 256MB or 1GB")
    return int(float(found[1]) * _UNITS[found[2]])
