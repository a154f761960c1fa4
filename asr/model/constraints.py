"""Constraints on weights, to be put back in force after each step of an optimiser."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def limit_norms(model: nn.Module, most: float) -> None:
    """Scale down the incoming weights of each unit whose L2 norm is above `most` (Srivastava et al. 2014).

    A unit is a row of a matrix or an output channel of a convolution; each gate of a recurrent unit counts by
    itself, its weights from the input apart from those between hidden states. Biases and normalisations stay,
    and so does what is frozen. Of normalised weights the norm is the gain, which is limited then.
    """
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.rpartition(".")[2] == "gain":
            parameter.clamp_(-most, most)
        elif parameter.ndim > 1:
            parameter.renorm_(p=2, dim=0, maxnorm=most)
