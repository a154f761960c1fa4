"""Sound files as mono waveforms: read whole or in blocks, at any sample rate wanted; and written.

`soundfile` decodes what it can (WAV, FLAC, Ogg, Opus, MP3, AIFF, …), PyAV, when installed, the rest (M4A and the
sound of videos). Headers are never trusted: no memory is set aside for what one claims, and a claim that the
file's size belies is an error.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asr.errors import AudioError, MissingDependencyError
from asr.files import atomic_path

FloatArray = NDArray[np.float32]
AudioSource = str | Path | BinaryIO

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

MAX_CHANNELS = 64
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000

_BLOCK_FRAMES = 1 << 16
_MAX_FRAMES_PER_BYTE = 8192  # FLAC packs 65 535 frames of silence into about 12 bytes; nothing does better
_UNKNOWN_FRAMES = 1 << 62  # libsndfile's answer for a FLAC stream that does not tell its length
_UNKNOWN_BYTES = 0x7FFF_F000  # WAV writers that can't seek (ffmpeg, sox in a pipe) claim this or more
_MAX_PEAK = 2.0**16  # a float file at the scale of 16-bit integers passes, wreckage does not
_SLACK_SECONDS = 0.01  # some writers count their header among the data
_AV_SLACK_SECONDS = 0.3  # codecs delay and pad by up to 2048 samples
_LENGTHLESS = ("MP3", "OGG")  # these headers tell no length: it is estimated, or that of the last page
_AGAIN = "copy or download it again"
_WRITERS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}


@dataclass(frozen=True)
class AudioInfo:
    """What a sound file's header says. `frames` is an estimate in some MP3 files and videos."""

    path: str
    sample_rate: int
    channels: int
    frames: int
    duration: float
    """Seconds."""


def probe(source: AudioSource) -> AudioInfo:
    """Read a sound file's header and check that it is sane, without decoding the file.

    Args:
        source: a path, or a binary file object (read from its beginning).

    Raises:
        AudioError: as `load`, except for what only decoding shows.
        MissingDependencyError: as `load`.
    """
    with _decoder(source) as decoder:
        rate, frames = decoder.sample_rate, decoder.frames
        return AudioInfo(decoder.name, rate, decoder.channels, frames, frames / rate)


def load(source: AudioSource, sample_rate: int) -> FloatArray:
    """Read a whole sound file.

    Args:
        source: a path, or a binary file object (read from its beginning).
        sample_rate: of the result, in hertz; other rates are resampled (soxr, high quality).

    Returns:
        (samples,) float32, full scale ±1: the mean of the channels.

    Raises:
        AudioError: the file is missing, is a folder, is empty, is no sound, holds zero frames, is damaged or cut
            off, holds samples that are no numbers, claims more than its size can hold, or has an implausible
            sample rate or channel count.
        MissingDependencyError: soundfile can't read it, and PyAV is not installed.
    """
    with _decoder(source) as decoder:
        return np.concatenate(list(_resampled(_mono(decoder), decoder.sample_rate, sample_rate)))


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
    with _decoder(source) as decoder:
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
    with atomic_path(path) as temporary, temporary.open("wb+") as file:
        try:
            with soundfile.SoundFile(file, "w", sample_rate, 1, subtype, format=form) as sound:
                # In pieces: libsndfile's Vorbis encoder overflows the stack on long writes.
                for start in range(0, len(pcm), _BLOCK_FRAMES):
                    sound.write(pcm[start : start + _BLOCK_FRAMES])
        except soundfile.LibsndfileError as error:
            raise AudioError(f"can't be written at {sample_rate} Hz: {error.error_string}", where=path) from error


# ----------------------------------------------------------------------------------------- from file to blocks


def _mono(decoder: _Decoder) -> Iterator[FloatArray]:
    """The mean of the channels, block by block, checked to be sound and to be all of it."""
    weights = np.full(decoder.channels, 1 / decoder.channels, np.float32)
    frames = 0
    for block in decoder.blocks:
        if not max(block.max(), -block.min()) <= _MAX_PEAK:  # NaN compares false
            row, channel = (int(where[0]) for where in np.nonzero(~(np.abs(block) <= _MAX_PEAK)))
            seconds = (frames + row) / decoder.sample_rate
            what = f"holds a sample that is no sound: {block[row, channel]:g} at {seconds:.2f} s"
            raise AudioError(what, where=decoder.name, expected="finite numbers, within ±1 as a rule")
        frames += len(block)
        yield block @ weights
    if frames == 0:
        raise AudioError("holds no sound (zero frames)", where=decoder.name)
    if frames < decoder.least_frames:
        raise _cut_off(decoder.name, frames / decoder.sample_rate, decoder.frames / decoder.sample_rate)


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


