"""Recordings of any length, in bounded memory: windows of waveform in, stretches of log-probabilities out.

A recurrent model must not read hours at once, and reads best what is like the utterances that it has learnt from.
So a long recording is read in windows that end in the middle of pauses, and what is between two pauses is decoded
by itself. Such a window counts from end to end: a model may say a word in the pause before it is spoken. Where
there is no pause, windows overlap; of the output for each, only the middle is kept, so every kept frame has heard
its context on both sides. Windows begin on the grid of output frames, so the kept parts join into the frames of one
long recording. They are cut, where nobody speaks, into stretches short enough to decode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.sound_files import FloatArray

LONGEST_WINDOW, SHORTEST_WINDOW = 30.0, 4.0
LONGEST_CONTEXT = 3.0
PAUSE = 0.5
"""Seconds, as are those of windows."""
QUIET, SILENT, FAR = 10.0, 15.0, 20.0
"""Decibels by which a pause, and one of twice its length, are quieter than their window on the whole; and as how
much quieter a part of them counts at most."""
STEADY = 10.0
"""Decibels by which frames differ, at most, in a window in which nobody speaks at all."""
_FAINTEST = 1e-10  # of power; digital silence has no logarithm


@dataclass(frozen=True)
class Window:
    """A part of a recording, and which of its output frames count.

    Attributes:
        waveform: (samples,).
        start: its first sample's place in the recording.
        fresh: how many of its samples no earlier window holds.
        kept: the output frames for which it stands; the others are context.
        pauses: frames of these in the middle of pauses: what is between one and the next is decoded by itself.
    """

    waveform: FloatArray
    start: int
    fresh: int
    kept: slice
    pauses: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """The place in the recording after its last sample."""
        return self.start + len(self.waveform)


@dataclass(frozen=True)
class Windowing:
    """How recordings are cut into windows.

    Args:
        frame: samples per output frame: frame shift × subsampling.
        whole: frames of a recording that is one window.
        window: frames in a window of a longer recording, at most.
        context: frames at each of its ends that are dropped where it does not end in a pause, nor at an end of
            the recording.
        pause: frames of a short pause; one of twice its length is long.
    """

    frame: int
    whole: int
    window: int
    context: int
    pause: int

    def __post_init__(self) -> None:
        if not 0 <= 2 * self.context < self.window:
            raise ValueError(f"a window of {self.window} frames has no middle with {self.context} at each end")
        if self.window > self.whole:
            raise ValueError(f"windows of {self.window} frames from recordings of {self.whole}")
        if not 0 < self.pause <= self.window // 4:
            raise ValueError(f"a window of {self.window} frames can't be told from a pause of {self.pause}")

    @classmethod
    def for_samples(
        cls, frame: int, sample_rate: int, typical: float | None = None, long: float | None = None
    ) -> Windowing:
        """Windows for a model that has learnt from samples of typically, and of up to, so many seconds.

        They are up to twice as long as a typical one: at most `LONGEST_WINDOW`, as for a model of which it is not
        known, and at least `SHORTEST_WINDOW`, in which there may be a pause. A quarter of a short one is context at
        each end. What is no longer than a long sample is read as a whole.
        """
        window = min(max(2 * (typical or LONGEST_WINDOW), SHORTEST_WINDOW), LONGEST_WINDOW)
        whole = min(max(long or LONGEST_WINDOW, window), LONGEST_WINDOW)
        context = min(LONGEST_CONTEXT, window / 4)
        return cls(frame, *(round(seconds * sample_rate / frame) for seconds in (whole, window, context, PAUSE)))

    def windows(self, blocks: Iterable[FloatArray]) -> Iterator[Window]:
        """Cut a recording into windows.

        Args:
            blocks: (samples,) each, which joined are the recording.

        Yields:
            At least one window.
        """
        pending = np.zeros(0, np.float32)
        start = overlap = first_kept = 0
        longest_last = self.whole
        for block in blocks:
            pending = np.concatenate([pending, block])
            # A window is known not to be the last when there is a sample after it.
            while len(pending) > longest_last * self.frame:
                longest_last = self.window
                earliest = first_kept + self.window // 4
                pauses = self._pauses(pending[: self.window * self.frame], earliest)
                end = next((pause for pause in pauses if pause >= earliest), None)
                context, last_kept = (self.context, self.window - self.context) if end is None else (0, end)
                samples = (last_kept + context) * self.frame
                inside = tuple(pause for pause in pauses if first_kept < pause <= last_kept)
                yield Window(pending[:samples], start, samples - overlap, slice(first_kept, last_kept), inside)
                overlap, first_kept = 2 * context * self.frame, context
                pending = pending[samples - overlap :]
                start += samples - overlap
        yield Window(pending, start, len(pending) - overlap, slice(first_kept, None))

    def _pauses(self, waveform: FloatArray, earliest: int) -> list[int]:
        """The middles of a window's long pauses; if none is after a frame, that of the quietest short one, too."""
        powers = np.square(waveform.reshape(self.window, self.frame)).mean(1)
        levels, loudness = 10 * np.log10(powers + _FAINTEST), 10 * np.log10(powers.mean() + _FAINTEST)
        # However quiet a part of it is, such as digital silence, it does not make up for speech in the rest.
        clipped = np.maximum(levels, loudness - FAR)
        pauses = self._long_pauses(clipped, np.inf if np.ptp(levels) < STEADY else loudness - SILENT)
        if not pauses or pauses[-1] < earliest:
            pauses += self._short_pause(levels, clipped, loudness - QUIET, earliest)
        return pauses

    def _long_pauses(self, levels: NDArray[np.floating[Any]], most: float) -> list[int]:
        """The middles of silences that are no louder than so many decibels; of very long ones, both ends."""
        width = 2 * self.pause
        (silent,) = np.nonzero(_moving_average(levels, width) <= most)
        pauses: list[int] = []
        for run in np.split(silent, np.flatnonzero(np.diff(silent) > 1) + 1) if len(silent) else []:
            first, last = int(run[0]), int(run[-1])
            if last - first < 2 * width:
                pauses.append(_middle(levels, first, last + width, most))
            else:  # so much silence is apart from what is said before and after it
                pauses += [_middle(levels, at - self.pause, at + self.pause, most) for at in (first + width, last)]
        return pauses

    def _short_pause(
        self,
        levels: NDArray[np.floating[Any]],
        clipped: NDArray[np.floating[Any]],
        most: float,
        earliest: int,
    ) -> list[int]:
        """The middle of the quietest short pause after a frame, if one is no louder than so many decibels."""
        loud = _moving_average(clipped, self.pause) > most
        short = np.where(loud, np.inf, _moving_average(levels, self.pause))[earliest:]
        if short.min() == np.inf:
            return []
        start = earliest + int(np.argmin(short))
        return [_middle(levels, start, start + self.pause, most)]


