"""Train word vectors once, with asr or gensim, whichever this Python has: `bench_word2vec.py` starts it.

    python bench_word2vec_worker.py '{"tool": "gensim", "text": "FILE", "out": "FILE.bin", "architecture": …}'

The last line that it prints says what that took, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple


class Clock(NamedTuple):
    """Seconds on the wall, and of all threads of this process."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Clock:
        """Read the clocks."""
        return cls(time.perf_counter(), time.process_time())


class Training(NamedTuple):
    """How long a training took.

    words: that went by from begin to end, those of all epochs, without those that are too rare.
    vocabulary: different words.
    start: before the text is read.
    begin, end: of learning.
    """

    words: int
    vocabulary: int
    start: Clock
    begin: Clock
    end: Clock


def train_gensim(text: Path, out: Path, settings: dict[str, Any]) -> Training:
    """Train with gensim, from sentences in memory."""
    from gensim.models import Word2Vec

    start = Clock.now()
    hierarchical = settings["objective"] == "hierarchical"
    model = Word2Vec(
        vector_size=settings["dim"],
        sg=int(settings["architecture"] == "skip-gram"),
        hs=int(hierarchical),
        negative=0 if hierarchical else settings["negatives"],
        window=settings["window"],
        min_count=settings["min_count"],
        sample=settings["subsample"],
        alpha=settings["learning_rate"],
        epochs=settings["epochs"],
        workers=settings["threads"],
        seed=settings["seed"],
    )
    with text.open(encoding="utf-8") as lines:
        sentences = [line.split() for line in lines]
    model.build_vocab(sentences)
    begin = Clock.now()
    model.train(sentences, total_examples=model.corpus_count, epochs=model.epochs)
    end = Clock.now()
    model.wv.save_word2vec_format(str(out), binary=True)
    words = sum(model.wv.get_vecattr(word, "count") for word in model.wv.key_to_index)
    return Training(int(words) * settings["epochs"], len(model.wv), start, begin, end)


def train_asr(text: Path, out: Path, settings: dict[str, Any]) -> Training:
    """Train with asr, compiled beforehand; learning begins at its first report, about a million words on."""
    from asr.text import sentences, vector_files, word2vec

    word2vec.warm()
    start = Clock.now()
    reports: list[tuple[int, Clock]] = []
    vectors = word2vec.train(
        sentences.read([text]), **settings, on_progress=lambda done, _: reports.append((done, Clock.now()))
    )
    vector_files.save(vectors, out)
    (before, begin), (done, end) = reports[0], reports[-1]
    return Training(done - before, len(vectors.words), start, begin, end)


def main() -> None:
    """Train, and say how long it took."""
    settings = json.loads(sys.argv[1])
    tool, text, out = settings.pop("tool"), Path(settings.pop("text")), Path(settings.pop("out"))
    training = {"asr": train_asr, "gensim": train_gensim}[tool](text, out, settings)
    print(
        json.dumps(
            {
                "words": training.words,
                "vocabulary": training.vocabulary,
                "wall": training.end.wall - training.begin.wall,
                "cpu": training.end.cpu - training.begin.cpu,
                "whole": Clock.now().cpu - training.start.cpu,
            }
        )
    )


if __name__ == "__main__":
    main()
