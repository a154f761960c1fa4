"""The training log: one JSON object per epoch, and the same curves for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class TrainingLog:
    """Writes `log.jsonl` and TensorBoard's event files into a folder.

    Args:
        folder: of the training.
        size: bytes of `log.jsonl` to keep: what stands behind them belongs to epochs that are trained again.
        step: TensorBoard hides older points from this step on.

    Attributes:
        entries: all that it holds.
    """

    def __init__(self, folder: Path, size: int = 0, step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.jsonl"
        self._file = self.path.open("ab")
        self._file.truncate(size)
        self.entries = read(folder)
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append an epoch's figures; `step` among them is the horizontal axis. Only numbers become curves."""
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        self.entries.append(dict(entry))
        for name, value in _numbers(entry):
            if name not in ("epoch", "step"):
                self._writer.add_scalar(name, value, int(entry["step"]))

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size

    def close(self) -> None:
        """Finish both files."""
        self._file.close()
        self._writer.close()


def read(folder: Path) -> list[dict[str, Any]]:
    """What the log in a training's folder holds, an entry for each epoch; nothing where there is none."""
    path = folder / "log.jsonl"
    if not path.exists():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")  # the last may have been cut off
    return [json.loads(line) for line in lines]


def _numbers(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in nested mappings, under names such as "layers/head.linear/gradient"."""
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value
