"""The acoustic model: features to log-probabilities over tokens."""

from __future__ import annotations

from torch import Tensor, nn

from asr.lengths import LengthT
from asr.model.ctc import CtcHead
from asr.model.encoder import Encoder
from asr.model.frontend import Frontend


class AcousticModel(nn.Module):
    """CNN front-end, recurrent encoder, CTC head.

    The answer for an utterance is the same alone, padded or in a batch.

    Attributes:
        subsampling: feature frames per output frame.
    """

    def __init__(self, frontend: Frontend, encoder: Encoder, head: CtcHead) -> None:
        super().__init__()
        self.frontend, self.encoder, self.head = frontend, encoder, head
        self.subsampling = frontend.subsampling

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (batch, time, bins) with lengths to log-probabilities.

        Returns:
            log_probs: (batch, time', vocab), single precision; undefined past the lengths.
            lengths: (batch,) valid output frames.
        """
        x, lengths = self.frontend(features, lengths)
        return self.head(self.encoder(x, lengths)), lengths

    def output_length(self, length: LengthT) -> LengthT:
        """Output frames for feature frames (a number or a tensor of them), without computing them."""
        return self.frontend.output_length(length)
