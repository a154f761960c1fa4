"""The Free Spoken Digit Dataset: six speakers say each digit fifty times, at 8 kHz (Jackson et al. 2018).

https://github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0. A recording is named
`{digit}_{speaker}_{index}.wav`. The official test set is the indices 0 to 4; here 5 to 9 are the development
set, and the others the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path

import numpy as np

from asr import audio
from asr.data.corpora import prepared
from asr.data.corpora.download import Archive, Progress, obtain, silent
from asr.data.manifest import Utterance
from asr.errors import DataError, some
from asr.sound_files import FloatArray

# No checksum of it is published that could be checked: the archive must unpack, and hold every recording.
ARCHIVE = Archive(
    name="fsdd",
    url="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
    root="free-spoken-digit-dataset-1.0.10",
)

SAMPLE_RATE = 8000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TEST, DEV, TRAIN = range(5), range(5, 10), range(10, 50)
"""Indices of the recordings in each set."""

DEV_STRINGS = 200
LONGEST_STRING = 8  # digits
PAUSE = (0.05, 0.4)  # seconds between two digits of a string
FRAME = 80  # samples, 10 ms: for the level of the background
QUIETEST = 0.02  # share of the frames that are taken for background


@dataclass(frozen=True)
class Recording:
    """One digit, said once."""

    digit: int
    speaker: str
    index: int

    @property
    def name(self) -> str:
        """Its file in the folder of recordings."""
        return f"{self.digit}_{self.speaker}_{self.index}.wav"


@dataclass(frozen=True)
class Split:
    """Which recordings are for what."""

    train: list[Recording]
    dev: list[Recording]
    test: list[Recording]


def prepare(
    source: Path | None,
    held_out_speaker: str | None,
    recordings_per_digit: int | None,
    test_strings: int,
    seed: int,
    output: Path,
    progress: Progress = silent,
) -> None:
    """Write the manifests, which refer to the recordings where they are, and make strings of digits.

    The tests are `single`, one digit at a time, and `strings`, one to eight of those recordings, of one
    speaker, with pauses between them. The development set has both kinds. With a speaker held out, the tests
    are made of all recordings of that speaker, training and development set of the others'. With few recordings
    of each digit, the development set has no more of them than the training, and no more strings than digits.

    Args:
        source: a folder that holds `recordings`, or the official archive; None downloads it.
        held_out_speaker: one of `SPEAKERS`, or None for the official split.
        recordings_per_digit: how many to train on, drawn from those of all speakers together, or None for all.
        test_strings: how many strings the test has.
        seed: of the strings, and of the recordings that are drawn.
        output: the corpus's folder; its folder `strings` gets the strings.
        progress: called as megabytes are downloaded, then as utterances are listed.

    Raises:
        DataError: there is no such speaker, there are not so many recordings, the source is not the whole corpus,
            or the download failed.
    """
    if held_out_speaker is not None and held_out_speaker not in SPEAKERS:
        raise DataError(f"there is no speaker {held_out_speaker!r}", expected=f"one of {', '.join(SPEAKERS)}")
    folder = recordings_folder(obtain(ARCHIVE, source, output, progress))
    split = split_recordings(held_out_speaker)
    train, dev = split.train, split.dev
    if recordings_per_digit is not None:
        if len(DIGITS) * recordings_per_digit > len(train):
            most = f"at most {len(train) // len(DIGITS)} of each digit"
            raise DataError(f"prepare.recordings_per_digit is {recordings_per_digit}", expected=most)
        train, dev = (draw(recordings, recordings_per_digit, seed) for recordings in (train, dev))
    singles = {"train": train, "dev": dev, "single": split.test}
    rng = np.random.default_rng(seed)
    strings = {
        "dev": draw_strings(split.dev, DEV_STRINGS, rng)[: len(dev)],  # so those of the test are always the same
        "strings": draw_strings(split.test, test_strings, rng),
    }
    utterances = chain(
        ((name, single_utterance(folder, each)) for name, recordings in singles.items() for each in recordings),
        (
            (name, string_utterance(folder, string, output / "strings" / f"{name}-{number:04d}.wav", rng))
            for name, drawn in strings.items()
            for number, string in enumerate(drawn)
        ),
    )
    total = sum(map(len, singles.values())) + sum(map(len, strings.values()))
    manifests: dict[str, list[Utterance]] = {"train": [], "dev": [], "single": [], "strings": []}
    for done, (name, utterance) in enumerate(utterances, start=1):
        manifests[name].append(utterance)
        progress(done, total)
    tests = {name: manifests[name] for name in ("single", "strings")}
    prepared.write(output, manifests["train"], manifests["dev"], tests)


def recordings_folder(source: Path) -> Path:
    """The folder of recordings, once it is known to hold them all and nothing else.

    Raises:
        DataError: what is missing, or in the way.
    """
    folder = source / "recordings"
    if not folder.is_dir():
        raise DataError("there is no folder “recordings” in it", where=source, expected="a copy of FSDD")
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    wanted = {recording.name for recording in _all_recordings(SPEAKERS, range(50))}
    faults = {"missing": wanted - found, "unexpected": found - wanted}
    if any(faults.values()):
        listed = [f"{len(names)} {fault}: {some(sorted(names))}" for fault, names in faults.items() if names]
        raise DataError(
            f"not the {len(wanted)} recordings of FSDD 1.0.10: {len(found)} files, {'; '.join(listed)}",
            where=folder,
            expected=f"0_{SPEAKERS[0]}_0.wav to 9_{SPEAKERS[-1]}_49.wav",
            hint=f"a fresh copy of {ARCHIVE.url}",
        )
    return folder


def _all_recordings(speakers: Sequence[str], indices: Sequence[int]) -> list[Recording]:
    return [Recording(*each) for each in product(range(10), speakers, indices)]


def split_recordings(held_out_speaker: str | None) -> Split:
    """Deal the recordings out to the sets: by index, and by speaker where one is held out."""
    if held_out_speaker is None:
        return Split(*(_all_recordings(SPEAKERS, indices) for indices in (TRAIN, DEV, TEST)))
    others = [speaker for speaker in SPEAKERS if speaker != held_out_speaker]
    return Split(
        train=_all_recordings(others, TRAIN),
        dev=_all_recordings(others, DEV),
        test=_all_recordings([held_out_speaker], range(50)),
    )


def draw(recordings: Sequence[Recording], per_digit: int, seed: int) -> list[Recording]:
    """Draw so many recordings of each digit, or all where there are fewer; a smaller draw is a part of it."""
    rng = np.random.default_rng(seed)
    drawn = []
    for digit in range(len(DIGITS)):
        own = [recording for recording in recordings if recording.digit == digit]
        drawn += [own[index] for index in rng.permutation(len(own))[:per_digit]]
    return drawn


def draw_strings(recordings: Sequence[Recording], count: int, rng: np.random.Generator) -> list[list[Recording]]:
    """Draw strings of 1 to `LONGEST_STRING` recordings of one speaker, none of them twice in a string."""
    speakers = sorted({recording.speaker for recording in recordings})
    strings = []
    for _ in range(count):
        speaker = rng.choice(speakers)
        own = [recording for recording in recordings if recording.speaker == speaker]
        chosen = rng.permutation(len(own))[: rng.integers(1, LONGEST_STRING + 1)]
        strings.append([own[index] for index in chosen])
    return strings


def single_utterance(folder: Path, recording: Recording) -> Utterance:
    """A recording as it is."""
    path = folder / recording.name
    fields = {"speaker": recording.speaker, "digits": 1}
    return Utterance(path, audio.read_header(path).duration, DIGITS[recording.digit], fields)


def string_utterance(folder: Path, string: Sequence[Recording], path: Path, rng: np.random.Generator) -> Utterance:
    """Join recordings with pauses, and write the sound."""
    waveform = join([audio.load(folder / recording.name, SAMPLE_RATE) for recording in string], rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.save(path, waveform, SAMPLE_RATE)
    text = " ".join(DIGITS[recording.digit] for recording in string)
    fields = {"speaker": string[0].speaker, "digits": len(string)}
    return Utterance(path, len(waveform) / SAMPLE_RATE, text, fields)


def join(waveforms: Sequence[FloatArray], rng: np.random.Generator) -> FloatArray:
    """Join waveforms, (samples,) each, with pauses that hold white noise as loud as their own background."""
    offset, level = background(np.concatenate(waveforms))
    pieces = [waveforms[0]]
    for waveform in waveforms[1:]:
        pause = rng.standard_normal(round(rng.uniform(*PAUSE) * SAMPLE_RATE), np.float32)
        pieces += [offset + level * pause, waveform]
    return np.concatenate(pieces)


def background(waveform: FloatArray) -> tuple[float, float]:
    """Mean, and standard deviation in the quietest frames: what a recording holds when nobody speaks.

    The mean is not always zero: one speaker's microphone has an offset.
    """
    frames = waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME)
    return float(waveform.mean()), float(np.quantile(frames.std(axis=1), QUIETEST))
