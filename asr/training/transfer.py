"""Beginning with the weights of another model: what fits is copied, the rest stays as it was drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from asr.errors import some
from asr.training.optimizers import layer_of

HEAD = "head"
"""The layer of which the tensors have a row for each token."""
MOST_SYMBOLS_SHOWN = 10


@dataclass(frozen=True)
class LayerTransfer:
    """What became of a layer.

    Attributes:
        name: of the layer.
        copied: its modules that were taken over; of the output layer, their rows of shared tokens.
        misfits: those that have other shapes there, with the shapes.
        missing: those that are not there.
    """

    name: str
    copied: tuple[str, ...]
    misfits: Mapping[str, str]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Transfer:
    """What was taken over from a model.

    Attributes:
        layers: of the new model, from the input to the output.
        shared: surfaces of the tokens that both models have, the blank left out.
        added: those that only the new one has.
        dropped: those that only the old one has.
        unused: layers that only the old one has.
    """

    layers: tuple[LayerTransfer, ...]
    shared: tuple[str, ...]
    added: tuple[str, ...]
    dropped: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def anything(self) -> bool:
        """Whether more than the blank was taken over."""
        copied = {layer.name for layer in self.layers if layer.copied}
        return bool(copied if self.shared else copied - {HEAD})

    def __str__(self) -> str:
        """A table for the terminal."""
        width = max(len(layer.name) for layer in self.layers)
        lines = [f"{'layer':{width}}  weights"]
        for layer in self.layers:
            lines.append(f"{layer.name:{width}}  {self._fate(layer)}")
            lines += [f"  {module}: {shapes}" for module, shapes in layer.misfits.items()]
        lines += [f"{layer:{width}}  only in that model" for layer in self.unused]
        return "\n".join(lines)

    def _fate(self, layer: LayerTransfer) -> str:
        if not layer.copied:
            return "new"
        if layer.misfits or layer.missing:
            return f"partly: {', '.join(layer.copied)}"
        if layer.name != HEAD or not self.added:
            return "copied"
        number = f"{len(self.shared)} of {len(self.shared) + len(self.added)} symbols"
        return f"partly: {number} and the blank; new: {some_tokens(self.added)}"


@torch.no_grad()
def transfer(
    source: Mapping[str, Tensor], source_surfaces: Sequence[str], target: nn.Module, surfaces: Sequence[str]
) -> Transfer:
    """Copy what fits from a model into another one, in place.

    A module is copied, statistics of batch normalisation included, where all its tensors have the same names and
    shapes there: one matrix of a recurrent layer without the others means nothing. In the output layer, it is
    the row of each token whose surface both models have, and blank goes to blank.

    Args:
        source: state of the model to begin with.
        source_surfaces: of its tokens, "" for the blank, which is the first.
        target: an acoustic model with new weights.
        surfaces: of its tokens.
    """
    rows = {surface: row for row, surface in enumerate(source_surfaces)}
    here = [row for row, surface in enumerate(surfaces) if surface in rows]
    there = [rows[surfaces[row]] for row in here]
    layers = tuple(
        _transfer_layer(layer, members, source, (here, there) if layer == HEAD else None)
        for layer, members in groupby(target.state_dict().items(), key=lambda item: layer_of(item[0]))
    )
    names = {layer.name for layer in layers}
    return Transfer(
        layers=layers,
        shared=tuple(surface for surface in surfaces[1:] if surface in rows),
        added=tuple(surface for surface in surfaces[1:] if surface not in rows),
        dropped=tuple(surface for surface in source_surfaces[1:] if surface not in set(surfaces)),
        unused=tuple(dict.fromkeys(layer for name in source if (layer := layer_of(name)) not in names)),
    )


def _transfer_layer(
    layer: str,
    members: Iterator[tuple[str, Tensor]],
    source: Mapping[str, Tensor],
    rows: tuple[list[int], list[int]] | None,
) -> LayerTransfer:
    """Copy the modules of a layer that fit: all of their rows, or those here from those there."""
    copied, misfits, missing = [], {}, []
    for module, tensors in _modules(members):
        name = module.removeprefix(f"{layer}.")
        faults = list(_misfits(source, module, tensors, rowwise=rows is not None))
        if not all(f"{module}.{tensor}" in source for tensor in tensors):
            missing.append(name)
        elif faults:
            misfits[name] = "; ".join(faults)
        else:
            copied.append(name)
            for tensor, values in tensors.items():
                here, there = rows or (..., ...)
                values[here] = source[f"{module}.{tensor}"][there]
    return LayerTransfer(layer, tuple(copied), misfits, tuple(missing))


def _modules(state: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The modules of a part of a model, each with its own tensors."""
    for module, tensors in groupby(state, key=lambda item: item[0].rpartition(".")[0]):
        yield module, {name.rpartition(".")[2]: tensor for name, tensor in tensors}


def _misfits(
    source: Mapping[str, Tensor], module: str, tensors: Mapping[str, Tensor], rowwise: bool
) -> Iterator[str]:
    """Both shapes of each tensor that has another one there; of what counts row by row, but for the rows."""
    for name, tensor in tensors.items():
        old = source.get(f"{module}.{name}")
        if old is not None and old.shape[rowwise:] != tensor.shape[rowwise:]:
            yield f"{name} is {list(old.shape)} there, {list(tensor.shape)} here"


def some_tokens(surfaces: Sequence[str]) -> str:
    """Some tokens, for a message."""
    return some([surface.strip() or "the space" for surface in surfaces], MOST_SYMBOLS_SHOWN)
