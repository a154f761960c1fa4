"""LibriSpeech's layout: `SET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac`, a `.trans.txt` in each chapter's folder
(Panayotov et al. 2015, https://www.openslr.org/12)."""

from __future__ import annotations

from pathlib import Path

from asr.data.layouts.entries import GENDERS, Entry, Listing
from asr.data.layouts.lists import Recordings, read_table, without_transcript
from asr.errors import DataError
from asr.files import files_in


def read(folder: Path) -> Listing:
    """Read a set, such as `train-clean-100`, or all sets in a folder.

    The gender of speakers is told where a `SPEAKERS.TXT` stands in the folder or the one above.

    Raises:
        DataError: there is no such folder, or no transcript in it.
    """
    if not folder.is_dir():
        raise DataError("there is no such folder", where=folder)
    files = list(files_in(folder))
    transcripts = [path for path in files if path.name.endswith(".trans.txt")]
    if not transcripts:
        raise DataError(
            "there are no transcripts in it", where=folder, expected="SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt"
        )
    genders = _genders(folder)
    entries = []
    faults: list[str] = []
    listed = []
    for path in transcripts:
        speaker = path.name.split("-")[0]
        fields = {"speaker": speaker} | ({"gender": genders[speaker]} if speaker in genders else {})
        recordings = Recordings(path.parent)
        for name, (text, where) in read_table(path, faults).items():
            listed.append(recordings.find(f"{name}.flac"))
            if text:
                entries.append(Entry(name, listed[-1], text, where, fields=fields))
            else:
                faults.append(f"{where}: the transcript of {name} is empty")
    return Listing(entries, faults + without_transcript(files, listed))


def _genders(folder: Path) -> dict[str, str]:
    """By speaker."""
    path = next(
        (path for path in (folder / "SPEAKERS.TXT", folder.parent / "SPEAKERS.TXT") if path.is_file()), None
    )
    if path is None:
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()  # one name there is in Latin-1
    columns = (line.split("|") for line in lines if "|" in line and not line.startswith(";"))
    letters = {speaker.strip(): letter.strip().lower() for speaker, letter, *_ in columns}
    return {speaker: GENDERS.get(letter, letter) for speaker, letter in letters.items()}
