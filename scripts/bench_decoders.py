"""Time the beam search against other people's decoders at equal word error rate.

    python scripts/bench_decoders.py --work FOLDER --text LINES.txt
    python scripts/bench_decoders.py --work FOLDER --model runs/quickstart/model data/commands-3f679b77

`scripts/README.md` says what is measured and how. FOLDER keeps the peers' environment, the data and the tuned
settings, so that a second run only measures; delete a part of it to have it made again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bench_tasks import recorded, simulated
from peers import ONE_THREAD, TORCH, environment, log

from asr.evaluation import wer
from asr.files import write_json

HERE = Path(__file__).resolve().parent
PEERS = [
    *TORCH,
    "flashlight-text",
    "pyctcdecode",
    "kenlm",
    "fast-ctc-decode",
    "matplotlib",
]

BEAMS = (4, 8, 16, 32, 64, 128)
TUNING_BEAM = 32
ALPHAS, BETAS = (0.25, 0.5, 0.8, 1.2), (0.0, 1.5, 3.0, 4.5)
NO_LOSS = 0.0005
"""Word error rates that differ by no more are taken for equal."""
HOTWORDS = 10_000
REPEATED = 0.5
"""Seconds that a measurement takes at least; quick decoders decode their part again and again."""


class Contestant(NamedTuple):
    """A decoder in the comparison.

    name: as in the tables.
    decoder: as `bench_worker.py` calls it.
    beam: its name for the beam's width.
    prunings: settings to choose from, a safe one first.
    fixed: its other settings.
    peer: whether it runs in the peers' environment.
    weighted: whether it has a language model, of which alpha and beta are tuned.
    """

    name: str
    decoder: str
    beam: str
    prunings: Sequence[Mapping[str, float]]
    fixed: Mapping[str, Any] = {}
    peer: bool = True
    weighted: bool = True


OURS: Sequence[Mapping[str, float]] = (
    {"beam_threshold": 12.0, "token_threshold": 8.0},
    {"beam_threshold": 9.0, "token_threshold": 6.5},
    {"beam_threshold": 6.0, "token_threshold": 4.5},
    {"beam_threshold": 4.0, "token_threshold": 3.0},
)
CONTESTANTS = (
    Contestant("asr", "asr", "beam_width", OURS, {"threads": 1}, peer=False),
    Contestant("asr, closed vocabulary", "asr", "beam_width", OURS, {"threads": 1, "closed": True}, peer=False),
    Contestant(
        "flashlight",
        "flashlight",
        "beam_size",
        (
            {"beam_threshold": 25.0, "beam_size_token": 30},
            {"beam_threshold": 15.0, "beam_size_token": 20},
            {"beam_threshold": 10.0, "beam_size_token": 10},
        ),
    ),
    Contestant(
        "pyctcdecode",
        "pyctcdecode",
        "beam_width",
        (
            {"beam_prune_logp": -12.0, "token_min_logp": -6.0},
            {"beam_prune_logp": -10.0, "token_min_logp": -5.0},
            {"beam_prune_logp": -8.0, "token_min_logp": -4.0},
        ),
    ),
    Contestant("asr, no LM", "asr", "beam_width", OURS, {"threads": 1, "lm": False}, peer=False, weighted=False),
    Contestant(
        "fast-ctc-decode",
        "fast_ctc_decode",
        "beam_size",
        ({"cut": 0.01}, {"cut": 0.1}, {"cut": 0.9}),
        weighted=False,
    ),
)
ALONE = (
    Contestant("greedy", "greedy", "", (), peer=False),
    Contestant("greedy, words and times", "greedy", "", (), {"timestamps": True}, peer=False),
    Contestant("bare argmax", "argmax", "", (), peer=False),
)
TIMED, TWO_THREADS, MANY_HOTWORDS = "asr, words and times", "asr, two threads", f"asr, {HOTWORDS} hotwords"
COMPARISONS = (
    ("flashlight", "asr, closed vocabulary"),
    ("flashlight", "asr"),
    ("pyctcdecode", "asr"),
    ("fast-ctc-decode", "asr, no LM"),
)
RATIOS = (
    ("fast-ctc-decode", "asr, no LM"),
    ("greedy", "bare argmax"),
    ("greedy, words and times", "bare argmax"),
    (TIMED, "asr"),
    ("asr", TWO_THREADS),
    (MANY_HOTWORDS, "asr"),
)
"""Decoders whose times are compared at the same beam."""


def main() -> None:
    """Prepare, tune, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for everything that is made")
    parser.add_argument("--text", type=Path, help="LibriSpeech's lines, “speaker-chapter-number TEXT”, to simulate")
    parser.add_argument(
        "--model", nargs=2, type=Path, action="append", default=[], metavar=("MODEL", "CORPUS"), help="real answers"
    )
    parser.add_argument("--dev", type=int, default=200, metavar="N", help="utterances to tune on (%(default)s)")
    parser.add_argument("--test", type=int, default=500, metavar="N", help="utterances to measure (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="parts of the test set (%(default)s)")
    parser.add_argument("--beams", type=int, nargs="+", default=BEAMS, help="(%(default)s)")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    python = environment(work / "peers", PEERS)
    sizes = {"dev": arguments.dev, "test": arguments.test}
    tasks = list(simulated(work, arguments.text, sizes)) if arguments.text else []
    tasks += [recorded(work, model, corpus, sizes) for model, corpus in arguments.model]
    workers = Workers(python, work)
    for task in tasks:
        tune(task, workers)
    settings = {task.name: tuned(task) for task in tasks}
    rows = [row for task in tasks for row in measure(task, workers, arguments.rounds, arguments.beams)]
    write_json(
        work / "results.json", {"comparisons": COMPARISONS, "ratios": RATIOS, "settings": settings, "rows": rows}
    )
    subprocess.run([python, HERE / "bench_report.py", work], check=True)


# -------------------------------------------------------------------------------------------------- workers


class Workers:
    """The two processes that decode, one of asr and one of the peers."""

    def __init__(self, peers: Path, work: Path) -> None:
        self._log = (work / "workers.log").open("w", encoding="utf-8")
        self._environment = {**os.environ, **ONE_THREAD, "ASR_CACHE": str(work / "cache")}
        self._processes = {peer: self._start(python) for peer, python in ((True, peers), (False, sys.executable))}

    def _start(self, python: Path | str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [python, HERE / "bench_worker.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            env=self._environment,
        )

    def ask(
        self, peer: bool, task: Path, decoder: str, settings: Mapping[str, Any], part: Part, seconds: float = 0.0
    ) -> dict[str, Any]:
        """Have a part of a set decoded; see `bench_worker.py`."""
        process = self._processes[peer]
        assert process.stdin and process.stdout
        request = {"task": str(task), "decoder": decoder, "settings": settings, "part": part, "seconds": seconds}
        print(json.dumps(request), file=process.stdin, flush=True)
        line = process.stdout.readline()
        if not line:
            sys.exit(f"{decoder} failed on {task.name}: see {self._log.name}")
        return dict(json.loads(line))


Part = tuple[str, int, int]
"""The name of a set, and a range of its utterances."""


# --------------------------------------------------------------------------------------------------- tuning


def tune(task: Path, workers: Workers) -> None:
    """Find each contestant's settings on the dev set, and keep them in tuned.json.

    Alpha and beta by a grid and a finer one around its best point, the same for all; then the fastest of the
    prunings that loses no accuracy.
    """
    found = tuned(task)
    for contestant in CONTESTANTS:
        if contestant.name not in found:
            attempt = partial(try_on_dev, task, workers, contestant)
            found[contestant.name] = best_settings(contestant, attempt)
            write_json(task / "tuned.json", found)
            log(f"{task.name}: {contestant.name} {found[contestant.name]}")


Attempt = Callable[[Mapping[str, float]], tuple[float, float]]
"""From settings to word error rate and seconds."""


def try_on_dev(
    task: Path, workers: Workers, contestant: Contestant, settings: Mapping[str, float]
) -> tuple[float, float]:
    """Word error rate on the dev set, and seconds."""
    references = json.loads((task / "dev.json").read_text(encoding="utf-8"))
    everything = {contestant.beam: TUNING_BEAM, **contestant.fixed, **settings}
    done = workers.ask(contestant.peer, task, contestant.decoder, everything, ("dev", 0, len(references)))
    words, errors = count_errors(references, done["texts"])
    return errors / words, done["seconds"]


def best_settings(contestant: Contestant, attempt: Attempt) -> dict[str, float]:
    """Weights first, then pruning."""
    safe = contestant.prunings[0]
    weights = best_weights(lambda weights: attempt({**safe, **weights})[0]) if contestant.weighted else {}
    trials = [(*attempt({**pruning, **weights}), pruning) for pruning in contestant.prunings]
    least = min(rate for rate, _, _ in trials)
    *_, pruning = min((trial for trial in trials if trial[0] <= least + NO_LOSS), key=lambda trial: trial[1])
    return {**weights, **pruning}


def tuned(task: Path) -> dict[str, dict[str, float]]:
    """The settings that `tune` has found up to now."""
    path = task / "tuned.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def best_weights(rate: Callable[[dict[str, float]], float]) -> dict[str, float]:
    """The weights of the least word error rate: a grid, then a finer one around its best point."""
    best = min(({"alpha": alpha, "beta": beta} for alpha, beta in product(ALPHAS, BETAS)), key=rate)
    around = product((1.0, 0.8, 1.25), (0.0, -0.75, 0.75))
    return min(
        ({"alpha": best["alpha"] * factor, "beta": best["beta"] + step} for factor, step in around), key=rate
    )


def count_errors(references: Sequence[str], texts: Sequence[str]) -> tuple[int, int]:
    """Words and word errors."""
    counts = wer.count_words([wer.Answer("", *pair) for pair in zip(references, texts, strict=True)]).sum(axis=0)
    return int(counts[0]), int(counts[1:].sum())


# ------------------------------------------------------------------------------------------------ measuring


def measure(task: Path, workers: Workers, rounds: int, beams: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Decode the test set.

    Each round is a part of it, which every decoder decodes at every beam right after the others, so that what else
    the machine does meets them all alike.

    Yields:
        Frames, seconds, words and word errors of each part.
    """
    references = json.loads((task / "test.json").read_text(encoding="utf-8"))
    bounds = np.linspace(0, len(references), rounds + 1).astype(int).tolist()
    entries = list(entrants(task, beams))
    for number, (start, stop) in enumerate(pairwise(bounds)):
        for name, beam, contestant, settings in entries:
            done = workers.ask(contestant.peer, task, contestant.decoder, settings, ("test", start, stop), REPEATED)
            words, errors = count_errors(references[start:stop], done["texts"]) if done["texts"] else (1, 0)
            entry = {"task": task.name, "decoder": name, "beam": beam, "round": number}
            yield {**entry, "frames": done["frames"], "seconds": done["seconds"], "words": words, "errors": errors}
        log(f"{task.name}: round {number + 1} of {rounds}")


def entrants(task: Path, beams: Sequence[int]) -> Iterator[tuple[str, int, Contestant, dict[str, Any]]]:
    """Name, beam, contestant and settings of all that is measured, in the order in which it is."""
    found = tuned(task)
    for beam in beams:
        for contestant in CONTESTANTS:
            settings = {contestant.beam: beam, **contestant.fixed, **found[contestant.name]}
            yield contestant.name, beam, contestant, settings
            if contestant.name == "asr" and beam == beams[len(beams) // 2]:
                yield TIMED, beam, contestant, {**settings, "timestamps": True}
                yield TWO_THREADS, beam, contestant, {**settings, "threads": 2}
                yield MANY_HOTWORDS, beam, contestant, {**settings, "hotwords": HOTWORDS}
    for contestant in ALONE:
        yield contestant.name, 0, contestant, dict(contestant.fixed)


if __name__ == "__main__":
    main()
