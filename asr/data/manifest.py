"""Manifests: one JSON object per line for each recording, in the convention of NVIDIA NeMo.

    {"audio_filepath": "wavs/0001.wav", "duration": 2.31, "text": "turn on the light", "speaker": "anna"}

`audio_filepath` is relative to the manifest's own folder, or absolute. Further keys are kept as they are.

Recordings may also lie in tar files, see `shards.py`. `audio_filepath` is then a name within the file `shard`:

    {"shard": "train-000000.tar", "audio_filepath": "000001_a.wav", "shard_offset": 512, "shard_bytes": 73964, …}
"""

from __future__ import annotations

import json
import math
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.errors import DataError
from asr.files import write_text
from asr.sound_files import Member

MOST_ERRORS_SHOWN = 20
MEMBER_KEYS = ("shard", "shard_offset", "shard_bytes")
"""Of a line whose recording is in a shard."""


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it.

    Attributes:
        audio: where the recording is.
        duration: its length in seconds.
        text: its transcript, as written in the manifest.
        fields: all further keys of its line, such as the speaker.
        member: the recording in a shard, if it is in one; `audio` then is the shard's path and its name in it.
    """

    audio: Path
    duration: float
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    member: Member | None = None

    @property
    def source(self) -> Path | Member:
        """What to read the recording from."""
        return self.audio if self.member is None else self.member

    @property
    def speaker(self) -> str | None:
        """The speaker's name, where the manifest has one."""
        speaker = self.fields.get("speaker")
        return None if speaker is None else str(speaker)


def read_manifest(path: Path) -> list[Utterance]:
    """Read a manifest.

    Raises:
        DataError: the file is missing or empty, or lines are wrong: all of them together, by line number.
    """
    try:
        # Not splitlines(): it also cuts at characters such as U+2028, which JSON strings may hold.
        lines = path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except FileNotFoundError:
        raise DataError("there is no such manifest", where=path, expected="a JSONL file") from None
    except IsADirectoryError:
        raise DataError("this is a folder", where=path, expected="a JSONL manifest in it") from None
    except UnicodeDecodeError as error:
        raise DataError(f"byte {error.start} is not UTF-8", where=path, hint="save it as UTF-8") from None
    utterances, errors = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            utterances.append(_parse(line, path.parent))
        except ValueError as error:
            errors.append(f"line {number}: {error}")
    if errors:
        shown = errors[:MOST_ERRORS_SHOWN]
        if len(errors) > len(shown):
            shown.append(f"… and {len(errors) - len(shown)} more")
        raise DataError(
            f"{len(errors)} of {len(lines)} lines can't be used\n  " + "\n  ".join(shown),
            where=path,
            expected='lines such as {"audio_filepath": "a.wav", "duration": 1.5, "text": "hello"}',
        )
    if not utterances:
        raise DataError("the manifest is empty", where=path, expected="one JSON object per line")
    return utterances


def _parse(line: str, folder: Path) -> Utterance:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(entry, dict):
        raise ValueError(f"a JSON {type(entry).__name__}, not an object")
    missing = [key for key in ("audio_filepath", "duration", "text") if key not in entry]
    if missing:
        raise ValueError(f"no {', '.join(missing)}")
    audio, duration, text = (entry.pop(key) for key in ("audio_filepath", "duration", "text"))
    if not isinstance(audio, str) or not audio:
        raise ValueError(f"audio_filepath is {audio!r}, not a path")
    if isinstance(duration, bool) or not isinstance(duration, int | float):
        raise ValueError(f"duration is {duration!r}, not a number of seconds")
    if not (math.isfinite(duration) and duration >= 0):
        raise ValueError(f"duration is {duration} seconds")
    if not isinstance(text, str):
        raise ValueError(f"text is {text!r}, not a string")
    member = _take_member(entry, folder.resolve(), audio)
    path = folder.resolve() / audio if member is None else member.archive / member.name
    return Utterance(path, float(duration), text, entry, member)


def _take_member(entry: dict[str, Any], folder: Path, name: str) -> Member | None:
    """Take what says where in a shard a recording is from its line, if it is in one."""
    if not all(key in entry for key in MEMBER_KEYS):
        return None
    shard, offset, size = (entry.pop(key) for key in MEMBER_KEYS)
    if not isinstance(shard, str) or not shard:
        raise ValueError(f"shard is {shard!r}, not a path")
    for key, value, least in (("shard_offset", offset, tarfile.BLOCKSIZE), ("shard_bytes", size, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{key} is {value!r}, not a number of bytes")
    return Member(folder / shard, name, offset, size)


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest atomically; recordings below its folder are named relative to it, others absolutely."""
    folder = path.parent.resolve()
    lines = []
    for utterance in utterances:
        entry = {
            **_place(utterance, folder),
            "duration": round(utterance.duration, 4),
            "text": utterance.text,
            **utterance.fields,
        }
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))


def _place(utterance: Utterance, folder: Path) -> dict[str, Any]:
    """The keys that say where a recording is, in a manifest that lies in a folder."""
    member = utterance.member
    path = (utterance.audio if member is None else member.archive).resolve()
    name = (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
    if member is None:
        return {"audio_filepath": name}
    return {
        "shard": name,
        "audio_filepath": member.name,
        "shard_offset": member.offset,
        "shard_bytes": member.size,
    }
