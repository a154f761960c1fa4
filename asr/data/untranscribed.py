"""Recordings without transcripts: found in a folder or listed in a manifest, the long ones cut into pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from asr import audio
from asr.data.checks import listing
from asr.data.manifest import Utterance, read_manifest
from asr.errors import AudioError, DataError

PIECE_SECONDS = 15.0
"""About as long as utterances in corpora of speech are; a model need not remember more to guess what is hidden."""


def find(source: Path) -> list[Utterance]:
    """The recordings of a folder and of those in it, or of a manifest, in which texts may be missing; or one alone.

    Raises:
        DataError: there are none, or some can't be opened: all of them together.
    """
    if source.is_file() and not _is_recording(source):
        return read_manifest(source, transcribed=False)
    paths = sorted(path for path in (source, *source.rglob("*")) if _is_recording(path))
    if not paths:
        raise DataError("no recordings here", where=source, expected="sound files, or a manifest of them")
    found, faults = [], []
    for path in paths:
        try:
            found.append(Utterance(path.resolve(), audio.probe(path).duration, ""))
        except AudioError as error:
            faults.append(error)
    if faults:
        raise DataError(
            f"{len(faults)} of {len(paths)} recordings can't be opened\n{listing(faults)}",
            where=source,
            hint="move them out of the folder, or list the others in a manifest",
        )
    return found


def _is_recording(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in audio.SUFFIXES


def without(utterances: Iterable[Utterance], others: Iterable[Utterance]) -> list[Utterance]:
    """Those of which the recording is not among others'."""
    seen = {other.audio.resolve() for other in others}
    return [utterance for utterance in utterances if utterance.audio.resolve() not in seen]


def in_pieces(
    utterances: Sequence[Utterance],
    folder: Path,
    sample_rate: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Utterance]:
    """Recordings of which none is longer than `PIECE_SECONDS`: those that are, are copied in pieces.

    Args:
        utterances: to cut where they are long.
        folder: for the pieces, as FLAC files.
        sample_rate: of the pieces, in hertz.
        progress: called with the number of recordings done so far.

    Raises:
        AudioError: a recording can't be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pieces = []
    for index, utterance in enumerate(utterances):
        if utterance.duration <= PIECE_SECONDS:
            pieces.append(utterance)
        else:
            for number, block in enumerate(audio.stream(utterance.source, sample_rate, PIECE_SECONDS)):
                path = folder / f"{index:06d}-{number:05d}.flac"
                audio.save(path, block, sample_rate)
                pieces.append(Utterance(path, len(block) / sample_rate, "", utterance.fields))
        progress(index + 1)
    return pieces