# ------------------------------------------------------------------------------------------------ opening


@dataclass(frozen=True)
class _Decoder:
    """An opened sound file, whichever library reads it."""

    name: str
    sample_rate: int
    channels: int
    frames: int
    least_frames: int
    """With fewer decoded, the file has been cut off."""
    blocks: Iterator[FloatArray]
    """(frames, channels) each."""


@contextmanager
def _decoder(source: AudioSource) -> Iterator[_Decoder]:
    with ExitStack() as stack:
        name, file = _binary(source, stack)
        size = file.seek(0, io.SEEK_END)
        if size == 0:
            raise AudioError("is empty (0 bytes)", where=name)
        file.seek(0)
        _refuse_text(file.read(512), name)
        file.seek(0)
        decoder = _open_soundfile(name, file, stack)
        _check_header(decoder, size)
        yield decoder


def _binary(source: AudioSource, stack: ExitStack) -> tuple[str, BinaryIO]:
    """The source's name for messages, and a seekable file."""
    if isinstance(source, str | Path):
        name, file = str(source), stack.enter_context(_open_file(Path(source)))
    else:
        name, file = str(getattr(source, "name", "<stdin>")), source
    return name, file if file.seekable() else io.BytesIO(file.read())


def _open_file(path: Path) -> BinaryIO:
    if path.is_dir():
        raise AudioError("is a folder", where=path, expected="a sound file")
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise AudioError("there is no such file", where=path) from error
    except OSError as error:
        raise AudioError(f"can't be opened: {error.strerror}", where=path) from error


def _refuse_text(head: bytes, name: str) -> None:
    """Say so when a file is no sound but text: decoders only find it "malformed", or look for MP3 frames in it."""
    control_bytes = bytes(set(range(32)) - set(b"\t\n\f\r"))
    if len(head.translate(None, control_bytes)) < len(head) or head.startswith(b"NIST_1A"):
        return  # a SPHERE header is text, and sound follows
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    kind, hint = "text", None
    if start.startswith(b"<"):
        kind, hint = "a web page (HTML or XML)", "download it again: a server sent a page in the sound's place"
    elif start.startswith((b"{", b"[")):
        kind, hint = "JSON", "download it again: a server sent an answer in the sound's place"
    elif start.startswith(b"version https://git-lfs"):
        kind, hint = "a Git LFS pointer", "git lfs pull"
    raise AudioError(f"is not a sound file: it holds {kind}", where=name, hint=hint)


def _check_header(decoder: _Decoder, size: int) -> None:
    """Refuse what no recording has, before anything is decoded."""
    channels, rate, frames = decoder.channels, decoder.sample_rate, decoder.frames
    if not 1 <= channels <= MAX_CHANNELS:
        fault, expected = f"claims {channels} channels", f"1 to {MAX_CHANNELS}"
    elif not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
        fault, expected = f"claims a sample rate of {rate} Hz", f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz"
    elif frames == 0:
        fault, expected = "holds no sound (zero frames)", "at least one sample"
    elif frames > size * _MAX_FRAMES_PER_BYTE:
        fault = f"its header claims {frames} frames, more than its {size} bytes can hold"
        expected = "a sound file that is whole and undamaged"
    else:
        return
    raise AudioError(fault, where=decoder.name, expected=expected)


def _cut_off(name: str, present: float, claimed: float) -> AudioError:
    what = f"has been cut off: its header claims {claimed:.2f} s, it holds {present:.2f} s"
    return AudioError(what, where=name, hint=_AGAIN)


# ---------------------------------------------------------------------------------------------- soundfile


def _open_soundfile(name: str, file: BinaryIO, stack: ExitStack) -> _Decoder:
    try:
        sound = stack.enter_context(soundfile.SoundFile(file))
    except soundfile.LibsndfileError as error:
        return _open_av(name, file, error.error_string.rstrip("."), stack)
    except TypeError:  # soundfile takes a name in .raw for samples without a header
        return _open_av(name, file, "raw samples", stack)
    if sound.frames >= _UNKNOWN_FRAMES:
        return _open_av(name, file, "a stream of unknown length", stack)
    claimed, slack = _claimed_frames(sound), round(_SLACK_SECONDS * sound.samplerate)
    if sound.frames < claimed - slack:
        raise _cut_off(name, sound.frames / sound.samplerate, claimed / sound.samplerate)
    least = sound.frames - slack if sound.format not in _LENGTHLESS else 1
    blocks = _read_soundfile(name, file, sound)
    return _Decoder(name, sound.samplerate, sound.channels, sound.frames, least, blocks)


