"""Manifests: one JSON object per line for each recording, in the convention of NVIDIA NeMo.

    {"audio_filepath": "wavs/0001.wav", "duration": 2.31, "text": "turn on the light", "speaker": "anna"}

`audio_filepath` is relative to the manifest's own folder, or absolute. A key `offset` says that the utterance is a
stretch of a longer recording: from so many seconds on, for `duration` seconds. Further keys are kept as they are.

Recordings may also lie in tar files, see `shards.py`. `audio_filepath` is then a name within the file `shard`:

    {"shard": "train-000000.tar", "audio_filepath": "000001_a.wav", "shard_offset": 512, "shard_bytes": 73964, …}
"""

from __future__ import annotations

import json
import os
import re
import reprlib
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.errors import ConfigError, DataError, counted, is_or_are, listing
from asr.files import read_text, write_text
from asr.sound_files import Member, Stretch, hint_at_windows

MEMBER_KEYS = ("shard", "shard_offset", "shard_bytes")
"""Of a line whose recording is in a shard."""
_MOST_SECONDS = 1e9  # thirty years: no recording is longer, and sums and products of lengths remain finite
_MOST_BYTES = 1 << 62  # no file is larger, and the system takes no larger numbers
_MOST_NESTED = 100  # well within what Python's stack takes where the line is written again or sent to a process
_TOO_NESTED = f"its brackets are nested more than {_MOST_NESTED} deep"
_LINES = 'lines such as {"audio_filepath": "a.wav", "duration": 1.5, "text": "hello"}'


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it.

    Attributes:
        audio: where the recording is.
        duration: its length in seconds.
        text: its transcript, as written in the manifest.
        fields: all further keys of its line, such as the speaker.
        start: where it begins in a longer recording, in seconds; None when it is all of the recording.
        member: the recording in a shard, if it is in one; `audio` then is the shard's path and its name in it.
    """

    audio: Path
    duration: float
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    start: float | None = None
    member: Member | None = None

    @property
    def source(self) -> Path | Stretch | Member:
        """What to read: the recording, the stretch of it, or the place in a shard that holds it."""
        if self.member is not None:
            return self.member
        return self.audio if self.start is None else Stretch(self.audio, self.start, self.duration)

    @property
    def speaker(self) -> str | None:
        """The speaker's name, where the manifest has one."""
        speaker = self.fields.get("speaker")
        return None if speaker is None else str(speaker)


def read_manifest(path: str | Path, transcribed: bool = True) -> list[Utterance]:
    """Read a manifest.

    Args:
        path: of the file.
        transcribed: whether each line needs a text; else those without have an empty one.

    Raises:
        DataError: the file is missing or empty, or lines are wrong: all of them together, by line number.
    """
    path = Path(path)
    return parse_manifest(manifest_text(path), path, transcribed)


def manifest_text(path: Path) -> str:
    """A manifest's content as it stands, for `parse_manifest` and further uses: a pipe can be read only once."""
    return read_text(path, "a JSONL file", kind="manifest")


def parse_manifest(content: str, path: Path, transcribed: bool = True) -> list[Utterance]:
    """As `read_manifest`, where the content of the file is at hand."""
    # Not splitlines(): it also cuts at characters such as U+2028, which JSON strings may hold.
    lines = content.rstrip("\n").split("\n")
    folder = path.parent.resolve()
    utterances, errors = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            utterances.append(_parse(line, folder, transcribed))
        except ValueError as error:
            errors.append(f"line {number}: {error}")
    if errors and not utterances and not lines[0].lstrip("\ufeff").startswith("{"):
        raise DataError(
            f"is no manifest: {errors[0]}",
            where=path,
            expected=_LINES,
            hint="asr data import, which makes manifests of tables and of folders",
        )
    if errors:
        raise DataError(
            f"{len(errors)} of {len(lines)} lines can't be used\n{listing(errors)}",
            where=path,
            expected=_LINES,
        )
    if not utterances:
        raise DataError("the manifest is empty", where=path, expected="one JSON object per line")
    return utterances


def _parse(line: str, folder: Path, transcribed: bool) -> Utterance:
    entry = _json(line)
    if not isinstance(entry, dict):
        raise ValueError(f"a JSON {type(entry).__name__}, not an object")
    _refuse_halves(line, entry)
    if not transcribed:
        entry.setdefault("text", "")
    missing = [key for key in ("audio_filepath", "duration", "text") if key not in entry]
    if missing:
        raise ValueError(f"no {', '.join(missing)}")
    audio, duration, text = (entry.pop(key) for key in ("audio_filepath", "duration", "text"))
    if not isinstance(audio, str) or not audio or "\0" in audio:
        raise ValueError(f"audio_filepath is {audio!r}, not a path")
    if not isinstance(text, str):
        raise ValueError(f"text is {text!r}, not a string")
    offset = entry.pop("offset", None)  # null in manifests of other tools
    start = None if offset is None else _seconds("offset", offset)
    member = _take_member(entry, folder, audio)
    if member is not None and start is not None:
        raise ValueError("a shard holds whole recordings, so it can't have an offset")
    path = folder / audio if member is None else member.archive / member.name
    return Utterance(path, _seconds("duration", duration), text, entry, start, member)


