"""What was said, and when: the result of recognition."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from asr.decoding.types import Slot

PAUSE_SECONDS = 0.8
"""A pause this long ends a segment."""
LONGEST_SEGMENT_SECONDS = 7.0
"""What a subtitle may last at most: six or seven seconds, in the guides of broadcasters."""


@dataclass(frozen=True)
class TimedWord:
    """A word, its place in seconds from the recording's start, and the model's confidence from 0 to 1."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Segment:
    """Words spoken without a long pause, such as make one subtitle."""

    words: tuple[TimedWord, ...]

    @property
    def text(self) -> str:
        """The words, with a space between."""
        return " ".join(word.text for word in self.words)

    @property
    def start(self) -> float:
        """Where its first word begins, in seconds from the recording's start."""
        return self.words[0].start

    @property
    def end(self) -> float:
        """Where its last word ends, in seconds from the recording's start."""
        return self.words[-1].end

    @property
    def confidence(self) -> float:
        """The geometric mean of the words' confidences."""
        return mean_confidence(self.words)


@dataclass(frozen=True)
class Alternative:
    """A way to hear a recording, and its score: a natural logarithm, the higher the likelier."""

    text: str
    score: float


@dataclass(frozen=True)
class Transcript:
    """What was said in a recording.

    Attributes:
        path: the recording, as it was given; "-" for a file object, "" for a waveform.
        duration: its length in seconds.
        text: all that was said; empty when nothing was.
        words: each with times and confidence.
        confidence: the geometric mean of the words' confidences; where there are none, the model's confidence
            that nothing was said; NaN, in JSON null, from a beam search without timestamps.
        alternatives: the best ways to hear it, `text` the first of them; empty unless several were asked for.
        slots: of the grammar's sentences, in order.
        rejection: how badly the audio fits the grammar's sentence, at least 0; None without a grammar.
        rejected: whether that was too much; then there is no text.
    """

    path: str
    duration: float
    text: str
    words: tuple[TimedWord, ...]
    confidence: float
    alternatives: tuple[Alternative, ...] = ()
    slots: tuple[Slot, ...] = ()
    rejection: float | None = None
    rejected: bool = False

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The words, cut at pauses."""
        return cut_at_pauses(self.words)

    def without_text(self) -> Transcript:
        """The transcript of speech that is no sentence of the grammar."""
        return replace(self, text="", words=(), alternatives=(), slots=(), rejected=True)


def join_alternatives(
    first: Sequence[Alternative], second: Sequence[Alternative], count: int
) -> tuple[Alternative, ...]:
    """The best ways to hear two parts of a recording, one after the other: no text twice, the best first."""
    befores, afters = (sorted(each, key=lambda alternative: -alternative.score) for each in (first, second))

    def followed(before: Alternative) -> Iterator[Alternative]:
        for after in afters:
            yield Alternative(" ".join(filter(None, (before.text, after.text))), before.score + after.score)

    best: dict[str, Alternative] = {}
    # Lazily: of long lists, most pairs are never looked at.
    for alternative in heapq.merge(*map(followed, befores), key=lambda alternative: -alternative.score):
        best.setdefault(alternative.text, alternative)
        if len(best) == count:
            break
    return tuple(best.values())


def mean_confidence(words: Sequence[TimedWord]) -> float:
    """The geometric mean of the confidences of at least one word."""
    if min(word.confidence for word in words) <= 0:
        return 0.0
    return min(1.0, math.exp(math.fsum(math.log(word.confidence) for word in words) / len(words)))


def cut_at_pauses(
    words: Iterable[TimedWord], pause: float = PAUSE_SECONDS, longest: float = LONGEST_SEGMENT_SECONDS
) -> tuple[Segment, ...]:
    """Cut words into segments.

    A segment ends at every pause of at least `pause` seconds. One that would become longer than `longest` ends at
    the longest pause in its second half. Only a single word may last longer.
    """
    segments: list[Segment] = []
    current: list[TimedWord] = []
    for word in words:
        if current and word.start - current[-1].end >= pause:
            segments.append(Segment(tuple(current)))
            current = []
        current.append(word)
        while len(current) > 1 and current[-1].end - current[0].start > longest:
            cut = _cut(current, longest)
            segments.append(Segment(tuple(current[:cut])))
            current = current[cut:]
    if current:
        segments.append(Segment(tuple(current)))
    return tuple(segments)


def _cut(words: Sequence[TimedWord], longest: float) -> int:
    """Before which word to cut: after the longest pause, the later of equals, but leaving no short remnant."""
    half = words[0].start + longest / 2

    def merit(index: int) -> tuple[bool, float, int]:
        return words[index].start >= half, words[index].start - words[index - 1].end, index

    return max(range(1, len(words)), key=merit)
