"""Tables of recordings: CSV in any of its dialects, and TSV such as Common Voice's."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

from asr.audio import SUFFIXES
from asr.data.layouts.entries import Entry, Listing, faulty
from asr.data.layouts.lists import Recordings, Row, read_lines
from asr.errors import DataError, counted, some

DELIMITERS = "\t,;|"
USUAL_NAMES = {
    "audio": ("audio", "audio_filepath", "audio_path", "path", "file", "filename", "file_name", "wav_filename"),
    "text": ("text", "sentence", "transcript", "transcription"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "start": ("start", "start_time", "offset"),
    "end": ("end", "end_time"),
}
"""Names of columns that are looked for, in this order, where the user gives none."""
OF_THE_MANIFEST = frozenset({"audio_filepath", "offset", "duration", "text", "speaker", "id"})
"""Keys that no other column may fill."""
SEPARATOR_LINE = re.compile(rf'"?sep=([{DELIMITERS}])"?', re.IGNORECASE)
"""A first line by which Excel is told the separator; it is no header."""
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns; None stands for a usual one, and for none where there is none.

    Attributes:
        audio: paths of the recordings.
        text: the transcripts.
        speaker: the speakers' names.
        start: where an utterance begins in its recording, in seconds.
        end: where it ends, in seconds; beside `offset`, a column `duration` says it too.
    """

    audio: str | None = None
    text: str | None = None
    speaker: str | None = None
    start: str | None = None
    end: str | None = None


def read(path: Path, columns: Columns = Columns(), audio_root: Path | None = None) -> Listing:
    """Read a table whose first line names its columns; what is in other columns goes into the manifest too.

    Names may differ in capitals. Rows that are all empty mean nothing, nor do empty cells beyond the last name.
    Where semicolons part the cells, as where commas are decimal, seconds may have such commas.
    A column `id` names the utterances; where there is none, their recordings do, and the stretches of these.

    Args:
        path: a CSV file whose cells are parted by commas, semicolons or bars, or a TSV file.
        columns: which is which.
        audio_root: the folder that relative paths start from; by default that of the table, or `clips` in it.

    Raises:
        DataError: it is no such table, or a column is missing.
    """
    table = _opened(path)
    found = _find(columns, table, path)
    roots = (path.parent, path.parent / "clips") if audio_root is None else (audio_root,)
    recordings = Recordings(*roots)
    entries: list[Entry] = []
    seen = _Seen()
    for cells, where in table.records:
        values = [cell.strip() for cell in cells]
        if not any(values):
            continue
        values[len(table.header) :] = _named(values[len(table.header) :])
        if len(values) != len(table.header):
            table.faults.append(f"{where}: {len(values)} cells, where the header names {len(table.header)} columns")
            continue
        try:
            record = dict(zip(table.header, values, strict=True))
            if table.delimiter == ";":
                record |= _with_points(record, (found.start, found.end, "duration"))
            entry = _entry(record, where, found, recordings)
            if record.get("id") == entry.id:
                seen.add(entry)
            entries.append(entry)
        except (ValueError, OSError) as error:
            table.faults.append(f"{where}: {error}")
    if found.start is not None and found.end is None:
        _refuse_open_ends(entries, path)
    return Listing(entries, table.faults)


def _refuse_open_ends(entries: Iterable[Entry], path: Path) -> None:
    """Refuse stretches of one recording that each last to its end, as it is not known where they end.

    Raises:
        DataError: there are some.
    """
    open_ends = Counter(entry.audio for entry in entries if entry.start is not None and entry.end is None)
    several = [audio for audio, count in open_ends.items() if count > 1]
    if several:
        raise DataError(
            f"{counted(len(several), 'recording')} with several stretches, and it is not known where these end: "
            f"{some([str(audio) for audio in several])}",
            where=path,
            hint="--end-column NAME, or a column duration",
        )


