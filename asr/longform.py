"""Recordings of any length, in bounded memory: windows of waveform in, stretches of log-probabilities out.

A recurrent model must not read hours at once. A long recording is read in windows which overlap; of the output
for each, only the middle is kept, so every kept frame has heard its context on both sides. Windows begin on the
grid of output frames, so the kept parts join into the frames of one long recording. Those are cut, where nobody
speaks, into stretches short enough to decode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asr.sound_files import FloatArray

LONGEST_WINDOW, SHORTEST_WINDOW = 30.0, 8.0
LONGEST_CONTEXT = 3.0
"""Seconds, as are those of windows."""


@dataclass(frozen=True)
class Window:
    """A part of a recording, and which of its output frames count.

    Attributes:
        waveform: (samples,).
        start: its first sample's place in the recording.
        fresh: how many of its samples no earlier window holds.
        kept: the output frames for which it stands; the others are context.
    """

    waveform: FloatArray
    start: int
    fresh: int
    kept: slice

    @property
    def end(self) -> int:
        """The place in the recording after its last sample."""
        return self.start + len(self.waveform)


@dataclass(frozen=True)
class Windowing:
    """How recordings are cut into windows.

    Args:
        frame: samples per output frame: frame shift × subsampling.
        window: frames in a window.
        context: frames at each of its ends that are dropped, except at the recording's own ends.
    """

    frame: int
    window: int
    context: int

    def __post_init__(self) -> None:
        if not 0 <= 2 * self.context < self.window:
            raise ValueError(f"a window of {self.window} frames has no middle with {self.context} at each end")

    @classmethod
    def for_samples(cls, frame: int, sample_rate: int, longest: float | None = None) -> Windowing:
        """Windows for a model that has learnt from samples of up to so many seconds.

        Recurrent models read worse what is longer than anything they have learnt from, so a window is about as
        long as that: at most `LONGEST_WINDOW`, as for a model of which it is not known, and at least
        `SHORTEST_WINDOW`, for a model of single words hears sentences too. A quarter of a short one is context
        at each end.
        """
        window = LONGEST_WINDOW if longest is None else min(max(longest, SHORTEST_WINDOW), LONGEST_WINDOW)
        context = min(LONGEST_CONTEXT, window / 4)
        return cls(frame, round(window * sample_rate / frame), round(context * sample_rate / frame))

    @property
    def samples(self) -> int:
        """In a window. A recording that is no longer is one window."""
        return self.window * self.frame

    def windows(self, blocks: Iterable[FloatArray]) -> Iterator[Window]:
        """Cut a recording into windows.

        Args:
            blocks: (samples,) each, which joined are the recording.

        Yields:
            At least one window, the last with more than `context` frames that no other keeps.
        """
        pending = np.zeros(0, np.float32)
        start = overlap = first_kept = 0
        for block in blocks:
            pending = np.concatenate([pending, block])
            # A window is known not to be the last when there is a sample behind it.
            while len(pending) > self.samples:
                kept = slice(first_kept, self.window - self.context)
                yield Window(pending[: self.samples], start, self.samples - overlap, kept)
                overlap, first_kept = 2 * self.context * self.frame, self.context
                pending = pending[self.samples - overlap :]
                start += self.samples - overlap
        yield Window(pending, start, len(pending) - overlap, slice(first_kept, None))


def stretches(
    pieces: Iterable[Tensor], is_silent: Callable[[Tensor], Tensor], longest: int
) -> Iterator[tuple[int, Tensor]]:
    """Cut a stream of log-probabilities, where nobody speaks, into stretches to decode.

    Args:
        pieces: (frames, vocab) each, which joined are the output for a recording.
        is_silent: tells which frames of such a piece hold no speech, as (frames,) booleans.
        longest: frames that a stretch holds at most; a recording that is no longer is one stretch.

    Yields:
        The place of a stretch's first frame in the recording, and its log-probabilities (frames, vocab).
    """
    start = 0
    pending: Tensor | None = None
    for piece in pieces:
        pending = piece if pending is None else torch.cat([pending, piece])
        while len(pending) > longest:
            silent = is_silent(pending[longest // 2 : longest])
            cut = longest // 2 + middle_of_longest_run(silent) if silent.any() else longest
            yield start, pending[:cut]
            pending = pending[cut:]
            start += cut
    if pending is not None:
        yield start, pending


def middle_of_longest_run(flags: Tensor) -> int:
    """Index of the middle of the longest run of true values in `flags` (n,), of which there must be one."""
    edges = torch.diff(flags.int(), prepend=flags.new_zeros(1).int(), append=flags.new_zeros(1).int())
    starts, ends = (edges == 1).nonzero().squeeze(1), (edges == -1).nonzero().squeeze(1)
    longest = int((ends - starts).argmax())
    return int(starts[longest] + ends[longest]) // 2
