"""What a training leaves on disk: the state to go on from, and the weights of its best epochs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from asr.errors import ConfigError, ModelError
from asr.files import atomic_path


@dataclass(frozen=True, order=True)
class BestEpoch:
    """An epoch whose weights are kept; the smaller rank is the better."""

    rank: tuple[float, float]
    epoch: int


@dataclass
class Progress:
    """Where a training stands: a whole number of steps.

    Attributes:
        epoch: the one under way, counted from 1.
        batch: how many of its batches are done.
        step: how many steps are done in all.
        totals: sums over the steps of this epoch.
        infinite: the examples that had an infinite loss, each with the epoch in which that was first seen.
        best: the best epochs so far, best first.
        log_bytes: length of the log when this was saved; what stands behind it was never trained.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    infinite: dict[str, int] = field(default_factory=dict)
    best: tuple[BestEpoch, ...] = ()
    log_bytes: int = 0


def other_training(
    folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], what: str = "training"
) -> ConfigError:
    """What to raise where a folder holds a training with other settings, which took somebody's time."""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    lines = [f"\n  {name}: {before.get(name)} there, {now.get(name)} now" for name in changed]
    return ConfigError(
        f"a {what} with other settings is in this folder" + "".join(lines),
        where=folder,
        hint=f"--run-dir for a new folder, or --overwrite to throw the old {what} away",
    )


class Checkpoints:
    """The folder of a training's checkpoints.

    Args:
        folder: created when something is saved.
        keep: how many of the best epochs' weights to keep.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self.state_path = folder / "state.pt"

    def save(self, progress: Progress, state: dict[str, Any]) -> None:
        """Save the state to go on from, in place of the one before."""
        with atomic_path(self.state_path) as temporary:
            torch.save({"progress": json.dumps(asdict(progress)), **state}, temporary)

    def load(self) -> tuple[Progress, dict[str, Any]] | None:
        """The saved state, or None where nothing was saved.

        Raises:
            ModelError: the file is damaged.
        """
        if not self.state_path.exists():
            return None
        try:
            # weights_only: tensors and plain containers, no pickled code.
            state = torch.load(self.state_path, map_location="cpu", weights_only=True)
            saved = json.loads(state.pop("progress"))
        except (RuntimeError, EOFError, KeyError, ValueError, OSError) as error:
            raise ModelError(
                f"this checkpoint can't be read ({error})",
                where=self.state_path,
                hint="remove the folder that it is in, to train from the start",
            ) from None
        best = tuple(BestEpoch(tuple(best["rank"]), best["epoch"]) for best in saved.pop("best"))
        return Progress(best=best, **saved), state

    def keep_best(
        self, best: Sequence[BestEpoch], epoch: BestEpoch, weights: dict[str, Tensor]
    ) -> tuple[BestEpoch, ...]:
        """Save an epoch's weights if it is among the best; returns the best, best first."""
        kept = sorted([*best, epoch])[: self.keep]
        if epoch in kept:
            with atomic_path(self._weights_path(epoch)) as temporary:
                save_file({name: tensor.contiguous() for name, tensor in weights.items()}, temporary)
        return tuple(kept)

    def prune(self, best: Sequence[BestEpoch]) -> None:
        """Remove the weights of epochs that are not among the best any more.

        To be called after the state that names the best was saved: a state never names a missing file.
        """
        names = {self._weights_path(epoch) for epoch in best}
        for path in self.folder.glob("epoch-*.safetensors"):
            if path not in names:
                path.unlink()

    def average(self, best: Sequence[BestEpoch]) -> dict[str, Tensor]:
        """The mean of the best epochs' weights (Izmailov et al. 2018, equal weights)."""
        sets = [load_file(self._weights_path(epoch)) for epoch in best]
        return {
            name: torch.stack([weights[name].double() for weights in sets]).mean(0).to(tensor.dtype)
            for name, tensor in sets[0].items()
        }

    def best_weights(self, best: Sequence[BestEpoch]) -> dict[str, Tensor]:
        """The weights of the best epoch."""
        return load_file(self._weights_path(best[0]))

    def _weights_path(self, epoch: BestEpoch) -> Path:
        return self.folder / f"epoch-{epoch.epoch:04d}.safetensors"
