"""What a corpus lists, and the utterances that come of it once its recordings have been looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr import audio
from asr.audio import AudioInfo
from asr.data.manifest import Utterance
from asr.errors import AsrError, AudioError, DataError, counted, is_or_are, listing

OVERSHOOT = 0.5
"""Seconds by which a stretch may end after its recording, and is cut: as in Kaldi's extract-segments."""

GENDERS = {"f": "female", "m": "male"}
"""What the field `gender` of a speaker says, by the letter that corpora have for it."""


@dataclass(frozen=True)
class Entry:
    """An utterance as its corpus lists it.

    Attributes:
        id: its name in the corpus.
        audio: where its recording should be.
        text: its transcript.
        where: file and line, for messages.
        start: seconds into the recording, or None for all of it.
        end: seconds into the recording, or None for its end.
        fields: what else is known, such as the speaker.
        one_channel: whether its recording may have but one; else their mean is heard.
    """

    id: str
    audio: Path
    text: str
    where: str
    start: float | None = None
    end: float | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    one_channel: bool = False


@dataclass(frozen=True)
class Listing:
    """What a corpus lists.

    Attributes:
        entries: what can be used as far as the lists tell.
        faults: a line for each thing that is wrong in the lists, with file and line.
    """

    entries: list[Entry]
    faults: list[str]


def measure(
    found: Listing, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[list[Utterance], list[str]]:
    """Make utterances of entries, with the durations of their recordings.

    Args:
        found: what the corpus lists.
        progress: called with the number of recordings read so far, and of all.

    Returns:
        The utterances, each with its `id` among the fields, and a line for each fault: those of the lists, ids
        that stand twice, recordings that are missing or no sound, and stretches that lie outside theirs.
    """
    first: dict[str, str] = {}
    for entry in found.entries:
        first.setdefault(entry.id, entry.where)
    paths = list(dict.fromkeys(entry.audio for entry in found.entries))
    recordings: dict[Path, AudioInfo | AsrError] = {}
    for path, recording in zip(paths, audio.measure_all(paths), strict=True):
        recordings[path] = recording
        progress(len(recordings), len(paths))
    utterances, faults = [], list(found.faults)
    for entry in found.entries:
        try:
            if first[entry.id] != entry.where:
                raise ValueError(f"{entry.id} is in {first[entry.id]} already")
            utterances.append(_utterance(entry, recordings[entry.audio]))
        except ValueError as error:
            faults.append(f"{entry.where}: {error}")
    return utterances, faults


def repeated(utterances: Iterable[Utterance]) -> list[str]:
    """A warning, where utterances of several names are the same sound."""
    first: dict[object, Utterance] = {}
    found = []
    for utterance in utterances:
        other = first.setdefault((utterance.audio, utterance.start, utterance.duration), utterance)
        if other is not utterance:
            found.append(f"{utterance.fields['id']} as {other.fields['id']}: {utterance.source}")
    if not found:
        return []
    number = f"{counted(len(found), 'utterance')} {is_or_are(len(found))}"
    return [f"{number} the same sound as another\n{listing(found)}"]


def all_of(
    found: Listing, where: Path, progress: Callable[[int, int], None], hint: str | None = None
) -> list[Utterance]:
    """The utterances of a corpus in which nothing may be wrong.

    Args:
        found: what the corpus lists.
        where: the corpus, for the error.
        progress: as for `measure`.
        hint: what to do when something is wrong.

    Raises:
        DataError: every fault, together.
    """
    utterances, faults = measure(found, progress)
    if faults:
        raise faulty(faults, where, hint)
    return utterances


def faulty(faults: Iterable[str], where: Path, hint: str | None = None) -> DataError:
    """The error that tells the faults of a corpus."""
    faults = list(faults)
    number = "one entry" if len(faults) == 1 else f"{len(faults)} entries"
    return DataError(f"{number} can't be used\n{listing(faults)}", where=where, hint=hint)


def in_a_line(error: AsrError) -> str:
    """An error as a fault among others."""
    return f"{error.where}: {_what(error)}"


def _what(error: AsrError) -> str:
    return error.what + (f" (try: {error.hint})" if error.hint else "")


def printable(path: Path) -> str:
    """A path as text that can be written to a file: as it is, or where it is not UTF-8, with escapes."""
    try:
        return str(path).encode().decode()
    except UnicodeEncodeError:
        return ascii(str(path))


def _utterance(entry: Entry, recording: AudioInfo | AsrError) -> Utterance:
    if printable(entry.audio) != str(entry.audio):
        recording = AudioError("its name is not UTF-8; rename it")
    if isinstance(recording, AsrError):
        fault = _what(recording)
        raise ValueError(fault if entry.where == str(entry.audio) else f"{printable(entry.audio)}: {fault}")
    if entry.one_channel and recording.channels > 1:
        raise ValueError(
            f"{entry.audio} has {recording.channels} channels, each of them perhaps a speaker: "
            "split the file into one per channel"
        )
    duration = recording.duration
    fields = {"id": entry.id, **entry.fields}
    if entry.start is None:
        return Utterance(entry.audio, duration, entry.text, fields)
    end = duration if entry.end is None else entry.end
    if not 0 <= entry.start < min(end, duration) or end > duration + OVERSHOOT:
        stretch = f"{entry.start:g} s to {end:g} s"
        raise ValueError(f"{stretch} is no stretch of {entry.audio}, which lasts {duration:.2f} s")
    return Utterance(entry.audio, min(end, duration) - entry.start, entry.text, fields, entry.start)
