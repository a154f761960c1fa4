"""Whether a recogniser minds silence: around utterances, between them, and where nobody speaks.

    python scripts/measure_silence.py MODEL MANIFEST

`scripts/README.md` says what is measured and how.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np

import asr
from asr import audio
from asr.data.manifest import read_manifest
from asr.effects.level import apply_gain, speech_power
from asr.evaluation import wer
from asr.sound_files import FloatArray

AROUND, BETWEEN = (0.25, 1.0, 2.0), (0.3, 1.5, 5.0)
"""Seconds of silence at each end of an utterance, and between two."""
BELOW_DB = (25.0, 55.0)
"""How much softer than speech the noise in it is."""
JOINED = 20
"""So many utterances make one recording."""
ALONE = (0.5, 1.0, 3.0, 10.0, 30.0)
"""Seconds of recordings of nothing else."""


def main() -> None:
    """Print a table of word error rates, and of what is heard where nobody speaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model's folder, or that of its run")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--utterances", type=int, default=200, help="from its beginning (%(default)s)")
    arguments = parser.parse_args()
    recognizer = asr.load(arguments.model)
    utterances = read_manifest(arguments.manifest)[: arguments.utterances]
    rate = recognizer.sample_rate
    waveforms = [audio.load(utterance.source, rate) for utterance in utterances]
    texts = [recognizer.normalizer(utterance.text) for utterance in utterances]
    level = float(np.sqrt(np.median([speech_power(waveform, rate) for waveform in waveforms])))
    rng = np.random.default_rng(1)

    def noise(seconds: float, below_db: float) -> FloatArray:
        white = np.float32(level) * rng.standard_normal(round(seconds * rate), dtype=np.float32)
        return apply_gain(white, -below_db)

    def measure(name: str, recordings: list[FloatArray], references: list[str]) -> None:
        heard = [recognizer.normalizer(transcript.text) for transcript in recognizer.transcribe(recordings)]
        pairs = zip(references, heard, strict=True)
        score = wer.score([wer.Answer(str(place), *pair) for place, pair in enumerate(pairs)])
        faults = f"{score.substitutions} | {score.deletions} | {score.insertions}"
        print(f"| {name} | {score.wer:.2%} | {faults} |", flush=True)

    print("| silence | WER | substituted | left out | inserted |\n| --- | --- | --- | --- | --- |")
    measure("none", waveforms, texts)
    for seconds, below_db in product(AROUND, BELOW_DB):
        around = [np.concatenate([noise(seconds, below_db), each, noise(seconds, below_db)]) for each in waveforms]
        measure(f"{seconds:g} s around each, {below_db:g} dB softer", around, texts)
    starts = range(0, len(texts), JOINED)
    strings = [" ".join(texts[start : start + JOINED]) for start in starts]
    for gap, below_db in product(BETWEEN, BELOW_DB):
        gaps = [np.concatenate([each, noise(gap, below_db)]) for each in waveforms]
        joined = [np.concatenate(gaps[start : start + JOINED]) for start in starts]
        measure(f"{gap:g} s between {JOINED} in a row, {below_db:g} dB softer", joined, strings)
    alone = [noise(seconds, below_db) for seconds, below_db in product(ALONE, BELOW_DB)]
    words = sum(len(transcript.text.split()) for transcript in recognizer.transcribe(alone))
    print(
        f"\n{words} words heard in {len(alone)} recordings of nothing else, {len(BELOW_DB) * sum(ALONE):g} seconds"
    )


if __name__ == "__main__":
    main()
