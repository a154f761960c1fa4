"""Training data made more varied: what is done to each utterance, drawn anew in every epoch, and masked features.

What the steps do is in `effects/`; here is what chance decides. Each step draws from a generator of its own, made
of its name and of one number that the utterance's generator gives: switching a step on or off changes nothing in
what the others draw, nor in what is drawn afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from asr import audio
from asr.effects import rooms, transmission
from asr.effects.level import (
    USUAL_POWER,
    FloatArray,
    apply_gain,
    power,
    speech_power,
    with_power,
    within_peak,
)
from asr.effects.noise import add_noise, coloured_noise, fit_length
from asr.effects.rooms import DIRECT_TO_REVERBERANT_DB, ImpulseResponse, Room
from asr.effects.speed import change_speed
from asr.errors import AudioError
from asr.sound_files import Stretch

Drawn = dict[str, float | str]
Interval = tuple[float, float]
"""From which is drawn evenly."""


class Changed(NamedTuple):
    """A waveform, and what was drawn to change it so."""

    waveform: FloatArray
    drawn: Drawn


Change = Callable[[FloatArray, Generator], Changed]
"""(samples,) and a generator → (samples,), of another length where the speed or the tempo changes."""


@dataclass(frozen=True)
class Step:
    """A change that happens with a probability.

    Attributes:
        name: under which the recipe has it.
        probability: from 0 to 1.
        change: what it does.
    """

    name: str
    probability: float
    change: Change


class Applied(NamedTuple):
    """What a step did to an utterance."""

    step: str
    drawn: Drawn


@dataclass(frozen=True)
class WaveformAugmenter:
    """What happens to a training utterance's waveform: steps, one after another."""

    steps: tuple[Step, ...] = ()

    def __call__(self, waveform: FloatArray, rng: Generator) -> FloatArray:
        """Augment one utterance: (samples,) → (samples,), of another length where the speed changes.

        A result beyond ±1 is scaled down to that as a whole, never clipped; or to the peak that it had before, if
        that was beyond ±1 already. `rng` gives one number, whatever the steps.
        """
        return self.trace(waveform, rng)[0]

    def trace(self, waveform: FloatArray, rng: Generator) -> tuple[FloatArray, list[Applied]]:
        """Augment as a call does; also return the steps that were applied, with what each of them drew."""
        applied, limit = [], max(float(np.abs(waveform).max(initial=0.0)), 1.0)
        entropy = int(rng.integers(2**63))
        for step in self.steps:
            own = np.random.default_rng((entropy, crc32(step.name.encode())))
            if own.random() < step.probability:
                waveform, drawn = step.change(waveform, own)
                applied.append(Applied(step.name, drawn))
        return within_peak(waveform, limit), applied

    def only(self, name: str) -> WaveformAugmenter:
        """One step alone, which then always happens; it draws what it would draw among the others."""
        return WaveformAugmenter(tuple(replace(step, probability=1.0) for step in self.steps if step.name == name))


# ---------------------------------------------------------------------------------------------- silence


@dataclass(frozen=True)
class Silence:
    """Quiet noise around an utterance, or alone. The planning of batches reckons with it.

    Attributes:
        before, after: seconds.
        below_db: by how much it is softer than the speech, or than speech usually is.
        seed: of the noise.
    """

    before: float
    after: float
    below_db: float
    seed: int

    def around(self, waveform: FloatArray, sample_rate: int) -> FloatArray:
        """With noise of some colour at both ends: (samples,) → (more samples,)."""
        rng = np.random.default_rng(self.seed)
        before, after = (round(seconds * sample_rate) for seconds in (self.before, self.after))
        noise = coloured_noise(before + after, rng.uniform(0.0, 2.0), sample_rate, rng)
        speech = speech_power(waveform, sample_rate) if len(waveform) else USUAL_POWER
        noise *= np.float32(np.sqrt(speech) * 10.0 ** (-self.below_db / 20.0))
        return np.concatenate([noise[:before], waveform, noise[before:]])

    @property
    def applied(self) -> Applied:
        """What to tell of it, as `WaveformAugmenter.trace` tells of steps."""
        return Applied("silence", {"before": self.before, "after": self.after, "below_db": self.below_db})


