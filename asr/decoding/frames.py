"""Log-probabilities as decoders are given them: checked, with the highest of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from asr.compiled import compiled, kernel
from asr.errors import DataError

MOST_SHOWN = 5
ABOVE_ZERO = np.float32(1e-3)  # what rounding may add to a log-probability
BLOCK = 8  # numbers that are looked at together

LogProbs = Tensor | NDArray[np.floating[Any]]
Lengths = Tensor | NDArray[np.integer[Any]] | Sequence[int]


class Frames(NamedTuple):
    """A batch.

    Attributes:
        log_probs: (batch, time, vocab).
        lengths: (batch,) valid frames.
        peaks: (batch, time) the highest log-probability of each valid frame.
    """

    log_probs: NDArray[np.float32]
    lengths: NDArray[np.int64]
    peaks: NDArray[np.float32]


def check(log_probs: LogProbs, lengths: Lengths, vocab: int) -> Frames:
    """A batch, if it can be decoded.

    Args:
        log_probs: (batch, time, vocab) natural log-probabilities, on any device.
        lengths: (batch,) valid frames of each utterance.
        vocab: of the decoder.

    Raises:
        DataError: a shape is wrong, or a valid frame holds NaN or a number that is no log-probability.
    """
    batch = as_array(log_probs)
    if batch.ndim != 3 or batch.shape[2] != vocab:
        raise DataError(
            f"log-probabilities of shape {batch.shape}",
            expected=f"(batch, time, {vocab}), as many as the decoder has tokens",
        )
    valid = np.array(lengths.tolist() if isinstance(lengths, Tensor) else lengths, np.int64)
    if valid.shape != batch.shape[:1] or ((valid < 0) | (valid > batch.shape[1])).any():
        raise DataError(
            f"lengths {valid.tolist()[:MOST_SHOWN]} of {len(batch)} utterances",
            expected=f"one for each, between 0 and {batch.shape[1]} frames",
        )
    peaks, utterance, frame = _peaks(batch.view(np.int32), valid)
    if utterance >= 0:
        found = batch[utterance, frame].max()
        raise DataError(
            f"{'NaN' if np.isnan(found) else f'{found:g}'} in utterance {utterance}, frame {frame}",
            expected="natural logarithms of probabilities, none above 0",
            hint="log_softmax over the vocabulary"
            if found > 0
            else "look for infinity or NaN in features and weights",
        )
    return Frames(batch, valid, peaks)


def as_array(log_probs: LogProbs) -> NDArray[np.float32]:
    """Log-probabilities, on whatever device, as compiled functions take them."""
    if isinstance(log_probs, Tensor):
        log_probs = log_probs.detach().cpu().float().numpy()
    return np.require(log_probs, np.float32, ["C", "W"])


@compiled
def _peaks(bits: NDArray[np.int32], lengths: NDArray[np.int64]) -> tuple[NDArray[np.float32], int, int]:
    """The peaks, and the first utterance and frame in which something is no log-probability, or -1 twice.

    Args:
        bits: (batch, time, vocab) log-probabilities, as the integers that their bits are.
        lengths: (batch,)
    """
    peaks = np.zeros(bits.shape[:2], np.float32)
    cell = np.full(1, -np.inf, np.float32)
    cell_bits = cell.view(np.int32)
    least = _ordered(cell_bits[0])
    for utterance in range(len(lengths)):
        for time in range(lengths[utterance]):
            row = bits[utterance, time]
            highest, lowest = np.int32(-0x80000000), np.int32(0x7FFFFFFF)
            for token in range(len(row)):
                place = _ordered(row[token])
                highest, lowest = max(highest, place), min(lowest, place)
            cell_bits[0] = _ordered(highest)
            if lowest < least or not cell[0] <= ABOVE_ZERO:
                return peaks, utterance, time
            peaks[utterance, time] = cell[0]
    return peaks, -1, -1


@kernel
def _ordered(bits: np.int32) -> np.int32:
    """From the bits of a number in single precision to an integer that is the larger, the larger the number is.

    NaN is beyond both infinities. Integers can be compared many at a time, where numbers that may be NaN can't. The
    function is its own inverse.
    """
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@kernel
def find_likely(frame: NDArray[np.float32], blank: int, floor: float, tokens: NDArray[np.int32]) -> int:
    """List the tokens, apart from the blank, whose log-probability is no less than a floor; returns how many."""
    count, block = 0, 0
    least = np.float32(floor)
    while block < len(frame):
        end = min(block + BLOCK, len(frame))
        if end - block < BLOCK or _is_any_above(frame, block, least):
            for token in range(block, end):
                if frame[token] >= least and token != blank:
                    tokens[count] = token
                    count += 1
        block = end
    return count


@kernel
def _is_any_above(frame: NDArray[np.float32], block: int, least: np.float32) -> bool:
    above = np.int32(0)
    for offset in range(BLOCK):
        above |= np.int32(frame[block + offset] >= least)
    return bool(above != 0)
