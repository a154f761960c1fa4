"""A folder of recordings, each beside a text file of the same name: `a.wav`, `a.txt`."""

from __future__ import annotations

from pathlib import Path

from asr.audio import SUFFIXES
from asr.data.layouts.entries import Entry, Listing, in_a_line
from asr.data.layouts.lists import alike, by_spelling, read_rows
from asr.errors import DataError
from asr.files import files_in

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
    files = list(files_in(folder))
    sounds = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not sounds:
        raise DataError("there are no recordings in it", where=folder, expected="files such as a.wav, and a.txt")
    texts = by_spelling((str(path.with_suffix("")), path) for path in files if path.suffix.lower() == ".txt")
    heard = set()
    entries = []
    faults: list[str] = []
    for sound in sounds:
        path = alike(str(sound.with_suffix("")), texts)
        relative = sound.relative_to(folder)
        if path is None:
            faults.append(f"{sound}: there is no {sound.stem}.txt beside it")
            continue
        heard.add(path)
        readable = len(faults)
        try:
            text = " ".join(row.value for row in read_rows(path, faults))
        except DataError as error:
            faults.append(in_a_line(error))
        if len(faults) > readable:
            continue
        if not text:
            faults.append(f"{path}: is empty")
        else:
            speaker = {"speaker": relative.parts[0]} if speaker_folders and len(relative.parts) > 1 else {}
            entries.append(Entry(relative.with_suffix("").as_posix(), sound, text, str(sound), fields=speaker))
    faults += [
        f"{path}: there is no recording beside it"
        for path in dict.fromkeys(texts.values())
        if path not in heard and path.stem.lower() not in NOT_TRANSCRIPTS
    ]
    return Listing(entries, faults)
