"""Normalisations that see valid frames only, by the names that recipes use.

All take `x` (batch, channels, time[, bins]) and a mask of its valid frames, (batch, 1, time[, 1]) booleans. What
stands past the valid frames does not matter, before or after, as long as it is finite. Each channel has a scale and
a shift of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedBatchNorm(nn.Module):
    """Each channel over the valid frames (and bins) of the whole batch (Ioffe and Szegedy 2015).

    In evaluation it is the usual affine map with running statistics, kept as in `torch.nn.BatchNorm2d`.

    Attributes:
        total: adds up a tensor over the processes that share the batch, with gradients; None if it is not shared.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.total: Callable[[Tensor], Tensor] | None = None
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise; see the head of this file for the shapes."""
        mean, var = self._batch_statistics(x, mask) if self.training else (self.running_mean, self.running_var)
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        return x * _per_channel(scale, x).to(x.dtype) + _per_channel(shift, x).to(x.dtype)

    def _batch_statistics(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x, valid = x.float(), mask.float()
        dims = [dim for dim in range(x.ndim) if dim != 1]
        total = self._over_all(mask.sum() * math.prod(x.shape[3:]))
        count = total.clamp(min=1)
        mean = self._over_all((x * valid).sum(dims)) / count
        var = self._over_all(((x - _per_channel(mean, x)) * valid).square().sum(dims)) / count
        with torch.no_grad():
            unbiased = var * (count / (count - 1).clamp(min=1))
            share = self.momentum * (unbiased.isfinite() & (total > 0)).to(unbiased)  # none where a batch overflows
            self.running_mean.lerp_(mean.nan_to_num(), share)
            self.running_var.lerp_(unbiased.nan_to_num(), share)
        return mean, var

    def _over_all(self, sums: Tensor) -> Tensor:
        return sums if self.total is None else self.total(sums)


class FrameLayerNorm(nn.Module):
    """Each frame over its channels and bins (Ba et al. 2016); frames never meet, so padding can't either."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise; see the head of this file for the shapes."""
        frames = x.transpose(1, 2)  # (batch, time, channels[, bins])
        bins = math.prod(x.shape[3:])
        weight, bias = (per_channel[:, None].expand(-1, bins).flatten() for per_channel in (self.weight, self.bias))
        y = F.layer_norm(frames.flatten(2), weight.shape, weight, bias, self.eps)
        return y.view(frames.shape).transpose(1, 2)


class MaskedGroupNorm(nn.Module):
    """Each group of an utterance's channels over its valid frames and bins (Wu and He 2018).

    With a group for each channel it is instance normalisation (Ulyanov et al. 2016).
    """

    def __init__(self, channels: int, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise; see the head of this file for the shapes."""
        batch, channels, time = x.shape[:3]
        grouped = x.float().reshape(batch, self.groups, channels // self.groups, time, -1)
        valid = mask.view(batch, 1, 1, time, 1).float()
        count = (valid.sum(3, keepdim=True) * grouped.shape[2] * grouped.shape[4]).clamp(min=1)

        def mean(values: Tensor) -> Tensor:
            return (values * valid).sum((2, 3, 4), keepdim=True) / count

        # Centred before it is scaled: the scale is large where an utterance is so short that it hardly varies.
        centred = grouped - mean(grouped)
        y = (centred * torch.rsqrt(mean(centred.square()) + self.eps)).view(x.shape)
        return (y * _per_channel(self.weight, x) + _per_channel(self.bias, x)).to(x.dtype)


NORMALIZATIONS: dict[str, Callable[[int, int], nn.Module | None]] = {
    "batch": lambda channels, _: MaskedBatchNorm(channels),
    "layer": lambda channels, _: FrameLayerNorm(channels),
    "group": lambda channels, groups: MaskedGroupNorm(channels, math.gcd(groups, channels)),
    "instance": lambda channels, _: MaskedGroupNorm(channels, channels),
    "weight": lambda *_: None,  # of the weights, not of what they make: see `weight_norm`
    "none": lambda *_: None,
}
"""What makes a normalisation of so many channels, in at most so many groups."""


def weight_norm(direction: Tensor, gain: Tensor) -> Tensor:
    """Weights of which each output channel has the L2 norm that `gain` says (Salimans and Kingma 2016).

    Args:
        direction: (outputs, inputs, …), of which only the direction counts.
        gain: (outputs,).
    """
    norms = torch.linalg.vector_norm(direction.flatten(1), dim=1)
    scale: Tensor = gain / norms
    return direction * scale.view(-1, *(1,) * (direction.ndim - 1))


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """Values (channels,) shaped to meet `x` (batch, channels, …)."""
    return values.view(1, -1, *(1,) * (x.ndim - 2))
