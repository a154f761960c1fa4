"""Opening sound files with whichever library reads them, and refusing what can't be a recording.

`soundfile` decodes what it can (WAV, FLAC, Ogg, Opus, MP3, AIFF, …), PyAV, when installed, the rest (M4A and the
sound of videos). Headers are never trusted: no memory is set aside for what one claims, and a claim that the
file's size belies is an error.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.containers import counts_frames, is_placeholder, missing_bytes, unclaimed_bytes
from asr.errors import AudioError, MissingDependencyError, counted, how_to_install, is_or_are, quoted

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Member:
    """A sound file within a tar: its name there, and the `size` bytes from `offset` on."""

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return str(self.archive / self.name)

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            AudioError: the tar is missing, holds something else in this place, or ends too early.
        """
        block = read_at(self.archive, self.offset - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE + self.size)
        header, content = block[: tarfile.BLOCKSIZE], block[tarfile.BLOCKSIZE :]
        if len(header) == tarfile.BLOCKSIZE and not self._is_announced_by(header):
            what = f"does not hold {self.name} ({self.size} bytes) at byte {self.offset}, where its index has it"
            raise AudioError(what, where=self.archive, hint="copy the shard or its index again: they don't match")
        if len(content) < self.size:
            what = f"has been cut off: of {self.name}, {self.size - len(content)} bytes are missing"
            raise AudioError(what, where=self.archive, hint=_AGAIN)
        return content

    def _is_announced_by(self, header: bytes) -> bool:
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return False
        short = self.name.isascii() and len(self.name) <= tarfile.LENGTH_NAME  # others stand in a header before
        return info.size == self.size and (info.name == self.name or not short)


@dataclass(frozen=True)
class Stretch:
    """A part of a sound file, from `start` seconds on for `duration` seconds."""

    path: Path
    start: float
    duration: float

    def __str__(self) -> str:
        return f"{self.path} ({self.start:.2f} to {self.start + self.duration:.2f} s)"


AudioSource = str | Path | BinaryIO | Stretch | Member

MAX_CHANNELS = 64
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000

BLOCK_FRAMES = 1 << 16
_MAX_FRAMES_PER_BYTE = 8192  # FLAC packs 65 535 frames of silence into about 12 bytes; nothing does better
_UNKNOWN_FRAMES = 1 << 62  # libsndfile's answer for a FLAC stream that does not tell its length
_SLACK_SECONDS = 0.01  # some writers count their header among the data
_CODEC_SLACK_SECONDS = 0.3  # codecs delay and pad by up to 2048 samples
_GAP_SECONDS = 0.1  # between the packets of a track: nobody has sent sound, or it begins after the pictures
_STRETCH_SLACK_SECONDS = 0.25  # lossy formats round a file's length to their frames
_VORBIS_PAGE_FRAMES = 255 * 4096  # of which no page of an Ogg file holds more: packets, and frames in each
_BARE_STREAMS = ("aac", "ac3", "eac3", "dts", "mp3")  # FFmpeg's names of formats without a header
_LENGTHLESS = ("MP3", "OGG")  # these headers need not tell a length: it is estimated, or that of the last page
_AGAIN = "copy or download it again"
_AGAIN_OR_AS_IT_IS = f"{_AGAIN}; or, if there is no more of it: ffmpeg -i FILE -c copy NEWFILE"


@dataclass(frozen=True)
class OpenRecording:
    """An opened sound file, whichever library reads it."""

    name: str
    sample_rate: int
    channels: int
    frames: int
    least_frames: int
    """With fewer decoded, the file has been cut off."""
    estimated: bool
    """Whether `frames` is an estimate."""
    blocks: Iterator[FloatArray]
    """(frames, channels) each."""
    skip: Callable[[int], int] = lambda frames: 0
    """Before the first block: leave out so many frames at the beginning, or as many of them as is cheap; says how
    many."""


