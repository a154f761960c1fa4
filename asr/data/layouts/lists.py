"""The text files in which corpora list their recordings, and the recordings that they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from asr.audio import SUFFIXES
from asr.data.layouts.detection import refuse_workbook
from asr.errors import DataError

MOST_STRANGE = 0.1
"""Of a long file's lines, that are not UTF-8 while the rest of it is."""


class Row(NamedTuple):
    """A line's content, and the file and line where it stands."""

    value: str
    where: str


def read_rows(path: Path, faults: list[str]) -> list[Row]:
    """The lines of `read_lines`, stripped, without the blank ones."""
    stripped = (Row(value.strip(), where) for value, where in read_lines(path, faults))
    return [row for row in stripped if row.value]


def read_lines(path: Path, faults: list[str]) -> list[Row]:
    """The lines of a UTF-8 file, with or without byte-order mark, ended in LF or CRLF, which are left out.

    Args:
        path: the file.
        faults: gets a line for each line that is not UTF-8.

    Raises:
        DataError: the file is missing, or in another encoding throughout.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}", where=path) from None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        hint = f"iconv -f UTF-16 -t UTF-8 {path.name} > NEWFILE"
        raise DataError("is UTF-16", where=path, expected="UTF-8", hint=hint)
    refuse_workbook(path, content[:4])
    rows, strange = [], []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        where = f"{path}:{number}"
        try:
            rows.append(Row(line.decode("utf-8").removesuffix("\r"), where))
        except UnicodeDecodeError as error:
            strange.append(f"{where}: byte {error.start + 1} is not UTF-8; save the file as UTF-8")
    if len(strange) > max(10, MOST_STRANGE * (len(rows) + len(strange))):
        raise DataError(
            f"is not UTF-8, in {len(strange)} of its lines",
            where=path,
            expected="UTF-8, in Excel “CSV UTF-8”",
            hint=f"iconv -f WINDOWS-1252 -t UTF-8 {path.name} > NEWFILE, if it is of Windows in western Europe",
        )
    faults += strange
    return rows


def read_table(path: Path, faults: list[str]) -> dict[str, Row]:
    """A file of keys, each followed by white space and the rest of its line, which may be empty.

    Args:
        path: the file.
        faults: gets a line for each line that is not UTF-8, and for each key that stands twice.
    """
    table: dict[str, Row] = {}
    for line, where in read_rows(path, faults):
        key, *rest = line.split(maxsplit=1)
        if key in table:
            faults.append(f"{where}: {key} stands in {table[key].where} already")
        else:
            table[key] = Row("".join(rest), where)
    return table


def by_spelling(files: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Files by their names, and by these in Unicode's form NFC where no other file has that name."""
    exact = dict(files)
    return {normalize("NFC", name): path for name, path in exact.items()} | exact


def alike(name: str, files: Mapping[str, Path]) -> Path | None:
    """The file of a name among those of `by_spelling`, or of the name in another normal form."""
    return files.get(name) or files.get(normalize("NFC", name))


def without_transcript(files: Iterable[Path], listed: Iterable[Path]) -> list[str]:
    """A fault for each recording among files that is not listed, be it in another format."""
    names = {path.with_suffix("") for path in listed}
    return [
        f"{path}: has no transcript"
        for path in files
        if path.suffix.lower() in SUFFIXES and path.with_suffix("") not in names
    ]


class Recordings:
    """Finds the recordings that a list names; each folder is looked through once.

    Args:
        roots: the folders that relative paths may start from.
    """

    def __init__(self, *roots: Path) -> None:
        self._roots = roots
        self._folders: dict[Path, dict[str, Path]] = {}

    def find(self, name: str) -> Path:
        """The recording of this path, or the same in another format: `a/b.flac` for `a/b.wav` and for `a/b`.

        The file's name may be spelled in another Unicode normal form, as on disks of macOS.

        Returns:
            The first that is there, in the order of the roots; where none is, what the first root would hold.
        """
        candidates = [root / name for root in self._roots]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        stems = ((path.parent, path.stem if path.suffix.lower() in SUFFIXES else path.name) for path in candidates)
        recoded = (alike(stem, self._in_folder(folder)) for folder, stem in stems)
        return next((path for path in recoded if path is not None), candidates[0])

    def _in_folder(self, folder: Path) -> dict[str, Path]:
        if folder not in self._folders:
            there = sorted(folder.iterdir()) if folder.is_dir() else []
            self._folders[folder] = by_spelling(
                (path.stem, path) for path in there if path.suffix.lower() in SUFFIXES
            )
        return self._folders[folder]
