"""Speak sentences with eSpeak NG: a program, run as `python espeak_process.py REQUESTS FOLDER`.

eSpeak NG is licensed under the GPL, version 3. This file therefore stays a program of its own, which imports
nothing of `asr` and which nothing imports: a caller writes requests to a file and reads sound files.

REQUESTS has one `Request` per line, in JSON. FOLDER gets the sounds: WAV, 16 kHz, 16 bits, mono. For each one a
line {"audio": name, "duration": seconds} appears on standard output as soon as it is written; null in place of the
seconds, and no sound, where there is nothing in a text that can be said.

The library keeps state between calls, so a sound depends on those before it: the same requests in the same
order, in a fresh process, give the same files to the bit.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import espeakng_loader
import numpy as np
import soxr
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]

SAMPLE_RATE = 16_000
PEAK = 0.95  # loudest speech sample, of full scale
FIRST_REFLECTION = 0.002  # seconds after the direct sound

# espeak-ng/speak_lib.h
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
POS_CHARACTER = 1
CHARS_UTF8 = 1
RATE, PITCH, RANGE = 1, 3, 4  # espeak_PARAMETER
SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Request:
    """One sentence, said by one voice in one room.

    Attributes:
        audio: name of the sound file, relative to the folder.
        text: what to say.
        voice: accent+variant, such as en-us+f3.
        rate: speed, in words per minute.
        pitch: 0 to 100, where 50 is the variant's own.
        pitch_range: liveliness of the melody, 0 (monotone) to 100, where 50 is the variant's own.
        lead: seconds before the speech.
        tail: seconds after it.
        rt60: seconds in which the room's echo falls by 60 dB.
        direct_to_reverberant: level of the direct sound above its echo, in dB.
        level: root mean square of the speech, in dB of full scale.
        snr: level of the speech above the noise, in dB.
        tilt: colour of the noise, whose power falls with frequency as 1 / f^tilt: 0 white, 1 pink, 2 brown.
        seed: of the voice's breath, the echo and the noise.
    """

    audio: str
    text: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int
    lead: float
    tail: float
    rt60: float
    direct_to_reverberant: float
    level: float
    snr: float
    tilt: float
    seed: int


class NoSoundError(Exception):
    """The library finds nothing to say in a text, such as in “①”."""


class Espeak:
    """The library, loaded. One of these in a process: it keeps its state in global variables.

    It moves the process to where its data are, to name them by a short path: the library cuts longer ones (1.52
    after 160 bytes), and on Windows knows ASCII only. The process stays there, as voices are read when used.
    """

    def __init__(self) -> None:
        data = Path(espeakng_loader.get_data_path())
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        os.chdir(data.parent)
        self.sample_rate: int = self._library.espeak_Initialize(
            AUDIO_OUTPUT_SYNCHRONOUS, 0, data.name.encode(), INITIALIZE_DONT_EXIT
        )
        if self.sample_rate <= 0:
            raise RuntimeError(f"eSpeak NG can't start with its data in {data}")
        self._variants = {path.name for path in (data / "voices" / "!v").iterdir()}
        self._pieces: list[bytes] = []
        # ctypes does not keep a callback alive: the attribute does.
        self._callback = SYNTH_CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        return 0  # go on

    def say(self, request: Request) -> FloatArray:
        """Speak, as a request's text, voice, rate, pitch and seed say.

        Returns:
            (samples,) at `sample_rate`, full scale ±1.

        Raises:
            ValueError: there is no such voice, or the library failed.
            NoSoundError: it made no sound.
        """
        self._set_voice(request.voice)
        manner = {RATE: request.rate, PITCH: request.pitch, RANGE: request.pitch_range}
        for parameter, value in manner.items():
            self._library.espeak_SetParameter(parameter, value, 0)
        # The breath of some voices is random, and seeded with the clock unless told otherwise.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(request.seed))
        self._pieces.clear()
        encoded = request.text.encode() + b"\0"
        status = self._library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded)), 0, POS_CHARACTER, 0, CHARS_UTF8, None, None
        )
        if status != 0:
            raise ValueError(f"eSpeak NG failed (status {status})")
        samples = np.frombuffer(b"".join(self._pieces), np.int16)
        if not samples.any():
            raise NoSoundError
        return samples.astype(np.float32) / np.float32(32768)

    def _set_voice(self, voice: str) -> None:
        # The library says when it does not know an accent, but takes any variant and speaks without it.
        accent, _, variant = voice.partition("+")
        if variant not in self._variants:
            raise ValueError(f"eSpeak NG has no variant {variant}")
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"eSpeak NG has no language {accent}")


def languages() -> list[str]:
    """The names of all languages and accents, sorted."""
    files = [path for path in (Path(espeakng_loader.get_data_path()) / "lang").rglob("*") if path.is_file()]
    lines = [line.split() for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted({words[1] for words in lines if words[:1] == ["language"]})


def render(request: Request, espeak: Espeak) -> FloatArray:
    """The sound that a request asks for: (samples,) at `SAMPLE_RATE`."""
    rng = np.random.default_rng(request.seed)
    dry: FloatArray = soxr.resample(np.trim_zeros(espeak.say(request)), espeak.sample_rate, SAMPLE_RATE)
    padded = np.pad(dry, (round(request.lead * SAMPLE_RATE), round(request.tail * SAMPLE_RATE)))
    speech = reverberate(padded, request.rt60, request.direct_to_reverberant, rng)
    rms = float(np.linalg.norm(speech)) / len(dry) ** 0.5
    gain: float = min(10 ** (request.level / 20) / rms, PEAK / float(np.abs(speech).max()))
    # Its pauses are digital zero, which no microphone delivers: there is noise in every request.
    noise_gain: float = gain * rms * 10 ** (-request.snr / 20)
    noise = coloured_noise(len(speech), request.tilt, rng)
    return (gain * speech + noise_gain * noise).astype(np.float32)


def reverberate(
    waveform: FloatArray, rt60: float, direct_to_reverberant: float, rng: np.random.Generator
) -> FloatArray:
    """Add the echo of a room, modelled as exponentially decaying noise (Polack 1988); the length stays."""
    start = round(FIRST_REFLECTION * SAMPLE_RATE)
    times = np.arange(round(rt60 * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    echo = rng.standard_normal(len(times), np.float32) * np.float32(1e-3) ** (times / np.float32(rt60))
    echo *= 10 ** (-direct_to_reverberant / 20) / np.linalg.norm(echo)
    response = np.concatenate([np.ones(1, np.float32), np.zeros(start, np.float32), echo])
    size = fft_size(len(waveform) + len(response) - 1)
    convolved = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(response, size), size)
    return convolved[: len(waveform)].astype(np.float32)


def coloured_noise(samples: int, tilt: float, rng: np.random.Generator) -> FloatArray:
    """Noise of unit power, whose power spectrum falls as 1 / f^tilt: (samples,)."""
    size = fft_size(samples)
    spectrum = np.fft.rfft(rng.standard_normal(size, np.float32))
    # Flat below 50 Hz: brown noise would else be all rumble.
    frequencies = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 50).astype(np.float32)
    noise = np.fft.irfft(spectrum * frequencies ** np.float32(-tilt / 2), size)[:samples].astype(np.float32)
    noise /= np.sqrt(np.mean(noise**2))
    return noise


def fft_size(least: int) -> int:
    """A length that has small prime factors and so a fast Fourier transform, soon after `least`."""
    block = 8000  # 2⁶ · 5³
    return -(-least // block) * block


def write_wav(path: Path, waveform: FloatArray) -> None:
    """Write a waveform as 16-bit WAV."""
    samples = np.clip(np.rint(waveform * 32768), -32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())


def read_requests(path: Path) -> Iterator[Request]:
    """The requests of a file, one JSON object per line."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield Request(**json.loads(line))


def main(requests: Path, folder: Path) -> None:
    """Speak all requests, in their order. The first that fails ends the program."""
    espeak = Espeak()
    for request in read_requests(requests):
        duration = None
        try:
            waveform = render(request, espeak)
        except NoSoundError:
            pass
        except ValueError as error:
            sys.exit(f"{error}, for “{request.text}”")
        else:
            write_wav(folder / request.audio, waveform)
            duration = len(waveform) / SAMPLE_RATE
        print(json.dumps({"audio": request.audio, "duration": duration}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--languages"]:
        print(*languages())
    else:
        main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
