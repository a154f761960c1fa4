"""Sampled softmax: the loss over many units, estimated from a few that are drawn."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sampled_nll(
    x: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, samples: Tensor, log_expected: Tensor
) -> Tensor:
    """Negative log-likelihoods, with the sum over all units estimated from a sample of them.

    With importance weights on the samples, the expectation of the estimated sum is the sum itself (Bengio & Senécal
    2008, "Adaptive importance sampling to accelerate training of a neural probabilistic language model"; one sample
    for a whole batch: Jean et al. 2015, "On using very large target vocabulary for neural machine translation"). A
    target's own term is always in the sum, so it does not count again as a sample.

    Args:
        x: (n, width).
        targets: (n,) numbers of the units to predict.
        weight: (units, width).
        bias: (units,).
        samples: (samples,) different units.
        log_expected: (samples,) logarithms of how often each was expected to be drawn, over how often it was.

    Returns:
        (n,) estimates.
    """
    true = (x * weight[targets]).sum(1) + bias[targets]
    noise = F.linear(x, weight[samples]) + (bias[samples] - log_expected)
    noise = noise.masked_fill(samples[None, :] == targets[:, None], -math.inf)
    return torch.logsumexp(torch.cat([true[:, None], noise], 1), 1) - true


def draw_log_uniform(size: int, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw units with a probability that falls as one over their place, as that of words does (Zipf 1949).

    Args:
        size: number of units, the most frequent first.
        draws: how many, with replacement.
        generator: whose device gets the result.

    Returns:
        The units that were drawn at least once, and `log_expected` of each: see `sampled_nll`.
    """
    uniform = torch.rand(draws, generator=generator, device=generator.device, dtype=torch.float64)
    drawn = torch.expm1(uniform * math.log(size + 1)).long().clamp(max=size - 1)
    samples, counts = torch.unique(drawn, return_counts=True)
    probability = torch.log1p(1 / (samples.double() + 1)) / math.log(size + 1)
    return samples, (draws * probability / counts).log().float()
