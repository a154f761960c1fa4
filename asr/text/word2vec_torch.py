"""Word2vec in large batches, on any device that PyTorch has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.errors import ConfigError
from asr.text.word2vec_model import HIERARCHICAL, SAMPLED, Learn, Model, Piece

LIMIT = 3.2
"""By how many times its mean gradient a vector may move in one batch, while the learning rate is at its start.

The pairs of words in a batch know nothing of each other, and the sum of very many overshoots: on half a million
words, vectors come out as good as the numba engine's with 3.2, and useless with 6.4.
"""


@dataclass(frozen=True, eq=False)
class _Tensors:
    """A model on a device."""

    model: Model
    pairs: float  # of words, which may move a vector in one batch; more of them each move it less
    inputs: Tensor
    outputs: Tensor
    share: Tensor
    other: Tensor
    log_expected: Tensor
    offsets: Tensor
    nodes: Tensor
    turns: Tensor


@dataclass(frozen=True, eq=False)
class _Targets:
    """The outputs that are to tell centre words from others, each (centres, targets)."""

    rows: Tensor
    labels: Tensor
    used: Tensor


def piece(words: int) -> int:
    """How many words of a text make a batch: few where there are few different ones, which then come often."""
    return min(max(words, 64), 4096)


def check(device: str) -> None:
    """See that PyTorch can compute on a device.

    Raises:
        ConfigError: it can't.
    """
    try:
        torch.zeros(1, device=device).item()
    except (AssertionError, ImportError, RuntimeError):  # which of them goes by the kind of device
        message, hint = f"PyTorch has no device “{device}” here", "`asr doctor` shows what it finds"
        raise ConfigError(message, expected="cpu, cuda or cuda:N", hint=hint) from None


@contextmanager
def training(model: Model, device: str, rate: float) -> Iterator[Learn]:
    """Train a model on a device, a batch to a piece of text; afterwards its arrays hold the outcome.

    Args:
        model: the model.
        device: as PyTorch names it.
        rate: the learning rate at the start.
    """
    arrays = (model.inputs, model.outputs, *model.noise, model.log_expected, *model.paths)
    tensors = _Tensors(model, LIMIT / rate, *(torch.from_numpy(array).to(device) for array in arrays))

    def learn(pieces: Iterable[Piece]) -> None:
        for each in pieces:
            generator = torch.Generator(device).manual_seed(each.seed)
            _learn(tensors, _on(device, each.ids), each.rate, generator)

    yield learn
    model.inputs[:] = tensors.inputs.cpu().numpy()
    model.outputs[:] = tensors.outputs.cpu().numpy()


def _on(device: str, ids: NDArray[np.int32]) -> Tensor:
    return torch.from_numpy(ids.astype(np.int64)).to(device)


def _learn(tensors: _Tensors, ids: Tensor, rate: float, generator: torch.Generator) -> None:
    centres, context, near = _windows(ids, tensors.model.window, generator)
    if not len(centres):
        return
    targets = _find_targets(tensors, centres, generator)
    width = near.sum(1)[:, None, None]
    hidden = tensors.inputs[context] * near[:, :, None]
    present = near
    if tensors.model.cbow:
        hidden, present = hidden.sum(1, keepdim=True) / width, torch.ones_like(near[:, :1])
    outputs = tensors.outputs[targets.rows]
    errors = _errors(tensors, hidden @ outputs.mT, targets) * present[:, :, None] * rate
    gradient = errors @ outputs
    if tensors.model.cbow:
        gradient = gradient * near[:, :, None]
    _move(tensors.inputs, context, near, gradient, tensors.pairs)
    pairs = targets.used * present.sum(1, keepdim=True)
    _move(tensors.outputs, targets.rows, pairs, errors.mT @ hidden, tensors.pairs)


def _windows(ids: Tensor, window: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Centre words that have a context.

    Returns:
        The words (centres,), those around them (centres, 2 × window), and which of these are in reach.
    """
    sentence = (ids < 0).cumsum(0)
    offsets = torch.arange(-window, window + 1, device=ids.device)
    offsets = offsets[offsets != 0]
    positions = torch.arange(len(ids), device=ids.device)[:, None] + offsets
    inside = (positions >= 0) & (positions < len(ids))
    positions = positions.clamp(0, len(ids) - 1)
    reach = torch.randint(1, window + 1, (len(ids), 1), device=ids.device, generator=generator)
    near = inside & (offsets.abs() <= reach) & (sentence[positions] == sentence[:, None]) & (ids[positions] >= 0)
    chosen = (ids >= 0) & near.any(1)
    centres, near = ids[chosen], near[chosen]
    return centres, torch.where(near, ids[positions[chosen]], centres[:, None]), near


def _find_targets(tensors: _Tensors, centres: Tensor, generator: torch.Generator) -> _Targets:
    if tensors.model.objective == HIERARCHICAL:
        first, length = tensors.offsets[centres], tensors.offsets[centres + 1] - tensors.offsets[centres]
        steps = torch.arange(int(length.max()), device=centres.device)
        places = (first[:, None] + steps).clamp(max=len(tensors.nodes) - 1)
        return _Targets(tensors.nodes[places], tensors.turns[places].float(), steps < length[:, None])
    drawn = _draw(tensors, len(centres), generator)
    rows = torch.cat([centres[:, None], drawn], 1)
    labels = torch.zeros(rows.shape, device=rows.device)
    labels[:, 0] = 1
    return _Targets(rows, labels, (rows != centres[:, None]) | (labels == 1))


def _draw(tensors: _Tensors, centres: int, generator: torch.Generator) -> Tensor:
    """Words for each centre word: (centres, samples)."""
    shape, device = (centres, tensors.model.samples), tensors.share.device
    index = torch.randint(len(tensors.share), shape, device=device, generator=generator)
    kept = torch.rand(shape, device=device, generator=generator) < tensors.share[index]
    return torch.where(kept, index, tensors.other[index].long())


def _errors(tensors: _Tensors, scores: Tensor, targets: _Targets) -> Tensor:
    """Label - probability: (centres, hidden vectors, targets)."""
    used = targets.used[:, None, :]
    if tensors.model.objective == SAMPLED:
        scores = scores - tensors.log_expected[targets.rows][:, None, :]
        probabilities = scores.masked_fill(~used, -torch.inf).softmax(-1)
    else:
        probabilities = scores.sigmoid()
    return (targets.labels[:, None, :] - probabilities) * used


def _move(vectors: Tensor, rows: Tensor, pairs: Tensor, gradient: Tensor, limit: float) -> None:
    """Add gradients to rows of vectors, each of so many pairs of words; less of each where these exceed a limit."""
    rows = rows.reshape(-1).long()
    total = torch.zeros(len(vectors), device=vectors.device).index_add_(0, rows, pairs.reshape(-1).float())
    scale = limit / total.clamp(min=limit)
    vectors.index_add_(0, rows, gradient.reshape(len(rows), -1) * scale[rows][:, None])
