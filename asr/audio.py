"""Sound files as mono waveforms: read whole or in blocks, at any sample rate wanted; and written.

Opening a file, whatever its format, is the matter of `sound_files.py`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asr.errors import AsrError, AudioError
from asr.files import write_bytes
from asr.sound_files import BLOCK_FRAMES, AudioSource, FloatArray, OpenRecording, cut_off, open_recording

SUFFIXES = frozenset(
    {
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".snd",
        ".caf",
        ".w64",
        ".sph",
    }
    | {".m4a", ".m4b", ".aac", ".wma", ".amr", ".mka", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".3gp"}
)
"""Lower-case suffixes of the files that a search of a folder takes for recordings."""


_BLOCK_SECONDS = 30.0  # of a recording to decode at a time, where it is only measured
_MAX_PEAK = 2.0**16  # a float file at the scale of 16-bit integers passes, wreckage does not
_CANCELLED = 0.01  # of the energy that the mean of unrelated channels has; of two, a correlation below -0.99
_WRITERS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}


@dataclass(frozen=True)
class AudioInfo:
    """What a sound file's header says."""

    path: str
    sample_rate: int
    channels: int
    frames: int
    duration: float
    """Seconds."""
    estimated: bool
    """Whether the header does not tell the length, as in MP3 files and bare AAC streams."""


def read_header(source: AudioSource) -> AudioInfo:
    """Read a sound file's header and check that it is sane, without decoding the file.

    Args:
        source: a path, or a binary file object (read from its beginning).

    Raises:
        AudioError: as `load`, except for what only decoding shows.
        MissingDependencyError: as `load`.
    """
    with open_recording(source) as decoder:
        rate, frames = decoder.sample_rate, decoder.frames
        return AudioInfo(decoder.name, rate, decoder.channels, frames, frames / rate, decoder.estimated)


def measure(source: AudioSource) -> AudioInfo:
    """As `read_header`, but where the header tells no length, with that of what is decoded.

    Raises:
        AudioError: as `read_header`, and where it is decoded as `load`.
        MissingDependencyError: as `load`.
    """
    info = read_header(source)
    return _counted(source, info) if info.estimated else info


def measure_all(paths: Iterable[Path]) -> Iterator[AudioInfo | AsrError]:
    """What `measure` returns or raises of each file, in their order; several are read at a time."""

    def attempt(path: Path) -> AudioInfo | AsrError:
        try:
            return measure(path)
        except AsrError as error:
            return error

    with ThreadPoolExecutor() as pool:
        yield from pool.map(attempt, paths)


def measure_by_decoding(source: AudioSource) -> AudioInfo:
    """As `read_header`, but with the length of what is decoded, which takes as long as reading all of it.

    Raises:
        AudioError: as `read_header` and `load`: damage inside does not show in a header.
        MissingDependencyError: as `load`.
    """
    return _counted(source, read_header(source))


def _counted(source: AudioSource, info: AudioInfo) -> AudioInfo:
    frames = sum(map(len, stream(source, info.sample_rate, _BLOCK_SECONDS)))
    return replace(info, frames=frames, duration=frames / info.sample_rate, estimated=False)


def load(source: AudioSource, sample_rate: int, channel: int | None = None) -> FloatArray:
    """Read a whole sound file.

    Args:
        source: a path, or a binary file object (read from its beginning).
        sample_rate: of the result, in hertz; other rates are resampled (soxr, high quality).
        channel: the one to read, from 0; None reads the mean of all.

    Returns:
        (samples,) float32, full scale ±1.

    Raises:
        AudioError: the file is missing, is a folder, is empty, is no sound, holds zero frames, is damaged or cut
            off, holds samples that are no numbers, claims more than its size can hold, has an implausible sample
            rate or channel count, or has channels of which the mean is next to silence.
        MissingDependencyError: soundfile can't read it, and PyAV is not installed.
    """
    with open_recording(source) as decoder:
        blocks = _mono(decoder, channel)
        return np.concatenate(list(_resampled(blocks, decoder.sample_rate, sample_rate)))


def stream(source: AudioSource, sample_rate: int, block_seconds: float) -> Iterator[FloatArray]:
    """Read a sound file of any length in consecutive blocks, in memory that does not grow with the file.

    Args:
        source: a path, or a binary file object (read from its beginning).
        sample_rate: of the result, in hertz.
        block_seconds: length of each block but the last, which may be shorter.

    Yields:
        (samples,) float32 blocks; joined, they are what `load` returns.

    Raises:
        AudioError: as `load`, when the fault is reached.
        MissingDependencyError: as `load`.
    """
    with open_recording(source) as decoder:
        blocks = _resampled(_mono(decoder), decoder.sample_rate, sample_rate)
        yield from _regrouped(blocks, max(1, round(block_seconds * sample_rate)))


