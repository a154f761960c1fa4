"""Whether classes of words help a language model that has seen little text: perplexity, and word error rate.

    python scripts/measure_classes.py train-clean-100.txt

Texts of a thousand words and more are drawn from LibriSpeech's transcripts, three of each size. On each, a 3-gram
of words is mixed with one of classes; the classes are clusters of word vectors, learnt from the same text or from
all of it. Half of what `measure_lm.py` holds out gives the number of classes and the weights, the other half the
figures. Word error rates are those of the simulated answers of `ctc_simulator.py`, rescored.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import word_classes
from measure_lm import split
from measure_rescoring import Answers, simulated
from numpy.typing import NDArray
from peers import log
from word_classes import Mixture

from asr.decoding.beam import Decoder
from asr.decoding.types import Hypothesis
from asr.evaluation import wer
from asr.text import kneser_ney, word2vec
from asr.text.ngram import NgramModel
from asr.text.vectors import WordVectors

FloatArray = NDArray[np.float64]
LanguageModel: TypeAlias = NgramModel | Mixture

SIZES, DRAWS = (1_000, 10_000, 100_000), 3
ORDER = 3
COUNTS = (10, 30, 100, 300, 1000)
"""Numbers of classes to choose from, as far as there are twice as many words."""
DEV, TEST = 300, 600
"""Utterances whose word error rates are tuned and measured."""
NBEST, BEAM = 50, 64
GAMMAS, DELTAS = np.arange(0.0, 1.55, 0.1), np.arange(-2.0, 4.1, 0.5)


class Lists(NamedTuple):
    """The best hypotheses of utterances.

    found: of each utterance, best first.
    scores: (utterances, nbest) the acoustic model's; -inf where there are no more hypotheses.
    words: (utterances, nbest) in each.
    errors: (utterances, nbest) wrong words.
    said: words that were said in all of them.
    """

    found: Sequence[Sequence[Hypothesis]]
    scores: FloatArray
    words: FloatArray
    errors: FloatArray
    said: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("transcripts", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="WORDS", help="(%(default)s)")
    arguments = parser.parse_args()
    texts = split(arguments.transcripts)
    train, held_out = texts.train, texts.held_out
    log("vectors of all the text")
    everything = word2vec.train(train, min_count=2, seed=1)
    answers = simulated(train, held_out, {"dev": DEV, "test": TEST})
    print("| words | vectors of | classes | weight | perplexity | change | WER, % | with classes, % | change |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for size in arguments.sizes:
        rows = [
            row for seed in range(DRAWS) for row in measure(draw(train, size, seed), held_out, everything, answers)
        ]
        for source in ("the text", "all text"):
            show(size, source, [row for row in rows if row.source == source])


def draw(sentences: Sequence[str], size: int, seed: int) -> list[str]:
    """Sentences of so many words together, or a few more."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(sentences))
    lengths = np.array([len(sentences[index].split()) for index in order])
    enough = int(np.searchsorted(lengths.cumsum(), size)) + 1
    return [sentences[index] for index in order[:enough]]


# ----------------------------------------------------------------------------------------------- perplexity


class Row(NamedTuple):
    """What a text and vectors gave: the number and the weight of the classes, perplexities and word error rates."""

    source: str
    number: int
    weight: float
    words: float
    mixture: float
    wer: float
    wer_mixture: float


def measure(
    text: Sequence[str], held_out: Sequence[str], everything: WordVectors, answers: Answers
) -> Iterator[Row]:
    """Measure classes from both sources of vectors."""
    model = kneser_ney.build(text, ORDER).model
    known = {word for sentence in text for word in sentence.split()}
    own = word2vec.train(text, min_count=2 if len(known) > 5000 else 1, epochs=20, seed=1)
    lists = [best_hypotheses(answers, name, Decoder(answers.surfaces, model)) for name in ("dev", "test")]
    words = word_error_rate(model, *lists)
    for source, vectors in (
        ("the text", own),
        ("all text", everything.only(filter(known.__contains__, everything.words))),
    ):
        mixture, count = best_mixture(model, text, vectors, held_out[::2])
        yield Row(
            source,
            count,
            mixture.weight,
            perplexity(model, held_out[1::2], model),
            perplexity(mixture, held_out[1::2], model),
            words,
            word_error_rate(mixture, *lists),
        )
        log(f"{len(known)} words, {source}: {count} classes")


