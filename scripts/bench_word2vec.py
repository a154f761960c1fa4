"""Train word vectors with asr and with gensim on the same text, and compare speed and quality.

    python scripts/bench_word2vec.py --work FOLDER TEXT…

`scripts/README.md` says what is measured and how. FOLDER keeps gensim's environment and every measurement: a run
that was broken off, or is started again with more seeds, goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from peers import ONE_THREAD, environment, log

from asr.files import write_json
from asr.text import sentences, vector_evaluation, vector_files

HERE = Path(__file__).resolve().parent
TOOLS = ("gensim", "asr")
ARCHITECTURES = ("skip-gram", "cbow")
OBJECTIVES = ("negative", "hierarchical")
VARIANTS = [(architecture, objective) for objective, architecture in product(OBJECTIVES, ARCHITECTURES)]
SETTINGS = {"dim": 100, "window": 5, "negatives": 5, "min_count": 5, "subsample": 1e-3}
"""gensim's defaults, and asr's."""
RATES = {"skip-gram": 0.025, "cbow": 0.05}
"""The word2vec program's, and asr's defaults; gensim's is 0.025 for both."""
RATINGS = {"WordSim-353": "wordsim353.tsv", "SimLex-999": "simlex999.txt"}
ANALOGIES = "questions-words.txt"
WHERE_GENSIM_KEEPS_THEM = "from gensim.test.utils import datapath; print(datapath(''))"

Row = dict[str, Any]


class Job(NamedTuple):
    """A training. Those of a round run one after another, so what else the machine does meets them alike."""

    tool: str
    architecture: str
    objective: str
    threads: int
    epochs: int
    seed: int