@contextmanager
def open_recording(source: AudioSource) -> Iterator[OpenRecording]:
    """A recording, open until the block ends.

    Raises:
        AudioError: it is missing, empty, damaged or of no known format.
        MissingDependencyError: its format needs an extra that is not installed.
    """
    with ExitStack() as stack:
        name, file = _binary(source, stack)
        size = file.seek(0, io.SEEK_END)
        if size == 0:
            raise AudioError("is empty (0 bytes)", where=name)
        file.seek(0)
        head = file.read(1024)
        _refuse_text(head[:512], name)
        sphere_frames = _sphere_frames(head, name)
        if missing := missing_bytes(file, size):
            what = f"has been cut off: {counted(missing, 'byte')} or more {is_or_are(missing)} missing"
            raise AudioError(what, where=name, hint=_AGAIN_OR_AS_IT_IS)
        if unclaimed := unclaimed_bytes(file, size):
            what = f"goes on for {counted(unclaimed, 'byte')} after the end that its header tells"
            hint = f"ffmpeg -ignore_length 1 -i {quoted(name)} {quoted(Path(name).stem + '.flac')}"
            expected = "a header that tells the true length (beyond 4 GiB: RF64 or W64)"
            raise AudioError(what, where=name, expected=expected, hint=hint)
        file.seek(0)
        decoder = _open_soundfile(name, file, stack)
        _check_header(decoder, size)
        if decoder.frames < sphere_frames:
            raise cut_off(name, decoder.frames / decoder.sample_rate, sphere_frames / decoder.sample_rate)
        yield _part(decoder, source) if isinstance(source, Stretch) else decoder


def _binary(source: AudioSource, stack: ExitStack) -> tuple[str, BinaryIO]:
    """The source's name for messages, and a seekable file."""
    if isinstance(source, Member):
        return str(source), io.BytesIO(source.read())
    if isinstance(source, Stretch):
        return str(source), stack.enter_context(_open_file(source.path))
    if isinstance(source, str | Path):
        name, file = str(source), stack.enter_context(_open_file(Path(source)))
    else:
        name, file = str(getattr(source, "name", "<stdin>")), source
    # On Windows, pipes claim to be seekable (cpython#86768).
    pipe = (sys.platform == "win32" and getattr(file, "name", None) == "<stdin>") or not file.seekable()
    return name, io.BytesIO(file.read()) if pipe else file


_MOST_ARCHIVES = 64
_archives: OrderedDict[Path, int] = OrderedDict()
_archives_lock = threading.Lock()


def read_at(archive: Path, offset: int, size: int) -> bytes:
    """Bytes of an archive, fewer where it ends; it stays open, so that the system reads ahead of one after another.

    Raises:
        AudioError: it can't be opened.
    """
    with _archives_lock:
        if archive not in _archives:
            _archives[archive] = _open_archive(archive)
            if len(_archives) > _MOST_ARCHIVES:
                os.close(_archives.popitem(last=False)[1])
        _archives.move_to_end(archive)
        size = min(size, max(os.fstat(_archives[archive]).st_size - offset, 0))  # no memory for a mere claim
        parts: list[bytes] = []
        while size:  # some systems read no more than 2 GiB at once
            if sys.platform != "win32":  # forked processes share the place that `read` goes on from
                part = os.pread(_archives[archive], size, offset)
            else:
                os.lseek(_archives[archive], offset, os.SEEK_SET)
                part = os.read(_archives[archive], size)
            if not part:
                break
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _open_archive(path: Path) -> int:
    try:
        if path.is_dir():
            raise AudioError("is a folder", where=path, expected="a tar of recordings")
        return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, ValueError) as error:  # no path holds a zero character
        raise AudioError("there is no such file", where=path, hint="copy all the shards of the corpus") from error
    except OSError as error:
        raise AudioError(f"can't be opened: {error.strerror}", where=path) from error


