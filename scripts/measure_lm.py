"""How well language models foresee LibriSpeech's transcripts, beside KenLM.

    python scripts/measure_lm.py train-clean-100.txt --work FOLDER --peers --lmplz PROGRAM

Lines are “speaker-chapter-number TEXT”. Every twentieth is held out; the models know the words that occur at least
twice in the others. FOLDER keeps the texts, the models and the peers' environment; `scripts/README.md` says more.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from peers import environment, log

from asr.files import write_text
from asr.text import kneser_ney, ngram, perplexity
from asr.text.perplexity import Perplexity

HERE = Path(__file__).resolve().parent
EVERY = 20
"""One line of so many is held out."""
LEAST = 2
"""Occurrences of a word that the models know."""
ROUNDS = 3
"""Times are the best of so many."""


class Shape(NamedTuple):
    """Of a model: the words of its longest n-grams, and which rare ones are left out."""

    order: int
    prune: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.order}-gram" + (f", pruned {','.join(map(str, self.prune))}" if self.prune else "")


SHAPES = (Shape(2), Shape(3), Shape(4), Shape(4, (0, 0, 1)))


class Texts(NamedTuple):
    """Sentences to learn from, sentences to measure on, and the words to know."""

    train: list[str]
    held_out: list[str]
    vocabulary: list[str]


class Measured(NamedTuple):
    """What is said of a model: perplexities with and without unknown words, and held-out words in a second."""

    perplexity: float
    known: float
    speed: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("transcripts", type=Path)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for everything that is made")
    parser.add_argument("--peers", action="store_true", help="let KenLM read the same models")
    parser.add_argument("--lmplz", type=Path, metavar="PROGRAM", help="KenLM's, to make models of its own")
    parser.add_argument("--neural", type=Path, metavar="FILE", help="a model of `asr lm train`")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    texts = split(arguments.transcripts)
    write(texts, work)
    kenlm = environment(work / "kenlm", ["kenlm"]) if arguments.peers or arguments.lmplz else None
    learnt, held_out = (sum(map(words_in, lines)) for lines in (texts.train, texts.held_out))
    known = len(texts.vocabulary)
    print(f"{learnt:,} words to learn from, {held_out:,} held out, {known:,} different ones known\n")
    print("| model | by | n-grams | file, MB | build, s | perplexity | without unknown words | words a second |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for shape in SHAPES:
        ours(shape, texts, work, kenlm)
        if arguments.lmplz and kenlm:
            theirs(shape, arguments.lmplz, texts, work, kenlm)
    if arguments.neural:
        neural(arguments.neural, texts)


def split(transcripts: Path) -> Texts:
    """Divide transcripts into what is learnt from and what is held out."""
    lines = transcripts.read_text(encoding="utf-8").splitlines()
    sentences = [line.partition(" ")[2].strip() for line in lines]
    train = [sentence for number, sentence in enumerate(sentences, start=1) if number % EVERY]
    counts = Counter(word for sentence in train for word in sentence.split())
    vocabulary = [word for word, count in counts.most_common() if count >= LEAST]
    return Texts(train, sentences[EVERY - 1 :: EVERY], vocabulary)


def write(texts: Texts, work: Path) -> None:
    """Keep the texts as files, for the other programs."""
    for name, lines in texts._asdict().items():
        write_text(work / f"{name}.txt", "".join(f"{line}\n" for line in lines))


def ours(shape: Shape, texts: Texts, work: Path, kenlm: Path | None) -> None:
    """Build and measure a model; have KenLM measure it, too."""
    log(shape.name)
    seconds = math.inf
    for _ in range(ROUNDS):
        started = time.perf_counter()
        model = kneser_ney.build(texts.train, shape.order, shape.prune, texts.vocabulary).model
        seconds = min(seconds, time.perf_counter() - started)
    compact, arpa = work / f"{file_name(shape)}.ngram", work / f"{file_name(shape)}.arpa"
    ngram.save(model, compact)
    ngram.save(model, arpa)
    counts = ngram.to_entries(model).counts
    row(shape.name, "asr", counts, compact, seconds, measure(lambda: perplexity.measure(model, texts.held_out)))
    if kenlm:
        row("", "the same, read by KenLM", (), arpa, None, measure_by_kenlm(kenlm, arpa, work))


def theirs(shape: Shape, lmplz: Path, texts: Texts, work: Path, kenlm: Path) -> None:
    """Have lmplz build the same, and KenLM measure it."""
    arpa = work / f"{file_name(shape)}-lmplz.arpa"
    command = [str(lmplz), "--order", str(shape.order), "--text", f"{work}/train.txt", "--arpa", str(arpa)]
    command += ["--limit_vocab_file", f"{work}/vocabulary.txt", "--temp_prefix", f"{work}/", "--memory", "1G"]
    command += ["--prune", *map(str, shape.prune)] if shape.prune else []
    seconds = math.inf
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = min(seconds, time.perf_counter() - started)
    counts = ngram.to_entries(ngram.load(arpa)).counts
    row("", "lmplz", counts, arpa, seconds, measure_by_kenlm(kenlm, arpa, work))


def neural(path: Path, texts: Texts) -> None:
    """Measure a neural model."""
    from asr.text import neural

    model = neural.load(path)
    measured = measure(lambda: perplexity.measure(model, texts.held_out))
    row(path.name, "asr", (), path, None, measured)


def measure(attempt: Callable[[], Perplexity]) -> Measured:
    """Measure a model of this project."""
    seconds = math.inf
    for _ in range(ROUNDS):
        started = time.perf_counter()
        found = attempt()
        seconds = min(seconds, time.perf_counter() - started)
    return summary(found, seconds)


def measure_by_kenlm(python: Path, arpa: Path, work: Path) -> Measured:
    """Let KenLM read and measure a model."""
    command = [str(python), str(HERE / "kenlm_worker.py"), str(arpa), f"{work}/held_out.txt", str(ROUNDS)]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    seconds = answer.pop("seconds")
    return summary(Perplexity(**answer), seconds)


def summary(found: Perplexity, seconds: float) -> Measured:
    return Measured(found.perplexity, found.perplexity_known, found.words / seconds)


def row(name: str, by: str, counts: Sequence[int], file: Path, seconds: float | None, measured: Measured) -> None:
    """Print a line of the table."""
    size = file.stat().st_size / 1e6
    cells = [
        name,
        by,
        f"{sum(counts):,}" if counts else "",
        f"{size:,.1f}",
        "" if seconds is None else f"{seconds:.1f}",
        f"{measured.perplexity:.2f}",
        f"{measured.known:.2f}",
        f"{measured.speed:,.0f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


def file_name(shape: Shape) -> str:
    return "-".join(map(str, (shape.order, *shape.prune)))


def words_in(sentence: str) -> int:
    return len(sentence.split())


if __name__ == "__main__":
    main()
