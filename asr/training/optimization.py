"""One optimisation step, of any model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from asr.errors import ConfigError
from asr.model.constraints import limit_norms
from asr.training.averaging import MovingAverage
from asr.training.optimizers import OPTIMIZERS, OptimizerSettings, layer_of, parameter_groups
from asr.training.task import Loss


@dataclass(frozen=True)
class Update:
    """What became of a step.

    Attributes:
        gradient_norm: L2 norm before clipping.
        skipped: the gradient was not finite, so the weights were left as they are.
    """

    gradient_norm: float
    skipped: bool


@dataclass(frozen=True)
class OptimizationMethods:
    """How steps are taken, and what else is done to gradients and weights.

    Attributes:
        optimizer: the optimiser.
        rates, layer_decay, unfreeze: how fast, and from when on, parts of the model learn: see `parameter_groups`.
        clip_value: numbers of the gradient that are larger, either way, are cut to it; or None.
        backstitch: how far to step back on a batch before the step forward, as a share of the learning rate; of the
            optimiser sgd only.
        backstitch_interval: on the first of every so many batches.
        l1: what the sum of the absolute weights of matrices is multiplied by and added to the loss.
        max_norm: largest L2 norm of a unit's incoming weights, or None.
        ema: what the moving average of weights keeps of itself in a step, or None for no average.
    """

    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    rates: Mapping[str, float] = field(default_factory=dict)
    layer_decay: float = 1.0
    unfreeze: Mapping[str, int] = field(default_factory=dict)
    clip_value: float | None = None
    backstitch: float = 0.0
    backstitch_interval: int = 1
    l1: float = 0.0
    max_norm: float | None = None
    ema: float | None = None


BF16_OF_CPUS = ("avx512_bf16", "amx_bf16")
"""The instructions without which bf16 is slower on a CPU than single precision."""


class Optimization:
    """A model with its optimiser, gradient clipping and mixed precision.

    Neither weight decay nor the L1 penalty concerns biases and normalisation.

    Args:
        model: on its device.
        learning_rate: what the schedule's factor multiplies.
        weight_decay: decoupled in adamw, an L2 penalty in the other optimisers.
        clip_norm: largest L2 norm of the gradient, or None.
        precision: auto, fp32, bf16 or fp16; of the operations in `autocast`.
        methods: AdamW by default, and nothing else.

    Raises:
        ConfigError: methods do not go together, or name a part that the model does not have.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float,
        weight_decay: float,
        clip_norm: float | None,
        precision: str,
        methods: OptimizationMethods | None = None,
    ) -> None:
        self.model, self.learning_rate, self.clip_norm = model, learning_rate, clip_norm
        self.methods = methods = methods or OptimizationMethods()
        if methods.backstitch and methods.optimizer.name != "sgd":
            raise ConfigError(f"backstitch with the optimizer {methods.optimizer.name}", expected="sgd")
        self.device = next(model.parameters()).device
        precision = resolve_precision(precision, self.device)
        self.autocast = autocast_to(precision, self.device)
        groups = parameter_groups(model, weight_decay, methods.rates, methods.layer_decay, methods.unfreeze)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.first_epochs = [(group["params"], group.pop("first_epoch")) for group in groups]
        self.optimizer = OPTIMIZERS[methods.optimizer.name](groups, learning_rate, methods.optimizer)
        self.scaler = torch.amp.grad_scaler.GradScaler(
            self.device.type, enabled=needs_scaling(precision, self.device)
        )
        self.average = None if methods.ema is None else MovingAverage(self.parameters, methods.ema)
        self.batches = 0
        self.begin_epoch(1)

    def begin_epoch(self, epoch: int) -> None:
        """Let the parts of the model learn of which the time has come, with an optimiser's state that is new."""
        for parameters, first in self.first_epochs:
            for parameter in parameters:
                parameter.requires_grad_(first <= epoch)
        self.still = [module for module in self.model.modules() if _has_frozen_statistics(module)]

    def prepare_model(self) -> None:
        """Put the model into training mode, but for the statistics of its frozen normalisations.

        Dropout stays on where weights are frozen: it is what the layers above are regularised with.
        """
        self.model.train()
        for module in self.still:
            module.eval()

    def learn(self, loss: Callable[[], Loss], factor: float) -> tuple[Loss, Update]:
        """Learn from a batch, with the learning rate times `factor`.

        That is one step; with backstitch (Wang et al. 2017) one against the descent, and a longer one down the
        gradient that is found there. As in Kaldi, dropout draws the same units both times; the statistics of a
        batch normalisation see the batch twice. If either gradient is not finite, the weights stay as they were.

        Args:
            loss: computes that of the batch, with the weights as they are then.
            factor: the schedule's.

        Returns:
            The loss before any step, and what became of them, with the norm of the gradient there.
        """
        stitched = self.methods.backstitch and self.batches % self.methods.backstitch_interval == 0
        self.batches += 1
        if stitched:
            return self._backstitch(loss, factor)
        found = loss()
        return found, self.step(found.mean, factor)

    def step(self, loss: Tensor, factor: float) -> Update:
        """Take one step down the gradient of a loss, with the learning rate times `factor`."""
        update = self._move(loss, factor)
        if not update.skipped:
            self._settle()
        return update

    @property
    def current_learning_rate(self) -> float:
        """That of the last step."""
        group = self.optimizer.param_groups[0]
        return float(group["lr"] / group["rate"])

    def rates_of_layers(self) -> dict[str, float]:
        """The learning rate of each layer in the last step, 0 where it is frozen; empty where all have the same."""
        rates = {
            parameter: group["lr"] if parameter.requires_grad else 0.0
            for group in self.optimizer.param_groups
            for parameter in group["params"]
        }
        found = {layer_of(name): rates.get(parameter, 0.0) for name, parameter in self.model.named_parameters()}
        return found if len(set(found.values())) > 1 else {}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, the model has the moving average of its weights, if there is one.

        Statistics of batch normalisation are no weights: they stay as they are.
        """
        if self.average is None:
            yield
        else:
            with self.average.in_place():
                yield

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on exactly here, apart from torch's generators."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "batches": self.batches,
            "average": None if self.average is None else self.average.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state.

        Raises:
            KeyError, ValueError, RuntimeError: it is of another model, or of other methods.
        """
        if (state["average"] is None) != (self.average is None):
            raise ValueError("with a moving average of weights in one, and none in the other")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for of_parameter in self.optimizer.state.values():
            if "mu_product" in of_parameter:  # NAdam's, a number it reads at each step; it was put on the device
                of_parameter["mu_product"] = of_parameter["mu_product"].cpu()
        if state["scaler"]:  # empty where gradients were not scaled, as on a CPU
            self.scaler.load_state_dict(state["scaler"])
        self.batches = state["batches"]
        if self.average is not None:
            self.average.restore(state["average"])

    def _backstitch(self, loss: Callable[[], Loss], factor: float) -> tuple[Loss, Update]:
        size = self.methods.backstitch
        before = [parameter.detach().clone() for parameter in self.parameters]
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            found = loss()
            back = self._move(found.mean, -size * factor)
        if back.skipped:
            self._set_learning_rate(factor)
            return found, back
        forward = self._move(loss().mean, (1 + size) * factor)
        self._set_learning_rate(factor)
        if forward.skipped:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, before, strict=True):
                    parameter.copy_(value)
        else:
            self._settle()
        return found, Update(back.gradient_norm, forward.skipped)

    def _move(self, loss: Tensor, factor: float) -> Update:
        """Change the weights as the optimiser has it, unless the gradient is not finite."""
        self._set_learning_rate(factor)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.unscale_(self.optimizer)
        limit = math.inf if self.clip_norm is None else self.clip_norm
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit).item()
        if self.methods.clip_value is not None:
            nn.utils.clip_grad_value_(self.model.parameters(), self.methods.clip_value)
        if self.methods.l1:
            self._add_penalty()
        finite = math.isfinite(norm)
        if finite:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        return Update(norm, not finite)

    def _set_learning_rate(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * factor * group["rate"]

    def _settle(self) -> None:
        """What is done to the weights after a step."""
        if self.methods.max_norm is not None:
            limit_norms(self.model, self.methods.max_norm)
        if self.average is not None:
            self.average.add()

    def _add_penalty(self) -> None:
        """Add the subgradient of the L1 penalty: not clipped, as the optimisers' own weight decay is not."""
        for parameter in self.parameters:
            if parameter.ndim > 1 and parameter.grad is not None:
                parameter.grad.add_(parameter.detach().sign(), alpha=self.methods.l1)


def _has_frozen_statistics(module: nn.Module) -> bool:
    weights = list(module.parameters(recurse=False))
    frozen = bool(weights) and not any(weight.requires_grad for weight in weights)
    return frozen and next(module.buffers(recurse=False), None) is not None


def needs_scaling(precision: str, device: torch.device) -> bool:
    """Whether gradients are so small in a precision that they are to be scaled up.

    So they are in fp16, which on CUDA is what recurrent layers compute in under bf16 autocast, too: torch casts
    cuDNN's arguments to fp16, whatever it casts others to (`_cudnn_rnn_cast_reflatten`).
    """
    return precision == "fp16" or (precision == "bf16" and device.type == "cuda")


def autocast_to(precision: str, device: torch.device) -> torch.autocast:
    """The context in which torch computes in a precision what may be computed in it."""
    lower = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, lower, enabled=lower is not None)


def resolve_precision(name: str, device: torch.device) -> str:
    """The precision that "auto" means on a device: bf16 where its hardware has it.

    Raises:
        ConfigError: bf16 is asked for, and the GPU does not have it: cuDNN would refuse the convolutions.
    """
    if name not in ("auto", "bf16"):
        return name
    if device.type == "cuda":
        there = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        there = device.type == "cpu" and any(torch.cpu.get_capabilities().get(name) for name in BF16_OF_CPUS)
    if name == "auto":
        return "bf16" if there else "fp32"
    if device.type == "cuda" and not there:
        raise ConfigError("this GPU has no bf16", where="training.precision", expected="fp16 or fp32")
    return name
