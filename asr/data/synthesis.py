"""Speech of eSpeak NG in many voices: for corpora of commands, and for text that nobody has read.

A voice is an accent and a variant: eSpeak's word for a timbre, a set of formants and a pitch. The synthesis runs in
programs of its own, see `espeak_process.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from asr.data.manifest import Utterance, write_manifest
from asr.errors import DataError, MissingDependencyError, how_to_install
from asr.files import atomic_path

Progress = Callable[[int, int], None]
"""Called with the number of utterances made so far, and of all."""
Request = dict[str, Any]
"""An `espeak_process.Request` as JSON has it."""
Set = Literal["train", "dev", "test"]

MANIFEST = "manifest.jsonl"
SCRIPT = Path(__file__).with_name("espeak_process.py")
PROGRAM = (sys.executable, "-P", "-X", "utf8", str(SCRIPT))
"""What speaks. -P: modules beside the script must not hide installed ones of the same name. utf8: its messages."""
UTTERANCES_PER_PROCESS = 500
RATE = (130, 220)
"""Words per minute, least and most."""

ACCENTS = (
    "en",  # British; eSpeak does not know it as en-gb
    "en-029",  # Caribbean
    "en-gb-scotland",
    "en-gb-x-gbclan",  # Lancaster
    "en-gb-x-gbcwmd",  # West Midlands
    "en-gb-x-rp",
    "en-us",
    "en-us-nyc",
)


@dataclass(frozen=True)
class Variants:
    """Timbres, by sex: as their files say, or else their names and base pitch. Names are parted by spaces."""

    female: str
    male: str


# Chosen from the hundred that eSpeak NG 1.52 has. Left out: whispers and creaks (whisper whisperf caleb croak),
# robots and effects (robosoft* UniRobot anikaRobot Ricishay* Demonic announcer zac), those with more hiss than
# voice (klatt klatt2), one that clips (iven), one that is the plain voice (fast) and a name with a space.
# Variants whose formants are the same or nearly so (Gene and Gene2, f2 and f5, m7 m8 and Nguyen, the three
# iven, …) are one speaker in several moods: they stand in the same set.
VARIANTS: dict[Set, Variants] = {
    "train": Variants(
        female="Alicia anika aunty f1 f3 f4 linda steph steph2 steph3",
        male=(
            "Alex Andy AnxiousAndy Denis Diogo Henrique Hugo Marco Mario Michael Mike Reed Storm Tweaky adam "
            "antonio benjamin boris david ed edward edward2 grandpa gustave ian iven2 iven3 iven4 john "
            "kaukovalta klatt3 klatt4 klatt5 klatt6 m1 m3 m4 m6 marcelo max michel miguel mike2 norbert pablo "
            "paul pedro quincy rob robert victor"
        ),
    ),
    "dev": Variants(female="Annie f2 f5", male="Gene Gene2 Lee sandro"),
    "test": Variants(female="Andrea belinda grandma shelby", male="Jacky Nguyen m2 m5 m7 m8 travis"),
}


def require() -> None:
    """See that eSpeak NG is there.

    Raises:
        MissingDependencyError: it is not.
    """
    if find_spec("espeakng_loader") is None:
        raise MissingDependencyError("eSpeak NG is not installed", hint=how_to_install("synth"))


def read_aloud(
    texts: Sequence[str],
    output: Path,
    seed: int,
    languages: Sequence[str] = ACCENTS,
    rate: tuple[int, int] = RATE,
    processes: int | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Utterance]:
    """Have texts read, each by some voice of the training: a folder of recordings and their `manifest.jsonl`.

    Args:
        texts: what to say, as one utterance each.
        output: the folder to make.
        seed: decides everything: the same seed gives the same files, to the bit, on any number of processes.
        languages: eSpeak's names of languages and accents, of which each utterance has one.
        rate: words per minute, least and most.
        processes: how many to run at a time, or None for one on each core.
        progress: called as utterances appear.

    Returns:
        The utterances, but for those in whose text eSpeak finds nothing to say, such as “①”; with the fields
        speaker, gender, accent, variant, and `corpus`, which is "synthetic".

    Raises:
        MissingDependencyError: eSpeak NG is not installed.
        DataError: the synthesis failed, as where eSpeak knows no such language; or nothing can be said.
    """
    require()
    requests = draw_requests("train", texts, len(texts), np.random.default_rng(seed), languages, rate)
    with atomic_path(output, sync_each=False) as folder:
        (folder / "audio").mkdir(parents=True)
        durations = synthesise(requests, folder, processes or os.cpu_count() or 1, progress)
        if not durations:
            raise DataError(f"eSpeak NG finds nothing to say in “{texts[0]}”, nor in any other text")
        spoken = [request for request in requests if request["audio"] in durations]
        made = [utterance(request, "train", durations, folder, corpus="synthetic") for request in spoken]
        write_manifest(folder / MANIFEST, made)
    return [replace(each, audio=output / each.audio.relative_to(folder)) for each in made]


def in_pieces(text: str, longest: int, rng: np.random.Generator) -> list[str]:
    """Cut a text of more than so many words into pieces of random length, the shortest a third of that."""
    words = text.split()
    pieces = []
    while len(words) > longest:
        size = int(rng.integers(-(-longest // 3), longest + 1))
        pieces.append(words[:size])
        words = words[size:]
    return [" ".join(piece) for piece in [*pieces, words] if piece]


def draw_requests(
    name: Set,
    sentences: Sequence[str],
    count: int,
    rng: np.random.Generator,
    accents: Sequence[str] = ACCENTS,
    rate: tuple[int, int] = RATE,
) -> list[Request]:
    """Give each utterance a sentence, a voice, a manner of speaking and a room.

    Sexes alternate, and each variant of a sex has its turn, so voices are heard equally often.
    """
    sexes = [rng.permutation(names.split()) for names in (VARIANTS[name].female, VARIANTS[name].male)]
    requests = []
    for index in range(count):
        variants = sexes[index % 2]
        variant = variants[index // 2 % len(variants)]
        requests.append(
            {
                "audio": f"audio/{name}-{index:05d}.wav",
                "text": sentences[index % len(sentences)],
                "voice": f"{rng.choice(accents)}+{variant}",
                **draw_delivery(rng, rate),
            }
        )
    return requests


def draw_delivery(rng: np.random.Generator, rate: tuple[int, int] = RATE) -> dict[str, int | float]:
    """How an utterance is spoken and recorded: the numbers of a request, units as in `espeak_process.Request`."""
    return {
        "rate": int(rng.integers(rate[0], rate[1] + 1)),
        "pitch": int(rng.integers(30, 71)),
        "pitch_range": int(rng.integers(30, 81)),
        "lead": rng.uniform(0.05, 0.4),
        "tail": rng.uniform(0.05, 0.4),
        "rt60": rng.uniform(0.1, 0.4),
        "direct_to_reverberant": rng.uniform(5, 25),
        "level": rng.uniform(-32, -18),
        "snr": rng.uniform(15, 40),
        "tilt": rng.uniform(0, 2),
        "seed": int(rng.integers(2**31)),
    }


def utterance(request: Request, name: Set, durations: dict[str, float], output: Path, **more: str) -> Utterance:
    """A manifest's entry for a synthesised request, with more fields."""
    accent, _, variant = request["voice"].partition("+")
    fields = {
        "speaker": request["voice"],
        "gender": "female" if variant in VARIANTS[name].female.split() else "male",
        "accent": accent,
        "variant": variant,
        **more,
    }
    audio = request["audio"]
    return Utterance(output / audio, durations[audio], request["text"], fields)


