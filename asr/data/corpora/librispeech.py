"""LibriSpeech: English audiobooks, 16 kHz (Panayotov et al. 2015), and its miniature of five hours.

https://www.openslr.org/12 and https://www.openslr.org/31, CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from asr.data.corpora import prepared
from asr.data.corpora.download import Archive, Progress, obtain, silent
from asr.data.layouts import librispeech
from asr.data.layouts.entries import all_of
from asr.data.manifest import Utterance
from asr.errors import DataError

CHECKSUMS = {
    "12/dev-clean": "sha256:76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "12/dev-other": "sha256:12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "12/test-clean": "sha256:39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "12/test-other": "sha256:d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "12/train-clean-100": "sha256:d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "12/train-clean-360": "sha256:146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "12/train-other-500": "sha256:ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    "31/train-clean-5": "md5:5df7d4e78065366204ca6845bb08f490",
    "31/dev-clean-2": "md5:6d7ab67ac6a1d2c993d050e16d61080d",
}
"""By corpus of OpenSLR and set: of torchaudio 2.11's LIBRISPEECH, and of https://www.openslr.org/resources/31/md5sum.txt."""
ARCHIVES = {
    key.split("/")[1]: Archive(
        name=f"librispeech-{key.split('/')[1]}",
        url=f"https://www.openslr.org/resources/{key}.tar.gz",
        root="LibriSpeech",
        checksum=checksum,
    )
    for key, checksum in CHECKSUMS.items()
}
"""By set."""


def prepare(
    source: Path | None,
    train: Sequence[str],
    dev: str,
    tests: Sequence[str],
    output: Path,
    progress: Progress = silent,
) -> None:
    """Write the manifests `train`, `dev` and one for each test set.

    Args:
        source: a folder with the sets (`train-clean-100/`, …), their archives, or a folder `LibriSpeech` of either;
            None downloads the official archives.
        train: sets to train on, keys of `ARCHIVES`.
        dev: the development set.
        tests: the test sets.
        output: the corpus's folder.
        progress: called as megabytes are downloaded, then as recordings are looked at.

    Raises:
        DataError: a set is not in the source, or is damaged, or the download failed.
    """
    names = dict.fromkeys((*train, dev, *tests))
    sets = {name: _read(name, source, output, progress) for name in names}
    prepared.write(
        output,
        [utterance for name in train for utterance in sets[name]],
        sets[dev],
        {name: sets[name] for name in tests},
    )


def _read(name: str, source: Path | None, output: Path, progress: Progress) -> list[Utterance]:
    folder = obtain(ARCHIVES[name], _copy(name, source), output, progress) / name
    if source is not None and source.name in ARCHIVES and not folder.is_dir():
        raise DataError(
            "there is no such folder", where=folder, hint=f"give the folder above the sets: {source.parent}"
        )
    return all_of(librispeech.read(folder), folder, progress)


def _copy(name: str, source: Path | None) -> Path | None:
    """A set's archive in the source, where the set itself is not there; or else the source."""
    if source is None:
        return None
    folders = (source, source / "LibriSpeech")
    if any((folder / name).is_dir() for folder in folders):
        return source
    archives = (folder / f"{name}.tar.gz" for folder in folders)
    return next((archive for archive in archives if archive.is_file()), source)
