"""speechocean762: English sentences read by Mandarin speakers, half of them children (Zhang et al. 2021).

https://www.openslr.org/101, 5000 sentences of 250 speakers; free for any use. The official training and test set
are Kaldi data directories without a common speaker. A development set is held out of the training set here, by
speaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr.data.corpora import prepared
from asr.data.corpora.download import Archive, Progress, obtain, silent
from asr.data.layouts import kaldi, librispeech, ljspeech
from asr.data.layouts.entries import Listing, all_of
from asr.data.layouts.lists import read_rows
from asr.data.manifest import Utterance, read_manifest
from asr.errors import DataError, counted, some

# No checksum of it is published.
ARCHIVE = Archive(
    name="speechocean762",
    url="https://www.openslr.org/resources/101/speechocean762.tar.gz",
    root="speechocean762",
)
ADULT = 18  # years; nobody is 16 to 18


def prepare(
    source: Path | None,
    dev_speakers: Path,
    extra: Sequence[Path],
    output: Path,
    progress: Progress = silent,
) -> None:
    """Write the manifests `train`, `dev` and `test`, which refer to the recordings where they are.

    Utterances have the fields `id`, `speaker`, `age`, `gender` and `group` (child or adult); those of dev and
    test also `sentence`: whether the same sentence, said by somebody else, is "in train". For the test that is the
    official training set, of which the dev set is a part.

    Args:
        source: a folder that holds `train`, `test` and `WAVE`, or the official archive; None downloads it.
        dev_speakers: file that names a speaker of the development set first in each line; # begins a comment.
        extra: added to the training set: manifests, or folders in LibriSpeech's or LJ Speech's layout, whose
            utterances have the field `corpus`.
        output: the corpus's folder.
        progress: called as megabytes are downloaded, then as recordings are looked at.

    Raises:
        DataError: something in the source or the extra folders is missing or wrong, or a speaker is not there.
    """
    root = obtain(ARCHIVE, source, output, progress)
    official, test = (_official(root, name, progress) for name in ("train", "test"))
    held_out = read_speakers(dev_speakers, official)
    train = [utterance for utterance in official if utterance.speaker not in held_out]
    dev = [utterance for utterance in official if utterance.speaker in held_out]
    added = [utterance for folder in extra for utterance in _extra(folder, progress)]
    prepared.write(output, train + added, _compared(dev, train), {"test": _compared(test, official)})


def read_speakers(path: Path, train: Sequence[Utterance]) -> set[str]:
    """The speakers of the development set, all of whom must be in the training set.

    Raises:
        DataError: some are not, or none is named.
    """
    faults: list[str] = []
    rows = [row for row in read_rows(path, faults) if not row.value.startswith("#")]
    speakers = {utterance.speaker for utterance in train}
    named = {row.value.split()[0]: row.where for row in rows}
    faults += [
        f"{where}: {name} is no speaker of the training set"
        for name, where in named.items()
        if name not in speakers
    ]
    if faults or not named:
        raise DataError("\n".join(faults) or "names no speaker", where=path, expected="one speaker in each line")
    return set(named)


def _official(root: Path, name: str, progress: Progress) -> list[Utterance]:
    utterances = all_of(kaldi.read(root / name, root), root / name, progress)
    ageless = {str(each.speaker) for each in utterances if not isinstance(each.fields.get("age"), int)}
    if ageless:
        what = f"tells no age of {counted(len(ageless), 'speaker')}: {some(sorted(ageless))}"
        raise DataError(what, where=root / name / "spk2age", expected="a number of years for each of utt2spk")
    return [_with(utterance, group=_group(utterance)) for utterance in utterances]


def _group(utterance: Utterance) -> str:
    return "adult" if utterance.fields["age"] >= ADULT else "child"


def _compared(utterances: Sequence[Utterance], train: Sequence[Utterance]) -> list[Utterance]:
    """The utterances, told whether their sentences are in the training set."""
    known = {utterance.text for utterance in train}
    return [
        _with(utterance, sentence="in train" if utterance.text in known else "not in train")
        for utterance in utterances
    ]


def _with(utterance: Utterance, **fields: Any) -> Utterance:
    return replace(utterance, fields={**utterance.fields, **fields})


def _extra(folder: Path, progress: Progress) -> list[Utterance]:
    """Another corpus, as the field `corpus` says; its speakers' names begin with that, so they are no others'."""
    if folder.suffix == ".jsonl":
        return read_manifest(folder)
    if not folder.is_dir():
        raise DataError("there is no such folder", where=folder)
    layout, found = _read_extra(folder)
    utterances = all_of(found, folder, progress)
    return [
        _with(utterance, corpus=layout, speaker=f"{layout}-{utterance.speaker}" if utterance.speaker else layout)
        for utterance in utterances
    ]


def _read_extra(folder: Path) -> tuple[str, Listing]:
    if (folder / "metadata.csv").is_file():
        return "ljspeech", ljspeech.read(folder, partial=True)
    return "librispeech", librispeech.read(folder)
