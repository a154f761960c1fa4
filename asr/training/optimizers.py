"""Optimisers by name, and the groups of parameters that they treat alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop

from asr.errors import ConfigError

Group = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """How gradients become steps.

    Attributes:
        name: one of `OPTIMIZERS`.
        momentum: of momentum and nesterov: what is kept of the step before.
        betas: of adam, adamw and nadam: what is kept of the mean of gradients, and of that of their squares.
        rho: of adadelta and rmsprop: what is kept of the mean of squares.
    """

    name: str = "adamw"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.98)
    rho: float = 0.95


OPTIMIZERS: dict[str, Callable[[list[Group], float, Rule], Optimizer]] = {
    "sgd": lambda groups, rate, _: SGD(groups, rate, fused=True),
    "momentum": lambda groups, rate, rule: SGD(groups, rate, rule.momentum, fused=True),
    "nesterov": lambda groups, rate, rule: SGD(groups, rate, rule.momentum, nesterov=True, fused=True),
    "adagrad": lambda groups, rate, _: Adagrad(groups, rate, fused=True),
    "adadelta": lambda groups, rate, rule: Adadelta(groups, rate, rule.rho),
    "rmsprop": lambda groups, rate, rule: RMSprop(groups, rate, rule.rho),
    "adam": lambda groups, rate, rule: Adam(groups, rate, rule.betas, fused=True),
    "adamw": lambda groups, rate, rule: AdamW(groups, rate, rule.betas, fused=True),
    "nadam": lambda groups, rate, rule: NAdam(groups, rate, rule.betas),
}
"""Torch's, fused where torch has that: Robbins and Monro 1951, Polyak 1964, Sutskever et al. 2013, Duchi et al.
2011, Zeiler 2012, Tieleman and Hinton 2012, Kingma and Ba 2015, Loshchilov and Hutter 2019, Dozat 2016. A group's
weight decay is decoupled in adamw; in the others it is added to the gradient, as that of an L2 penalty."""


def parameter_groups(
    model: nn.Module, weight_decay: float, rates: Mapping[str, float] | None = None
) -> list[Group]:
    """Matrices with weight decay; biases and normalisation, which are vectors, without.

    Args:
        model: its parameters of which the rate is 0 are frozen: they want no gradient any more.
        weight_decay: of matrices.
        rates: what the learning rate of a part of the model, such as "encoder" or "encoder.layers.0", is
            multiplied by; a part within another one goes by its own, everything else by 1.

    Returns:
        Two groups for each rate, which is their "rate".

    Raises:
        ConfigError: a part is not there, or nothing is left to train.
    """
    rates = rates or {}
    parameters = dict(model.named_parameters())
    _check_parts(model, rates)
    groups: dict[float, tuple[Group, Group]] = {}
    for name, parameter in parameters.items():
        rate = _rate(name, rates)
        if rate == 0:
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        if rate not in groups:
            groups[rate] = (
                {"params": [], "weight_decay": weight_decay, "rate": rate},
                {"params": [], "weight_decay": 0.0, "rate": rate},
            )
        matrices, vectors = groups[rate]
        (matrices if parameter.ndim > 1 else vectors)["params"].append(parameter)
    if not groups:
        raise ConfigError("every part of the model is frozen", expected="one to train")
    return [group for pair in groups.values() for group in pair]


def _rate(name: str, rates: Mapping[str, float]) -> float:
    """That of the smallest part which a parameter belongs to."""
    parts = [part for part in rates if _belongs(name, part)]
    return rates[max(parts, key=len)] if parts else 1.0


def _belongs(name: str, part: str) -> bool:
    return f"{name}.".startswith(f"{part}.")


def _check_parts(model: nn.Module, rates: Mapping[str, float]) -> None:
    names = [name for name, _ in model.named_parameters()]
    for part in rates:
        if not any(_belongs(name, part) for name in names):
            top = ", ".join(sorted({name.partition(".")[0] for name in names}))
            raise ConfigError(f"the model has no part {part!r} with weights", expected=f"{top}, or parts of these")
