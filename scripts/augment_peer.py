"""Augmentation by audiomentations: `bench_augment.py` starts it, in an environment of its own.

    python augment_peer.py WAVEFORMS.npz RATE FOLDER-OF-RESPONSES

For each line read, the name of a step, it applies that step to all waveforms and prints the seconds of one core.
"""

from __future__ import annotations

import sys
import time

import audiomentations as peer  # type: ignore[import-not-found]
import numpy as np


def main() -> None:
    """Answer lines until there are no more."""
    path, rate, responses = sys.argv[1:]
    with np.load(path) as stored:
        waveforms = list(stored.values())
    steps = {
        "pitch": peer.PitchShift(min_semitones=-2, max_semitones=2, p=1),
        "tempo": peer.TimeStretch(min_rate=0.9, max_rate=1.1, leave_length_unchanged=False, p=1),
        "reverb, recorded": peer.ApplyImpulseResponse(responses, p=1),
        "noise, generated": peer.AddColorNoise(min_snr_db=5, max_snr_db=30, min_f_decay=-6, max_f_decay=0, p=1),
        "codec, mp3": peer.Mp3Compression(min_bitrate=8, max_bitrate=32, p=1),
    }
    for line in sys.stdin:
        step = steps[line.strip()]
        started = time.process_time()
        for waveform in waveforms:
            step(waveform, sample_rate=int(rate))
        print(time.process_time() - started, flush=True)


if __name__ == "__main__":
    main()