def _claimed_frames(sound: Any) -> int:
    """Frames that a WAV, AIFF or AU header claims: libsndfile lowers them to those present, and logs it."""
    lowered = re.search(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
    if lowered is None:
        return int(sound.frames)
    claimed, present = int(lowered[1]), int(lowered[2])
    return int(sound.frames) if claimed >= _UNKNOWN_BYTES else sound.frames * claimed // max(present, 1)


def _read_soundfile(name: str, file: BinaryIO, sound: Any) -> Iterator[FloatArray]:
    buffer = np.empty((min(_BLOCK_FRAMES, sound.frames), sound.channels), np.float32)
    read = 0
    try:
        while frames := sound.buffer_read_into(buffer, "float32"):
            read += frames
            yield buffer[:frames]
    except soundfile.LibsndfileError as error:
        after, claimed = read / sound.samplerate, sound.frames / sound.samplerate
        what = f"is damaged or cut off somewhere after {after:.2f} s of {claimed:.2f} s ({error.error_string})"
        raise AudioError(what, where=name, hint=_AGAIN) from error
    if sound.format in _LENGTHLESS:
        _refuse_unread(name, file, read / sound.samplerate)


def _refuse_unread(name: str, file: BinaryIO, seconds: float) -> None:
    """Never lose sound in silence: libsndfile ends an MP3 or Ogg file where it estimated or first found its end."""
    position = file.tell()
    size = file.seek(0, io.SEEK_END)
    if size - position > max(0.05 * size, 2048):  # tags are smaller
        what = f"goes on after its apparent end at {seconds:.2f} s, as files joined together do"
        hint = f"ffmpeg -i {shlex.quote(name)} {shlex.quote(Path(name).stem)}.flac"
        raise AudioError(what, where=name, expected="one recording with a true length", hint=hint)


# --------------------------------------------------------------------------------------------------- PyAV


def _open_av(name: str, file: BinaryIO, reason: str, stack: ExitStack) -> _Decoder:
    """Open what soundfile can't read, for the reason given."""
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            f"soundfile can't read it ({reason})",
            where=name,
            expected="WAV, FLAC, Ogg, Opus or MP3; or PyAV, which reads M4A, videos and most others",
            hint="pip install 'asr[av]'",
        ) from error
    file.seek(0)
    try:
        # A file object, never the name: FFmpeg would follow one that is an address.
        container = stack.enter_context(av.open(file))
        if not container.streams.audio:
            raise AudioError(f"holds no sound (soundfile: {reason}; FFmpeg: no sound track)", where=name)
        track = container.streams.audio[0]
        seconds, exact = _av_seconds(container, track)
    except av.FFmpegError as error:
        raise AudioError(
            f"is not a sound file, or is damaged (soundfile: {reason}; FFmpeg: {error.strerror})", where=name
        ) from error
    frames, slack = round(seconds * track.rate), round(_AV_SLACK_SECONDS * track.rate)
    least = frames - slack if exact else 1
    return _Decoder(name, track.rate, track.channels, frames, least, _read_av(name, container, track))


def _av_seconds(container: Any, track: Any) -> tuple[float, bool]:
    """A sound track's length, and whether it can be held against the file."""
    if track.duration is not None:
        return float(track.duration * track.time_base), True
    if container.duration is not None:  # in microseconds, of the longest track: perhaps the pictures
        return container.duration / 1e6, len(container.streams) == 1
    ends = [packet.pts + (packet.duration or 0) for packet in container.demux(track) if packet.pts is not None]
    container.seek(0)
    return float(max(ends, default=0) * track.time_base), False


def _read_av(name: str, container: Any, track: Any) -> Iterator[FloatArray]:
    import av

    converter = av.AudioResampler(format="fltp", layout=track.layout, rate=track.rate)
    pending: list[FloatArray] = []
    try:
        for frame in container.decode(track):
            pending += [piece.to_ndarray() for piece in converter.resample(frame)]
            if sum(piece.shape[1] for piece in pending) >= _BLOCK_FRAMES:
                yield np.concatenate(pending, axis=1).T
                pending = []
    except (av.FFmpegError, ValueError) as error:  # a ValueError when channels or rate change on the way
        raise AudioError(f"is damaged: {error}", where=name, hint=_AGAIN) from error
    if pending:
        yield np.concatenate(pending, axis=1).T