def best_mixture(
    model: NgramModel, text: Sequence[str], vectors: WordVectors, dev: Sequence[str]
) -> tuple[Mixture, int]:
    """The mixture with the number of classes that suits the dev text best."""
    known = is_known(model, dev)
    found = []
    for count in (count for count in COUNTS if 2 * count <= len(vectors.words)):
        classed = word_classes.build(text, ORDER, word_classes.cluster(vectors, count))
        pairs = [word_classes.both_log_probs(model, classed, sentence.split()) for sentence in dev]
        by_word, by_class = (np.concatenate(part)[known] for part in zip(*pairs, strict=True))
        mixture = Mixture(model, classed, word_classes.estimate_weight(by_word, by_class))
        found.append((scores(mixture, dev).sum(), mixture, count))
    _, mixture, count = max(found, key=lambda each: each[0])
    return mixture, count


def scores(model: LanguageModel, sentences: Sequence[str]) -> FloatArray:
    """Natural log-probabilities of all words and ends of sentences."""
    return np.concatenate([model.log_probs(sentence.split()) for sentence in sentences])


def perplexity(model: LanguageModel, sentences: Sequence[str], vocabulary: NgramModel) -> float:
    """Of the words that are in a vocabulary."""
    return float(np.exp(-scores(model, sentences)[is_known(vocabulary, sentences)].mean()))


def is_known(vocabulary: NgramModel, sentences: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each word is in a vocabulary; the ends of sentences are."""
    return np.concatenate([[*(word in vocabulary for word in sentence.split()), True] for sentence in sentences])


# ------------------------------------------------------------------------------------------ word error rate


def best_hypotheses(answers: Answers, name: str, decoder: Decoder) -> Lists:
    """The best hypotheses of a set, and how wrong each is."""
    pairs = answers.sets[name]
    answered = [
        decoder.decode(log_probs[None], [len(log_probs)], beam_width=BEAM, nbest=NBEST, timestamps=False)[0]
        for _, log_probs in pairs
    ]
    found = [(best, *best.alternatives) for best in answered]
    errors = wer.count_words(
        [
            wer.Answer("", said, each.text)
            for (said, _), hypotheses in zip(pairs, found, strict=True)
            for each in hypotheses
        ]
    )[:, 1:].sum(axis=1)
    return Lists(
        found,
        table([[each.acoustic for each in hypotheses] for hypotheses in found], -np.inf),
        table([[len(each.text.split()) for each in hypotheses] for hypotheses in found]),
        table(np.split(errors, np.cumsum([len(hypotheses) for hypotheses in found])[:-1])),
        sum(len(said.split()) for said, _ in pairs),
    )


def table(rows: Sequence[Sequence[float] | NDArray[np.int64]], missing: float = 0.0) -> FloatArray:
    """Rows of different lengths as (rows, NBEST)."""
    filled = np.full((len(rows), NBEST), missing)
    for row, values in zip(filled, rows, strict=True):
        row[: len(values)] = values
    return filled


def word_error_rate(model: LanguageModel, dev: Lists, test: Lists) -> float:
    """Of the test set, ranked by a model with the weights that make the fewest errors on dev."""
    rate = ranked(model, dev)
    gamma, delta = min(product(GAMMAS, DELTAS), key=lambda weights: rate(*weights))
    return ranked(model, test)(gamma, delta)


def ranked(model: LanguageModel, lists: Lists) -> Callable[[float, float], float]:
    """From weights of the model and of a word to the word error rate."""
    log_probs = table([[model.log_probs(each.text.split()).sum() for each in found] for found in lists.found])

    def rate(gamma: float, delta: float) -> float:
        best = (lists.scores + gamma * log_probs + delta * lists.words).argmax(axis=1)
        return float(lists.errors[np.arange(len(best)), best].sum()) / lists.said

    return rate


# ---------------------------------------------------------------------------------------------------- table


def show(size: int, source: str, rows: Sequence[Row]) -> None:
    """Print a line of the table: means over the draws, and the standard deviation of what changes."""
    changes = [row.mixture / row.words - 1 for row in rows]
    gains = [100 * (row.wer_mixture - row.wer) for row in rows]
    cells = [
        f"{size:,}",
        source,
        "/".join(str(row.number) for row in rows),
        f"{np.mean([row.weight for row in rows]):.2f}",
        f"{np.mean([row.words for row in rows]):.1f} → {np.mean([row.mixture for row in rows]):.1f}",
        f"{np.mean(changes):+.1%} ± {np.std(changes, ddof=1):.1%}",
        f"{np.mean([100 * row.wer for row in rows]):.2f}",
        f"{np.mean([100 * row.wer_mixture for row in rows]):.2f}",
        f"{np.mean(gains):+.2f} ± {np.std(gains, ddof=1):.2f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