def main() -> None:
    """Train, evaluate, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="+", metavar="TEXT", help="UTF-8, a sentence to a line (.gz too)")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for everything that is made")
    parser.add_argument("--questions", type=Path, metavar="FOLDER", help="with WordSim-353 …; by default gensim's")
    parser.add_argument("--epochs", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind (%(default)s)")
    parser.add_argument(
        "--scaling", type=int, default=3, metavar="ROUNDS", help="of one thread against two, two epochs each"
    )
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    python = environment(work / "gensim", ["gensim"])
    questions = arguments.questions or Path(output([python, "-c", WHERE_GENSIM_KEEPS_THEM]))
    text = clean(arguments.texts, work)
    quality = [
        Job(tool, *variant, 1, arguments.epochs, seed)
        for variant, seed, tool in product(VARIANTS, range(1, arguments.seeds + 1), TOOLS)
    ]
    rounds = range(1, arguments.scaling + 1)
    scaling = [
        Job(tool, architecture, "negative", threads, 2, seed)
        for architecture, seed, tool, threads in product(ARCHITECTURES, rounds, TOOLS, (1, 2))
    ]
    rows = measure([*quality, *scaling], text, python, questions)
    report = "\n".join([*quality_table(rows, quality), "", *(scaling_table(rows, scaling) if scaling else ())])
    (work / "results.md").write_text(report + "\n", encoding="utf-8")
    print(report)


def clean(paths: Iterable[Path], work: Path) -> Path:
    """Write the text that both tools get, in small letters, without the names of LibriSpeech's utterances."""
    lines = (re.sub(r"^\d+-\d+-\d+ ", "", line).lower() for line in sentences.read(paths))
    written = "\n".join(lines) + "\n"
    path = work / f"text-{hashlib.sha256(written.encode()).hexdigest()[:8]}.txt"
    path.write_text(written, encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------------ measuring


def measure(jobs: Sequence[Job], text: Path, python: Path, questions: Path) -> dict[Job, Row]:
    """Do the jobs that have not been done on this text, and give what is known of all."""
    path = text.with_name(f"results-{text.stem}.json")
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    rows = {Job(**row["job"]): row for row in known}
    for number, job in enumerate(jobs, start=1):
        if job not in rows:
            rows[job] = {"job": job._asdict(), **train(job, text, python, questions)}
            write_json(path, list(rows.values()))
            log(f"{number} of {len(jobs)}: {rows[job]}")
    return rows


def train(job: Job, text: Path, python: Path, questions: Path) -> Row:
    """Train in a process of its own, and evaluate: see `bench_word2vec_worker.py`."""
    out = text.with_name("vectors.bin")
    settings = {**SETTINGS, "learning_rate": RATES[job.architecture], **job._asdict()}
    request = {**settings, "text": str(text), "out": str(out)}
    interpreter = python if job.tool == "gensim" else sys.executable
    done = json.loads(output([interpreter, HERE / "bench_word2vec_worker.py", json.dumps(request)]))
    return {**done, "scores": scores(out, questions)}


def output(command: Sequence[str | Path]) -> str:
    """The last line that a command prints."""
    environ = {**os.environ, **ONE_THREAD}
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8", env=environ)
    return result.stdout.splitlines()[-1]


def scores(path: Path, questions: Path) -> dict[str, float]:
    """How well vectors agree with people, in per cent."""
    vectors = vector_files.load(path)
    found = {name: vector_evaluation.rate(vectors, questions / file).correlation for name, file in RATINGS.items()}
    sections = vector_evaluation.answer(vectors, questions / ANALOGIES)
    found["analogies"] = vector_evaluation.total("all", sections).accuracy
    return {name: 100 * score for name, score in found.items()}


# ------------------------------------------------------------------------------------------------ reporting


def quality_table(rows: dict[Job, Row], jobs: Sequence[Job]) -> Iterator[str]:
    """Speed at one thread, and scores."""
    names = [*RATINGS, "analogies"]
    yield f"| | kwords/s | × gensim | s in all | {' | '.join(names)} |"
    yield "| --- " * (4 + len(names)) + "|"
    for variant, tool in product(VARIANTS, TOOLS):
        mine, gensims = (
            [rows[job] for job in jobs if (job.tool, *job[1:3]) == (name, *variant)] for name in (tool, "gensim")
        )
        speeds, peers = ([row["words"] / row["cpu"] / 1000 for row in some] for some in (mine, gensims))
        cells = [
            f"{', '.join(variant)}: {tool}",
            f"{mean(speeds):,.0f}",
            spread(a / b for a, b in zip(speeds, peers, strict=True)) if tool == "asr" else "",
            f"{mean(row['whole'] for row in mine):.0f}",
            *(deviation([row["scores"][name] for row in mine]) for name in names),
        ]
        yield f"| {' | '.join(cells)} |"


def scaling_table(rows: dict[Job, Row], jobs: Sequence[Job]) -> Iterator[str]:
    """Two threads against one."""
    yield "| | kwords/s, one thread | two threads | ratio | CPU time for a word |"
    yield "| --- | --- | --- | --- | --- |"
    for architecture, tool in product(ARCHITECTURES, TOOLS):
        one, two = (
            [
                rows[job]
                for job in jobs
                if (job.tool, job.architecture, job.threads) == (tool, architecture, threads)
            ]
            for threads in (1, 2)
        )
        walls, costs = (
            [[row[clock] / row["words"] for row in some] for some in (one, two)] for clock in ("wall", "cpu")
        )
        cells = [
            f"{architecture}: {tool}",
            *(f"{max(1 / wall for wall in some) / 1000:,.0f}" for some in walls),
            spread(a / b for a, b in zip(*walls, strict=True)),
            spread(b / a for a, b in zip(*costs, strict=True)),
        ]
        yield f"| {' | '.join(cells)} |"


def spread(ratios: Iterable[float]) -> str:
    """The mean of ratios, the least and the greatest."""
    found = list(ratios)
    return f"{mean(found):.2f} ({min(found):.2f}–{max(found):.2f})"


def deviation(values: Sequence[float]) -> str:
    """The mean, and the standard deviation where there are several."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
