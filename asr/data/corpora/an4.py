"""AN4, the alphanumeric database of Carnegie Mellon: people spell and count, 16 kHz, 1991 (Acero 1993).

http://www.speech.cs.cmu.edu/databases/an4/, 948 utterances for training and 130, of other speakers, for the test.
It comes as NIST SPHERE files, or as raw 16-bit samples, big-endian.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from asr import audio
from asr.data.corpora import prepared
from asr.data.corpora.download import Archive, Progress, obtain, silent
from asr.data.layouts.entries import GENDERS, Entry, Listing, all_of
from asr.data.layouts.lists import read_rows
from asr.data.manifest import Utterance
from asr.data.splitting import split

# NVIDIA's copy, as Carnegie Mellon's own server is not always there; no checksum of it is published.
ARCHIVE = Archive(name="an4", url="https://dldata-public.s3.us-east-2.amazonaws.com/an4_sphere.tar.gz", root="an4")
RAW_RATE = 16000
LINE = re.compile(r"(?:<s>)?(?P<text>[^<(]*)(?:</s>)?\s*\((?P<id>\S+)\)")
"""Of a transcription: <s> ENTER FOUR </s> (an251-fash-b)."""
DEV_SHARE = 0.1


def prepare(source: Path | None, seed: int, output: Path, progress: Progress = silent) -> None:
    """Write the manifests `train`, `dev` and `test`; raw recordings are written as WAV into the folder `audio`.

    The development set is a tenth of the official training set, of speakers of its own.

    Args:
        source: a folder that holds `etc` and `wav`, or the official archive; None downloads it.
        seed: of the choice of the development set's speakers.
        output: the corpus's folder.
        progress: called as megabytes are downloaded, then as recordings are looked at.

    Raises:
        DataError: the source is not the corpus, or the download failed.
    """
    root = obtain(ARCHIVE, source, output, progress)
    official, test = (_read(root, name, output, progress) for name in ("train", "test"))
    sets = split(official, {"dev": DEV_SHARE}, seed)
    prepared.write(output, sets["train"], sets["dev"], {"test": test})


def _read(root: Path, name: str, output: Path, progress: Progress) -> list[Utterance]:
    """One of the official sets, whose transcripts and paths are two lists in the same order."""
    faults: list[str] = []
    places = {
        row.value.split("/")[-1]: row.value for row in read_rows(root / "etc" / f"an4_{name}.fileids", faults)
    }
    entries = []
    for line, where in read_rows(root / "etc" / f"an4_{name}.transcription", faults):
        parts = LINE.fullmatch(line)
        if parts is None or not parts["text"].strip():
            faults.append(f"{where}: not TEXT (ID): {line}")
        elif parts["id"] not in places:
            faults.append(f"{where}: {parts['id']} is not in an4_{name}.fileids")
        else:
            sound = _sound(root / "wav" / places[parts["id"]], output / "audio" / places[parts["id"]])
            speaker = sound.parent.name
            fields = {"speaker": speaker, "gender": GENDERS.get(speaker[0], speaker[0])}
            entries.append(Entry(parts["id"], sound, parts["text"].strip(), where, fields=fields))
    return all_of(Listing(entries, faults), root, progress)


def _sound(stem: Path, converted: Path) -> Path:
    """The recording of this path without suffix, made a WAV file if its samples are raw."""
    raw = stem.with_name(f"{stem.name}.raw")
    if not raw.is_file():
        return stem.with_name(f"{stem.name}.sph")
    wav = converted.with_name(f"{converted.name}.wav")
    audio.save(wav, (np.fromfile(raw, ">i2") / 32768).astype(np.float32), RAW_RATE)
    return wav
