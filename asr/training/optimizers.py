"""Optimisers by name, and the groups of parameters that they treat alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop

from asr.errors import ConfigError

Group = dict[str, Any]
ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class OptimizerSettings:
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


OPTIMIZERS: dict[str, Callable[[list[Group], float, OptimizerSettings], Optimizer]] = {
    "sgd": lambda groups, rate, _: SGD(groups, rate, fused=True),
    "momentum": lambda groups, rate, rule: SGD(groups, rate, rule.momentum, fused=True),
    "nesterov": lambda groups, rate, rule: SGD(groups, rate, rule.momentum, nesterov=True, fused=True),
    "adagrad": lambda groups, rate, _: Adagrad(groups, rate),
    "adadelta": lambda groups, rate, rule: Adadelta(groups, rate, rule.rho),
    "rmsprop": lambda groups, rate, rule: RMSprop(groups, rate, rule.rho),
    "adam": lambda groups, rate, rule: Adam(groups, rate, rule.betas, fused=True),
    "adamw": lambda groups, rate, rule: AdamW(groups, rate, rule.betas, fused=True),
    "nadam": lambda groups, rate, rule: NAdam(groups, rate, rule.betas),
}
"""Torch's, fused where torch has that on CPU and GPU: Robbins and Monro 1951, Polyak 1964, Sutskever et al. 2013,
Duchi et al. 2011, Zeiler 2012, Tieleman and Hinton 2012, Kingma and Ba 2015, Loshchilov and Hutter 2019, Dozat
2016. A group's weight decay is decoupled in adamw; in the others it is added to the gradient, as that of an L2
penalty."""

STATES = {
    "sgd": 0,
    "momentum": 1,
    "nesterov": 1,
    "adagrad": 1,
    "adadelta": 2,
    "rmsprop": 1,
    "adam": 2,
    "adamw": 2,
    "nadam": 2,
}
"""Numbers that an optimiser remembers of each weight."""


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    rates: Mapping[str, float] | None = None,
    layer_decay: float = 1.0,
    unfreeze: Mapping[str, int] | None = None,
) -> list[Group]:
    """Matrices with weight decay; biases and normalisation, which are vectors, without.

    Parts of the model, such as "encoder" or "encoder.layers.0", may have settings of their own; a part within
    another one goes by its own.

    Args:
        model: its parameters of which the rate is 0 are frozen: they want no gradient any more.
        weight_decay: of matrices.
        rates: what the learning rate of a part is multiplied by; that of everything else by 1.
        layer_decay: what it is multiplied by besides, once for each layer that stands above, so that what is most
            general changes least (Howard and Ruder 2018: discriminative fine-tuning); see `layers`.
        unfreeze: the first epoch, counted from 1, in which a part learns; everything else does from the first.

    Returns:
        Two groups for each "rate" and "first_epoch".

    Raises:
        ConfigError: a part is not there, or would be unfrozen with the rate 0, or nothing is left to train, in the
            first epoch or at all.
    """
    rates, unfreeze = rates or {}, unfreeze or {}
    _check_parts(model, [*rates, *unfreeze])
    depths = {layer: depth for depth, layer in enumerate(reversed(layers(model)))}
    groups: dict[tuple[float, int], tuple[Group, Group]] = {}
    for name, parameter in model.named_parameters():
        rate = _of_part(name, rates, 1.0) * layer_decay ** depths[layer_of(name)]
        if rate == 0:
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        key = rate, _of_part(name, unfreeze, 1)
        if key not in groups:
            common = {"rate": rate, "first_epoch": key[1]}
            groups[key] = (
                {"params": [], "weight_decay": weight_decay, **common},
                {"params": [], "weight_decay": 0.0, **common},
            )
        matrices, vectors = groups[key]
        (matrices if parameter.ndim > 1 else vectors)["params"].append(parameter)
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for part in unfreeze:
        if not any(_belongs(name, part) for name in learning):
            raise ConfigError(
                f"{part} is to be unfrozen, but has the rate 0, with which it never learns",
                where="training.unfreeze",
                hint=f"leave out training.rates.{part}, or name {part} there alone, to keep it as it is",
            )
    if not any(first_epoch == 1 for _, first_epoch in groups):
        if groups:
            raise ConfigError(
                "every part of the model is frozen in the first epoch",
                where="training.unfreeze",
                expected="a part that learns from the first epoch on",
            )
        raise ConfigError(
            "every part of the model is frozen", where="training.rates", expected="a part with a rate above 0"
        )
    return [group for pair in groups.values() for group in pair]


def layers(model: nn.Module) -> list[str]:
    """The layers that hold parameters, such as "frontend.blocks.0" and "head", from the input to the output."""
    return list(dict.fromkeys(layer_of(name) for name, _ in model.named_parameters()))


def layer_of(name: str) -> str:
    """The layer that a tensor of a model belongs to: a member of a stack, or a part that is none."""
    parts = name.split(".")
    numbered = [index for index, part in enumerate(parts) if part.isdecimal()]
    return ".".join(parts[: numbered[0] + 1 if numbered else 1])


def _of_part(name: str, values: Mapping[str, ValueT], default: ValueT) -> ValueT:
    """That of the smallest part which a parameter belongs to."""
    parts = [part for part in values if _belongs(name, part)]
    return values[max(parts, key=len)] if parts else default


def _belongs(name: str, part: str) -> bool:
    return f"{name}.".startswith(f"{part}.")


def _check_parts(model: nn.Module, parts: Iterable[str]) -> None:
    names = [name for name, _ in model.named_parameters()]
    for part in parts:
        if not any(_belongs(name, part) for name in names):
            top = ", ".join(sorted({name.partition(".")[0] for name in names}))
            raise ConfigError(f"the model has no part {part!r} with weights", expected=f"{top}, or parts of these")