def _open_file(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            raise AudioError("is a folder", where=path, expected="a sound file")
        return path.open("rb")
    except (FileNotFoundError, ValueError) as error:  # no path holds a zero character
        raise AudioError("there is no such file", where=path, hint=hint_at_windows(path)) from error
    except OSError as error:
        raise AudioError(f"can't be opened: {error.strerror}", where=path) from error


def hint_at_windows(path: Path) -> str | None:
    """What to do about a path that is one of Windows, where this is not Windows; None about any other."""
    if "\\" not in path.as_posix():
        return None
    drive = re.search(r"\b[A-Za-z]:\\", path.as_posix())
    here = f", and what is here in place of {drive[0]}" if drive else ""
    return f"/ in place of \\ in its path{here}"


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


def _sphere_frames(head: bytes, name: str) -> int:
    """The frames that the header of a NIST SPHERE file claims, else 0; compressed ones are refused."""
    if not head.startswith(b"NIST_1A"):
        return 0
    text = head.partition(b"end_head")[0].decode("latin-1")
    header = dict(re.findall(r"^(\w+) -\w+ (.*)$", text, re.MULTILINE))
    coding = header.get("sample_coding", "pcm")
    if "," in coding:  # such as "pcm,embedded-shorten-v2.00"
        raise AudioError(
            f"is compressed ({coding})",
            where=name,
            expected="SPHERE with plain PCM or mu-law",
            hint=f"sph2pipe -f wav {quoted(name)} {quoted(Path(name).stem + '.wav')}",
        )
    count = header.get("sample_count", "")
    return min(int(count), _UNKNOWN_FRAMES) if count.isdecimal() else 0


def _check_header(decoder: OpenRecording, size: int) -> None:
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


def cut_off(name: str, present: float, claimed: float) -> AudioError:
    """The error for a recording that holds fewer seconds than its header claims."""
    what = f"has been cut off: its header claims {claimed:.2f} s, it holds {present:.2f} s"
    return AudioError(what, where=name, hint=_AGAIN_OR_AS_IT_IS)


def _part(decoder: OpenRecording, stretch: Stretch) -> OpenRecording:
    """The same recording as if it held nothing but a stretch."""
    rate = decoder.sample_rate
    first, frames = round(stretch.start * rate), round(stretch.duration * rate)
    least = max(frames - round(_STRETCH_SLACK_SECONDS * rate), 1)
    return replace(decoder, frames=frames, least_frames=0, blocks=_cut(decoder, first, frames, least))


def _cut(decoder: OpenRecording, first: int, frames: int, least: int) -> Iterator[FloatArray]:
    position, read = decoder.skip(min(first, decoder.frames)), 0
    for block in decoder.blocks:
        inside = block[max(first - position, 0) :][: frames - read]
        position += len(block)
        read += len(inside)
        if len(inside):
            yield inside
        if read == frames:
            return
    if read < least:
        raise AudioError(f"the recording ends at {position / decoder.sample_rate:.2f} s", where=decoder.name)


class _Seekable:
    """A file for a decoder, whose `seek` raises nothing where damage points to a place that no file has.

    soundfile prints what it raises; PyAV keeps that, and raises it when it next does something, or prints it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.name, self.read, self.tell = getattr(file, "name", "<none>"), file.read, file.tell
        self._seek = file.seek
        if hasattr(file, "readinto"):  # which soundfile prefers
            self.readinto = file.readinto

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As a file's; or, an error as FFmpeg tells it."""
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return -errno.EINVAL


# ---------------------------------------------------------------------------------------------- soundfile


def _open_soundfile(name: str, file: BinaryIO, stack: ExitStack) -> OpenRecording:
    try:
        sound = stack.enter_context(soundfile.SoundFile(_Seekable(file)))
    except soundfile.LibsndfileError as error:
        return _open_av(name, file, error.error_string.rstrip("."), stack)
    except TypeError:  # soundfile takes a name in .raw for samples without a header
        return _open_av(name, file, "raw samples, of which nothing tells rate and format", stack)
    if sound.frames >= _UNKNOWN_FRAMES:
        return _open_av(name, file, "a stream of unknown length", stack)
    claimed, slack = _claimed_frames(sound), round(_SLACK_SECONDS * sound.samplerate)
    if sound.frames < claimed - slack:
        raise cut_off(name, sound.frames / sound.samplerate, claimed / sound.samplerate)
    least = sound.frames - slack if sound.format not in _LENGTHLESS else 1
    blocks = _read_soundfile(name, file, sound)
    # MP3 is decoded from its beginning: its frames lean on those before them, and a seek may land beside the place.
    estimated = sound.format == "MP3"

    def skip(frames: int) -> int:
        if estimated or not sound.seekable():  # GSM, for one, is not
            return 0
        if sound.subtype == "VORBIS":  # a seek into the last page lands beside the place, too
            frames = min(frames, max(sound.frames - _VORBIS_PAGE_FRAMES, 0))
        try:
            return int(sound.seek(frames))
        except soundfile.LibsndfileError as error:
            raise _damaged(name, sound, 0, error) from error

    return OpenRecording(name, sound.samplerate, sound.channels, sound.frames, least, estimated, blocks, skip)


def _damaged(name: str, sound: Any, read: int, error: soundfile.LibsndfileError) -> AudioError:
    after, claimed = read / sound.samplerate, sound.frames / sound.samplerate
    what = f"is damaged or cut off somewhere after {after:.2f} s of {claimed:.2f} s ({error.error_string})"
    return AudioError(what, where=name, hint=_AGAIN)


def _claimed_frames(sound: Any) -> int:
    """Frames that a WAV, W64, AIFF or AU header claims: libsndfile lowers them to those present, and logs it."""
    lowered = re.search(
        r"^ *(?:data|Riff size|riff|SSND|Data Size) *: (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE
    )
    if lowered is None:
        return int(sound.frames)
    claimed, present = int(lowered[1]), int(lowered[2])
    return int(sound.frames) if is_placeholder(claimed) else sound.frames * claimed // max(present, 1)


def _read_soundfile(name: str, file: BinaryIO, sound: Any) -> Iterator[FloatArray]:
    buffer = np.empty((min(BLOCK_FRAMES, sound.frames), sound.channels), np.float32)
    read = 0
    try:
        read = sound.tell() if sound.seekable() else 0  # what was skipped
        while frames := sound.buffer_read_into(buffer, "float32"):
            read += frames
            yield buffer[:frames]
    except soundfile.LibsndfileError as error:
        raise _damaged(name, sound, read, error) from error
    if sound.format in _LENGTHLESS:
        _refuse_unread(name, file, read / sound.samplerate)
    missing = sound.frames - read
    if missing <= _CODEC_SLACK_SECONDS * sound.samplerate:
        return
    if sound.format == "OGG":  # which says nothing of pages that it leaves out as damaged
        present, claimed = read / sound.samplerate, sound.frames / sound.samplerate
        what = f"is damaged: of {claimed:.2f} s, {present:.2f} s can be decoded"
        raise AudioError(what, where=name, hint=_AGAIN)
    if sound.format == "MP3" and counts_frames(file):
        raise cut_off(name, read / sound.samplerate, sound.frames / sound.samplerate)


def _refuse_unread(name: str, file: BinaryIO, seconds: float) -> None:
    """Never lose sound in silence: libsndfile ends an MP3 or Ogg file where it estimated or first found its end."""
    position = file.tell()
    size = file.seek(0, io.SEEK_END)
    if size - position > max(0.05 * size, 2048):  # tags are smaller
        what = f"goes on after its apparent end at {seconds:.2f} s, as files joined together do"
        hint = f"ffmpeg -i {quoted(name)} {quoted(Path(name).stem + '.flac')}"
        raise AudioError(what, where=name, expected="one recording with a true length", hint=hint)


# --------------------------------------------------------------------------------------------------- PyAV


def _open_av(name: str, file: BinaryIO, reason: str, stack: ExitStack) -> OpenRecording:
    """Open what soundfile can't read, for the reason given."""
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            f"soundfile can't read it ({reason})",
            where=name,
            expected="WAV, FLAC, Ogg, Opus or MP3; or PyAV, which reads M4A, videos and most others",
            hint=how_to_install("av"),
        ) from error
    file.seek(0)
    try:
        # A file object, never the name: FFmpeg would follow one that is an address.
        container = stack.enter_context(av.open(_Seekable(file), metadata_errors="replace"))
        if not container.streams.audio:
            raise AudioError(f"holds no sound (soundfile: {reason}; FFmpeg: no sound track)", where=name)
        track = container.streams.audio[0]
        if track.codec_context is None:
            what = f"no decoder is known for the codec of its sound (soundfile: {reason})"
            hint = "save it as WAV or FLAC with the program that made it"
            raise AudioError(what, where=name, expected="a codec that FFmpeg decodes, undamaged", hint=hint)
        seconds, exact = _av_seconds(container, track)
    except (av.FFmpegError, OSError, ValueError) as error:
        fault = getattr(error, "strerror", None) or error
        raise AudioError(
            f"is not a sound file, or is damaged (soundfile: {reason}; FFmpeg: {fault})", where=name
        ) from error
    frames, slack = round(seconds * track.rate), round(_CODEC_SLACK_SECONDS * track.rate)
    least = frames - slack if exact else 1
    return OpenRecording(
        name, track.rate, track.channels, frames, least, not exact, _read_av(name, container, track, frames)
    )


