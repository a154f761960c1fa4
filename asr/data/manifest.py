"""Manifests: one JSON object per line for each recording, in the convention of NVIDIA NeMo.

    {"audio_filepath": "wavs/0001.wav", "duration": 2.31, "text": "turn on the light", "speaker": "anna"}

`audio_filepath` is relative to the manifest's own folder, or absolute. A key `offset` says that the utterance is a
stretch of a longer recording: from so many seconds on, for `duration` seconds. Further keys are kept as they are.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.errors import DataError
from asr.files import write_text
from asr.sound_files import Stretch

MOST_ERRORS_SHOWN = 20


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it.

    Attributes:
        audio: where the recording is.
        duration: its length in seconds.
        text: its transcript, as written in the manifest.
        fields: all further keys of its line, such as the speaker.
        start: where it begins in a longer recording, in seconds; None when it is all of the recording.
    """

    audio: Path
    duration: float
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    start: float | None = None

    @property
    def source(self) -> Path | Stretch:
        """What to read: the recording, or the stretch of it."""
        return self.audio if self.start is None else Stretch(self.audio, self.start, self.duration)

    @property
    def speaker(self) -> str | None:
        """The speaker's name, where the manifest has one."""
        speaker = self.fields.get("speaker")
        return None if speaker is None else str(speaker)


def read_manifest(path: Path, transcribed: bool = True) -> list[Utterance]:
    """Read a manifest.

    Args:
        path: of the file.
        transcribed: whether each line needs a text; else those without have an empty one.

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
            utterances.append(_parse(line, path.parent, transcribed))
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


def _parse(line: str, folder: Path, transcribed: bool) -> Utterance:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(entry, dict):
        raise ValueError(f"a JSON {type(entry).__name__}, not an object")
    if not transcribed:
        entry.setdefault("text", "")
    missing = [key for key in ("audio_filepath", "duration", "text") if key not in entry]
    if missing:
        raise ValueError(f"no {', '.join(missing)}")
    audio, duration, text = (entry.pop(key) for key in ("audio_filepath", "duration", "text"))
    if not isinstance(audio, str) or not audio:
        raise ValueError(f"audio_filepath is {audio!r}, not a path")
    if not isinstance(text, str):
        raise ValueError(f"text is {text!r}, not a string")
    start = _seconds("offset", entry.pop("offset")) if "offset" in entry else None
    return Utterance(folder.resolve() / audio, _seconds("duration", duration), text, entry, start)


def _seconds(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is {value!r}, not a number of seconds")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{key} is {value} seconds")
    return float(value)


def write_manifest(path: Path, utterances: Iterable[Utterance], relative: bool = False) -> None:
    """Write a manifest atomically.

    Args:
        path: of the file.
        utterances: to write.
        relative: name all recordings relative to the manifest's folder; else those below it, others absolutely.
    """
    folder = path.parent.resolve()
    lines = []
    for utterance in utterances:
        audio = utterance.audio.resolve()
        below = relative or audio.is_relative_to(folder)
        name = Path(os.path.relpath(audio, folder)) if below else audio
        entry = {
            "audio_filepath": name.as_posix(),
            **({} if utterance.start is None else {"offset": round(utterance.start, 4)}),
            "duration": round(utterance.duration, 4),
            "text": utterance.text,
            **utterance.fields,
        }
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))
