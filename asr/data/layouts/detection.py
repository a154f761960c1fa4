"""Which layout a corpus has."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from asr.errors import DataError
from asr.files import files_in

TABLES = (".csv", ".tsv")
"""Suffixes of tables."""


class Layout(StrEnum):
    """A layout that can be read."""

    KALDI = "kaldi"
    LIBRISPEECH = "librispeech"
    LJSPEECH = "ljspeech"
    TABLE = "table"
    FOLDER = "folder"


def detect(source: Path) -> Layout:
    """The layout of a folder, or of a file.

    Raises:
        DataError: it is none of them, or a folder of several.
    """
    if source.is_file():
        if source.suffix.lower() in TABLES:
            return Layout.TABLE
        with source.open("rb") as file:
            refuse_workbook(source, file.read(4))
        raise DataError(
            "is no layout that can be read",
            where=source,
            expected="a table (.csv, .tsv) or a folder",
            hint=_how_to_get_a_table(source),
        )
    if (source / "wav.scp").is_file():
        return Layout.KALDI
    if (source / "metadata.csv").is_file() and (source / "wavs").is_dir():
        return Layout.LJSPEECH
    if any(path.name.endswith(".trans.txt") for path in files_in(source)):
        return Layout.LIBRISPEECH
    inside = [path for path in sorted(source.iterdir()) if path.suffix.lower() in TABLES]
    inside += [path.parent for path in sorted(source.glob("*/wav.scp"))]
    if inside:
        names = ", ".join(str(path) for path in inside)
        raise DataError(
            "holds lists of recordings, and is none",
            where=source,
            expected=f"the one meant: {names}",
            hint=f"--format {Layout.FOLDER}, if each recording has its text beside it",
        )
    return Layout.FOLDER


def _how_to_get_a_table(source: Path) -> str:
    """What to do about a file that is none."""
    from asr.audio import SUFFIXES

    match source.suffix.lower():
        case ".eaf" | ".textgrid":
            return (
                "export it as tab-delimited text with seconds and file names (a .tsv), then --audio-column, "
                "--text-column, --start-column and --end-column name its columns"
            )
        case suffix if suffix in SUFFIXES:
            return "the folder that it is in, with a text of the same name beside each recording"
        case _:
            return f"--format {Layout.TABLE}, if it is a table under another name, such as Excel's “Unicode text”"


def refuse_workbook(path: Path, head: bytes) -> None:
    """Refuse what spreadsheets write of themselves.

    Args:
        path: the file.
        head: its first four bytes.

    Raises:
        DataError: it is a workbook, or another archive.
    """
    if head in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        raise DataError("is a workbook, as of Excel", where=path, expected="text", hint="save it as “CSV UTF-8”")
