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

from asr.decoding.heard import HEARD, TIMED, Found, Records, hypotheses
from asr.decoding.types import Hypothesis, Options
from asr.errors import ConfigError, DataError

RUN = np.dtype([("utterance", "i8"), ("token", "i8"), ("start", "i8"), ("end", "i8"), ("peak", "f8")])
"""A run of one token on a best path: its first frame, the frame after its last, its highest log-probability."""


class GreedyDecoder:
    """Best-path decoding.

    Args:
        tokens: the surface of each token, in which a space is a word boundary.
        blank: the index of the CTC blank.
    """

    def __init__(self, tokens: Sequence[str], blank: int = 0) -> None:
        self.tokens = tuple(tokens)
        self.blank = blank
        self._begins_word = np.array([surface.startswith(" ") for surface in self.tokens])
        self._spells = np.array([bool(surface.strip()) for surface in self.tokens])

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
        frames = np.array([int(length) for length in lengths], np.int64)
        found = self._found(paths.cpu().numpy(), best.double().cpu().numpy(), frames)
        return hypotheses(self.tokens, [found], len(frames))

    def _found(self, paths: NDArray[np.int64], best: NDArray[np.float64], lengths: NDArray[np.int64]) -> Found:
        """What the best paths say, all utterances at once.

        Args:
            paths: (batch, time) the best token of each frame.
            best: (batch, time) its log-probability.
            lengths: (batch,) valid frames.
        """
        valid = np.arange(paths.shape[1]) < lengths[:, None]
        _refuse_nan(best, valid)
        runs = _runs(paths, np.where(valid, best, -np.inf), lengths, valid)
        runs = runs[runs["token"] != self.blank]
        texts = np.zeros(len(lengths), HEARD)
        texts["utterance"] = np.arange(len(lengths))
        # Term by term: a sum of numpy's own would depend on the padding in its last digit.
        scores = np.bincount(np.repeat(texts["utterance"], lengths), best[valid], len(lengths))
        texts["score"] = texts["acoustic"] = texts["path"] = scores
        texts["last_token"] = np.cumsum(np.bincount(runs["utterance"], minlength=len(lengths)))
        texts["first_token"][1:] = texts["last_token"][:-1]
        # The geometric mean of the tokens' posteriors, or else of the blanks'.
        sums = np.bincount(runs["utterance"], runs["peak"], len(lengths))
        counts = texts["last_token"] - texts["first_token"]
        silent = counts == 0
        logs = np.where(silent, texts["score"], sums) / np.maximum(np.where(silent, lengths, counts), 1)
        texts["confidence"] = np.minimum(np.exp(logs), 1.0)
        words, utterances = self._words(runs)
        texts["last_word"] = np.cumsum(np.bincount(utterances, minlength=len(lengths)))
        texts["first_word"][1:] = texts["last_word"][:-1]
        return Found(texts, runs["token"].astype(np.int32), runs["start"], words)

    def _words(self, runs: Records) -> tuple[Records, NDArray[np.int64]]:
        """The words that tokens make: a token with a space in front begins one, a space belongs to none.

        Returns:
            TIMED, and the utterance of each.
        """
        begins = self._begins_word[runs["token"]] | (np.diff(runs["utterance"], prepend=-1) != 0)
        number = np.cumsum(begins)
        spelled = self._spells[runs["token"]]
        runs, number = runs[spelled], number[spelled]
        firsts = np.flatnonzero(np.diff(number, prepend=-1))
        words = np.empty(len(firsts), TIMED)
        words["start"] = runs["start"][firsts]
        words["end"] = runs["end"][np.append(firsts[1:], len(runs))[: len(firsts)] - 1]
        sizes = np.diff(np.append(firsts, len(runs)))
        sums = np.add.reduceat(runs["peak"], firsts) if len(firsts) else np.zeros(0)
        words["confidence"] = np.minimum(np.exp(sums / sizes), 1.0)
        return words, runs["utterance"][firsts]


def _runs(
    paths: NDArray[np.int64], best: NDArray[np.float64], lengths: NDArray[np.int64], valid: NDArray[np.bool_]
) -> Records:
    """The RUNs of all utterances, one after another; best: (batch, time) is -inf where nothing is valid."""
    places = np.flatnonzero(valid & (np.diff(paths, axis=1, prepend=-1) != 0))
    runs = np.empty(len(places), RUN)
    if len(places):
        runs["utterance"], runs["start"] = np.divmod(places, paths.shape[1])
        runs["token"] = paths.ravel()[places]
        runs["peak"] = np.maximum.reduceat(best.ravel(), places)
        last = np.append(runs["utterance"][1:] != runs["utterance"][:-1], True)
        runs["end"] = np.where(last, lengths[runs["utterance"]], np.append(runs["start"][1:], 0))
    return runs


def _refuse_nan(best: NDArray[np.float64], valid: NDArray[np.bool_]) -> None:
    wrong = np.argwhere(np.isnan(best) & valid)
    if len(wrong):
        utterance, frame = wrong[0].tolist()
        raise DataError(
            f"NaN in the log-probabilities of utterance {utterance}, frame {frame}",
            expected="numbers: the features or the model's weights hold NaN or infinity",
        )
