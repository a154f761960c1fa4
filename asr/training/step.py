"""One optimisation step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from asr.data.loading import Batch
from asr.features import FeatureExtractor
from asr.model.acoustic import AcousticModel
from asr.model.ctc import ctc_loss


@dataclass(frozen=True)
class StepResult:
    """What a step saw.

    Attributes:
        loss: summed negative log-likelihood of the utterances that have an alignment.
        labels: of those utterances.
        infinite: utterances without an alignment.
        gradient_norm: L2 norm before clipping.
        skipped: the gradient was not finite, so the weights were left as they are.
    """

    loss: float
    labels: int
    infinite: int
    gradient_norm: float
    skipped: bool


class Stepper:
    """The model with its optimiser, gradient clipping and mixed precision.

    AdamW (Loshchilov and Hutter 2019) without weight decay on biases and normalisation.

    Args:
        acoustic, extractor: on their device.
        learning_rate: what the schedule's factor multiplies.
        weight_decay: decoupled.
        clip_norm: largest L2 norm of the gradient, or None.
        precision: fp32, bf16 or fp16; CTC itself is always computed in single precision.
    """

    def __init__(
        self,
        acoustic: AcousticModel,
        extractor: FeatureExtractor,
        *,
        learning_rate: float,
        weight_decay: float,
        clip_norm: float | None,
        precision: str,
    ) -> None:
        self.acoustic, self.extractor = acoustic, extractor
        self.learning_rate, self.clip_norm = learning_rate, clip_norm
        self.device = next(acoustic.parameters()).device
        self.autocast_dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.optimizer = torch.optim.AdamW(
            parameter_groups(acoustic, weight_decay), lr=learning_rate, betas=(0.9, 0.98), fused=True
        )
        self.scaler = torch.amp.grad_scaler.GradScaler(self.device.type, enabled=precision == "fp16")

    def __call__(self, batch: Batch, factor: float) -> StepResult:
        """Take one step with the learning rate times `factor`."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * factor
        self.acoustic.train()
        batch = batch.to(self.device)
        features, lengths = batch.features(self.extractor)
        with torch.autocast(self.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
            log_probs, lengths = self.acoustic(features, lengths)
        loss = ctc_loss(log_probs, lengths, batch.targets, batch.target_lengths)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(loss.mean))
        self.scaler.unscale_(self.optimizer)
        limit = math.inf if self.clip_norm is None else self.clip_norm
        norm = nn.utils.clip_grad_norm_(self.acoustic.parameters(), limit).item()
        finite = math.isfinite(norm)
        if finite:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        return StepResult(loss.mean.item() * loss.labels, loss.labels, loss.infinite, norm, not finite)

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on exactly here, generators included."""
        state = {
            "acoustic": self.acoustic.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.acoustic.load_state_dict(state["acoustic"])
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