@dataclass(frozen=True)
class Silences:
    """Draws silence: of so many seconds at each end, and so much softer than speech.

    Attributes:
        probability: of an utterance's having any.
        seconds: at each end.
        below_db: see `Silence`.
        alone: how many samples of nothing else there are to one utterance.
    """

    probability: float
    seconds: Interval
    below_db: Interval
    alone: float = 0.0

    def draw(self, rng: Generator) -> Silence | None:
        """Draw for one utterance, which may have none."""
        if rng.random() >= self.probability:
            return None
        before, after = rng.uniform(*self.seconds, size=2).tolist()
        return self._lasting(before, after, rng)

    def draw_alone(self, durations: Sequence[float], rng: Generator) -> list[Silence]:
        """Draw what is heard besides utterances of so many seconds each: as long as some of them, or shorter."""
        count = int(self.alone * len(durations) + rng.random())
        lengths = rng.choice(durations, count) * rng.uniform(0.1, 1.0, count)
        return [self._lasting(float(seconds), 0.0, rng) for seconds in lengths]

    def _lasting(self, before: float, after: float, rng: Generator) -> Silence:
        return Silence(before, after, rng.uniform(*self.below_db), int(rng.integers(2**63)))


# ---------------------------------------------------------------------------------------------- the steps


@dataclass(frozen=True)
class Speed:
    """Changes tempo and pitch together, by one of some factors, each as likely as the others."""

    sample_rate: int
    factors: tuple[float, ...]

    def __call__(self, waveform: FloatArray, rng: Generator) -> Changed:
        factor = float(rng.choice(self.factors))
        changed = waveform if factor == 1.0 else change_speed(waveform, self.sample_rate, factor)
        return Changed(changed, {"factor": factor})


@dataclass(frozen=True)
class Pitch:
    """Changes pitch and formants by so many semitones, and leaves the tempo."""

    sample_rate: int
    semitones: Interval

    def __call__(self, waveform: FloatArray, rng: Generator) -> Changed:
        from asr.effects import tempo  # numba, which takes a second that nothing else here need wait

        semitones = rng.uniform(*self.semitones)
        return Changed(tempo.change_pitch(waveform, self.sample_rate, semitones), {"semitones": semitones})


@dataclass(frozen=True)
class Tempo:
    """Changes the tempo by a factor (above 1: faster), and leaves the pitch."""

    sample_rate: int
    factor: Interval

    def __call__(self, waveform: FloatArray, rng: Generator) -> Changed:
        from asr.effects import tempo  # as above

        factor = rng.uniform(*self.factor)
        return Changed(tempo.change_tempo(waveform, self.sample_rate, factor), {"factor": factor})


@dataclass(frozen=True)
class DecayingNoise:
    """A small room of no shape: direct sound and noise that decays."""

    sample_rate: int
    rt60_seconds: Interval

    def __call__(self, waveform: FloatArray, rng: Generator) -> Changed:
        rt60, direct = rng.uniform(*self.rt60_seconds), rng.uniform(*DIRECT_TO_REVERBERANT_DB)
        response = rooms.decaying_noise(self.sample_rate, rt60, direct, rng)
        return Changed(rooms.reverberate(waveform, response), {"rt60_seconds": rt60, "direct_db": direct})


@dataclass(frozen=True)
class SimulatedRooms:
    """Boxes with a speaker and a microphone in them.

    Each process works the response of a room out when it first meets it. The rooms are the same in every run.
    """

    sample_rate: int
    rt60_seconds: Interval
    count: int

    def __call__(self, waveform: FloatArray, rng: Generator) -> Changed:
        number = int(rng.integers(self.count))
        room, response = _simulated(number, self.rt60_seconds, self.sample_rate)
        drawn: Drawn = {
            "room": number,
            "metres": " × ".join(f"{side:.1f}" for side in room.size),
            "distance": room.distance,
            "rt60_seconds": room.rt60_seconds,
        }
        return Changed(rooms.reverberate(waveform, response), drawn)