def save(path: str | Path, waveform: FloatArray, sample_rate: int) -> None:
    """Write a mono waveform as 16-bit sound in the format of the path's suffix, atomically.

    A 16-bit file that `load` read at its own rate is written back bit for bit. Samples beyond ±1 saturate.

    Args:
        path: ends in .wav, .flac, .ogg, .opus or .mp3.
        waveform: (samples,) float, full scale ±1.
        sample_rate: in hertz.

    Raises:
        AudioError: another suffix, samples that are no finite numbers, or a sample rate that the format lacks.
        DiskFullError: there is no room for it.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise AudioError(
            f"can't write the format {path.suffix!r}", where=path, expected=f"one of {', '.join(_WRITERS)}"
        )
    if not np.isfinite(waveform).all():
        raise AudioError(
            "the waveform to write holds samples that are no finite numbers (NaN or infinite)", where=path
        )
    pcm = np.clip(np.rint(np.asarray(waveform, np.float64) * 32768), -32768, 32767).astype(np.int16)
    form, subtype = _WRITERS[path.suffix.lower()]
    content = io.BytesIO()  # not the file itself: soundfile prints what a full disk raises, and goes on
    try:
        with soundfile.SoundFile(content, "w", sample_rate, 1, subtype, format=form) as sound:
            # In pieces: libsndfile's Vorbis encoder overflows the stack on long writes.
            for start in range(0, len(pcm), BLOCK_FRAMES):
                sound.write(pcm[start : start + BLOCK_FRAMES])
    except soundfile.LibsndfileError as error:
        raise AudioError(f"can't be written at {sample_rate} Hz: {error.error_string}", where=path) from error
    write_bytes(path, content.getvalue())


# ----------------------------------------------------------------------------------------- from file to blocks


def refuse_wreckage(block: FloatArray, name: str | None, sample_rate: int, start: int = 0) -> None:
    """Refuse samples that are no sound: not finite, or larger than any scale accounts for.

    Args:
        block: (frames,) or (frames, channels), not empty.
        name: of the recording.
        sample_rate: in hertz.
        start: frames of the recording before these.

    Raises:
        AudioError: there is one; says which.
    """
    if max(block.max(), -block.min()) <= _MAX_PEAK:  # not so of NaN
        return
    first = tuple(np.argwhere(~(np.abs(block) <= _MAX_PEAK))[0])
    seconds = (start + int(first[0])) / sample_rate
    what = f"holds a sample that is no sound: {block[first]:g} at {seconds:.2f} s"
    raise AudioError(what, where=name, expected="finite numbers, within ±1 as a rule")


def _mono(decoder: OpenRecording, channel: int | None = None) -> Iterator[FloatArray]:
    """A channel, or the mean of all, block by block, checked to be sound and to be all of it."""
    only = 0 if decoder.channels == 1 else channel
    weights = np.full(decoder.channels, 1 / decoder.channels, np.float32)
    frames, energy, expected = 0, 0.0, 0.0
    for block in decoder.blocks:
        refuse_wreckage(block, decoder.name, decoder.sample_rate, frames)
        frames += len(block)
        if only is not None:
            yield block[:, only].copy()
            continue
        mean = block @ weights
        energy += float(np.vdot(mean, mean))
        expected += float(np.vdot(block, block)) / decoder.channels**2
        yield mean
    if frames == 0:
        raise AudioError("holds no sound (zero frames)", where=decoder.name)
    if frames < decoder.least_frames:
        raise cut_off(decoder.name, frames / decoder.sample_rate, decoder.frames / decoder.sample_rate)
    if energy < _CANCELLED * expected:
        raise AudioError(
            "its channels are in opposite phase: their mean, which is what is heard, is next to silence",
            where=decoder.name,
            expected="channels that do not cancel each other out",
            hint='keep one of them: ffmpeg -i FILE -af "pan=mono|c0=c0" NEWFILE',
        )


def _resampled(blocks: Iterable[FloatArray], rate: int, new_rate: int) -> Iterator[FloatArray]:
    if rate == new_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _regrouped(blocks: Iterable[FloatArray], size: int) -> Iterator[FloatArray]:
    """The same samples in blocks of `size`; the last may be shorter."""
    pending: list[FloatArray] = []
    samples = 0
    for block in blocks:
        while samples + len(block) >= size:
            yield np.concatenate([*pending, block[: size - samples]])
            block = block[size - samples :]
            pending, samples = [], 0
        pending.append(block)
        samples += len(block)
    if samples:
        yield np.concatenate(pending)
