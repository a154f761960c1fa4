"""The training log: one JSON object per epoch, and the same curves for TensorBoard."""

from __future__ import annotations

import io
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from asr.errors import DataError
from asr.files import full_disk_in_words, unreadable_in_words, write_text

ALWAYS = ("epoch", "step")
"""The numbers that every entry has, whatever is trained."""
LAYERS = "layers"
"""Has the figures of each layer, numbers by name."""
LINES = ("events", "infinite", "dev_infinite")
"""Have text, a list of lines; all else in an entry is a number."""


class TrainingLog:
    """Writes `log.jsonl` and TensorBoard's event files into a folder.

    Args:
        folder: of the training.
        content: what `log.jsonl` is to begin with, as the checkpoint has it; what the file has besides belongs to
            epochs that are trained again.
        step: TensorBoard hides older points from this step on.

    Attributes:
        content: all that `log.jsonl` holds.
        entries: the same, parsed.
    """

    def __init__(self, folder: Path, content: str = "", step: int = 0) -> None:
        self.path = folder / "log.jsonl"
        self.content = content
        write_text(self.path, content)
        self.entries = read(folder)
        self._curves = _Curves(folder / "tensorboard", step)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append an epoch's figures: numbers, `LAYERS` and `LINES`. Numbers become curves over `step`, one of them.

        Raises:
            DiskFullError: there is no room for them.
        """
        line = json.dumps(entry) + "\n"
        _append(self.path, line.encode())
        self.content += line
        self.entries.append(dict(entry))
        numbers = {name: value for name, value in _numbers(entry) if name not in ("epoch", "epochs", "step")}
        self._curves.write(int(entry["step"]), numbers)


class _Curves:
    """A file of TensorBoard's events, written at once and by no thread, so that a full disk is noticed here."""

    def __init__(self, folder: Path, step: int) -> None:
        with full_disk_in_words(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"
        self._write(Event(wall_time=time.time(), step=step, file_version="brain.Event:2"))
        self._write(Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        _append(self.path, record.getvalue())


def _append(path: Path, content: bytes) -> None:
    with full_disk_in_words(path, len(content)), path.open("ab") as file:
        file.write(content)


def read(folder: Path) -> list[dict[str, Any]]:
    """What the log in a training's folder holds, an entry for each epoch; nothing where there is none.

    Raises:
        DataError: it is damaged: which line.
    """
    path = folder / "log.jsonl"
    if not path.exists():
        return []
    with unreadable_in_words(path, "the log of a training"):
        content = path.read_bytes()
    return parse(content, path)


def parse(content: bytes, path: Path) -> list[dict[str, Any]]:
    """The entries of a log, as `read` has them, given what its file at `path` holds."""
    *lines, _ = content.split(b"\n")  # the last may have been cut off
    return [_entry(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def _entry(line: bytes, where: str) -> dict[str, Any]:
    fault: str | None
    try:
        entry: Any = json.loads(line.decode())
    except UnicodeDecodeError as error:
        fault = f"byte {error.start} is not UTF-8"
    except json.JSONDecodeError as error:
        fault = f"this is not JSON ({error})"
    else:
        fault = _fault(entry)
        if fault is None:
            return dict(entry)
    raise DataError(
        f"the log is damaged: {fault}",
        where=where,
        expected=f"a JSON object of figures, {' and '.join(ALWAYS)} among them",
        hint="bring the file back; a training that is not over writes it anew, from its checkpoint, as it goes on",
    )


def _fault(entry: Any) -> str | None:
    if not isinstance(entry, dict) or not entry.keys() >= set(ALWAYS):
        return "this is not an epoch's figures"
    for name, value in entry.items():
        if name in LINES:
            if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
                return f"its {name} are no list of lines"
        elif name == LAYERS:
            if not isinstance(value, dict) or not all(map(_are_numbers, value.values())):
                return f"its {name} have no numbers by name"
        elif not isinstance(value, int | float):
            return f"its {name} is no number"
    return None


def _are_numbers(figures: Any) -> bool:
    return isinstance(figures, dict) and all(isinstance(value, int | float) for value in figures.values())


def _numbers(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in nested mappings, under names such as "layers/head.linear/gradient"."""
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value