def _middle(levels: NDArray[np.floating[Any]], start: int, end: int, most: float) -> int:
    """The middle of the longest part of a pause that is quiet throughout: a short word may lie in the pause."""
    return start + middle_of_longest_run(torch.from_numpy(levels[start:end] <= most))


def _moving_average(values: NDArray[np.floating[Any]], width: int) -> NDArray[np.floating[Any]]:
    return np.convolve(values, np.full(width, 1 / width), "valid")


def stretches(
    pieces: Iterable[tuple[int, Tensor, Sequence[int]]], is_silent: Callable[[Tensor], Tensor], longest: int
) -> Iterator[tuple[int, Tensor]]:
    """Cut a stream of log-probabilities, where nobody speaks, into stretches to decode.

    Args:
        pieces: the place of a piece's first frame in the recording; the output for it, (frames, vocab); and before
            which of its frames, or after it, a stretch shall end. Only where one ends may frames be missing, as
            at the end of a window in which the last ones have too few samples.
        is_silent: tells which frames of such a piece hold no speech, as (frames,) booleans.
        longest: frames that a stretch holds at most; a recording that is no longer is one stretch.

    Yields:
        The place of a stretch's first frame in the recording, and its log-probabilities (frames, vocab).
    """
    start = 0
    pending: Tensor | None = None
    for first, part, ends in _parts(pieces):
        if pending is None:
            start, pending = first, part
        else:
            pending = torch.cat([pending, part])
        while len(pending) > longest:
            silent = is_silent(pending[longest // 2 : longest])
            cut = longest // 2 + middle_of_longest_run(silent) if silent.any() else longest
            yield start, pending[:cut]
            pending = pending[cut:]
            start += cut
        if ends:
            yield start, pending
            pending = None
    if pending is not None and (len(pending) or start == 0):
        yield start, pending


def _parts(pieces: Iterable[tuple[int, Tensor, Sequence[int]]]) -> Iterator[tuple[int, Tensor, bool]]:
    """Pieces, cut where a stretch shall end, with their places, and whether one shall end after each part."""
    for start, piece, ends in pieces:
        first = 0
        for last in ends:
            yield start + first, piece[first:last], True
            first = last
        yield start + first, piece[first:], False


def middle_of_longest_run(flags: Tensor) -> int:
    """Index of the middle of the longest run of true values in `flags` (n,), of which there must be one."""
    edges = torch.diff(flags.int(), prepend=flags.new_zeros(1).int(), append=flags.new_zeros(1).int())
    starts, ends = (edges == 1).nonzero().squeeze(1), (edges == -1).nonzero().squeeze(1)
    longest = int((ends - starts).argmax())
    return int(starts[longest] + ends[longest]) // 2
