"""Sentences of what holds text: files of a sentence to a line, and manifests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from asr.data.manifest import read_manifest
from asr.errors import DataError
from asr.text import sentences


def read(source: Path | BinaryIO) -> Iterator[str]:
    """The sentences of a text, without blank ones.

    Args:
        source: a file in UTF-8, compressed by gzip or not; a stream of bytes; or a manifest (.jsonl), for its
            transcripts.

    Raises:
        DataError: it is a table or a compressed manifest, of which more than the text would be read; or it is
            missing, damaged or not in UTF-8.
    """
    if not isinstance(source, Path):
        return sentences.read([source])
    suffixes = [suffix.lower() for suffix in source.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind in (".csv", ".tsv"):
        hint = "asr data import makes a manifest of a table of recordings; else a file that has the sentences alone"
        raise DataError("a table, not a text", where=source, expected="a sentence to a line", hint=hint)
    if kind != ".jsonl":
        return sentences.read([source])
    if source.suffix.lower() == ".gz":
        raise DataError("a compressed manifest", where=source, expected="a manifest, or a text, .gz or not")
    return filter(str.strip, (utterance.text for utterance in read_manifest(source)))