@dataclass(frozen=True)
class RecordedRooms:
    """Impulse responses from files."""

    sample_rate: int
    files: tuple[Path, ...]

    def __call__(self, waveform: FloatArray, rng: Generator) -> Changed:
        path = self.files[rng.integers(len(self.files))]
        return Changed(rooms.reverberate(waveform, _recorded(path, self.sample_rate)), {"file": path.name})


@dataclass(frozen=True)
class Snr:
    """How much louder than noise speech is.

    Attributes:
        sample_rate: in hertz.
        decibels: the ratio of their mean powers.
        without_pauses: whether the power of speech is that of its loud parts, or of the whole utterance.
    """

    sample_rate: int
    decibels: Interval
    without_pauses: bool = False

    def mixed(self, waveform: FloatArray, noise: FloatArray, snr_db: float) -> FloatArray:
        """Speech with noise added, `snr_db` softer: (samples,) each."""
        signal = speech_power(waveform, self.sample_rate) if self.without_pauses else power(waveform)
        return add_noise(waveform, noise, snr_db, signal)


@dataclass(frozen=True)
class GeneratedNoise:
    """Gaussian noise of a colour."""

    snr: Snr
    exponent: Interval
    """Of its spectrum's fall, from 60 Hz on: 0 white, 1 pink, 2 brown."""

    def __call__(self, waveform: FloatArray, rng: Generator) -> Changed:
        snr_db, exponent = rng.uniform(*self.snr.decibels), rng.uniform(*self.exponent)
        noise = coloured_noise(len(waveform), exponent, self.snr.sample_rate, rng)
        return Changed(self.snr.mixed(waveform, noise, snr_db), {"snr_db": snr_db, "exponent": exponent})


@dataclass(frozen=True)
class RecordedNoise:
    """Stretches of recordings, some of which may sound at once, all equally loud."""

    sample_rate: int
    snr: Snr
    files: tuple[tuple[Path, float], ...]
    """And how many seconds each lasts."""
    at_once: tuple[int, int] = (1, 1)

    def __call__(self, waveform: FloatArray, rng: Generator) -> Changed:
        snr_db, count = rng.uniform(*self.snr.decibels), rng.integers(*self.at_once, endpoint=True)
        chosen = [self.files[index] for index in rng.integers(len(self.files), size=count)]
        noise = np.zeros(len(waveform), np.float32)
        for path, seconds in chosen:
            noise += with_power(self._stretch(path, seconds, len(waveform), rng), 1.0)
        names = ", ".join(path.name for path, _ in chosen)
        return Changed(self.snr.mixed(waveform, noise, snr_db), {"snr_db": snr_db, "file": names})

    def _stretch(self, path: Path, seconds: float, samples: int, rng: Generator) -> FloatArray:
        """Part of a recording, of which no more is read."""
        wanted = min(samples / self.sample_rate, seconds)
        start = rng.random() * (seconds - wanted)
        part = Stretch(path, start, wanted)
        return fit_length(audio.load(part, self.sample_rate), samples, rng)


@dataclass(frozen=True)
class Gain:
    """Changes the level by so many decibels."""

    decibels: Interval

    def __call__(self, waveform: FloatArray, rng: Generator) -> Changed:
        gain_db = rng.uniform(*self.decibels)
        return Changed(apply_gain(waveform, gain_db), {"db": gain_db})


@dataclass(frozen=True)
class Telephone:
    """Sends speech over a telephone line: band-limited, then coded by one of some codecs."""

    sample_rate: int
    codecs: tuple[str, ...]
    band_hz: Interval

    def __call__(self, waveform: FloatArray, rng: Generator) -> Changed:
        codec = self.codecs[rng.integers(len(self.codecs))]
        return Changed(transmission.telephone(waveform, self.sample_rate, codec, self.band_hz), {"codec": codec})


@dataclass(frozen=True)
class Codec:
    """Compresses speech by one of some codecs, at a bit rate in kbit/s, and decodes it again."""

    sample_rate: int
    codecs: tuple[str, ...]
    kbps: Interval

    def __call__(self, waveform: FloatArray, rng: Generator) -> Changed:
        codec, kbps = self.codecs[rng.integers(len(self.codecs))], rng.uniform(*self.kbps)
        heard = transmission.through_codec(waveform, self.sample_rate, codec, kbps)
        return Changed(heard, {"codec": codec, "kbps": kbps})


