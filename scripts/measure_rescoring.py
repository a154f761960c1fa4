"""What rescoring gains: word error rates of a search with one language model, and of its best hypotheses ranked
anew with another.

    python scripts/measure_rescoring.py train-clean-100.txt --lm FOLDER/3.ngram --rescore FOLDER/4.ngram …

The models are those of `measure_lm.py`, or others of the same text; the recordings are simulated answers
(`ctc_simulator.py`) to sentences that it holds out. All weights are tuned on some, as `asr tune` does, and measured
on others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from bench_tasks import CHANNELS, by_word
from ctc_simulator import confusions, simulate
from measure_lm import split
from numpy.typing import NDArray
from peers import log
from torch.nn.utils.rnn import pad_sequence

from asr import build, tuning
from asr.decoder_settings import DecoderSettings
from asr.evaluation import wer
from asr.text import tokenizer
from asr.text.normalize import Normalizer
from asr.tuning import Evidence

AT_ONCE = 32


class Answers(NamedTuple):
    """What a network answers: the tokens' surfaces; of each set, texts and log-probabilities (frames, vocab)."""

    surfaces: Sequence[str]
    sets: Mapping[str, Sequence[tuple[str, NDArray[np.float32]]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("transcripts", type=Path)
    parser.add_argument("--lm", type=Path, required=True, metavar="FILE", help="for the search")
    parser.add_argument(
        "--rescore", type=Path, nargs="+", default=[], metavar="FILE", help="models to rescore with"
    )
    parser.add_argument("--instead", type=Path, nargs="+", default=[], metavar="FILE", help="others to search with")
    parser.add_argument("--dev", type=int, default=300, metavar="N", help="utterances to tune on (%(default)s)")
    parser.add_argument("--test", type=int, default=600, metavar="N", help="utterances to measure (%(default)s)")
    parser.add_argument("--nbest", type=int, default=50, metavar="N", help="rescored at most (%(default)s)")
    arguments = parser.parse_args()
    texts = split(arguments.transcripts)
    answers = simulated(texts.train, texts.held_out, {"dev": arguments.dev, "test": arguments.test})
    # What tuning wants to know of a recogniser.
    heard: Any = SimpleNamespace(
        model=SimpleNamespace(tokenizer=SimpleNamespace(surfaces=answers.surfaces)), normalizer=Normalizer("keep")
    )
    dev, test = (evidence(answers.sets[name]) for name in ("dev", "test"))
    print("| search | rescored by | gamma | delta | first pass | hypotheses | dev WER, % | test WER, % | ms each |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    first = tuning.tune(heard, dev, DecoderSettings(lm=arguments.lm)).best
    report(first, answers, test)
    for path in arguments.instead:
        report(tuning.tune(heard, dev, DecoderSettings(lm=path)).best, answers, test)
    for path in arguments.rescore:
        settings = first.settings.model_copy(update={"rescore": path})
        numbers = [*(number for number in tuning.LISTS if number < arguments.nbest), arguments.nbest]
        report(tuning.tune_rescoring(heard, dev, settings, trials=200, numbers=numbers).best, answers, test)


def simulated(train: Sequence[str], held_out: Sequence[str], sizes: Mapping[str, int]) -> Answers:
    """Answers to held-out sentences, as a network of characters gives them."""
    tokens = tokenizer.build("characters", [sentence.lower() for sentence in train])
    confused = confusions(tokens.surfaces)
    rng = np.random.default_rng(0)
    order = iter(rng.permutation(len(held_out)).tolist())
    sets = {}
    for name, size in sizes.items():
        chosen = [held_out[index] for index in islice(order, size)]
        said = [by_word(tokens, sentence.lower()) for sentence in chosen]
        outputs = [simulate(words, confused, CHANNELS["characters"], rng) for words in said]
        sets[name] = list(zip(chosen, outputs, strict=True))
    return Answers([surface.upper() for surface in tokens.surfaces], sets)


def evidence(pairs: Sequence[tuple[str, NDArray[np.float32]]]) -> Evidence:
    """Answers as tuning takes them."""
    outputs = [torch.tensor(log_probs) for _, log_probs in pairs]
    parts = [outputs[begin : begin + AT_ONCE] for begin in range(0, len(outputs), AT_ONCE)]
    batches = [(pad_sequence(part, batch_first=True), torch.tensor([len(each) for each in part])) for part in parts]
    return Evidence(batches, [1] * len(outputs), [text for text, _ in pairs])


def report(trial: tuning.Trial, answers: Answers, test: Evidence) -> None:
    """Print a line of the table."""
    settings = trial.settings
    log(f"{settings}")
    decoder = build.decoder(answers.surfaces, Normalizer("keep"), settings)
    started = time.perf_counter()
    texts = [
        hypothesis.text
        for log_probs, lengths in test.batches
        for hypothesis in decoder.decode(log_probs, lengths, beam_width=settings.beam_width)
    ]
    seconds = time.perf_counter() - started
    score = wer.score([wer.Answer("", *pair) for pair in zip(test.references, texts, strict=True)])
    assert settings.lm is not None
    weights = [
        f"{settings.gamma:.2f}",
        f"{settings.delta:.2f}",
        f"{settings.first_pass:.2f}",
        f"{settings.nbest_rescored}",
    ]
    cells = [
        f"{settings.lm.name}, width {settings.beam_width}",
        *([settings.rescore.name, *weights] if settings.rescore else ["", "", "", "", ""]),
        f"{100 * trial.score.wer:.2f}",
        f"{100 * score.wer:.2f} [{100 * score.ci_low:.2f}, {100 * score.ci_high:.2f}]",
        f"{1000 * seconds / len(texts):.1f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
