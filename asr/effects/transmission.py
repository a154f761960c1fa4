"""What telephones and codecs do to speech. Nothing is delayed: what a codec delays is taken back."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile
import soxr

from asr.effects.fourier import fft_length
from asr.effects.level import FloatArray, within_peak

TELEPHONE_RATE = 8000
TELEPHONE_CODECS = {
    "mu-law": ("AU", "ULAW"),  # ITU-T G.711, America and Japan
    "a-law": ("AU", "ALAW"),  # ITU-T G.711, elsewhere
    "adpcm": ("AU", "G721_32"),  # ITU-T G.721, cordless telephones
    "gsm": ("WAV", "GSM610"),  # full rate, the first mobile telephones
}
CODECS = {"opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III")}
CODEC_RATES = (8000, 12000, 16000, 24000, 48000)  # which both have

EDGE_HERTZ = 200.0  # over which a band ends
RINGING_SECONDS = 0.05


def telephone(
    waveform: FloatArray, sample_rate: int, codec: str, band_hz: tuple[float, float] = (300.0, 3400.0)
) -> FloatArray:
    """Speech over a telephone line: a narrow band, 8000 samples a second, and a codec.

    Args:
        waveform: (samples,); scaled down for the codec, and up again, where it passes ±1.
        sample_rate: in hertz; the result has it, too.
        codec: of `TELEPHONE_CODECS`.
        band_hz: what the line lets pass; its ends are at -6 dB.
    """
    narrow = band_pass(_at_rate(waveform, sample_rate, TELEPHONE_RATE), TELEPHONE_RATE, *band_hz)
    heard = _coded(narrow, TELEPHONE_RATE, *TELEPHONE_CODECS[codec])
    return _fitted(_at_rate(heard, TELEPHONE_RATE, sample_rate), len(waveform))


def through_codec(waveform: FloatArray, sample_rate: int, codec: str, kbps: float) -> FloatArray:
    """Speech from a messenger or a compressed file.

    Args:
        waveform: (samples,); scaled down for the codec, and up again, where it passes ±1.
        sample_rate: in hertz; the result has it, too. The codec works at the next lower rate that it has.
        codec: of `CODECS`.
        kbps: kilobits a second; the codec takes the nearest that it has.
    """
    rate = max((rate for rate in CODEC_RATES if rate <= sample_rate), default=CODEC_RATES[0])
    settings = {"opus": _opus_settings, "mp3": _mp3_settings}[codec](rate, kbps)
    heard = _coded(_at_rate(waveform, sample_rate, rate), rate, *CODECS[codec], **settings)
    return _fitted(_at_rate(heard, rate, sample_rate), len(waveform))


def band_pass(waveform: FloatArray, sample_rate: int, low: float, high: float) -> FloatArray:
    """Only what is between two frequencies, in hertz; without any shift in time, as a filter of zero phase."""
    size = fft_length(len(waveform) + round(RINGING_SECONDS * sample_rate))
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate).astype(np.float32)
    inside = np.minimum(frequencies - low, high - frequencies) / EDGE_HERTZ + 0.5
    passed = np.sin(np.pi / 2 * np.clip(inside, 0.0, 1.0)) ** 2
    filtered = np.fft.irfft(np.fft.rfft(waveform, size) * passed, size)[: len(waveform)]
    return filtered.astype(np.float32, copy=False)


def _opus_settings(_: int, kbps: float) -> dict[str, Any]:
    """libsndfile's scale of compression, 0 to 1, stands for 256 to 6 kbit/s."""
    return {"compression_level": float(np.clip((256.0 - kbps) / 250.0, 0.0, 1.0))}


def _mp3_settings(rate: int, kbps: float) -> dict[str, Any]:
    """As above, of what MPEG-1, MPEG-2 and its extension to low rates have; 1 itself is refused.

    Of the bit-rate modes, only the constant one writes no encoder delay into the file, by which it could be undone.
    """
    least, most = (8.0, 64.0) if rate < 16000 else (8.0, 160.0) if rate < 32000 else (32.0, 320.0)
    level = float(np.clip((most - kbps) / (most - least), 0.0, 0.999))
    return {"compression_level": level, "bitrate_mode": "AVERAGE"}


def _coded(waveform: FloatArray, rate: int, container: str, subtype: str, **settings: Any) -> FloatArray:
    """Written and read again, in memory, by libsndfile, which takes back the delay that the file tells of."""
    if len(waveform) == 0:
        return waveform
    scaled, file = within_peak(waveform), io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, subtype, format=container, **settings) as encoder:
        encoder.write(scaled)
    file.seek(0)
    with soundfile.SoundFile(file) as decoder:
        decoded: FloatArray = decoder.read(len(waveform), dtype="float32")
    return decoded * np.float32(max(np.abs(waveform).max(), 1.0))


def _at_rate(waveform: FloatArray, rate: int, new_rate: int) -> FloatArray:
    if rate == new_rate or len(waveform) == 0:
        return waveform
    resampled: FloatArray = soxr.resample(waveform, rate, new_rate, quality="MQ")
    return resampled


def _fitted(waveform: FloatArray, samples: int) -> FloatArray:
    """Of exactly so many samples: rounded rates, and codecs that work in blocks, add or lose some at the end."""
    return np.pad(waveform[:samples], (0, max(samples - len(waveform), 0)))
