"""yesno: one man says "yes" or "no" in Hebrew, eight times in each of 60 recordings at 8 kHz; made for Kaldi.

https://www.openslr.org/1. A recording's name is its transcript: `0_1_1_0_1_1_0_1.wav`, with 1 for yes.
"""

from __future__ import annotations

import re
from pathlib import Path

from asr.data.corpora import prepared
from asr.data.corpora.download import Archive, Progress, obtain, silent
from asr.data.layouts.entries import Entry, Listing, all_of
from asr.errors import DataError

ARCHIVE = Archive(
    name="yesno",
    url="http://www.openslr.org/resources/1/waves_yesno.tar.gz",
    root="waves_yesno",
    checksum="sha256:c3f49e0cca421f96b75b41640749167b52118f232498667ca7a5f9416aef8e73",
)
NAME = re.compile("[01](_[01]){7}")
WORDS = {"0": "no", "1": "yes"}
DEV = 5
"""Recordings of the training set that are held out."""


def prepare(source: Path | None, output: Path, progress: Progress = silent) -> None:
    """Write the manifests `train`, `dev` and `test`.

    As in Kaldi's recipe, the recordings that begin with "no" are the training set, the others the test. The last of
    the training set are the development set.

    Args:
        source: a folder that holds the recordings, or the official archive; None downloads it.
        output: the corpus's folder.
        progress: called as megabytes are downloaded, then as recordings are looked at.

    Raises:
        DataError: the source holds other files, or too few, or the download failed.
    """
    folder = obtain(ARCHIVE, source, output, progress)
    recordings = sorted(path for path in folder.glob("*.wav") if NAME.fullmatch(path.stem))
    train = [path for path in recordings if path.name.startswith("0")]
    if len(train) <= DEV or len(train) == len(recordings):
        raise DataError(
            f"holds {len(recordings)} recordings of yesno", where=folder, expected="60, such as 0_1_1_0_1_1_0_1.wav"
        )
    entries = [Entry(path.stem, path, _text(path), str(path), fields={"speaker": "he"}) for path in recordings]
    utterances = all_of(Listing(entries, []), folder, progress)
    split = len(train)
    prepared.write(output, utterances[: split - DEV], utterances[split - DEV : split], {"test": utterances[split:]})


def _text(path: Path) -> str:
    return " ".join(WORDS[digit] for digit in path.stem.split("_"))
