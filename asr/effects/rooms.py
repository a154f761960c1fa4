"""Reverberation: impulse responses of rooms, simulated or recorded, and speech in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from asr.effects.fourier import convolve
from asr.effects.level import FloatArray, power, with_power

Place = tuple[float, float, float]
SOUND_SPEED = 343.0
"""Metres per second, in air of 20 °C."""

DIRECT_TO_REVERBERANT_DB = (0.0, 10.0)  # from across a small room to beside the microphone
SMALLEST_ROOM, LARGEST_ROOM = (2.5, 2.5, 2.3), (8.0, 6.0, 3.5)  # metres: of a home, an office, a classroom
WALL_METRES = 0.5  # nearer to a wall there is no mouth and no microphone
SOURCE_HEIGHT, MICROPHONE_HEIGHT = (1.0, 1.8), (0.6, 1.8)  # metres: sitting or standing; on a table or a wall
NEAREST_METRES = 0.3

EVENLY = (np.arange(24) + 0.5) / 24
PHASES = 16  # to which a delay is rounded: parts of a sample
REACH = 16  # samples either way over which an echo between two samples is spread
LEAD_SECONDS = 0.002  # of a recorded response, kept before its direct sound
FAINT = 1e-6  # of its energy: what comes after the rest is left out


class ImpulseResponse(NamedTuple):
    """What a microphone hears of a click."""

    samples: FloatArray
    direct: int
    """Index at which the sound arrives that took the shortest way."""


@dataclass(frozen=True)
class Room:
    """An empty box whose walls all reflect alike. Metres and seconds; a corner is the origin."""

    size: Place
    source: Place
    microphone: Place
    rt60_seconds: float
    """Reverberation time, in which the sound falls by 60 dB."""

    @property
    def distance(self) -> float:
        """From source to microphone."""
        return float(np.linalg.norm(np.subtract(self.source, self.microphone)))


def draw_room(rt60_seconds: float, rng: Generator) -> Room:
    """A room of a home, an office or a classroom, with somebody in it who speaks."""
    size = rng.uniform(SMALLEST_ROOM, LARGEST_ROOM)
    while True:
        source, microphone = rng.uniform(WALL_METRES, size - WALL_METRES, (2, 3))
        source[2], microphone[2] = rng.uniform(*SOURCE_HEIGHT), rng.uniform(*MICROPHONE_HEIGHT)
        room = Room(_place(size), _place(source), _place(microphone), rt60_seconds)
        if room.distance >= NEAREST_METRES:
            return room


def _place(metres: NDArray[np.float64]) -> Place:
    x, y, z = map(float, metres)
    return x, y, z


def wall_reflection(room: Room) -> float:
    """What a wall gives back of the sound pressure, for the reverberation time (ISO 3382's T20) that is wanted.

    Sound in a box does not mix its directions, as Eyring's formula supposes; by that, rooms decay a fifth too
    slowly. So the decay is taken from its mean over directions, in each of which it is exponential (Lehmann &
    Johansson 2008). As there, reflections are below 0: echoes of the same sign would add up to a rumble that
    real rooms do not have.
    """
    rise, turn = np.meshgrid(EVENLY, EVENLY * np.pi / 2)  # of directions, even over an eighth of a sphere
    flat = np.sqrt(1 - rise**2)
    directions = np.stack((flat * np.cos(turn), flat * np.sin(turn), rise)).reshape(3, -1)
    bounces = SOUND_SPEED * (1 / np.array(room.size)) @ directions  # a second
    absorbed = np.linspace(0, 50 / bounces.mean(), 400)[:, None]  # nepers of power a bounce, × seconds
    decay = np.mean(np.exp(-bounces * absorbed) / bounces, axis=1)
    begin, end = np.interp((5.0, 25.0), -10 * np.log10(decay / decay[0]), absorbed[:, 0])
    return float(-np.exp(-1.5 * (end - begin) / room.rt60_seconds))


def image_response(room: Room, sample_rate: int) -> ImpulseResponse:
    """A room's response by the image method (Allen & Berkley 1979), until it has fallen by 60 dB.

    Delays are kept to a sixteenth of a sample, by windowed sincs (Peterson 1986). The direct sound is 1, and so an
    echo is what its way takes from it: the direct way's length / its own × the reflection of each wall on it.
    """
    samples = max(round(room.rt60_seconds * sample_rate), 1) + REACH
    horizon = room.distance + samples * SOUND_SPEED / sample_rate
    (x, bounces_x), (y, bounces_y), (z, bounces_z) = (
        _images(*axis, horizon) for axis in zip(room.size, room.source, room.microphone, strict=True)
    )
    across, bounces_across = np.add.outer(y**2, z**2), np.add.outer(bounces_y, bounces_z)
    strengths = room.distance * wall_reflection(room) ** np.arange(bounces_x.max() + bounces_across.max() + 1)
    echoes = np.zeros(samples * PHASES)
    for along, bounces in zip(x**2, bounces_x, strict=True):  # a slice of the images at a time, for memory's sake
        within = across < horizon**2 - along
        distances = np.sqrt(across[within] + along)
        places = np.rint((distances - room.distance) * (PHASES * sample_rate / SOUND_SPEED)).astype(np.int64)
        heard = places < len(echoes)
        weights = strengths[bounces_across[within] + bounces] / distances
        echoes += np.bincount(places[heard], weights[heard], len(echoes))
    return ImpulseResponse(_spread(echoes.reshape(samples, PHASES)), REACH)


def _images(
    size: float, source: float, microphone: float, horizon: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Along one axis: from the microphone to the images of the source, and how often a wall reflects each."""
    repeats = np.arange(-int(horizon / (2 * size)) - 1, int(horizon / (2 * size)) + 2)
    straight, mirrored = 2 * repeats * size + source, 2 * repeats * size - source
    bounces = np.concatenate((2 * np.abs(repeats), np.abs(repeats - 1) + np.abs(repeats)))
    return np.concatenate((straight, mirrored)) - microphone, bounces


def _spread(echoes: NDArray[np.float64]) -> FloatArray:
    """Echoes (samples, phases) as (samples + REACH,): limited to the band, and REACH samples later."""
    offsets = np.arange(-REACH, REACH + 1)[:, None] - np.arange(PHASES) / PHASES
    taps = np.sinc(offsets) * np.cos(np.pi / 2 * offsets / (REACH + 1)) ** 2
    response = np.zeros(len(echoes) + 2 * REACH)
    for lag, tap in enumerate(taps):
        response[lag : lag + len(echoes)] += echoes @ tap
    return response[: len(echoes) + REACH].astype(np.float32)


def decaying_noise(sample_rate: int, rt60_seconds: float, direct_db: float, rng: Generator) -> ImpulseResponse:
    """The response of a small room after Polack's model: direct sound, then noise that decays exponentially.

    Args:
        sample_rate: in hertz.
        rt60_seconds: reverberation time.
        direct_db: how much louder the direct sound is than all the rest.
        rng: draws the reflections.
    """
    times = np.arange(max(2, round(rt60_seconds * sample_rate)), dtype=np.float32) / np.float32(sample_rate)
    response = rng.standard_normal(len(times), dtype=np.float32) * 10.0 ** (-3.0 / np.float32(rt60_seconds) * times)
    response[0] = 0.0
    response *= np.float32(10.0 ** (-direct_db / 20.0) / np.linalg.norm(response))
    response[0] = 1.0
    return ImpulseResponse(response, 0)


def recorded_response(recording: FloatArray, sample_rate: int) -> ImpulseResponse:
    """A recorded impulse response without the silence around it.

    The direct sound is where it first comes near its peak: the loudest point of the millisecond after it reaches
    half of that.

    Args:
        recording: (samples,), not all 0.
        sample_rate: in hertz.
    """
    magnitudes = np.abs(recording)
    onset = int(np.argmax(magnitudes >= magnitudes.max() / 2))
    direct = onset + int(np.argmax(magnitudes[onset : onset + 1 + sample_rate // 1000]))
    first = max(direct - round(LEAD_SECONDS * sample_rate), 0)
    left = np.cumsum(np.square(recording[::-1], dtype=np.float64))[::-1]
    last = int(np.count_nonzero(left > FAINT * left[0]))
    return ImpulseResponse(recording[first:last], direct - first)


def reverberate(waveform: FloatArray, response: ImpulseResponse) -> FloatArray:
    """Speech as it is heard in a room.

    The direct sound keeps its place, so word times stay true, and the utterance keeps its length and power.
    """
    if len(waveform) == 0:
        return waveform
    wet = convolve(waveform, response.samples)[response.direct : response.direct + len(waveform)]
    return with_power(wet, power(waveform))
