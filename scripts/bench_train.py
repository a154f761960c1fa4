"""How fast a recipe's network is trained: by asr, by a bare loop over ready tensors, and by SpeechBrain.

    python scripts/bench_train.py RECIPE [KEY=VALUE…] --work FOLDER

`scripts/README.md` says what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from peers import TORCH, environment, log

from asr import build, catalogue, pipeline, recipe_file, stages
from asr.config import Augment, ManifestsCorpus, Recipe
from asr.data.manifest import read_manifest, write_manifest
from asr.reporting import Silent
from asr.text import tokenizer as tokenizers
from asr.training.optimization import resolve_precision

HERE = Path(__file__).resolve().parent
PEER = ["speechbrain==1.1.*", *TORCH, "soundfile"]
Figures = dict[str, float]
DEV = 8
"""Utterances of the dev set, which is looked at between epochs, outside of what is measured."""


class Contestant(NamedTuple):
    """A way to train.

    Attributes:
        name: for the table.
        tool: bare, asr or speechbrain.
        threads: of the network's operations.
        precision: of these: fp32 or bf16.
        augmented: whether audio is changed as the recipe says.
        reading: whether the bare loop has batches read beside it, and thrown away.
    """

    name: str
    tool: str
    threads: int
    precision: str
    augmented: bool = False
    reading: bool = False


def main() -> None:
    """Prepare, train in turns, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a recipe's folder, file or name")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="in place of the recipe's")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for everything that is made")
    parser.add_argument("--utterances", type=int, default=600, help="of the training set (%(default)s)")
    parser.add_argument("--epochs", type=int, default=2, help="measured, after one that is not (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of all contestants in turns (%(default)s)")
    parser.add_argument("--peer", action="store_true", help="SpeechBrain, too; makes an environment of 5 GB")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    wanted = recipe_file.read_recipe(catalogue.resolve(arguments.recipe), arguments.settings)
    part = prepare(wanted, work, arguments.utterances)
    python = environment(work / "speechbrain", PEER) if arguments.peer else None
    task = {
        "data": str(work / "data"),
        "epochs": arguments.epochs,
        "network": network(part, work),
    }
    for name, augment in (("plain", Augment()), ("augmented", part.augment)):
        version = part.model_copy(update={"augment": augment})
        (work / f"{name}.yaml").write_text(recipe_file.to_yaml(version), encoding="utf-8")
    found = measure(contestants(part, python is not None), task, work, arguments.rounds, python)
    report = "\n".join(table(found))
    (work / "results.md").write_text(report + "\n", encoding="utf-8")
    print(report)


def contestants(wanted: Recipe, peer: bool) -> list[Contestant]:
    """For each precision that pays on this machine the bare loop first: the others are measured by it."""
    cores = os.cpu_count() or 1
    threads = max(cores - wanted.training.workers, 1)
    found = []
    for precision in dict.fromkeys(("fp32", resolve_precision("auto", build.device(wanted.training.device)))):
        found += [
            Contestant(f"bare loop, threads: {threads}", "bare", threads, precision),
            Contestant("bare loop, a loader beside it", "bare", threads, precision, reading=True),
            Contestant("asr", "asr", threads, precision),
            Contestant("asr, with the recipe's augmentation", "asr", threads, precision, augmented=True),
        ]
        if cores > threads:
            found.append(Contestant(f"bare loop, threads: {cores}", "bare", cores, precision))
        if peer:
            found.append(Contestant("SpeechBrain", "speechbrain", threads, precision))
    return found


def prepare(wanted: Recipe, work: Path, count: int) -> Recipe:
    """The recipe on a part of its training set, evenly drawn, with its tokens."""
    whole = pipeline.workspace(wanted, work / "whole", work / "data", Silent())
    stages.prepare(whole)
    manifests = whole.manifests()
    utterances = read_manifest(manifests["train"])
    paths = {"train": work / "train.jsonl", "dev": work / "dev.jsonl"}
    write_manifest(paths["train"], utterances[:: max(len(utterances) // count, 1)][:count])
    write_manifest(paths["dev"], read_manifest(manifests["dev"])[:DEV])
    return wanted.model_copy(
        update={
            "prepare": ManifestsCorpus(
                corpus="manifests", train=paths["train"], dev=paths["dev"], tests={"test": paths["dev"]}
            ),
            "training": wanted.training.model_copy(update={"sorted_first_epoch": False, "average": 1}),
        }
    )


def network(wanted: Recipe, work: Path) -> dict[str, Any]:
    """What SpeechBrain's network needs to know beside the recipe: the labels of each utterance."""
    part = pipeline.workspace(wanted, work / "part", work / "data", Silent())
    stages.prepare(part)
    stages.tokens(part)
    tokenizer = tokenizers.load(part.tokens)
    normalizer = build.normalizer(wanted.text)
    rows = {
        str(number): {
            "wav": str(utterance.audio),
            "duration": utterance.duration,
            "labels": tokenizer.encode(normalizer(utterance.text)),
        }
        for number, utterance in enumerate(read_manifest(work / "train.jsonl"))
    }
    path = work / "speechbrain.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return {"data": str(path), "vocabulary": len(tokenizer.surfaces), "recipe": wanted.model_dump(mode="json")}


def measure(
    entrants: Sequence[Contestant], task: Mapping[str, Any], work: Path, rounds: int, peer: Path | None
) -> dict[Contestant, list[Figures]]:
    """What each one's worker has measured, once a round."""
    found: dict[Contestant, list[Figures]] = {each: [] for each in entrants}
    for turn in range(1, rounds + 1):
        for each in entrants:
            script = "speechbrain_worker.py" if each.tool == "speechbrain" else "bench_train_worker.py"
            python = peer if each.tool == "speechbrain" else sys.executable
            version = work / f"{'augmented' if each.augmented else 'plain'}.yaml"
            settings = json.dumps({**task, **each._asdict(), "recipe": str(version)})
            environ = {**os.environ, "OMP_NUM_THREADS": str(each.threads)}
            command = [str(python), str(HERE / script), settings]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8", env=environ)
            found[each].append(json.loads(result.stdout.splitlines()[-1]))
            log(f"round {turn}: {each.name}, {each.precision}: {found[each][-1]['speed']:.1f}")
    return found


def table(found: Mapping[Contestant, Sequence[Figures]]) -> Iterator[str]:
    """The report: speeds, and their ratios to the bare loop of the same round and precision; how a GPU was used."""
    limits = {each.precision: rounds for each, rounds in reversed(list(found.items())) if each.tool == "bare"}
    on_gpu = all("peak_gib" in figures for rounds in found.values() for figures in rounds)
    heading = "| | precision | audio seconds per second | of the bare loop, median (least, greatest) |"
    yield heading + (" GPU busy | peak memory, GiB |" if on_gpu else "")
    yield "| --- " * (6 if on_gpu else 4) + "|"
    for each, rounds in found.items():
        pairs = zip(rounds, limits[each.precision], strict=True)
        ratios = sorted(figures["speed"] / most["speed"] for figures, most in pairs)
        spread = f"{median(ratios):.2f} ({ratios[0]:.2f}, {ratios[-1]:.2f})"
        row = f"| {each.name} | {each.precision} | {median(one['speed'] for one in rounds):.0f} | {spread} |"
        if on_gpu:
            row += f" {median(one['busy'] for one in rounds):.0%} | {max(one['peak_gib'] for one in rounds):.2f} |"
        yield row


if __name__ == "__main__":
    main()
