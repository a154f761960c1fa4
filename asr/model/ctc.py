"""Connectionist temporal classification (Graves et al. 2006): head, loss and feasibility."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.lengths import ctc_frames

BLANK = 0


class CtcHead(nn.Module):
    """Frames to log-probabilities over the tokens; the blank is token 0."""

    def __init__(self, input_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_dim, vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, time, input_dim) to log-probabilities (batch, time, vocab), in single precision."""
        return F.log_softmax(self.linear(x).float(), dim=-1)


@dataclass(frozen=True)
class CtcLoss:
    """The loss of a batch.

    Attributes:
        per_utterance: (batch,) negative log-likelihoods; infinite where no alignment exists.
        labels: how many labels the utterances with a finite loss have.
        infinite: how many utterances have no alignment.
    """

    per_utterance: Tensor
    labels: int
    infinite: int

    @property
    def mean(self) -> Tensor:
        """Negative log-likelihood per label over the utterances with a finite loss, to be minimised.

        Dividing by the labels of the batch, not by its utterances, keeps the gradient's scale the same in
        batches of many short and of few long utterances.
        """
        finite = self.per_utterance.isfinite()
        return self.per_utterance.where(finite, 0.0).sum() / max(self.labels, 1)


def ctc_loss(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> CtcLoss:
    """CTC loss with each utterance's true length.

    Args:
        log_probs: (batch, time, vocab), single precision.
        lengths: (batch,) valid frames.
        targets: (batch, labels) token ids, padded with anything.
        target_lengths: (batch,) labels.
    """
    feasible = lengths >= ctc_frames(targets, target_lengths)
    losses = F.ctc_loss(
        log_probs.transpose(0, 1),
        targets,
        lengths,
        target_lengths,
        blank=BLANK,
        reduction="none",
        zero_infinity=True,  # zero gradients for what can't be aligned; it is counted, not hidden
    )
    losses = losses.where(feasible.to(losses.device), torch.inf)
    labels = int(target_lengths[feasible.to(target_lengths.device)].sum())
    return CtcLoss(losses, labels, int((~feasible).sum()))