@lru_cache(maxsize=1000)
def _simulated(number: int, rt60_seconds: Interval, sample_rate: int) -> tuple[Room, ImpulseResponse]:
    rng = np.random.default_rng(number)
    room = rooms.draw_room(rng.uniform(*rt60_seconds), rng)
    return room, rooms.image_response(room, sample_rate)


@lru_cache(maxsize=200)
def _recorded(path: Path, sample_rate: int) -> ImpulseResponse:
    # Microphones of an array hear the room at different times: their mean is what none of them hears.
    recording = audio.load(path, sample_rate, channel=0)
    if not recording.any():
        raise AudioError("holds nothing but silence", where=path, expected="the impulse response of a room")
    return rooms.recorded_response(recording, sample_rate)


# -------------------------------------------------------------------------------------------- SpecAugment


@dataclass(frozen=True)
class Masks:
    """Stretches of features to hide, as (start, width) pairs in frames and in bins."""

    time: tuple[tuple[int, int], ...]
    freq: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SpecAugment:
    """Masks over time and frequency (Park et al. 2019, without time warping)."""

    freq_masks: int = 2
    freq_width: int = 20
    """Widest frequency mask, in bins."""
    time_masks: int = 2
    time_width: int = 40
    """Widest time mask, in frames …"""
    time_fraction: float = 0.2
    """… and as a share of the utterance."""
    probability: float = 1.0
    """Of there being masks at all."""

    def plan(self, num_frames: int, num_bins: int, rng: Generator) -> Masks:
        """Draw the masks of one utterance: widths from 0 to the widest, anywhere that they fit."""
        if self.probability < 1.0 and rng.random() >= self.probability:
            return Masks((), ())
        widest = min(self.time_width, int(self.time_fraction * num_frames))
        return Masks(
            time=tuple(_stretch(num_frames, widest, rng) for _ in range(self.time_masks)),
            freq=tuple(_stretch(num_bins, min(self.freq_width, num_bins), rng) for _ in range(self.freq_masks)),
        )

    @staticmethod
    def apply(features: Tensor, masks: Sequence[Masks]) -> Tensor:
        """Set what the masks cover to 0, the mean of normalised features; on a GPU in a few steps, for all rows.

        Args:
            features: (batch, frames, bins), which stay as they are.
            masks: of each row.

        Returns:
            (batch, frames, bins).
        """
        _, frames, bins = features.shape
        time = _covered([each.time for each in masks], frames).to(features.device, non_blocking=True)
        freq = _covered([each.freq for each in masks], bins).to(features.device, non_blocking=True)
        return features.masked_fill(time[:, :, None] | freq[:, None, :], 0.0)


@dataclass(frozen=True)
class SpanMasking:
    """What of an utterance's features is to be guessed from the rest: spans of frames and a band of bins.

    Spans of one width that cover a share of all utterances, long or short, and a band over the whole utterance, as
    in TERA (Liu et al. 2021). A single frame could be told from its neighbours, whose windows overlap its own.
    """

    share: float = 0.3
    """Of the frames, on average; less where spans overlap."""
    span: int = 12
    """Width of each span, in frames; at most half of the utterance."""
    band: float = 0.2
    """Widest band, as a share of the bins."""

    def plan(self, num_frames: int, num_bins: int, rng: Generator) -> Masks:
        """Draw the masks of one utterance."""
        width = min(self.span, num_frames // 2)
        count = int(self.share * num_frames / max(width, 1) + rng.random())  # rounded by chance: a digit is short
        starts = rng.integers(num_frames - width + 1, size=count)
        return Masks(
            time=tuple((int(start), width) for start in starts),
            freq=(_stretch(num_bins, int(self.band * num_bins), rng),),
        )


def _stretch(size: int, widest: int, rng: Generator) -> tuple[int, int]:
    width = int(rng.integers(widest + 1))
    return int(rng.integers(size - width + 1)), width


def _covered(rows: Sequence[Sequence[tuple[int, int]]], size: int) -> Tensor:
    covered = np.zeros((len(rows), size), bool)
    for row, stretches in enumerate(rows):
        for start, width in stretches:
            covered[row, start : start + width] = True
    return torch.from_numpy(covered)
