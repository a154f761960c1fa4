"""Checking of log-probabilities against numpy, one number at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from asr.decoding.frames import check, find_likely
from asr.errors import DataError

LOG_PROBS = st.one_of(st.floats(-1024, 0, width=32), st.sampled_from([-np.inf, -0.0, 0.0, -1e-45]))


def batches(elements: st.SearchStrategy[float]) -> st.SearchStrategy[NDArray[np.float32]]:
    shape = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 35))
    return shape.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=elements))


@given(batches(LOG_PROBS))
def test_peaks_are_the_highest(log_probs: NDArray[np.float32]) -> None:
    frames = check(log_probs, [log_probs.shape[1]] * len(log_probs), log_probs.shape[2])
    assert np.array_equal(frames.peaks, log_probs.max(axis=2))


@given(batches(LOG_PROBS), st.data())
def test_the_first_wrong_frame_is_named(log_probs: NDArray[np.float32], data: st.DataObject) -> None:
    batch, time, vocab = (data.draw(st.integers(0, size - 1)) for size in log_probs.shape)
    negative_nan = np.array(0xFFC00000, np.uint32).view(np.float32)[()]
    log_probs[batch, time, vocab] = data.draw(st.sampled_from([np.nan, negative_nan, np.inf, 0.5]))
    with pytest.raises(DataError, match=rf"in utterance {batch}, frame {time}\n"):
        check(log_probs, [log_probs.shape[1]] * len(log_probs), log_probs.shape[2])
    lengths = [log_probs.shape[1]] * batch + [time] + [0] * (len(log_probs) - batch - 1)
    check(log_probs, lengths, log_probs.shape[2])  # what stands behind the end is not looked at


@given(batches(LOG_PROBS), st.floats(-30, 0), st.integers(0, 34))
def test_likely_tokens(log_probs: NDArray[np.float32], floor: float, blank: int) -> None:
    frame, tokens = log_probs[0, 0], np.zeros(log_probs.shape[2], np.int32)
    count = find_likely(frame, blank, floor, tokens)
    assert tokens[:count].tolist() == [k for k in range(len(frame)) if frame[k] >= np.float32(floor) and k != blank]


def test_lengths_may_be_a_tensor() -> None:
    frames = check(torch.zeros(2, 3, 4), torch.tensor([3, 1]), 4)
    assert frames.lengths.tolist() == [3, 1]


@pytest.mark.parametrize("lengths", [[1], [1, 4], [1, -1], [[1, 1]]])
def test_wrong_lengths_are_refused(lengths: list[int]) -> None:
    with pytest.raises(DataError, match=r"one for each, between 0 and 3 frames"):
        check(np.zeros((2, 3, 4), np.float32), lengths, 4)
