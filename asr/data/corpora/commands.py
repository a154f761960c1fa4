"""Spoken commands: sentences drawn from a grammar, synthesised with eSpeak NG in many voices.

The variants of voices in the three sets are disjoint, and so are their sentences, so that the tests hear voices
unknown to the training say what the training never said.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asr.data import synthesis
from asr.data.corpora import prepared
from asr.data.corpora.download import silent
from asr.data.synthesis import Progress, Set
from asr.errors import DataError
from asr.text.grammar import Grammar, read

OLD_DRAWS = 1000  # in a row, after which a grammar is taken to have no further sentence


def prepare(
    grammar: Path,
    train_utterances: int,
    dev_utterances: int,
    test_utterances: int,
    seed: int,
    output: Path,
    processes: int | None = None,
    progress: Progress = silent,
) -> None:
    """Synthesise a corpus: `train.jsonl`, `dev.jsonl`, `test.jsonl`, `corpus.json` and a folder `audio`.

    No sentence is in two sets. Where the grammar has fewer sentences than utterances are asked for, each set
    has its share of them, and says them more than once, in other voices.

    Args:
        grammar: file in the notation of `asr.text.grammar`.
        train_utterances: how many to make for the training.
        dev_utterances: the same for the development set.
        test_utterances: the same for the test set.
        seed: decides everything: the same seed gives the same files, to the bit, on any number of processes.
        output: the corpus's folder.
        processes: how many to run at a time, or None for one on each core.
        progress: called as utterances appear.

    Raises:
        MissingDependencyError: eSpeak NG is not installed.
        DataError: the grammar is missing, wrong or too small, or the synthesis failed.
    """
    synthesis.require()
    rng = np.random.default_rng(seed)
    sizes: dict[Set, int] = {"train": train_utterances, "dev": dev_utterances, "test": test_utterances}
    sentences = split_sentences(read(grammar), sizes, rng, name=str(grammar))
    requests = {name: synthesis.draw_requests(name, sentences[name], sizes[name], rng) for name in sizes}
    (output / "audio").mkdir(parents=True, exist_ok=True)
    durations = synthesis.synthesise(
        [request for name in sizes for request in requests[name]],
        output,
        processes or os.cpu_count() or 1,
        progress,
    )
    for request in (request for name in sizes for request in requests[name]):
        if request["audio"] not in durations:
            raise DataError(f"eSpeak NG finds nothing to say in “{request['text']}”", where=grammar)
    sets = {
        name: [synthesis.utterance(request, name, durations, output) for request in requests[name]]
        for name in sizes
    }
    prepared.write(output, sets["train"], sets["dev"], {"test": sets["test"]})


def split_sentences(
    grammar: Grammar, sizes: dict[Set, int], rng: np.random.Generator, name: str
) -> dict[Set, list[str]]:
    """Draw distinct sentences and deal them out to the sets, in proportion to `sizes` where they are too few.

    Raises:
        DataError: there are not enough sentences for each set to have one of its own.
    """
    total = sum(sizes.values())
    pool = words_first(draw_sentences(grammar, total, rng))
    if len(pool) < len(sizes):
        raise DataError(
            f"the grammar has only {len(pool)} sentences",
            where=name,
            expected=f"at least {len(sizes)}, and better thousands",
        )
    held_out: dict[Set, int] = {
        name: max(1, len(pool) * size // total) for name, size in sizes.items() if name != "train"
    }
    shares: dict[Set, int] = {"train": len(pool) - sum(held_out.values()), **held_out}
    dealt = iter(pool)
    return {name: [next(dealt) for _ in range(share)] for name, share in shares.items()}


def draw_sentences(grammar: Grammar, most: int, rng: np.random.Generator) -> list[str]:
    """Draw distinct sentences, in random order: at most so many, fewer where the grammar has no more."""
    drawn: dict[str, None] = {}  # a set that keeps its order
    old = 0
    while len(drawn) < most and old < OLD_DRAWS:
        sentence = grammar.sample(rng)
        old = old + 1 if sentence in drawn else 0
        drawn[sentence] = None
    return list(drawn)


def words_first(sentences: Sequence[str]) -> list[str]:
    """Move each sentence that brings a new word to the front: the training, dealt first, hears every word."""
    known: set[str] = set()
    new: list[str] = []
    old: list[str] = []
    for sentence in sentences:
        words = set(sentence.split())
        (old if words <= known else new).append(sentence)
        known |= words
    return new + old
