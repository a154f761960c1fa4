"""Lengths of padded sequences: masks, convolution arithmetic, reversal, CTC's needs. The only copy."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

LengthT = TypeVar("LengthT", int, Tensor)


def valid_mask(lengths: Tensor, max_length: int) -> Tensor:
    """Which positions of a padded batch are real.

    Args:
        lengths: (batch,) integers.
        max_length: the padded length.

    Returns:
        (batch, max_length) booleans, true before each sequence's end.
    """
    return torch.arange(max_length, device=lengths.device)[None, :] < lengths[:, None]


def conv_length(length: LengthT, kernel: int, stride: int, padding: int) -> LengthT:
    """Output length of a convolution or a pooling over `length` positions, never negative.

    The arithmetic of `torch.nn.Conv1d` without dilation: ⌊(length + 2·padding − kernel) / stride⌋ + 1.
    """
    result = (length + 2 * padding - kernel) // stride + 1
    return result.clamp(min=0) if isinstance(result, Tensor) else max(result, 0)


def reverse_within_length(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse every sequence within its own length, so that padding stays last. Its own inverse.

    Args:
        x: (batch, time, channels).
        lengths: (batch,) integers ≤ time.
    """
    time = torch.arange(x.shape[1], device=x.device)[None, :]
    end = lengths[:, None]
    index = torch.where(time < end, end - 1 - time, time)
    index = index + x.shape[1] * torch.arange(len(x), device=x.device)[:, None]
    # Rows of the flattened batch: on a CPU some five times as fast as gathering each value.
    return x.flatten(0, 1).index_select(0, index.flatten()).view(x.shape)


def ctc_frames(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Fewest frames in which CTC can spell each target: its labels, and a blank between equal neighbours.

    Args:
        targets: (batch, labels) token ids, padded with anything.
        target_lengths: (batch,).
    """
    inside = torch.arange(targets.shape[1], device=targets.device)[None, 1:] < target_lengths[:, None]
    return target_lengths + ((targets[:, 1:] == targets[:, :-1]) & inside).sum(1)
