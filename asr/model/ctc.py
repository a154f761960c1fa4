"""Connectionist temporal classification (Graves et al. 2006): head, loss and feasibility."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.lengths import ctc_frames, valid_mask

BLANK = 0
FRAMES_OF_A_LABEL = 10
"""As many as a label of speech has, roughly."""


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
        frames: how many valid frames there are.
    """

    per_utterance: Tensor
    labels: int
    infinite: int
    frames: int

    @property
    def mean(self) -> Tensor:
        """Negative log-likelihood per label over the utterances with a finite loss, to be minimised.

        Dividing by the labels of the batch, not by its utterances, keeps the gradient's scale the same in
        batches of many short and of few long utterances.
        """
        # What is not a number, of weights that have run away, is not hidden.
        aligned = ~self.per_utterance.isinf()
        return self.per_utterance.where(aligned, 0.0).sum() / divisor(self.labels, self.frames)


def divisor(labels: float, frames: float) -> float:
    """What the loss of a batch is divided by: its labels; of silence alone, as many as its frames might have."""
    return labels or max(frames / FRAMES_OF_A_LABEL, 1)


def ctc_loss(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> CtcLoss:
    """CTC loss with each utterance's true length.

    Args:
        log_probs: (batch, time, vocab), single precision.
        lengths: (batch,) valid frames.
        targets: (batch, labels) token ids, padded with anything.
        target_lengths: (batch,) labels.
    """
    # Torch wants lengths on the CPU. What follows from them is found there too, since each number that is fetched
    # from a GPU waits for all that it has been told to do. (As does torch's CTC, copying the lengths to the GPU.)
    lengths, target_lengths = lengths.cpu(), target_lengths.cpu()
    feasible = lengths >= ctc_frames(targets.cpu(), target_lengths)
    losses = F.ctc_loss(
        log_probs.transpose(0, 1),
        targets.to(log_probs.device, non_blocking=True),
        lengths,
        target_lengths,
        blank=BLANK,
        reduction="none",
        zero_infinity=True,  # zero gradients for what can't be aligned; it is counted, not hidden
    )
    losses = losses.where(feasible.to(losses.device, non_blocking=True), torch.inf)
    labels = int(target_lengths[feasible].sum())
    return CtcLoss(losses, labels, int((~feasible).sum()), int(lengths.sum()))


def disagreement(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """How far two views of each utterance are from one another: consistency regularisation's part of the loss.

    That is the Kullback-Leibler divergence of a view from the other one, which is held fixed, summed over frames
    (CR-CTC: Yao et al. 2025).

    Args:
        log_probs: (2 * batch, time, vocab), one view of all utterances and then the other one.
        lengths: (2 * batch,) valid frames.

    Returns:
        (2 * batch,) nats.
    """
    other = log_probs.detach().roll(len(log_probs) // 2, dims=0)
    divergence = F.kl_div(log_probs, other, reduction="none", log_target=True).sum(dim=2)
    return divergence.where(valid_mask(lengths, log_probs.shape[1]), 0.0).sum(dim=1)