class _Table(NamedTuple):
    """A table: its columns' names, as they stand there and as the manifest calls them; its records, each with where
    it stands; what can't be read; what parts cells.

    The faults are all there once the records have been read.
    """

    names: list[str]
    header: list[str]
    records: Iterator[tuple[list[str], str]]
    faults: list[str]
    delimiter: str


def _opened(path: Path) -> _Table:
    """Read a table as far as its header.

    Raises:
        DataError: it has none that can be read, or one that names a column twice.
    """
    faults: list[str] = []
    rows = read_lines(path, faults)
    lines = _from_first_content(rows)
    separator = SEPARATOR_LINE.fullmatch(lines[0].value) if lines else None
    if separator is not None:
        lines = _from_first_content(lines[1:])
    if faults and (not lines or _number(lines[0]) != len(rows) - len(lines) + 1):  # the lost line was the header
        raise faulty(faults, path)
    if lines and "\r" in lines[0].value:
        raise DataError(
            "its lines end in CR alone", where=path, expected="LF or CRLF", hint="save it as CSV once more"
        )
    delimiter = separator[1] if separator else max(DELIMITERS, key=lines[0].value.count) if lines else ""
    records = _records(lines, delimiter, faults)
    header, where = next(records, ([], str(path)))
    if lines and where != lines[0].where:  # the header was no record
        raise faulty(faults, path)
    names = _named([name.strip() for name in header])
    header = names.copy()
    for key in OF_THE_MANIFEST:
        if name := _column(key, header):
            header[header.index(name)] = key
    if len(set(header)) < len(header):
        raise DataError("names a column twice", where=where, expected="a name of its own for each column")
    return _Table(names, header, records, faults, delimiter)


def _named(cells: list[str]) -> list[str]:
    """Cells without the empty ones at the end, which spreadsheets add."""
    while cells and not cells[-1]:
        cells = cells[:-1]
    return cells


def _column(name: str, header: Sequence[str]) -> str | None:
    """The column of this name, or the only one whose name differs from it in capitals alone."""
    alike = [each for each in header if each.casefold() == name.casefold()]
    return name if name in header else alike[0] if len(alike) == 1 else None


class _Seen:
    """The names and the sounds of a table's entries; each may be there but once."""

    def __init__(self) -> None:
        self._named: dict[str, Entry] = {}
        self._heard: dict[tuple[Path, float | None, float | None], Entry] = {}

    def add(self, entry: Entry) -> None:
        """Note an entry.

        Raises:
            ValueError: another one has its name, or is the same sound.
        """
        named = self._named.setdefault(entry.id, entry)
        heard = self._heard.setdefault((entry.audio, entry.start, entry.end), entry)
        if named is not entry:
            raise ValueError(
                f"the id {entry.id} is in {named.where} already; "
                "give the column another name if it names no utterances"
            )
        if heard is not entry:
            raise ValueError(f"{entry.id} is the same sound as {heard.id} in {heard.where}")


def _find(columns: Columns, table: _Table, path: Path) -> Columns:
    """The columns that there are.

    Raises:
        DataError: one that is needed, or was named, is missing.
    """
    header, wanted = table.header, {key: getattr(columns, key) for key in USUAL_NAMES}
    found = {
        key: next(filter(None, (_column(name, header) for name in ([wanted[key]] if wanted[key] else names))), None)
        for key, names in USUAL_NAMES.items()
    }
    missing = [repr(name) for key, name in wanted.items() if name is not None and found[key] is None]
    unnamed = [key for key in ("audio", "text") if wanted[key] is None and found[key] is None]
    missing += [f"for the {key}" for key in unnamed]
    if missing:
        if any(Path(name).suffix.lower() in SUFFIXES for name in table.names):
            line = table.delimiter.join(("audio", "text", "speaker")[: len(header)])
            fault = "its first line names no columns, but a recording"
            raise DataError(fault, where=path, hint=f"a line above it, such as {line}")
        raise DataError(
            f"there is no column {', none '.join(missing)}",
            where=path,
            expected="a first line that names the columns; it reads: " + (", ".join(table.names) or "nothing"),
            hint=" ".join(f"--{key}-column NAME" for key in unnamed) or None,
        )
    return Columns(**found)


