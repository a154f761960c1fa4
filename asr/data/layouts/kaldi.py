"""Kaldi's data directories: `wav.scp` and `text`, and where they are there `segments`, `utt2spk` and tables of
speakers (https://kaldi-asr.org/doc/data_prep.html)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr.data.layouts.entries import GENDERS, Entry, Listing
from asr.data.layouts.lists import Recordings, Row, read_table
from asr.errors import DataError

SPEAKER_TABLES = {"spk2gender": "gender", "spk2age": "age"}
"""Tables of speakers that are read, and the manifest's field for each."""


def read(folder: Path, audio_root: Path | None = None) -> Listing:
    """Read a data directory.

    Args:
        folder: the directory.
        audio_root: what relative paths of `wav.scp` are relative to. Kaldi takes them from the folder in which its
            recipe runs; by default that is looked for from `folder` two folders upwards, and in the working folder.

    Raises:
        DataError: it is no data directory.
    """
    for name in ("wav.scp", "text"):
        if not (folder / name).is_file():
            raise _no_data_directory(folder, name)
    faults: list[str] = []
    tables = {
        name: read_table(folder / name, faults)
        for name in ("wav.scp", "text", "segments", "utt2spk", *SPEAKER_TABLES)
        if (folder / name).is_file()
    }
    roots = [folder, *folder.resolve().parents[:2], Path.cwd()] if audio_root is None else [audio_root]
    recordings = _recordings(tables["wav.scp"], Recordings(*roots), faults)
    stretches = tables.get("segments")
    texts = tables["text"]
    entries = []
    for name, (text, where) in texts.items():
        try:
            recording, start, end = (name, None, None) if stretches is None else _stretch(name, stretches)
            place = where if stretches is None else stretches[name].where
            if recording not in tables["wav.scp"]:
                faults.append(f"{place}: wav.scp has no recording {recording}")
                continue
            if not text:
                raise ValueError(f"the transcript of {name} is empty")
            fields = _fields(name, tables)
        except ValueError as error:
            faults.append(f"{where}: {error}")
            continue
        if recording in recordings:  # else wav.scp is at fault, and said so
            sound = recordings[recording]
            entries.append(Entry(name, sound, text, place, start, end, fields, one_channel=stretches is not None))
    listed = tables["wav.scp"] if stretches is None else stretches
    faults += [f"{row.where}: {name} has no transcript" for name, row in listed.items() if name not in texts]
    return Listing(entries, faults)


def _no_data_directory(folder: Path, missing: str) -> DataError:
    inner = sorted(path.parent.name for path in folder.glob("*/wav.scp"))
    return DataError(
        f"there is no {missing} in it",
        where=folder,
        expected="a Kaldi data directory: wav.scp, text, and perhaps segments, utt2spk, spk2gender",
        hint=f"one of its folders: {', '.join(inner)}" if inner else None,
    )


def _recordings(table: Mapping[str, Row], sounds: Recordings, faults: list[str]) -> dict[str, Path]:
    """Where the recordings of `wav.scp` are."""
    found = {}
    for name, (value, where) in table.items():
        if value.startswith("|") or value.endswith("|"):
            faults.append(f"{where}: a command, which is never run: {value}; put its output into a file, name that")
        elif re.search(r"\.ark:\d+$", value):
            faults.append(
                f"{where}: a place in a Kaldi archive, not a sound file: {value}; run wav-copy, name its files"
            )
        elif not value:
            faults.append(f"{where}: {name} has no path")
        else:
            found[name] = sounds.find(value)
    return found


def _stretch(name: str, segments: Mapping[str, Row]) -> tuple[str, float, float | None]:
    """The recording of an utterance, its start and end there in seconds; -1 means the recording's end."""
    if name not in segments:
        raise ValueError(f"segments has no utterance {name}")
    value, where = segments[name]
    if len(value.split()) == 4:
        channel = value.split()[-1]
        raise ValueError(
            f"channel {channel}: split the file into one per channel, and leave this field out, "
            f"as in {where}: {value}"
        )
    try:
        recording, start, end = value.split()
        return recording, float(start), None if float(end) == -1 else float(end)
    except ValueError:
        raise ValueError(f"not RECORDING START END, as in {where}: {value}") from None


def _fields(name: str, tables: Mapping[str, Mapping[str, Row]]) -> dict[str, Any]:
    """The speaker of an utterance, and what is known of that speaker."""
    if "utt2spk" not in tables:
        return {}
    if name not in tables["utt2spk"]:
        raise ValueError(f"utt2spk has no utterance {name}")
    speaker = tables["utt2spk"][name].value
    known = {
        field: tables[table][speaker].value
        for table, field in SPEAKER_TABLES.items()
        if speaker in tables.get(table, {})
    }
    return {"speaker": speaker} | {
        field: int(value) if value.isdecimal() else GENDERS.get(value, value) for field, value in known.items()
    }