def synthesise(requests: Sequence[Request], output: Path, processes: int, progress: Progress) -> dict[str, float]:
    """Have the requests spoken, `UTTERANCES_PER_PROCESS` by each of as many processes as that takes.

    The parts are fixed and each begins with a fresh process, because what eSpeak says depends on what it has
    said before. How many of them run at a time then makes no difference to the sounds.

    Returns:
        Duration in seconds of each request's sound, by its `audio`; of those with nothing to say, none.

    Raises:
        DataError: a process failed. What it had not yet made is not there.
    """
    starts = range(0, len(requests), UTTERANCES_PER_PROCESS)
    durations: dict[str, float | None] = {}
    lock = threading.Lock()

    def run(start: int) -> None:
        for audio, duration in speak(requests[start : start + UTTERANCES_PER_PROCESS], output):
            with lock:
                durations[audio] = duration
                progress(len(durations), len(requests))

    with ThreadPoolExecutor(processes) as pool:
        runs = [pool.submit(run, start) for start in starts]
        try:
            for done in runs:
                done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return {audio: duration for audio, duration in durations.items() if duration is not None}


def speak(requests: Sequence[Request], output: Path) -> Iterator[tuple[str, float | None]]:
    """Run one synthesis process; yield name and duration of each sound as it is made, None where there is none."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        listing = Path(folder) / "requests.jsonl"
        listing.write_text("".join(json.dumps(request) + "\n" for request in requests), encoding="utf-8")
        command = [*PROGRAM, str(listing), str(output)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                made = json.loads(line)
                yield made["audio"], made["duration"]
        if process.returncode != 0:
            errors.seek(0)
            message = errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
            expected = None
            if "no language" in message[-1]:
                listed = subprocess.run([*PROGRAM, "--languages"], capture_output=True, text=True, check=True)
                expected = ", ".join(listed.stdout.split())
            raise DataError(f"the speech synthesis failed ({message[-1]})", expected=expected)