def _json(line: str) -> Any:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from None
    except ValueError:  # sys.get_int_max_str_digits()
        raise ValueError("a number in it has thousands of digits") from None
    except RecursionError:
        raise ValueError(_TOO_NESTED) from None
    if line.count("[") + line.count("{") > _MOST_NESTED and _is_nested(value):
        raise ValueError(_TOO_NESTED)
    return value


def _is_nested(value: Any) -> bool:
    """Whether lists and objects are in one another deeper than that."""
    level = [value]
    for _ in range(_MOST_NESTED + 1):
        groups = [
            each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)
        ]
        level = [each for group in groups for each in group]
    return bool(level)


def _refuse_halves(line: str, entry: dict[str, Any]) -> None:
    r"""Refuse one half, such as `\ud83d`, of a character that JSON may write in two: no file takes it."""
    if not re.search(r"\\u[dD][89a-fA-F]", line):
        return
    for key, value in entry.items():
        try:
            json.dumps([key, value], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise ValueError(f"{key!r} holds {half!r}, one half of a character") from None


def _take_member(entry: dict[str, Any], folder: Path, name: str) -> Member | None:
    """Take what says where in a shard a recording is from its line, if it is in one."""
    if not all(key in entry for key in MEMBER_KEYS):
        return None
    shard, offset, size = (entry.pop(key) for key in MEMBER_KEYS)
    if not isinstance(shard, str) or not shard or "\0" in shard:
        raise ValueError(f"shard is {shard!r}, not a path")
    for key, value, least in (("shard_offset", offset, tarfile.BLOCKSIZE), ("shard_bytes", size, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST_BYTES:
            raise ValueError(f"{key} is {reprlib.repr(value)}, not a number of bytes")
    return Member(folder / shard, name, offset, size)


def _seconds(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is {value!r}, not a number of seconds")
    if not 0 <= value <= _MOST_SECONDS:  # nor NaN
        raise ValueError(f"{key} is {reprlib.repr(value)} seconds")
    return float(value)


def write_manifest(path: str | Path, utterances: Iterable[Utterance], relative: bool = False) -> None:
    """Write a manifest atomically.

    Args:
        path: of the file.
        utterances: to write.
        relative: name all recordings relative to the manifest's folder; else those below it, others absolutely.

    Raises:
        ConfigError: it is on another drive of Windows than a recording, and is to name that relative to its folder.
    """
    path = Path(path)
    folder = path.parent.resolve()
    lines = []
    for utterance in utterances:
        entry = {
            **_place(utterance, folder, relative),
            "duration": round(utterance.duration, 4),
            "text": utterance.text,
            **utterance.fields,
        }
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))


def grouping_fields(utterances: Iterable[Utterance]) -> list[str]:
    """The fields whose values part the utterances into groups: unlike ids and sizes, most of them are shared."""
    values: dict[str, Counter[str]] = defaultdict(Counter)
    for utterance in utterances:
        for name, value in utterance.fields.items():
            values[name][str(value)] += 1
    return sorted(name for name, counts in values.items() if 2 * len(counts) <= counts.total())


def files_of(utterances: Iterable[Utterance]) -> set[Path]:
    """The files that hold their recordings: sound files and shards."""
    return {each.audio if each.member is None else each.member.archive for each in utterances}


def refuse_missing(utterances: Iterable[Utterance], manifest: Path) -> None:
    """See that the recordings of a manifest are there, before time is spent on some of them.

    Raises:
        DataError: it names those that are not.
    """
    files = files_of(utterances)
    missing = sorted(path for path in files if not path.exists())
    if missing:
        what = f"{len(missing)} of {counted(len(files), 'recording')} {is_or_are(len(missing))} not there"
        raise DataError(f"{what}\n{listing(missing)}", where=manifest, hint=hint_at_windows(missing[0]))


def _place(utterance: Utterance, folder: Path, relative: bool) -> dict[str, Any]:
    """The keys that say where a recording is, in a manifest that lies in a folder."""
    member = utterance.member
    path = utterance.audio if member is None else member.archive
    path = path.parent.resolve() / path.name  # a link keeps its own name, which tells the format
    below = relative or path.is_relative_to(folder)
    try:
        name = (Path(os.path.relpath(path, folder)) if below else path).as_posix()
    except ValueError as error:
        raise ConfigError(
            "no relative path leads to another drive",
            where=path,
            expected=f"a recording on the drive of {folder}",
            hint="the manifest on the drive of the recordings, or no --relative",
        ) from error
    if member is not None:
        place = {"shard_offset": member.offset, "shard_bytes": member.size}
        return {"shard": name, "audio_filepath": member.name, **place}
    return {"audio_filepath": name, **({} if utterance.start is None else {"offset": round(utterance.start, 4)})}
