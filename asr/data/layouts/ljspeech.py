"""LJ Speech's layout: `metadata.csv`, id|text|text with numbers in words, and `wavs/ID.wav`
(Ito 2017, https://keithito.com/LJ-Speech-Dataset)."""

from __future__ import annotations

from pathlib import Path

from asr.data.layouts.entries import Entry, Listing
from asr.data.layouts.lists import Recordings, read_rows, without_transcript
from asr.errors import DataError
from asr.files import files_in


def read(folder: Path, partial: bool = False) -> Listing:
    """Read a corpus of one speaker; the transcript is the second text, in which numbers stand as words, or the
    only one that there is.

    Args:
        folder: holds `metadata.csv` and `wavs/`.
        partial: leave out lines without a recording; parts of the corpus are passed around with the whole list.

    Raises:
        DataError: there is no `metadata.csv`.
    """
    path = folder / "metadata.csv"
    if not path.is_file():
        raise DataError("there is no metadata.csv in it", where=folder, expected="metadata.csv and wavs/")
    entries = []
    faults: list[str] = []
    listed = []
    recordings = Recordings(folder / "wavs")
    for line, where in read_rows(path, faults):
        name, *texts = (part.strip() for part in line.split("|"))
        sound = recordings.find(f"{name}.wav")
        listed.append(sound)
        if len(texts) not in (1, 2) or not any(texts):
            faults.append(f"{where}: not ID|TEXT or ID|TEXT|NORMALISED: {line}")
            continue
        if partial and not sound.is_file():
            continue
        entries.append(Entry(name, sound, texts[-1] or texts[0], where))
    return Listing(entries, faults + without_transcript(files_in(folder / "wavs"), listed))