def _av_seconds(container: Any, track: Any) -> tuple[float, bool]:
    """When a sound track ends, and whether that can be held against the file."""
    bare = container.format.name in _BARE_STREAMS  # of which FFmpeg guesses the length by the bit rate
    if track.duration is not None and not bare:
        start = (track.start_time or 0) * track.time_base - _av_start(container)
        return float(max(start, 0) + track.duration * track.time_base), True
    if container.duration is not None and not bare:  # in microseconds, of the longest track: perhaps the pictures
        return container.duration / 1e6, len(container.streams) == 1
    ends = [packet.pts + (packet.duration or 0) for packet in container.demux(track) if packet.pts is not None]
    container.seek(0)
    return float(max(max(ends, default=0) * track.time_base - _av_start(container), 0)), False


def _av_start(container: Any) -> Fraction:
    """The time, in seconds, at which a container begins: with its first track, or at 0 in Matroska (WebM)."""
    return Fraction(0 if "matroska" in container.format.name else container.start_time or 0, 1_000_000)


def _read_av(name: str, container: Any, track: Any, frames: int) -> Iterator[FloatArray]:
    import av

    pending: list[FloatArray] = []
    try:
        for piece in _av_pieces(container, track, frames):
            pending.append(piece)
            if sum(piece.shape[1] for piece in pending) >= BLOCK_FRAMES:
                yield np.concatenate(pending, axis=1).T
                pending = []
    except (av.FFmpegError, OSError, ValueError) as error:  # a ValueError when channels or rate change on the way
        raise AudioError(f"is damaged: {error}", where=name, hint=_AGAIN) from error
    if pending:
        yield np.concatenate(pending, axis=1).T


def _av_pieces(container: Any, track: Any, frames: int) -> Iterator[FloatArray]:
    """Decode to (channels, samples) each, with zeros where no sound was sent, within so many frames in all."""
    import av

    # Packed: of planar frames with more than eight channels PyAV reads planes that are not there, and crashes.
    converter = av.AudioResampler(format="flt", layout=track.layout, rate=track.rate)
    start, timed, position = _av_start(container), container.format.name not in _BARE_STREAMS, 0
    for frame in container.decode(track):
        gap = round((frame.pts * frame.time_base - start) * track.rate) - position if timed and frame.pts else 0
        if not _GAP_SECONDS * track.rate < gap <= frames - position:
            gap = 0
        position += gap
        for first in range(0, gap, BLOCK_FRAMES):
            yield np.zeros((track.channels, min(BLOCK_FRAMES, gap - first)), np.float32)
        for piece in converter.resample(frame):
            samples = piece.to_ndarray().reshape(-1, track.channels).T
            position += samples.shape[1]
            yield samples
