"""Lengths: against torch's own convolutions, and brute force."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.lengths import conv_length, ctc_frames, reverse_within_length, valid_mask


@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 4), st.integers(0, 4))
def test_conv_length_is_torchs(length: int, kernel: int, stride: int, padding: int) -> None:
    expected = 0
    if length + 2 * padding >= kernel:
        expected = torch.nn.Conv1d(1, 1, kernel, stride, padding)(torch.zeros(1, 1, length)).shape[2]
    assert conv_length(length, kernel, stride, padding) == expected
    assert conv_length(torch.tensor([length]), kernel, stride, padding).tolist() == [expected]


def test_valid_mask() -> None:
    assert valid_mask(torch.tensor([0, 2, 3]), 3).tolist() == [[False] * 3, [True, True, False], [True] * 3]


@given(st.lists(st.integers(0, 7), min_size=1, max_size=5))
def test_reversal_within_length(lengths: list[int]) -> None:
    x = torch.arange(len(lengths) * 7 * 2).view(len(lengths), 7, 2)
    reversed_ = reverse_within_length(x, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        assert torch.equal(reversed_[row, :length], x[row, :length].flip(0))
        assert torch.equal(reversed_[row, length:], x[row, length:])


@pytest.mark.parametrize("labels", [labels for n in range(4) for labels in itertools.product((1, 2), repeat=n)])
def test_ctc_frames_is_the_shortest_path_that_collapses_to_the_labels(labels: tuple[int, ...]) -> None:
    def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(token for token, _ in itertools.groupby(path) if token != 0)

    shortest = next(
        n
        for n in itertools.count()
        if any(collapse(path) == labels for path in itertools.product((0, 1, 2), repeat=n))
    )
    padded = torch.tensor([[*labels, 1, 1]])
    assert ctc_frames(padded, torch.tensor([len(labels)])).tolist() == [shortest]
