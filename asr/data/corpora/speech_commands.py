"""Speech Commands v2: 35 English words, one in each of 105 829 recordings of at most a second (Warden 2018).

https://arxiv.org/abs/1804.03209, CC BY 4.0, 16 kHz. The official lists say which recordings are for validation and
which for the test; no speaker is in two sets.
"""

from __future__ import annotations

from pathlib import Path

from asr.data.corpora import prepared
from asr.data.corpora.download import Archive, Progress, obtain, silent
from asr.data.layouts.entries import Entry, Listing, all_of
from asr.data.layouts.lists import read_rows
from asr.errors import DataError

ARCHIVE = Archive(
    name="speech-commands-v0.02",
    url="http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    root=".",
    checksum="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)
LISTS = {"dev": "validation_list.txt", "test": "testing_list.txt"}


def prepare(source: Path | None, output: Path, progress: Progress = silent) -> None:
    """Write the manifests `train`, `dev` and `test`; the recordings of background noise are in none.

    Args:
        source: a folder that holds a folder for each word, or the official archive; None downloads it.
        output: the corpus's folder.
        progress: called as megabytes are downloaded, then as recordings are looked at.

    Raises:
        DataError: the source is not the corpus, or the download failed.
    """
    folder = obtain(ARCHIVE, source, output, progress)
    faults: list[str] = []
    held_out = {row.value: name for name, path in LISTS.items() for row in read_rows(folder / path, faults)}
    recordings = [path for path in sorted(folder.glob("*/*.wav")) if not path.parent.name.startswith("_")]
    names = [path.relative_to(folder).as_posix() for path in recordings]
    faults += [f"{LISTS[held_out[name]]}: there is no {name}" for name in sorted(held_out.keys() - set(names))]
    if not recordings:
        raise DataError(
            "holds no recordings", where=folder, expected="a folder for each word: yes/0a7c2a8d_nohash_0.wav"
        )
    entries = [
        Entry(name, path, path.parent.name, str(path), fields={"speaker": path.name.split("_nohash_")[0]})
        for name, path in zip(names, recordings, strict=True)
    ]
    utterances = all_of(Listing(entries, faults), folder, progress)
    sets = {
        wanted: [each for each in utterances if held_out.get(each.fields["id"], "train") == wanted]
        for wanted in ("train", "dev", "test")
    }
    prepared.write(output, sets["train"], sets["dev"], {"test": sets["test"]})
