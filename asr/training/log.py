"""The training log: one JSON object per epoch, and the same curves for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


class TrainingLog:
    """Writes `log.jsonl` and TensorBoard's event files into a folder.

    Args:
        folder: of the training.
        size: bytes of `log.jsonl` to keep: what stands behind them belongs to epochs that are trained again.
        step: TensorBoard hides older points from this step on.
    """

    def __init__(self, folder: Path, size: int = 0, step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.jsonl"
        self._file = self.path.open("ab")
        self._file.truncate(size)
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def write(self, entry: Mapping[str, float]) -> None:
        """Append an epoch's figures; `step` among them is the horizontal axis."""
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        for name, value in entry.items():
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