def _entry(record: dict[str, str], where: str, columns: Columns, recordings: Recordings) -> Entry:
    name, text = (record[column] for column in (columns.audio, columns.text) if column is not None)
    if not name:
        raise ValueError("there is no path")
    if not text:
        raise ValueError(f"the transcript of {name} is empty")
    start, end = (_seconds(record, column) for column in (columns.start, columns.end))
    if end is not None and start is None:
        start = 0.0
    if start is not None and end is None and record.get("duration"):
        end = start + (_seconds(record, "duration") or 0.0)
    used = {columns.audio, columns.text, columns.speaker, columns.start, columns.end}
    fields = {key: value for key, value in record.items() if value and key not in OF_THE_MANIFEST | used}
    if columns.speaker is not None and record[columns.speaker]:
        fields = {"speaker": record[columns.speaker], **fields}
    path = Path(name)
    name = (path.with_suffix("") if path.suffix.lower() in SUFFIXES else path).as_posix()
    if start is not None:
        name += f"@{start:.10g}" + ("" if end is None else f"-{end:.10g}")
    if record.get("id") and "id" not in used:
        name = record["id"]
    return Entry(name, recordings.find(str(path)), text, where, start, end, fields)


def _seconds(record: dict[str, str], column: str | None) -> float | None:
    if column is None or not record[column]:
        return None
    try:
        return float(record[column])
    except ValueError:
        point = " with a decimal point" if "," in record[column] else ""
        raise ValueError(f"{column} is {record[column]!r}, not a number of seconds{point}") from None


def _with_points(record: Mapping[str, str], columns: Iterable[str | None]) -> dict[str, str]:
    """The numbers in some columns that have a decimal comma, with a point for it."""
    numbers = {column: record[column] for column in columns if column is not None and column in record}
    return {column: value.replace(",", ".") for column, value in numbers.items() if DECIMAL_COMMA.fullmatch(value)}


def _from_first_content(rows: Iterable[Row]) -> list[Row]:
    return list(dropwhile(lambda row: not row.value.strip(), rows))


def _records(lines: Sequence[Row], delimiter: str, faults: list[str]) -> Iterator[tuple[list[str], str]]:
    """The cells of each line, and where it stands; a CSV record may go over several lines."""
    if delimiter == "\t":
        return ((_unquoted(row.value.split("\t")), row.where) for row in lines if row.value.strip())
    return _csv_records(lines, delimiter, faults)


def _csv_records(lines: Sequence[Row], delimiter: str, faults: list[str]) -> Iterator[tuple[list[str], str]]:
    start = 0
    while start < len(lines):
        reader = csv.reader((f"{row.value}\n" for row in lines[start:]), delimiter=delimiter, strict=True)
        read = 0
        try:
            for record in reader:
                rows, read = lines[start + read : start + reader.line_num], reader.line_num
                if _number(rows[-1]) - _number(rows[0]) != len(rows) - 1:
                    faults.append(f"{rows[0].where}: a line of this record is not UTF-8")
                elif record:
                    yield record, rows[0].where
            return
        except csv.Error as error:
            start += read
            faults.append(
                f"{lines[start].where}: not CSV ({error}); quotation marks go round a whole cell, and double in it"
            )
            start += 1  # where the next record begins is anybody's guess: most often on the next line


def _number(row: Row) -> int:
    return int(row.where.rpartition(":")[2])


def _unquoted(cells: Sequence[str]) -> list[str]:
    """TSV has no quotation marks; programs that use them nevertheless double those in a cell, which tells."""
    return [
        cell[1:-1].replace('""', '"') if cell[:1] == cell[-1:] == '"' and _is_quoted(cell[1:-1]) else cell
        for cell in cells
    ]


def _is_quoted(inner: str) -> bool:
    return '""' in inner and '"' not in inner.replace('""', "")
