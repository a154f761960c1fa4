"""What a training leaves on disk: the state to go on from, and the weights of its best epochs."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from asr.errors import ConfigError, ModelError, listing
from asr.files import read_record, remove_partial, write_bytes, write_json
from asr.reporting import Reporter

_FINGERPRINT = re.compile("[0-9a-f]{16}")
_START_AGAIN = "remove the folder that it is in, to train from the start"


@dataclass(frozen=True, order=True)
class BestEpoch:
    """An epoch whose weights are kept; the smaller rank is the better. The digest is that of their file."""

    rank: tuple[float, float]
    epoch: int
    digest: str = field(default="", compare=False)


@dataclass
class Progress:
    """Where a training stands: a whole number of steps.

    Attributes:
        epoch: the one under way, counted from 1.
        batch: how many of its batches are done.
        batches: how many it has.
        step: how many steps are done in all.
        totals: sums over the steps of this epoch.
        infinite: the examples that had an infinite loss, each with the epoch in which that was first seen.
        best: the best epochs so far, best first.
        log: what the log held when this was saved; what its file has besides was never trained.
    """

    epoch: int = 1
    batch: int = 0
    batches: int = 0
    step: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    infinite: dict[str, int] = field(default_factory=dict)
    best: tuple[BestEpoch, ...] = ()
    log: str = ""

    def __str__(self) -> str:
        return f"epoch {self.epoch}, step {self.step}"


def claim(
    record: Path, settings: Mapping[str, Any], overwrite: bool, clear: Callable[[], None], what: str = "training"
) -> None:
    """Make a folder that of a training with these settings, unless one with others is there.

    Args:
        record: the file in the folder that tells the settings.
        settings: what decides the outcome.
        overwrite: whether to throw away a training with others.
        clear: removes all of it.
        what: is done in the folder, if it is more than a training.

    Raises:
        ConfigError: one is there, or its record is damaged, and it is not to be overwritten.
    """
    before = read_record(record) if record.is_file() else settings
    if before != settings:
        if not overwrite:
            raise (
                other_training(record.parent, before, settings, what) if before else unknown_training(record, what)
            )
        clear()
    write_json(record, settings)


def other_training(
    folder: Path,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    what: str = "training",
    files: Sequence[str] = (),
    start: str | None = None,
) -> ConfigError:
    """What to raise where a folder holds a training with other settings, which took somebody's time.

    Args:
        folder: where it is.
        before: its settings, and fingerprints.
        now: those that are wanted.
        what: it is.
        files: how files that it depends on have changed, a line for each.
        start: the setting with which another one begins where it has ended, if it has.
    """
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    lines = [*(_difference(name, before.get(name), now.get(name)) for name in changed), *files]
    back = "what has changed as it was, to go on with it; " if files else ""
    begun = f" ({start} begins it with what is learnt here)" if start else ""
    return ConfigError(
        f"a {what} with other {'settings' if changed else 'data'} is in this folder\n" + listing(lines, len(lines)),
        where=folder,
        hint=f"{back}--run-dir for a new folder{begun}, or --overwrite to throw the old {what} away",
    )


def unknown_training(record: Path, what: str) -> ConfigError:
    """What to raise where the record of a training, or of a stage that trains, is damaged."""
    return ConfigError(
        f"this record of the {what} is damaged, so its settings and how far it has come are not known",
        where=record,
        hint="bring the file back to go on; else --run-dir for a new folder, or --overwrite to train anew",
    )


def _difference(name: str, before: Any, now: Any) -> str:
    if _FINGERPRINT.fullmatch(f"{before}") or _FINGERPRINT.fullmatch(f"{now}"):  # which tell a reader nothing
        return f"{name}: not the same there and now"
    return f"{name}: {before} there, {now} now"


class Checkpoints:
    """The folder of a training's checkpoints.

    The state is saved to two files in turn: whatever happens to the newest, the one before is whole. Each ends with
    the SHA-256 of all that stands before it, and names the weights of the best epochs with theirs. The sums are of
    what was to be written, so a fault on the way to the disk shows when a file is read. (Reading each file after
    writing it would only ask the system's cache.)

    Args:
        folder: created when something is saved.
        keep: how many of the best epochs' weights to keep.
        reporter: told of damaged files.
    """

    def __init__(self, folder: Path, keep: int, reporter: Reporter) -> None:
        self.folder, self.keep, self.reporter = folder, keep, reporter
        self.state_path, self._next_path = folder / "state-2.pt", folder / "state-1.pt"
        self._named: dict[Path, tuple[BestEpoch, ...]] = {}

    def save(self, progress: Progress, state: dict[str, Any]) -> None:
        """Save the state to go on from, beside the one before; remove weights that neither of them names.

        Raises:
            DiskFullError: both states, and the weights that they name, are as they were.
        """
        write_bytes(self._next_path, _sealed({"progress": json.dumps(asdict(progress)), **state}))
        self.state_path, self._next_path = self._next_path, self.state_path
        self._named[self.state_path] = progress.best
        self._prune()

    def load(self) -> tuple[Progress, dict[str, Any]] | None:
        """The newest state that is sound, or None where nothing was saved.

        Raises:
            ModelError: all that was saved is damaged.
        """
        remove_partial(self.folder)
        states, faults = {}, []
        for path in (self.state_path, self._next_path):
            try:
                states[path] = _read_state(path)
            except FileNotFoundError:
                pass
            except PermissionError as error:
                raise ModelError(f"this checkpoint may not be read ({error.strerror})", where=path) from None
            except (RuntimeError, EOFError, KeyError, TypeError, ValueError, OSError) as error:
                faults.append(f"{path}: this checkpoint can't be read ({error})")
        if faults and not states:
            raise ModelError("\n".join(faults), hint=_START_AGAIN)
        if not states:
            return None
        self._named = {path: progress.best for path, (progress, _) in states.items()}
        # Not by the batch first: where memory was short, an epoch begins anew.
        newest = max(states, key=lambda path: (states[path][0].step, states[path][0].epoch, states[path][0].batch))
        if newest != self.state_path:
            self.state_path, self._next_path = self._next_path, self.state_path
        for fault in faults:
            self.reporter.warn(f"{fault}; training goes on from {newest.name}, at {states[newest][0]}")
        return states[newest]

    def keep_best(
        self, best: Sequence[BestEpoch], epoch: BestEpoch, weights: dict[str, Tensor]
    ) -> tuple[BestEpoch, ...]:
        """Save an epoch's weights if it is among the best; returns the best, best first.

        Raises:
            DiskFullError: there is no room for them.
        """
        kept = sorted([*best, epoch])[: self.keep]
        if epoch in kept:
            content = to_safetensors({name: tensor.cpu().contiguous() for name, tensor in weights.items()})
            write_bytes(self._weights_path(epoch), content)
            kept[kept.index(epoch)] = replace(epoch, digest=hashlib.sha256(content).hexdigest())
        return tuple(kept)

    def weights(self, best: Sequence[BestEpoch]) -> dict[BestEpoch, dict[str, Tensor]]:
        """The weights of the best epochs, best first, without those whose files are missing or damaged.

        Raises:
            ModelError: all are.
        """
        found, faults = {}, []
        for epoch in best:
            path = self._weights_path(epoch)
            content = path.read_bytes() if path.exists() else b""
            if hashlib.sha256(content).hexdigest() == epoch.digest:
                found[epoch] = from_safetensors(content)
            else:
                fault = "damaged" if path.exists() else "missing"
                faults.append(f"{path}: the weights of epoch {epoch.epoch} are {fault}")
        if not found:
            raise ModelError("\n".join(faults), hint=_START_AGAIN)
        for fault in faults:
            self.reporter.warn(f"{fault}; they are left out, {len(found)} of the best epochs remain")
        return found

    def _prune(self) -> None:
        """Remove weights that no state names: only after it was saved, so that none ever names a missing file."""
        names = {self._weights_path(epoch) for best in self._named.values() for epoch in best}
        for path in self.folder.glob("epoch-*.safetensors"):
            if path not in names:
                with suppress(PermissionError):  # Windows removes no file that is open; the next time will do
                    path.unlink()

    def _weights_path(self, epoch: BestEpoch) -> Path:
        return self.folder / f"epoch-{epoch.epoch:04d}.safetensors"


def average(sets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of sets of weights (Izmailov et al. 2018, equal weights)."""
    return {
        name: torch.stack([weights[name].double() for weights in sets]).mean(0).to(tensor.dtype)
        for name, tensor in sets[0].items()
    }


def _sealed(state: dict[str, Any]) -> bytes:
    """A state as `torch.save` writes it, and its digest, which `torch.load` does not mind."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
    return buffer.getvalue()


def _read_state(path: Path) -> tuple[Progress, dict[str, Any]]:
    content = memoryview(path.read_bytes())
    size = hashlib.sha256().digest_size
    if hashlib.sha256(content[:-size]).digest() != content[-size:]:
        raise ValueError("it is damaged: its content does not match its checksum")
    # weights_only: tensors and plain containers, no pickled code.
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    saved = json.loads(state.pop("progress"))
    best = tuple(BestEpoch(**{**epoch, "rank": tuple(epoch["rank"])}) for epoch in saved.pop("best"))
    return Progress(best=best, **saved), state
