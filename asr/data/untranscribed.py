"""Recordings without transcripts: found in a folder or listed in a manifest, the long ones cut into pieces."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from asr import audio
from asr.data.layouts.entries import printable
from asr.data.manifest import Utterance, read_manifest
from asr.errors import AsrError, DataError, listing
from asr.files import files_in

PIECE_SECONDS = 15.0
"""About as long as utterances in corpora of speech are; a model need not remember more to guess what is hidden."""


def find(source: Path) -> list[Utterance]:
    """The recordings of a folder and of those in it, or of a manifest, in which texts may be missing; or one alone.

    Raises:
        DataError: as `recordings`; or the names of some are not UTF-8, as a manifest is.
    """
    if source.is_file() and not _is_recording(source):
        return read_manifest(source, transcribed=False)
    found = [Utterance(path.resolve(), seconds, "") for path, seconds in recordings(source)]
    unnamed = [name for each in found if (name := printable(each.audio)) != str(each.audio)]
    if unnamed:
        what = f"the names of {len(unnamed)} of {len(found)} recordings are not UTF-8\n{listing(unnamed)}"
        raise DataError(what, where=source, hint="rename them")
    return found


def recordings(source: Path) -> list[tuple[Path, float]]:
    """The recordings of a folder and of those in it, or one alone, and the seconds that each lasts.

    Raises:
        DataError: there are none, or some can't be used: all of them together.
    """
    paths = [path for path in (source, *files_in(source)) if _is_recording(path)]
    if not paths:
        what = "no recordings here" if source.exists() else "there is no such folder"
        raise DataError(what, where=source, expected="sound files, in it or in folders in it")
    durations, faults = [], []
    for info in audio.measure_all(paths):
        if isinstance(info, AsrError):
            faults.append(info)
        else:
            durations.append(info.duration)
    if faults:
        raise DataError(
            f"{len(faults)} of {len(paths)} recordings can't be used\n{listing(faults)}",
            where=source,
            hint="mend them, or move them out of the folder",
        )
    return list(zip(paths, durations, strict=True))


def _is_recording(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in audio.SUFFIXES


def without(utterances: Iterable[Utterance], others: Iterable[Utterance]) -> list[Utterance]:
    """Those of which the recording is not among others'."""
    seen = {other.audio.resolve() for other in others}
    return [utterance for utterance in utterances if utterance.audio.resolve() not in seen]


def in_pieces(utterances: Iterable[Utterance]) -> Iterator[Utterance]:
    """Recordings, and in place of those longer than `PIECE_SECONDS` stretches of them, all of one length.

    Those in shards, which are read as wholes, stay whole.
    """
    for utterance in utterances:
        count = 1 if utterance.member else math.ceil(utterance.duration / PIECE_SECONDS)
        if count <= 1:
            yield utterance
            continue
        duration = utterance.duration / count
        for index in range(count):
            yield replace(utterance, start=(utterance.start or 0.0) + index * duration, duration=duration)
