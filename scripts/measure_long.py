"""Whether long recordings are heard as well as short ones, and in how much memory.

    python scripts/measure_long.py MODEL CORPUS --work FOLDER

`scripts/README.md` says what is measured and how.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
from peers import log

import asr
from asr import audio
from asr.data.corpora.download import silent
from asr.data.layouts import librispeech
from asr.data.layouts.entries import all_of
from asr.data.manifest import Utterance, read_manifest
from asr.evaluation import wer
from asr.recognizer import Recognizer
from asr.sound_files import FloatArray

HOURS = (0.1, 0.5, 1, 2, 4)
"""Of the recordings whose memory is measured: the joined ones one after another, over and over."""
WATCH = """
import runpy, sys
from pathlib import Path
sys.argv = ["asr", "transcribe", *sys.argv[1:]]
try:
    runpy.run_module("asr", run_name="__main__")
finally:
    status = Path("/proc/self/status").read_text()
    print(status.partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""
"""A transcription that tells the most memory that it had, in KiB (Linux), in the last line. (What getrusage tells
begins with the memory of the process that started it.)"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model's folder, or that of its run")
    parser.add_argument("corpus", type=Path, help="a folder in LibriSpeech's layout, or a manifest with speakers")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for the joined recordings")
    parser.add_argument("--lm", type=Path, metavar="FILE", help="to search with, in place of the model's own way")
    parser.add_argument(
        "--hours", type=float, nargs="*", default=HOURS, help="of recordings whose memory is measured"
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    choice = {"decoder": "beam", "lm": arguments.lm} if arguments.lm else {}
    recognizer = asr.load(arguments.model, **choice)
    chapters = recordings(arguments.corpus)
    joined = {name: join(parts, recognizer, arguments.work / f"{name}.wav") for name, parts in chapters.items()}
    print("\n".join(error_rates(recognizer, chapters, joined)) + "\n", flush=True)
    print("\n".join(memory(arguments.model, list(joined.values()), arguments.hours, arguments.work)))


def recordings(corpus: Path) -> dict[str, list[Utterance]]:
    """The utterances of each recording to be: of a chapter, or of a speaker in a manifest."""
    if corpus.suffix == ".jsonl":
        spoken = defaultdict(list)
        for utterance in read_manifest(corpus):
            spoken[str(utterance.speaker)].append(utterance)
        return dict(spoken)
    utterances = all_of(librispeech.read(corpus), corpus, silent)
    ordered = sorted(utterances, key=lambda utterance: str(utterance.fields["id"]))
    chapters = itertools.groupby(ordered, key=lambda utterance: str(utterance.fields["id"]).rpartition("-")[0])
    return {name: list(parts) for name, parts in chapters}


def join(parts: Sequence[Utterance], recognizer: Recognizer, path: Path) -> Path:
    """Write a chapter as one recording."""
    rate = recognizer.sample_rate
    audio.save(path, np.concatenate([audio.load(part.source, rate) for part in parts]), rate)
    return path


def cut_elsewhere(waveforms: Sequence[FloatArray], rate: int) -> list[FloatArray]:
    """A chapter's waveforms (samples,) as pieces as long, each from the middle of one to the next.

    The cuts are where it is quietest. A model that has learnt from the utterances knows them as they are cut.
    """
    width = round(0.25 * rate)
    ends, halves = np.cumsum([len(waveform) for waveform in waveforms]), []
    for end, waveform in zip(ends, waveforms, strict=True):
        first, last = len(waveform) // 4, 3 * len(waveform) // 4
        loudness = np.convolve(waveform[first:last].astype(np.float64) ** 2, np.ones(width), "valid")
        halves.append(end - len(waveform) + first + int(loudness.argmin()) + width // 2)
    return np.split(np.concatenate(waveforms), halves)


def error_rates(
    recognizer: Recognizer, chapters: Mapping[str, Sequence[Utterance]], joined: Mapping[str, Path]
) -> list[str]:
    """A table of the word error rate of each chapter, heard in pieces, in other pieces, and as a whole."""
    head = "| chapter | minutes | pieces | words | WER in pieces | in pieces cut elsewhere | as a whole |"
    rows = [head, "|" + " --- |" * 7]
    totals: tuple[list[wer.Answer], ...] = ([], [], [])
    for name, parts in chapters.items():
        waveforms = [audio.load(part.source, recognizer.sample_rate) for part in parts]
        reference = " ".join(recognizer.normalizer(part.text) for part in parts)
        answers = (
            recognizer.transcribe(waveforms),
            recognizer.transcribe(cut_elsewhere(waveforms, recognizer.sample_rate)),
            [recognizer.transcribe(joined[name])],
        )
        # Pieces are joined before they are compared, so that all are aligned in one way.
        for total, heard in zip(totals, answers, strict=True):
            text = recognizer.normalizer(" ".join(transcript.text for transcript in heard))
            total.append(wer.Answer(name, reference, text))
        rows.append(_row(name, parts, [wer.score(total[-1:]) for total in totals]))
        log(rows[-1])
    everything = [part for parts in chapters.values() for part in parts]
    return [*rows, _row("all", everything, [wer.score(total) for total in totals])]


def _row(name: str, parts: Sequence[Utterance], scores: Sequence[wer.Score]) -> str:
    minutes = sum(part.duration for part in parts) / 60
    rates = " | ".join(f"{score.wer:.2%}" for score in scores)
    return f"| {name} | {minutes:.1f} | {len(parts)} | {scores[0].words} | {rates} |"


def memory(model: Path, chapters: Sequence[Path], lengths: Iterable[float], work: Path) -> list[str]:
    """A table of the memory that recordings of so many hours take."""
    rows = ["| hours | most memory, MiB | × real time |", "| --- | --- | --- |"]
    path = work / "long.wav"
    for hours in lengths:
        write_hours(chapters, hours, path)
        command = [sys.executable, "-c", WATCH, str(path), "--model", str(model), "--format", "json"]
        started = time.perf_counter()
        ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - started
        peak = int(ended.stderr.splitlines()[-1]) / 1024
        rows.append(f"| {hours:g} | {peak:.0f} | {3600 * hours / seconds:.0f} |")
        log(rows[-1])
        path.unlink()
    return rows


def write_hours(chapters: Sequence[Path], hours: float, path: Path) -> None:
    """Write the chapters one after another, over and over, for so long."""
    rate = soundfile.info(chapters[0]).samplerate
    left = round(hours * 3600 * rate)
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        for chapter in itertools.cycle(chapters):
            samples = soundfile.read(chapter, frames=left, dtype="int16")[0]
            file.write(samples)
            left -= len(samples)
            if not left:
                return


if __name__ == "__main__":
    main()
