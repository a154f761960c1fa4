"""Recordings whose headers do not tell how long they last."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def write_mp3_without_length(path: Path, waveform: np.ndarray, sample_rate: int) -> None:
    """Write an MP3 of variable bit rate and leave out the first frame, which tells its length.

    What it begins with tells the bit rate by which its length is estimated: of a waveform with silence at the
    beginning, which takes few bits, it is far too long.
    """
    with soundfile.SoundFile(
        path, "w", sample_rate, 1, "MPEG_LAYER_III", format="MP3", bitrate_mode="VARIABLE", compression_level=0.5
    ) as file:
        file.write(waveform)
    content = path.read_bytes()
    frame = next(
        place
        for place in range(content.find(b"Xing") + 41, len(content))
        if content[place] == 0xFF and content[place + 1] >= 0xE0
    )
    path.write_bytes(content[frame:])
