"""Are the gradients right: those of autograd against central differences of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

STEPS = (1e-6, 1e-7)
"""Half the difference. In double precision the error of a smooth loss is about 1e-9 with the first. ReLUs or maxima
that change sides within it may cost 1e-4; fewer do within the second, which is tried where the first disagrees."""
TOLERANCE = 1e-4
"""Relative. A wrong formula costs 1e-2 or more, whatever the step (Karpathy, CS231n notes)."""
NEGLIGIBLE = 1e-8
"""Gradients that differ by as little as this agree: some are zero but for rounding, such as that of a bias before a
normalisation, or nearly so, such as that of one factor of all that is normalised then."""


@dataclass(frozen=True)
class Comparison:
    """The gradients of some weights of a layer, both ways.

    Attributes:
        name: of the layer.
        weights: how many were compared.
        analytic, numeric: L2 norms.
        error: norm of the difference over the larger of the two.
    """

    name: str
    weights: int
    analytic: float
    numeric: float
    error: float

    @property
    def right(self) -> bool:
        """Whether they agree."""
        return self.error <= TOLERANCE or self.error * max(self.analytic, self.numeric) <= NEGLIGIBLE


def check_gradients(
    model: nn.Module, loss: Callable[[], Tensor], generator: torch.Generator, weights: int = 8
) -> Iterator[Comparison]:
    """Compare the gradients of every layer.

    Args:
        model: in double precision, with parameters that `loss` depends on; it is left as it was.
        loss: computes the same scalar for the same weights.
        generator: draws the weights.
        weights: how many of each layer.

    Yields:
        A comparison for each module that holds parameters, in the model's order.
    """
    with InDouble():
        parameters = list(model.parameters())
        gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
        analytic = {
            parameter: torch.zeros_like(parameter) if gradient is None else gradient
            for parameter, gradient in zip(parameters, gradients, strict=True)
        }
        for name, module in model.named_modules():
            own = list(module.parameters(recurse=False))
            if own:
                yield _compare(name, own, [analytic[parameter] for parameter in own], loss, generator, weights)


class InDouble(TorchFunctionMode):
    """Inside, what asks for single precision gets double: models do for their losses, to be safe from bf16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch."""
        return func(*args, **(kwargs or {})) if func is not Tensor.float else args[0].double()


def _compare(
    name: str,
    parameters: Sequence[nn.Parameter],
    gradients: Sequence[Tensor],
    loss: Callable[[], Tensor],
    generator: torch.Generator,
    count: int,
) -> Comparison:
    sizes = torch.tensor([parameter.numel() for parameter in parameters])
    chosen = torch.randperm(int(sizes.sum()), generator=generator)[:count]
    owners = torch.bucketize(chosen, sizes.cumsum(0), right=True)
    places = chosen - (sizes.cumsum(0) - sizes)[owners]
    pairs = [(int(owner), int(place)) for owner, place in zip(owners, places, strict=True)]
    analytic = torch.stack([gradients[owner].flatten()[place] for owner, place in pairs]).cpu()
    for step in STEPS:
        numeric = torch.tensor([_difference(parameters[owner], place, loss, step) for owner, place in pairs])
        norms = analytic.norm().item(), numeric.norm().item()
        found = Comparison(name, len(pairs), *norms, (analytic - numeric).norm().item() / max(*norms, 1e-300))
        if found.right:
            break
    return found


@torch.no_grad()
def _difference(parameter: nn.Parameter, place: int, loss: Callable[[], Tensor], step: float) -> float:
    weight = parameter.view(-1)
    before = weight[place].item()
    losses = []
    for moved in (before + step, before - step):
        weight[place] = moved
        losses.append(loss().item())
    weight[place] = before
    return (losses[0] - losses[1]) / (2 * step)
