"""A denoising auto-encoder around the first layers of an acoustic model (Vincent et al. 2010).

The model sees speech in noise, with spans of frames and a band of bins masked, and restores the features of the
clean recording. Layers that read both ways see every frame of their input, so that only what is masked has to be
guessed from its surroundings (masked reconstruction: Jiang et al. 2019; TERA, Liu et al. 2021). DeCoAR (Ling et al.
2020) keeps a frame out of the recurrence instead, at the price of layers that read one way each.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from asr.lengths import valid_mask
from asr.model.encoder import Encoder
from asr.model.frontend import Frontend

VISIBLE_WEIGHT = 0.1
"""Of an error in what is visible, where one in what is masked counts 1: to copy is easy, but to copy without the
noise is worth something. Vincent et al. put the same emphasis on what was corrupted."""


class DenoisingModel(nn.Module):
    """Front-end, recurrent layers and a linear head, which makes as many frames of each step as went into it.

    Front-end and encoder have the names and shapes that they have in `AcousticModel`.
    """

    def __init__(self, frontend: Frontend, encoder: Encoder, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.frontend, self.encoder = frontend, encoder
        self.head = nn.Linear(encoder.dim, frontend.subsampling * bins)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Restore features: (batch, time, bins), (batch,) → (batch, time, bins), undefined past the lengths."""
        x, steps = self.frontend(features, lengths)
        frames = self.head(self.encoder(x, steps))  # (batch, time', subsampling × bins)
        restored: Tensor = frames.unflatten(2, (-1, self.bins)).flatten(1, 2)[:, : features.shape[1]]
        return restored


class SquaredErrors(NamedTuple):
    """Squared errors of a batch, scalars; padding is in none of them.

    Attributes:
        masked, visible: sums over what was masked and over what was not.
        masked_values, visible_values: how many those are.
    """

    masked: Tensor
    visible: Tensor
    masked_values: Tensor
    visible_values: Tensor

    @property
    def mean(self) -> Tensor:
        """To be minimised; 1 is what the mean of features of unit variance scores."""
        weight = self.masked_values + VISIBLE_WEIGHT * self.visible_values
        return (self.masked + VISIBLE_WEIGHT * self.visible) / weight.clamp(min=1)


def squared_errors(restored: Tensor, clean: Tensor, masked: Tensor, lengths: Tensor) -> SquaredErrors:
    """Compare restored with clean features.

    Args:
        restored, clean: (batch, time, bins).
        masked: (batch, time, bins) booleans.
        lengths: (batch,) valid frames.
    """
    valid = valid_mask(lengths, clean.shape[1])[:, :, None]
    squares = (restored.float() - clean).square()
    parts = masked & valid, ~masked & valid
    sums = (squares.masked_fill(~part, 0.0).sum() for part in parts)
    return SquaredErrors(*sums, *(part.sum() for part in parts))
