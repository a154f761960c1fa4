"""Reading and writing sound files, good and hostile. Every file is really made, in a temporary folder."""

from __future__ import annotations

import errno
import io
import os
import struct
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from asr import audio
from asr.errors import AudioError, DiskFullError, MissingDependencyError

RATE = 16000


def tone(seconds: float = 1.0, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def speechlike(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def wav(data: bytes, *, channels: int = 1, rate: int = RATE, claimed: int | None = None) -> bytes:
    """A 16-bit WAV file, byte by byte, whose header may lie."""
    size = len(data) if claimed is None else claimed
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * channels * 2, channels * 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", (36 + size) % 2**32)
        + b"WAVEfmt "
        + form
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def flac(waveform: np.ndarray, claimed: int | None = None) -> bytes:
    """A FLAC file, whose STREAMINFO may claim another number of samples (its 36 bits end at byte 26)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, RATE, format="FLAC")
    content = bytearray(buffer.getvalue())
    if claimed is not None:
        field = int.from_bytes(content[18:26], "big") >> 36 << 36
        content[18:26] = (field | claimed).to_bytes(8, "big")
    return bytes(content)


def encoded(
    waveform: np.ndarray,
    *,
    form: str,
    codec: str,
    rate: int = 48000,
    options: dict[str, str] | None = None,
    gap_at: float | None = None,
    title: str = "",
) -> bytes:
    """A sound track in a container that soundfile can't read; the options are the container's.

    For 3 s, at `gap_at`, the track has no packets.
    """
    av = pytest.importorskip("av", reason="PyAV reads these formats")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form, options=options or {}) as container:
        container.metadata.update({"title": title} if title else {})
        track = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(waveform[None, :], format="fltp", layout="mono")
        frame.sample_rate = rate
        converter = av.AudioResampler(
            format=track.format, layout="mono", rate=rate, frame_size=track.frame_size or 960
        )
        position = 0
        for piece in [*converter.resample(frame), *converter.resample(None), None]:
            if piece is not None and gap_at is not None:
                piece.pts = position + (3 * rate if position >= gap_at * rate else 0)
                position += piece.samples
            container.mux([packet for packet in track.encode(piece) if packet.size])
    return buffer.getvalue()


def written(waveform: np.ndarray, form: str, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, RATE, format=form, subtype=subtype)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.au", "a.w64", "a.caf"])
def test_lossless_formats_read_exactly(tmp_path: Path, name: str) -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    soundfile.write(tmp_path / name, pcm, RATE)
    waveform = audio.load(tmp_path / name, RATE)
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, pcm / np.float32(32768))


@pytest.mark.parametrize(("name", "subtype"), [("a.ogg", "VORBIS"), ("a.ogg", "OPUS"), ("a.mp3", "MPEG_LAYER_III")])
def test_lossy_formats_read_closely(tmp_path: Path, name: str, subtype: str) -> None:
    soundfile.write(tmp_path / name, tone(), RATE, subtype=subtype)
    waveform = audio.load(tmp_path / name, RATE)
    assert len(waveform) == pytest.approx(RATE, abs=1200)
    middle = slice(3000, 13000)
    assert np.corrcoef(waveform[middle], tone()[middle])[0, 1] > 0.99


@pytest.mark.parametrize(
    ("form", "codec"), [("ipod", "aac"), ("mp4", "aac"), ("webm", "libopus"), ("matroska", "aac")]
)
def test_other_formats_are_read_with_pyav(form: str, codec: str) -> None:
    content = io.BytesIO(encoded(tone(2.0, 48000), form=form, codec=codec))
    info = audio.read_header(content)
    assert (info.sample_rate, info.channels) == (48000, 1)
    assert info.duration == pytest.approx(2.0, abs=0.05)
    waveform = audio.load(content, RATE)
    assert len(waveform) == pytest.approx(2 * RATE, abs=1000)
    spectrum = np.abs(np.fft.rfft(waveform[8000:24000]))
    assert spectrum.argmax() == 440


def test_tracks_of_many_channels_are_read_with_pyav() -> None:
    av = pytest.importorskip("av")
    pcm = np.random.default_rng(0).integers(-9000, 9000, (3000, 9)).astype(np.int16)
    content = io.BytesIO()
    with av.open(content, "w", format="matroska") as container:
        track = container.add_stream("pcm_s16le", rate=RATE, layout="9 channels")
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="9 channels")
        frame.sample_rate = RATE
        container.mux([*track.encode(frame), *track.encode(None)])
    assert audio.read_header(content).channels == 9
    np.testing.assert_allclose(audio.load(content, RATE), pcm.mean(axis=1) / 32768, atol=1e-6)
    np.testing.assert_array_equal(audio.load(content, RATE, channel=8), pcm[:, 8] / np.float32(32768))


@pytest.mark.parametrize(("form", "codec"), [("ipod", "aac"), ("matroska", "aac"), ("avi", "mp3")])
def test_tags_may_be_in_any_encoding(form: str, codec: str) -> None:
    content = encoded(tone(2.0, 48000), form=form, codec=codec, title="Cafe X")
    assert b"Cafe X" in content
    waveform = audio.load(io.BytesIO(content.replace(b"Cafe X", "Café X".encode("latin-1"))), RATE)
    np.testing.assert_array_equal(waveform, audio.load(io.BytesIO(content), RATE))


@pytest.mark.parametrize(
    ("form", "codec", "late"),
    [("matroska", "aac", True), ("webm", "libopus", True)]
    + [(*each, False) for each in (("matroska", "aac"), ("webm", "libopus"), ("mp4", "aac"), ("ipod", "aac"))],
)
def test_where_a_track_has_no_sound_it_is_silent(form: str, codec: str, late: bool) -> None:
    """As with sound that begins after the pictures, or a voice message in which nothing is sent in pauses."""
    content = io.BytesIO(encoded(tone(2.0, 48000), form=form, codec=codec, gap_at=0.0 if late else 1.0))
    assert audio.read_header(content).duration == pytest.approx(5.0, abs=0.2)
    waveform = audio.load(content, 1000)
    assert len(waveform) == pytest.approx(5000, abs=200)
    (edges,) = np.nonzero(np.diff(np.abs(waveform) > 0.2, prepend=False))
    beginnings = [edges[0], *edges[1:][np.diff(edges) > 1000]]
    np.testing.assert_allclose(beginnings, [3000] if late else [0, 4000], atol=100)


@pytest.mark.parametrize("form", ["adts", "ac3"])
def test_the_length_of_a_bare_stream_is_measured(tmp_path: Path, form: str) -> None:
    """FFmpeg guesses it by the bit rate at the beginning, which silence takes little of."""
    waveform = np.concatenate((np.zeros(3 * 48000, np.float32), tone(3.0, 48000)))
    (tmp_path / "a").write_bytes(encoded(waveform, form=form, codec="aac" if form == "adts" else form))
    assert audio.read_header(tmp_path / "a").estimated
    info = audio.measure(tmp_path / "a")
    assert info.duration == pytest.approx(6.0, abs=0.1)
    assert len(audio.load(tmp_path / "a", 48000)) == info.frames
    assert not info.estimated


def test_flac_of_untold_length_is_read(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="soundfile can't read FLAC from a pipe")
    waveform = speechlike(10_000)
    (tmp_path / "piped.flac").write_bytes(flac(waveform, claimed=0))
    assert audio.read_header(tmp_path / "piped.flac").frames == 10_000
    np.testing.assert_allclose(audio.load(tmp_path / "piped.flac", RATE), waveform, atol=2**-15)


def test_wav_from_a_pipe_claims_no_size(tmp_path: Path) -> None:
    pcm = np.arange(1000, dtype=np.int16)
    for claimed in (0xFFFFFFFF, 0x7FFFF024):
        (tmp_path / "piped.wav").write_bytes(wav(pcm.tobytes(), claimed=claimed))
        np.testing.assert_array_equal(audio.load(tmp_path / "piped.wav", RATE), pcm / np.float32(32768))


@pytest.mark.parametrize("claimed", [0, 1000, 0xFFFFFFFF - 60_000])
def test_wav_that_goes_on_behind_its_end_is_refused(tmp_path: Path, claimed: int) -> None:
    """A recorder that died, or a header's 32 bits, which a file of more than 4 GiB overruns (sparse here)."""
    path = tmp_path / "long.wav"
    path.write_bytes(wav(speechlike(10_000).tobytes(), claimed=claimed))
    if claimed > 1000:
        os.truncate(path, claimed + 44)
        assert audio.read_header(path).frames == claimed // 2
        os.truncate(path, 2**32 + 2**30)
    with pytest.raises(
        AudioError, match=r"long\.wav: goes on for [\d,]+ bytes after(.|\n)*try: ffmpeg -ignore_length 1"
    ):
        audio.read_header(path)


def test_chunks_and_padding_behind_the_sound_of_a_wav_are_no_sound(tmp_path: Path) -> None:
    pcm = np.arange(1001, dtype=np.int16)
    note = b"note" + struct.pack("<I", 5000) + bytes(5000)
    for name, behind in (("chunk", note), ("chunks", note + note), ("padding", bytes(5000)), ("odd", b"TAG" * 40)):
        (tmp_path / name).write_bytes(wav(pcm.tobytes()) + behind)
        np.testing.assert_array_equal(audio.load(tmp_path / name, RATE), pcm / np.float32(32768))


def sphere(data: bytes, coding: str, order: str = "01", width: int = 2, count: int = 800) -> bytes:
    """A NIST SPHERE file, field by field (https://www.nist.gov/document/speech-file-manipulation-software)."""
    fields = {
        "channel_count -i": 1,
        "sample_count -i": count,
        "sample_rate -i": 16000,
        "sample_n_bytes -i": width,
        f"sample_coding -s{len(coding)}": coding,
        f"sample_byte_format -s{len(order)}": order,
    }
    lines = "".join(f"{key} {value}\n" for key, value in fields.items())
    return f"NIST_1A\n   1024\n{lines}end_head\n".encode().ljust(1024) + data


@pytest.mark.parametrize(("order", "dtype"), [("01", "<i2"), ("10", ">i2")])
def test_sphere(tmp_path: Path, order: str, dtype: str) -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32768, 800)
    (tmp_path / "a.sph").write_bytes(sphere(pcm.astype(dtype).tobytes(), "pcm", order))
    np.testing.assert_array_equal(audio.load(tmp_path / "a.sph", RATE), pcm / np.float32(32768))


def test_sphere_in_mu_law(tmp_path: Path) -> None:
    codes = np.arange(256, dtype=np.uint8)
    (tmp_path / "a.sph").write_bytes(sphere(codes.tobytes(), "ulaw", "1", 1, 256))
    exponent, mantissa = (~codes >> 4) & 7, ~codes & 15  # ITU-T G.711
    magnitude = ((mantissa.astype(int) << 3) + 132 << exponent) - 132
    expected = np.where(~codes & 128, -magnitude, magnitude) / 32768
    np.testing.assert_allclose(audio.load(tmp_path / "a.sph", RATE), expected, atol=1e-7)


@pytest.mark.parametrize("coding", ["pcm,embedded-shorten-v2.00", "ulaw,embedded-shorten-v2.00"])
def test_compressed_sphere_is_refused_with_what_to_do(tmp_path: Path, coding: str) -> None:
    (tmp_path / "a.sph").write_bytes(sphere(b"ajkg\x02" + bytes(500), coding))
    with pytest.raises(AudioError, match=r"is compressed(.|\n)*sph2pipe -f wav \S*a\.sph a\.wav"):
        audio.read_header(tmp_path / "a.sph")


@pytest.mark.parametrize(("count", "claimed"), [(800, r"0\.05"), (10**400, r"\d+\.\d\d")], ids=["more", "absurd"])
def test_sphere_that_is_cut_off(tmp_path: Path, count: int, claimed: str) -> None:
    (tmp_path / "a.sph").write_bytes(sphere(bytes(1000), "pcm", count=count))
    with pytest.raises(AudioError, match=rf"cut off: its header claims {claimed} s, it holds 0\.03 s"):
        audio.load(tmp_path / "a.sph", RATE)


@pytest.mark.parametrize("channels", [1, 2, 5, 64])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    samples = speechlike(2000 * channels).reshape(2000, channels)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    assert audio.read_header(tmp_path / "a.wav").channels == channels
    np.testing.assert_allclose(audio.load(tmp_path / "a.wav", RATE), samples.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_channels_in_opposite_phase_are_refused(tmp_path: Path, noise: float) -> None:
    left = speechlike(20 * RATE)
    right = -0.98 * left + noise * speechlike(20 * RATE, seed=1)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    for read in (lambda path: audio.load(path, RATE), lambda path: list(audio.stream(path, 8000, 1.0))):
        with pytest.raises(AudioError, match=r"a\.wav: its channels are in opposite phase") as caught:
            read(tmp_path / "a.wav")
        assert "pan=mono|c0=c0" in str(caught.value)
    np.testing.assert_array_equal(audio.load(tmp_path / "a.wav", RATE, channel=0), left)


def test_channels_that_differ_or_are_silent_are_read(tmp_path: Path) -> None:
    one, other, nothing = speechlike(RATE), speechlike(RATE, seed=1), np.zeros(RATE, np.float32)
    wide = one + 0.3 * other, 0.3 * other - one  # a correlation of -0.83
    for channels in (wide, (one, other), (one, nothing), (nothing, nothing), (one, *[nothing] * 63)):
        soundfile.write(tmp_path / "a.wav", np.stack(channels, axis=1), RATE, subtype="FLOAT")
        np.testing.assert_allclose(audio.load(tmp_path / "a.wav", RATE), np.mean(channels, axis=0), atol=1e-6)


@pytest.mark.parametrize("rate", [1000, 8000, 11025, 22050, 44100, 48000, 96000, 768000])
def test_resampling_keeps_a_tone_and_its_length(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0, rate, 200.0), rate, subtype="FLOAT")
    waveform = audio.load(tmp_path / "a.wav", RATE)
    assert len(waveform) == RATE
    middle = slice(RATE // 10, -RATE // 10)
    np.testing.assert_allclose(waveform[middle], tone(1.0, RATE, 200.0)[middle], atol=1e-3)


def test_probe_tells_what_the_header_says(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros((24000, 2)), 8000)
    expected = audio.AudioInfo(
        str(tmp_path / "a.flac"), sample_rate=8000, channels=2, frames=24000, duration=3.0, estimated=False
    )
    assert audio.read_header(tmp_path / "a.flac") == expected


def test_sources_are_paths_files_and_pipes(tmp_path: Path) -> None:
    path = tmp_path / "ä б 語.wav"
    soundfile.write(path, speechlike(3000), RATE)
    expected = audio.load(path, RATE)
    content = io.BytesIO(path.read_bytes())
    content.seek(77)
    read_end, write_end = os.pipe()

    def feed() -> None:
        with os.fdopen(write_end, "wb") as file:
            file.write(path.read_bytes())

    feeder = threading.Thread(target=feed)
    feeder.start()
    with path.open("rb") as file, os.fdopen(read_end, "rb") as pipe:
        for source in (str(path), content, content, file, pipe):
            np.testing.assert_array_equal(audio.load(source, RATE), expected)
        assert not file.closed
    feeder.join()


def test_real_recordings(corpora: Path) -> None:
    opus = min((corpora / "librispeech_3spk").rglob("*.opus"))
    digit = audio.load(corpora / "fsdd/recordings/0_george_0.wav", 16000)
    assert len(digit) == 2 * audio.read_header(corpora / "fsdd/recordings/0_george_0.wav").frames
    assert 0.01 < np.abs(digit).max() <= 1.2
    reference, rate = soundfile.read(opus, dtype="float32")
    np.testing.assert_allclose(audio.load(opus, rate), reference, atol=1e-6)


# ------------------------------------------------------------------------------------------------ streaming


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("block_seconds", [0.01, 0.73, 5.0, 60.0])
def test_stream_is_load_in_blocks(tmp_path: Path, rate: int, block_seconds: float) -> None:
    signal = speechlike(round(8.37 * rate))  # several of the decoder's blocks
    soundfile.write(tmp_path / "a.wav", signal, rate, subtype="FLOAT")
    blocks = list(audio.stream(tmp_path / "a.wav", RATE, block_seconds))
    assert {len(block) for block in blocks[:-1]} <= {round(block_seconds * RATE)}
    assert 0 < len(blocks[-1]) <= round(block_seconds * RATE)
    joined = np.concatenate(blocks)
    np.testing.assert_array_equal(joined, audio.load(tmp_path / "a.wav", RATE))
    np.testing.assert_allclose(joined, soxr.resample(signal, rate, RATE, quality="HQ"), atol=1e-6)


def test_stream_needs_no_more_memory_for_longer_files(tmp_path: Path) -> None:
    def peak_bytes(seconds: int) -> int:
        soundfile.write(tmp_path / "a.wav", np.zeros((seconds * 8000, 2), np.int16), 8000)
        tracemalloc.start()
        samples = sum(len(block) for block in audio.stream(tmp_path / "a.wav", RATE, 10.0))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert samples == seconds * RATE
        return peak

    assert peak_bytes(400) < 1.5 * peak_bytes(40)


def test_stream_reports_a_fault_where_it_comes_to_it(tmp_path: Path) -> None:
    signal = speechlike(20 * RATE)
    signal[15 * RATE] = np.inf
    soundfile.write(tmp_path / "a.wav", signal, RATE, subtype="FLOAT")
    blocks = audio.stream(tmp_path / "a.wav", RATE, 1.0)
    np.testing.assert_array_equal(next(blocks), signal[:RATE])
    with pytest.raises(AudioError, match=r"a\.wav: holds a sample that is no sound: inf at 15\.00 s"):
        list(blocks)


# ---------------------------------------------------------------------------------------------- hostile files

HTML = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>gone</body></html>\n" * 20
CUT = slice(None, 12_000)
FLOAT_NAN = np.where(np.arange(9000) == 4000, np.nan, 0.1).astype(np.float32)


def float_wav(waveform: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, RATE, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


HEADER_FAULTS = {
    "empty.wav": (b"", r"empty \(0 bytes\)"),
    "page.mp3": (HTML, "web page"),
    "xml.wav": (b'\xef\xbb\xbf<?xml version="1.0"?><Error>AccessDenied</Error>', "web page"),
    "answer.wav": (b'{"error": "not found"}', "JSON"),
    "notes.wav": (b"These are the notes of the third session.\n" * 40, "holds text"),
    "pointer.wav": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
    "noise.wav": (np.random.default_rng(0).bytes(5000), "not a sound file, or is damaged"),
    "noise.raw": (np.random.default_rng(1).bytes(5000), "soundfile: raw samples"),
    "none.wav": (wav(b""), "zero frames"),
    "wide.wav": (wav(b"\0" * 4000, channels=1000), "1000 channels"),
    "slow.wav": (wav(b"\0" * 4000, rate=5), "sample rate of 5 Hz"),
    "fast.wav": (wav(b"\0" * 4000, rate=2_000_000), "sample rate of 2000000 Hz"),
    "bomb.flac": (flac(speechlike(20_000), claimed=2**36 - 1), "claims 68719476735 frames, more than its"),
    "cut.wav": (wav(speechlike(20_000).tobytes())[CUT], r"cut off: its header claims 2\.50 s, it holds 0\.37 s"),
    "cut.rf64": (written(speechlike(20_000), "RF64")[CUT], r"cut off: its header claims 1\.24 s, it holds 0\.37 s"),
    "cut.w64": (written(speechlike(20_000), "W64")[CUT], r"cut off: its header claims 1\.24 s, it holds 0\.37 s"),
}
DECODING_FAULTS = {
    "cut.flac": (flac(speechlike(20_000))[CUT], "damaged or cut off somewhere after"),
    "short.flac": (flac(speechlike(20_000), claimed=40_000), "damaged or cut off somewhere after"),
    "nan.wav": (float_wav(FLOAT_NAN), r"no sound: nan at 0\.25 s"),
    "infinite.wav": (float_wav(np.float32(-np.inf) * np.ones(10, np.float32)), r"no sound: -inf at 0\.00 s"),
    "absurd.wav": (float_wav(np.full(10, 1e30, np.float32)), r"no sound: 1e\+30 at 0\.00 s"),
}


@pytest.mark.parametrize("name", [*HEADER_FAULTS, *DECODING_FAULTS])
def test_hostile_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    content, message = (HEADER_FAULTS | DECODING_FAULTS)[name]
    path = tmp_path / name
    path.write_bytes(content)
    reads = [lambda: audio.load(path, RATE), lambda: list(audio.stream(path, 8000, 1.0))]
    if name in HEADER_FAULTS:
        reads.append(lambda: audio.read_header(path))
    for read in reads:
        with pytest.raises(AudioError, match=message) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: ")


def test_a_codec_without_a_decoder_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("av")
    content = bytearray(wav(speechlike(2000).tobytes()))
    content[20:22] = b"\x34\x12"  # the format's number
    (tmp_path / "a.wav").write_bytes(content)
    for read in (audio.read_header, lambda path: audio.load(path, RATE)):
        with pytest.raises(AudioError, match=r"a\.wav: no decoder is known for the codec of its sound"):
            read(tmp_path / "a.wav")


class OnDisk(io.BytesIO):
    """A file of which the system says, as of those on a disk, that it has no place so far behind its end."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset > 2**60:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return super().seek(offset, whence)


def test_what_points_to_nowhere_is_refused_and_does_no_harm_to_the_next(capfd: pytest.CaptureFixture[str]) -> None:
    """PyAV keeps what a file raises while FFmpeg seeks in it, and raises it when it next does something."""
    good = encoded(tone(2.0, 48000), form="ipod", codec="aac")
    content = bytearray(written(speechlike(2000), "W64"))
    chunk = content.index(b"fmt ")
    content[chunk] ^= 1
    content[chunk + 16 : chunk + 24] = struct.pack("<q", 2**62)
    aiff = written(speechlike(2000), "AIFF").replace(b"SSND", b"\0SND")  # soundfile printed what this raises
    for damaged in (content, aiff, content):
        with pytest.raises(AudioError, match=r"or is damaged|holds no sound"):
            audio.load(OnDisk(damaged), RATE)
        assert len(audio.load(io.BytesIO(good), RATE)) > RATE
    assert capfd.readouterr().err == ""


def test_a_file_that_cant_be_read_is_refused() -> None:
    pytest.importorskip("av")

    class Broken(io.BytesIO):
        def readinto(self, buffer: object) -> int:
            return 0  # to soundfile it is empty

        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 0:
                raise OSError(errno.EIO, "the disk is broken")
            return super().read(size)

    with pytest.raises(AudioError, match="FFmpeg: the disk is broken"):
        audio.load(Broken(encoded(tone(9.0, 48000), form="ipod", codec="aac")), RATE)


def test_a_claim_costs_no_memory(tmp_path: Path) -> None:
    """A header within what compression could reach, but far beyond what is there, is not believed either."""
    claimed = 8000 * len(flac(speechlike(20_000)))  # 1.2 GB as float32
    (tmp_path / "a.flac").write_bytes(flac(speechlike(20_000), claimed=claimed))
    tracemalloc.start()
    with pytest.raises(AudioError, match="damaged or cut off"):
        audio.load(tmp_path / "a.flac", RATE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


def test_folders_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is a folder"):
        audio.load(tmp_path, RATE)
    with pytest.raises(AudioError, match="no such file") as caught:
        audio.read_header(tmp_path / "gone.wav")
    assert str(tmp_path / "gone.wav") in str(caught.value)
    with pytest.raises(AudioError, match="there is no such file"):
        audio.read_header(tmp_path / "a\0.wav")
    with pytest.raises(AudioError, match=r"can't be opened|no such file"):  # its name is longer than any may be
        audio.read_header(tmp_path / ("a" * 5000 + ".wav"))


def test_errors_name_streams() -> None:
    with pytest.raises(AudioError, match=r"^<stdin>: is empty"):
        audio.load(io.BytesIO(), RATE)
    named = io.BytesIO(HTML)
    named.name = "upload.mp3"
    with pytest.raises(AudioError, match=r"^upload\.mp3: .*web page"):
        audio.load(named, RATE)


class WindowsPipe(io.BufferedReader):
    """The standard input, as it is there: whatever is asked, it is at byte 0 (cpython#86768)."""

    name = "<stdin>"

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return 0


def test_the_standard_input_may_be_a_pipe_that_claims_to_be_seekable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as output:
        output.write(written(tone(0.1), "WAV"))
    with WindowsPipe(io.FileIO(reader)) as pipe:
        assert len(audio.load(pipe, RATE)) == RATE // 10


def test_cut_video_and_video_without_sound() -> None:
    content = encoded(tone(12.0, 48000), form="webm", codec="libopus")
    size = content.index(b"\x18S\x80g") + 4
    untold = content[:size] + b"\x01" + b"\xff" * 7 + content[size + 8 :]  # only the duration tells that it is cut
    with pytest.raises(AudioError, match=r"cut off: its header claims 12\.\d\d s"):
        audio.load(io.BytesIO(untold[: untold.rindex(b"\x1fC\xb6u")]), RATE)
    av = pytest.importorskip("av")
    silent = io.BytesIO()
    with av.open(silent, "w", format="matroska") as container:
        track = container.add_stream("mpeg4", rate=10)
        track.width = track.height = 16
        container.mux(track.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(track.encode(None))
    with pytest.raises(AudioError, match=r"holds no sound .* no sound track"):
        audio.load(silent, RATE)


OGG = {
    "vorbis": lambda: written(speechlike(3 * RATE), "OGG", "VORBIS"),
    "opus": lambda: written(speechlike(3 * RATE), "OGG", "OPUS"),
    "flac": lambda: encoded(speechlike(48000), form="ogg", codec="flac"),
}
TAGS = (b"", b"TAG" + bytes(125), b"APETAGEX" + bytes(500), bytes(2000))


def ogg_pages(content: bytes | bytearray) -> list[int]:
    """Where pages begin and, last, the end."""
    places = [0]
    while places[-1] < len(content):
        header = content[places[-1] :]
        assert header.startswith(b"OggS")
        places.append(places[-1] + 27 + header[26] + sum(header[27 : 27 + header[26]]))
    return places


@pytest.mark.parametrize("codec", OGG)
def test_an_ogg_file_that_is_cut_within_a_page_is_refused(codec: str) -> None:
    content = OGG[codec]()
    last, end = ogg_pages(content)[-2:]
    for cut in (*range(last + 1, last + 64), (last + end) // 2, end - 1):
        with pytest.raises(AudioError, match=r"has been cut off: \d+ bytes? or more (is|are) missing") as caught:
            audio.read_header(io.BytesIO(content[:cut]))
        assert "ffmpeg -i FILE -c copy NEWFILE" in str(caught.value)


def test_an_ogg_file_with_damage_in_its_middle_is_refused() -> None:
    """libsndfile says nothing of pages that it leaves out, and what follows them would come too early."""
    content = bytearray(written(speechlike(20 * RATE), "OGG", "VORBIS"))
    pages = ogg_pages(content)
    for place in pages[len(pages) // 2 :][:4]:
        content[place + 300] ^= 1
    with pytest.raises(AudioError, match=r"is damaged: of 20\.0\d s, 1\d\.\d\d s can be decoded"):
        audio.load(io.BytesIO(content), RATE)


@pytest.mark.parametrize("subtype", ["PCM_16", "ALAC_16"])
def test_a_caf_file_that_is_cut_is_refused(subtype: str) -> None:
    content = written(speechlike(3 * RATE + 1), "CAF", subtype)
    assert len(audio.load(io.BytesIO(content), RATE)) == 3 * RATE + 1
    for cut in (len(content) // 3, len(content) - 99):
        with pytest.raises(AudioError, match=r"has been cut off: \d+ bytes or more are missing"):
            audio.load(io.BytesIO(content[:cut]), RATE)


@pytest.mark.parametrize("codec", ["vorbis", "opus"])
def test_an_ogg_file_without_an_end_mark_is_read(codec: str) -> None:
    """As broadcasts and recorders that were stopped leave it: whole pages, each with whole packets."""
    content = OGG[codec]()
    shorter = content[: ogg_pages(content)[-2]]
    for tag in TAGS[:2]:
        assert 1 < len(audio.load(io.BytesIO(shorter + tag), RATE)) / RATE < 3


def test_an_ogg_file_whose_last_packet_goes_on_is_refused() -> None:
    content = OGG["flac"]()
    last = ogg_pages(content)[-2]
    assert content[last + 5] & 1, "the last page begins within a packet"
    with pytest.raises(AudioError, match="has been cut off"):
        audio.read_header(io.BytesIO(content[:last]))


@pytest.mark.parametrize("tag", TAGS)
def test_tags_behind_an_ogg_file_do_no_harm(tag: bytes) -> None:
    assert len(audio.load(io.BytesIO(OGG["vorbis"]() + tag), RATE)) == 3 * RATE


@pytest.mark.parametrize(("form", "codec"), [("webm", "libopus"), ("matroska", "aac")])
@pytest.mark.parametrize("live", [False, True], ids=["with its length", "live"])
def test_a_matroska_file_that_is_cut_is_refused(form: str, codec: str, live: bool) -> None:
    options = {"live": "1"} if live else {}
    content = encoded(speechlike(3 * 48000), form=form, codec=codec, options=options)
    segment = content.index(b"\x18S\x80g") + 4
    assert (content[segment : segment + 8] == b"\x01" + b"\xff" * 7) == live
    for whole in [content] if live else [content + tag for tag in TAGS]:
        assert len(audio.load(io.BytesIO(whole), RATE)) == pytest.approx(3 * RATE, abs=1000)
    for cut in (len(content) - 10, len(content) // 2 + 1):
        with pytest.raises(AudioError, match=r"has been cut off: \d+ bytes or more are missing"):
            audio.read_header(io.BytesIO(content[:cut]))


def test_an_mp3_that_counts_more_frames_than_it_has_is_refused() -> None:
    content = written(speechlike(10 * RATE), "MP3")
    artist = b"ID3\4\0\0" + bytes([0, 0, 8000 >> 7, 8000 & 127]) + bytes(8000)
    for whole in (content, artist + content, *(content + tag for tag in TAGS)):
        assert len(audio.load(io.BytesIO(whole), RATE)) == 10 * RATE
    assert len(audio.load(io.BytesIO(content[:-100]), RATE)) > 9.9 * RATE  # not a frame is missing
    for head in (b"", artist):
        cut = io.BytesIO(head + content[: len(content) // 2])
        for read in (lambda file: audio.load(file, RATE), audio.measure, audio.measure_by_decoding):
            with pytest.raises(AudioError, match=r"cut off: its header claims 10\.00 s, it holds 4\.\d\d s"):
                read(cut)


def test_an_mp3_that_counts_no_frames_is_read_to_its_end() -> None:
    """Its length is guessed by the bit rate at the beginning, of which silence takes little."""
    tagged = written(np.concatenate((np.zeros(3 * RATE, np.float32), speechlike(3 * RATE))), "MP3")
    content = io.BytesIO(tagged[tagged.index(tagged[:2], 4) :])
    assert audio.read_header(content).duration > 10
    assert audio.measure(content).duration == pytest.approx(6, abs=0.2)


def test_joined_files_never_lose_their_end_in_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.ogg", speechlike(2 * RATE), RATE, subtype="OPUS")
    (tmp_path / "two.ogg").write_bytes((tmp_path / "one.ogg").read_bytes() * 2)
    with pytest.raises(AudioError, match=r"goes on after its apparent end at 2\.00 s"):
        audio.load(tmp_path / "two.ogg", RATE)


def test_without_pyav_the_error_tells_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "memo.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(1000))
    with pytest.raises(MissingDependencyError, match=r"memo\.m4a: soundfile can't read it") as caught:
        audio.load(tmp_path / "memo.m4a", RATE)
    assert 'pip install -e ".[av]"' in str(caught.value)


# ------------------------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_what_was_loaded_is_saved_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    pcm = np.arange(-32768, 32768, dtype=np.int16)
    audio.save(tmp_path / f"deep/a{suffix}", pcm / np.float32(32768), RATE)
    saved, rate = soundfile.read(tmp_path / f"deep/a{suffix}", dtype="int16")
    assert rate == RATE
    np.testing.assert_array_equal(saved, pcm)


def test_loud_samples_saturate(tmp_path: Path) -> None:
    audio.save(tmp_path / "a.wav", np.array([1.0, 1.5, -1.0, -7.0, 0.0], np.float32), RATE)
    saved, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert saved.tolist() == [32767, 32767, -32768, -32768, 0]


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mp3"])
def test_long_waveforms_are_saved_in_lossy_formats(tmp_path: Path, suffix: str) -> None:
    audio.save(tmp_path / f"a{suffix}", tone(60.0), RATE)
    assert len(audio.load(tmp_path / f"a{suffix}", RATE)) == pytest.approx(60 * RATE, abs=1200)


@pytest.mark.parametrize("suffix", [".wav", ".ogg"])
def test_a_disk_without_room_for_a_recording(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource", reason="Windows sets no limits")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(DiskFullError, match=rf"a\{suffix}: there is no room to write it .* are needed"):
            audio.save(tmp_path / f"a{suffix}", tone(), RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "waveform", "rate", "message"),
    [
        ("a.xyz", tone(), RATE, "can't write the format '.xyz'"),
        ("a.wav", FLOAT_NAN, RATE, "no finite numbers"),
        ("a.opus", tone(), 44100, "can't be written at 44100 Hz"),
    ],
)
def test_nothing_is_left_of_what_can_not_be_saved(
    tmp_path: Path, name: str, waveform: np.ndarray, rate: int, message: str
) -> None:
    with pytest.raises(AudioError, match=message):
        audio.save(tmp_path / name, waveform, rate)
    assert list(tmp_path.iterdir()) == []
