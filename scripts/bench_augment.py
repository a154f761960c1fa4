"""How fast audio is augmented, and whether that keeps up with training.

    python scripts/bench_augment.py RECIPE --work FOLDER

`scripts/README.md` says what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from bench_train import prepare
from peers import ONE_THREAD, environment, log

from asr import audio, build, catalogue, pipeline, recipe_file, stages
from asr.augment import WaveformAugmenter
from asr.config import Augment, Recipe
from asr.data.batching import Sample, plan_epoch
from asr.data.loading import Reader
from asr.data.manifest import Utterance, read_manifest
from asr.effects.level import FloatArray
from asr.reporting import Silent
from asr.text import tokenizer as tokenizers

HERE = Path(__file__).resolve().parent
PEER = ["audiomentations==0.43.*", "fast-mp3-augment"]
RESPONSES = 50
"""Impulse responses in a folder: what asr simulates, for asr to read and for the peer."""

STEPS: dict[str, dict[str, object]] = {
    "speed": {"speed": [0.9, 1.1]},
    "pitch": {"pitch": {}},
    "tempo": {"tempo": {}},
    "reverb, decaying noise": {"reverb": {}},
    "reverb, image method": {"reverb": {"kind": "image"}},
    "reverb, recorded": {"reverb": {"folder": "responses"}},
    "noise, generated": {"noise": {}},
    "noise, recorded": {"noise": {"folder": "noise"}},
    "noise, babble of 3 to 7": {"noise": {"folder": "noise", "at_once": [3, 7]}},
    "gain": {"gain_db": {}},
    "telephone, mu-law": {"telephone": {"codecs": ["mu-law"]}},
    "telephone, adpcm": {"telephone": {"codecs": ["adpcm"]}},
    "telephone, gsm": {"telephone": {"codecs": ["gsm"]}},
    "codec, mp3": {"codec": {"codecs": ["mp3"]}},
    "codec, opus": {"codec": {"codecs": ["opus"]}},
}
HEAVY: dict[str, object] = {
    "speed": [0.9, 1.0, 1.1],
    "pitch": {"probability": 0.3},
    "tempo": {"probability": 0.3},
    "reverb": {"kind": "image", "probability": 0.5},
    "noise": {"folder": "noise", "probability": 0.5, "at_once": [1, 3]},
    "gain_db": [-6, 6],
    "telephone": {"probability": 0.1},
    "spec_augment": {},
}
PEERS = ["pitch", "tempo", "reverb, recorded", "noise, generated", "codec, mp3"]
NETWORKS = {
    "the recipe's": (),
    "3 × 192 bi-LSTM": ("model.encoder.layers=3", "model.encoder.hidden=192"),
}


def main() -> None:
    """Prepare, measure in turns, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a recipe's folder, file or name")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="in place of the recipe's")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for everything that is made")
    parser.add_argument("--utterances", type=int, default=200, help="of the training set (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="of everything in turns, after one that is not counted (%(default)s)"
    )
    parser.add_argument("--peer", action="store_true", help="audiomentations, too, in an environment of its own")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as in a loader's process
    work = arguments.work.resolve()
    wanted = recipe_file.read_recipe(catalogue.resolve(arguments.recipe), arguments.settings)
    part = prepare(wanted, work, arguments.utterances)
    utterances = read_manifest(work / "train.jsonl")
    waveforms = [audio.load(utterance.audio, part.features.sample_rate) for utterance in utterances]
    write_folders(part.features.sample_rate, waveforms, work)
    runs = {
        **{f"step: {name}": step(section, part, work, waveforms) for name, section in STEPS.items()},
        **loading(part, work, utterances),
        **{f"training: {name}": training(part, name, settings, work) for name, settings in NETWORKS.items()},
    }
    if arguments.peer:
        runs |= peer(waveforms, part.features.sample_rate, work)
    seconds = sum(map(len, waveforms)) / part.features.sample_rate
    found: dict[str, list[float]] = defaultdict(list)
    for turn in range(arguments.rounds + 1):
        for name, run in runs.items():
            speed = run(seconds)
            log(f"round {turn}: {name}: {speed:.0f}")
            if turn:  # in the first, libraries are loaded, functions compiled and rooms worked out
                found[name].append(speed)
    (work / "results.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    report = "\n".join(table(found))
    (work / "results.md").write_text(report + "\n", encoding="utf-8")
    print(report)


Run = Callable[[float], float]
"""Does its work on so many seconds of audio; says how many it does in a second of one core."""


def write_folders(rate: int, waveforms: Sequence[FloatArray], work: Path) -> None:
    """Recordings of noise (a minute of speech each, for want of others), and impulse responses."""
    from asr.effects.rooms import draw_room, image_response

    joined = np.concatenate(waveforms)
    for number, start in enumerate(range(0, len(joined) - 60 * rate, 60 * rate)):
        audio.save(work / "noise" / f"{number}.wav", joined[start : start + 60 * rate], rate)
    for number in range(RESPONSES):
        rng = np.random.default_rng(number)
        response = image_response(draw_room(rng.uniform(0.1, 0.4), rng), rate)
        audio.save(work / "responses" / f"{number}.wav", 0.5 * response.samples, rate)


def sections(values: Mapping[str, object], work: Path) -> Augment:
    """A recipe's section `augment`, whose folders are below `work`."""
    return Augment.model_validate(values, context=work)


def step(values: Mapping[str, object], part: Recipe, work: Path, waveforms: Sequence[FloatArray]) -> Run:
    """A step alone, each time, on waveforms in memory."""
    augmenter = build.augmenter(sections(values, work), part.features.sample_rate)
    augmenter = WaveformAugmenter(tuple(replace(each, probability=1.0) for each in augmenter.steps))

    def run(seconds: float) -> float:
        rng = np.random.default_rng(0)
        started = time.process_time()
        for waveform in waveforms:
            augmenter(waveform, rng)
        return seconds / (time.process_time() - started)

    return run


def loading(part: Recipe, work: Path, utterances: Sequence[Utterance]) -> dict[str, Run]:
    """All that a loader's process does: audio, augmentation, features, labels, padding."""
    whole = pipeline.workspace(part, work / "part", work / "data", Silent())
    stages.prepare(whole)
    stages.tokens(whole)
    bare = Reader(
        part.features.sample_rate,
        build.features(part.features),
        build.normalizer(part.text),
        tokenizers.load(whole.tokens),
    )
    plan = plan_epoch(utterances, batch_seconds=part.training.batch_seconds, seed=1, epoch=1)
    versions = {
        "without augmentation": Augment(),
        "as the recipe has it": part.augment,
        "with everything but codecs": sections(HEAVY, work),
        "with everything, mp3 too": sections(HEAVY | {"codec": {"probability": 0.1, "codecs": ["mp3"]}}, work),
        "with everything, mp3 and opus too": sections(HEAVY | {"codec": {"probability": 0.1}}, work),
    }
    return {f"loading: {name}": reading(bare, plan, section) for name, section in versions.items()}


def reading(bare: Reader, plan: Sequence[Sequence[Sample]], section: Augment) -> Run:
    """Read all batches of a plan."""
    reader = replace(
        bare, augmenter=build.augmenter(section, bare.sample_rate), spec_augment=build.spec_augment(section)
    )

    def run(seconds: float) -> float:
        started = time.process_time()
        for batch in plan:
            reader.read_batch(batch)
        return seconds / (time.process_time() - started)

    return run


def training(part: Recipe, name: str, settings: Sequence[str], work: Path) -> Run:
    """One thread that trains on batches in memory."""
    path = work / f"{name.replace(' ', '-')}.yaml"
    path.write_text(recipe_file.to_yaml(part), encoding="utf-8")
    path.write_text(recipe_file.to_yaml(recipe_file.read_recipe(path, ["augment={}", *settings])), encoding="utf-8")
    task = {"recipe": str(path), "data": str(work / "data"), "epochs": 1, "threads": 1, "tool": "bare"}
    task["processor_time"], task["precision"] = True, "auto"

    def run(_: float) -> float:
        command = [sys.executable, str(HERE / "bench_train_worker.py"), json.dumps(task)]
        environ = {**os.environ, **ONE_THREAD}
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8", env=environ)
        return float(json.loads(result.stdout.splitlines()[-1])["speed"])

    return run


def peer(waveforms: Sequence[FloatArray], rate: int, work: Path) -> dict[str, Run]:
    """audiomentations, in a process that waits between its turns."""
    np.savez(work / "waveforms.npz", *waveforms)
    python = environment(work / "audiomentations", PEER)
    command = [
        str(python),
        str(HERE / "augment_peer.py"),
        str(work / "waveforms.npz"),
        str(rate),
        str(work / "responses"),
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env={**os.environ, **ONE_THREAD}
    )

    def run(name: str, seconds: float) -> float:
        assert process.stdin is not None and process.stdout is not None
        print(name, file=process.stdin, flush=True)
        return seconds / float(process.stdout.readline())

    return {f"audiomentations: {name}": partial(run, name) for name in PEERS}


def table(found: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """The report: audio seconds per second of one core, and for loading its ratio to each training."""
    trainings = [name for name in found if name.startswith("training: ")]
    yield "| | best | median | × " + " | × ".join(trainings) + " |"
    yield "| --- | --- | --- |" + " --- |" * len(trainings)
    for name, speeds in found.items():
        ratios = [
            f"{median(a / b for a, b in zip(speeds, found[other], strict=True)):.2f}"
            if name.startswith("loading: ")
            else ""
            for other in trainings
        ]
        yield f"| {name} | {max(speeds):,.0f} | {median(speeds):,.0f} | {' | '.join(ratios)} |"


if __name__ == "__main__":
    main()
