"""What a step does to each layer: how large its gradient is, how far it moves, which of its units are dead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from asr.lengths import valid_mask

EVERY = 50
"""Steps, from one that is watched to the next; the first of an epoch is one. Watching costs a copy of the weights
and a few norms, some hundredths of a step, which is nothing once spread over this many."""

_KEY = "watch"  # in front of the sums' names, which are "watch LAYER FIGURE"


@contextmanager
def watched_step(model: nn.Module) -> Iterator[dict[str, float]]:
    """Watch the forward and backward pass and the update that the block does, without changing any of them.

    Yields:
        Filled when the block ends: for each layer the L2 norms of its weights, of their gradient (clipped, as the
        optimiser sees it) and of their update; for each layer with ReLUs, the share of its channels that are
        zero in the whole batch, before dropout. `averages` makes something readable of the sums of many.
    """
    matrices = _matrices(model)
    before = {name: [weight.detach().clone() for weight in weights] for name, weights in matrices.items()}
    figures: dict[str, float] = {}
    with _dead_channels(model) as dead:
        yield figures
    for name, weights in matrices.items():
        moved = [weight.detach() - old for weight, old in zip(weights, before[name], strict=True)]
        figures[f"{_KEY} {name} gradient"] = _norm([weight.grad for weight in weights])
        figures[f"{_KEY} {name} weight"] = _norm(before[name])
        figures[f"{_KEY} {name} update"] = _norm(moved)
        figures[f"{_KEY} {name} size"] = sum(weight.numel() for weight in weights)
    figures |= {f"{_KEY} {name} dead": share for name, share in dead.items()}
    figures[_KEY] = 1


def is_due(sums: Mapping[str, float], steps: float) -> bool:
    """Whether to watch the next step of an epoch, which has learnt from so many.

    Where gradients are scaled, the first steps may be skipped until the scale is found: they do not count.
    """
    return EVERY * sums.get(_KEY, 0) <= steps


def averages(sums: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """What the watched steps of an epoch say of each layer, in the order of the model.

    Args:
        sums: of what `watched_step` yielded, among other things.

    Returns:
        For each layer with weights: gradient (root mean square over the weights), and update_ratio (norm of the
        update over that of the weights: about 1e-3 is healthy, a rule of thumb of Bottou's that Karpathy's CS231n
        notes hand on). For each layer with ReLUs: dead (share of its channels).
    """
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for key, value in sums.items():
        if key.startswith(f"{_KEY} "):
            _, name, figure = key.split(" ")
            found[name][figure] = value / sums[_KEY]
    return {name: dict(_readable(figures)) for name, figures in found.items()}


def _readable(figures: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    if "gradient" in figures:
        yield "gradient", figures["gradient"] / figures["size"] ** 0.5
        yield "update_ratio", figures["update"] / max(figures["weight"], torch.finfo(torch.float).tiny)
    if "dead" in figures:
        yield "dead", figures["dead"]


def _matrices(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The matrices that each module holds itself; biases start at zero, where a ratio says nothing.

    One without a weight is left out, as an adaptive softmax of a narrow network has in its tail.
    """
    found = {
        name: [
            weight
            for weight in module.parameters(recurse=False)
            if weight.ndim > 1 and weight.requires_grad and weight.numel()
        ]
        for name, module in model.named_modules()
    }
    return {name: weights for name, weights in found.items() if weights}


def _norm(tensors: list[Any]) -> float:
    norms = [torch.linalg.vector_norm(tensor.float()) for tensor in tensors if tensor is not None]
    return float(torch.stack(norms).norm()) if norms else 0.0


@contextmanager
def _dead_channels(model: nn.Module) -> Iterator[dict[str, float]]:
    """Measure the modules that hold a ReLU and return (output, lengths).

    What counts is what the ReLU gives in valid frames: dropout silences channels that live, and padding, which is
    masked only later, may be above zero where no sound is.
    """
    shares: dict[str, float] = {}
    active: dict[str, Tensor] = {}

    def note(name: str, output: Tensor) -> None:
        active[name] = output.detach() != 0  # (batch, channels, time[, bins])

    def measure(name: str, lengths: Tensor) -> None:
        x = active.pop(name).transpose(1, 2)
        alive = x[valid_mask(lengths, x.shape[1])].transpose(0, 1).flatten(1).any(1)  # (channels,)
        shares[name] = float((~alive).float().mean())

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            for child in module.children():
                if isinstance(child, nn.ReLU):
                    inner = child.register_forward_hook(lambda _, __, output, name=name: note(name, output))
                    outer = module.register_forward_hook(lambda _, __, output, name=name: measure(name, output[1]))
                    hooks.callback(inner.remove)
                    hooks.callback(outer.remove)
        yield shares
