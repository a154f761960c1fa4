"""Activation functions, by the names that recipes use."""

from __future__ import annotations

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,  # Maas et al. 2013, slope 0.01
    "elu": nn.ELU,  # Clevert et al. 2016
    "selu": nn.SELU,  # Klambauer et al. 2017
    "gelu": nn.GELU,  # Hendrycks and Gimpel 2016, exact
    "mish": nn.Mish,  # Misra 2020
    "softplus": nn.Softplus,  # Dugas et al. 2001
    "tanh": nn.Tanh,
    "hard_tanh": nn.Hardtanh,  # Collobert 2004
}
"""Not all of them leave zero alone, so a mask comes after an activation, not before it."""
