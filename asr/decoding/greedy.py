"""Greedy CTC decoding: the best token of every frame, repeats merged, blanks dropped.

Graves et al. 2006, "Connectionist Temporal Classification", section 3.2, call it best path decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.decoding.types import Hypothesis, Options, geometric_mean, group_words
from asr.errors import ConfigError, DataError


class GreedyDecoder:
    """Best-path decoding.

    Args:
        tokens: the surface of each token, in which a space is a word boundary.
        blank: the index of the CTC blank.
    """

    def __init__(self, tokens: Sequence[str], blank: int = 0) -> None:
        self.tokens = tuple(tokens)
        self.blank = blank

    def decode(
        self,
        log_probs: Tensor | NDArray[np.floating],
        lengths: Tensor | NDArray[np.integer] | Sequence[int],
        **options: Unpack[Options],
    ) -> list[Hypothesis]:
        """Decode a batch. What stands behind an utterance's end is never looked at.

        Args:
            log_probs: (batch, time, vocab) natural log-probabilities, on any device.
            lengths: (batch,) valid frames of each utterance.
            options: those that leave a best path as it is.

        Returns:
            One hypothesis for each utterance, in order.

        Raises:
            ConfigError: an option asks for what only a beam search does.
            DataError: the vocabulary has another size than `tokens`, or a valid frame holds NaN.
        """
        beyond = [name for name, value in options.items() if name != "threads" and value and value != 1]
        if beyond:
            raise ConfigError(f"greedy decoding knows no {', '.join(beyond)}", expected="a beam search for that")
        log_probs = torch.as_tensor(log_probs)
        if log_probs.shape[-1] != len(self.tokens):
            raise DataError(
                f"log-probabilities of {log_probs.shape[-1]} tokens",
                expected=f"{len(self.tokens)}, as many as the decoder has",
            )
        best, paths = log_probs.detach().max(dim=-1)  # (batch, time); the first of equals, NaN before all
        posteriors = best.double().cpu().numpy()
        return [
            self._collapse(path[:length], log_posteriors[:length], utterance)
            for utterance, (path, log_posteriors, length) in enumerate(
                zip(paths.cpu().numpy(), posteriors, map(int, lengths), strict=True)
            )
        ]

    def _collapse(self, path: NDArray[np.int64], log_posteriors: NDArray[np.float64], utterance: int) -> Hypothesis:
        """From the best token of each frame to a hypothesis; both arrays are (frames,)."""
        if np.isnan(log_posteriors).any():
            frame = int(np.isnan(log_posteriors).argmax())
            raise DataError(
                f"NaN in the log-probabilities of utterance {utterance}, frame {frame}",
                expected="numbers: the features or the model's weights hold NaN or infinity",
            )
        if len(path) == 0:
            return Hypothesis("", (), (), (), score=0.0, confidence=1.0, acoustic=0.0)
        starts = np.flatnonzero(np.diff(path, prepend=-1))  # first frame of each run of one token
        ends = np.append(starts[1:], len(path))
        peaks = np.maximum.reduceat(log_posteriors, starts)
        spoken = path[starts] != self.blank
        starts, ends, peaks = starts[spoken], ends[spoken], peaks[spoken]
        words = group_words([self.tokens[token] for token in path[starts]], starts, ends, peaks)
        score = float(log_posteriors.sum())
        return Hypothesis(
            text=" ".join(word.text for word in words),
            tokens=tuple(path[starts].tolist()),
            token_frames=tuple(starts.tolist()),
            words=words,
            score=score,
            confidence=geometric_mean(peaks if len(peaks) else log_posteriors),
            acoustic=score,
        )
