"""A folder of recordings, each beside a text file of the same name: `a.wav`, `a.txt`."""

from __future__ import annotations

from pathlib import Path

from asr.audio import SUFFIXES
from asr.data.layouts.entries import Entry, Listing
from asr.data.layouts.lists import read_rows
from asr.errors import DataError

NOT_TRANSCRIPTS = frozenset({"readme", "license", "licence"})
"""Names of text files that lie beside recordings, and transcribe none."""


def read(folder: Path, speaker_folders: bool = False) -> Listing:
    """Read a folder and all folders in it.

    Args:
        folder: holds the recordings.
        speaker_folders: whether each folder in it holds the recordings of one speaker, and is named so.

    Raises:
        DataError: there are no recordings.
    """
    sounds = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not sounds:
        raise DataError("there are no recordings in it", where=folder, expected="files such as a.wav, and a.txt")
    texts = set(folder.rglob("*.txt"))
    entries = []
    faults: list[str] = []
    for sound in sounds:
        path = sound.with_suffix(".txt")
        relative = sound.relative_to(folder)
        if path not in texts:
            faults.append(f"{sound}: there is no {path.name} beside it")
            continue
        unreadable = len(faults)
        text = " ".join(row.value for row in read_rows(path, faults))
        if not text and len(faults) == unreadable:
            faults.append(f"{path}: is empty")
        elif text:
            speaker = {"speaker": relative.parts[0]} if speaker_folders and len(relative.parts) > 1 else {}
            entries.append(Entry(relative.with_suffix("").as_posix(), sound, text, str(sound), fields=speaker))
    alone = sorted(texts - {sound.with_suffix(".txt") for sound in sounds})
    faults += [
        f"{path}: there is no recording beside it" for path in alone if path.stem.lower() not in NOT_TRANSCRIPTS
    ]
    return Listing(entries, faults)
