"""One optimisation step, of any model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Update:
    """What became of a step.

    Attributes:
        gradient_norm: L2 norm before clipping.
        skipped: the gradient was not finite, so the weights were left as they are.
    """

    gradient_norm: float
    skipped: bool


class Optimization:
    """A model with its optimiser, gradient clipping and mixed precision.

    AdamW (Loshchilov and Hutter 2019) without weight decay on biases and normalisation.

    Args:
        model: on its device.
        learning_rate: what the schedule's factor multiplies.
        weight_decay: decoupled.
        clip_norm: largest L2 norm of the gradient, or None.
        precision: auto, fp32, bf16 or fp16; of the operations in `autocast`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float,
        weight_decay: float,
        clip_norm: float | None,
        precision: str,
    ) -> None:
        self.model, self.learning_rate, self.clip_norm = model, learning_rate, clip_norm
        self.device = next(model.parameters()).device
        precision = resolve_precision(precision, self.device)
        lower = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.autocast = torch.autocast(self.device.type, lower, enabled=lower is not None)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, weight_decay), lr=learning_rate, betas=(0.9, 0.98), fused=True
        )
        self.scaler = torch.amp.grad_scaler.GradScaler(self.device.type, enabled=precision == "fp16")

    def step(self, loss: Tensor, factor: float) -> Update:
        """Take one step down the gradient of a loss, with the learning rate times `factor`."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.unscale_(self.optimizer)
        limit = math.inf if self.clip_norm is None else self.clip_norm
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit).item()
        finite = math.isfinite(norm)
        if finite:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        return Update(norm, not finite)

    @property
    def current_learning_rate(self) -> float:
        """That of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on exactly here, generators included."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"], self.device)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with weight decay; biases and normalisation, which are vectors, without."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": _of_dimension(parameters, matrices=True), "weight_decay": weight_decay},
        {"params": _of_dimension(parameters, matrices=False), "weight_decay": 0.0},
    ]


def _of_dimension(parameters: Iterable[nn.Parameter], *, matrices: bool) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if (parameter.ndim > 1) == matrices]


def resolve_precision(name: str, device: torch.device) -> str:
    """The precision that "auto" means on a device: bf16 where its hardware has it."""
    if name != "auto":
        return name
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
