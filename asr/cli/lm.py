"""`asr lm`: n-gram language models."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.decoding import announced
from asr.cli.inputs import refuse_existing
from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.reporting import Advance, Reporter
    from asr.text.kneser_ney import Estimate
    from asr.text.ngram import NgramModel

app = typer.Typer(no_args_is_help=True, help="Build and use language models of words.")

TEXTS_HELP = "Text files in UTF-8 (.gz too), a sentence to a line; - for standard input."

LanguageModel = Annotated[
    Path, typer.Argument(metavar="LM", help="ARPA file of any tool (.gz too), or .ngram of `asr lm build`.")
]
Texts = Annotated[list[str], typer.Argument(metavar="TEXT...", help=TEXTS_HELP)]
Recogniser = Annotated[
    Path | None,
    typer.Option("--model", metavar="FOLDER", help="Normalise the text as this recogniser writes."),
]

EPILOG = """
Examples:

  asr lm build transcripts.txt --model runs/quickstart --out lm.arpa

  asr lm build news.txt.gz --order 4 --prune 0,0,1 --vocabulary 20000 --out news.ngram

  asr transcribe memo.wav --lm lm.arpa
"""


@app.command(epilog=EPILOG, short_help="Make a model of text.")
def build(
    texts: Texts,
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to make: .ngram (compact), .arpa or .arpa.gz.")],
    order: Annotated[int, typer.Option(min=1, help="Words in the longest n-grams.")] = 3,
    prune: Annotated[
        str,
        typer.Option(
            metavar="N,N,...",
            help="Leave out n-grams that occur so often or less: by length, the last N for all longer ones.",
        ),
    ] = "0",
    vocabulary: Annotated[
        str | None,
        typer.Option(metavar="N|FILE", help="Know only the N most frequent words, or those in a file."),
    ] = None,
    model: Recogniser = None,
    half: Annotated[
        bool, typer.Option("--half", help="For .ngram: logarithms in 16 bits, a quarter of the size.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Estimate a model from text, by interpolated modified Kneser-Ney smoothing."""
    thresholds = _thresholds(prune)
    from asr.cli.reporter import TerminalReporter
    from asr.text import kneser_ney, ngram

    ngram.check_name(out, half)
    if not overwrite:
        refuse_existing([out])
    words = _vocabulary(vocabulary, model)
    reporter = TerminalReporter()
    with reporter.progress("read") as advance:
        estimate = kneser_ney.build(_counted(_sentences(texts, model), advance), order, thresholds, words)
    _tell(estimate, reporter)
    ngram.save(estimate.model, out, half)
    reporter.say(f"wrote {out}")


@app.command()
def info(lm: LanguageModel) -> None:
    """Say what is in a model."""
    from asr.text import ngram

    model = _load(lm)
    special = [word for word in (ngram.START, ngram.END) if word in model]
    typer.echo(f"words    {len(model.words):,}, among them <unk>{''.join(f', {word}' for word in special)}")
    for length, number in enumerate(ngram.to_entries(model).counts, start=1):
        typer.echo(f"{length}-grams  {number:,}")
    arrays = (*model.ngram.arcs, *model.ngram[1:])
    typer.echo(f"memory   {sum(array.nbytes for array in arrays) / 2**20:,.1f} MiB")


@app.command()
def perplexity(lm: LanguageModel, texts: Texts, model: Recogniser = None) -> None:
    """Measure how well a model foresees a text.

    The end of a sentence counts as a word.
    """
    from asr.text.perplexity import measure

    measured = measure(_load(lm), _sentences(texts, model))
    share = 100 * measured.unknown / measured.words
    typer.echo(f"perplexity             {measured.perplexity:,.2f}")
    typer.echo(f"without unknown words  {measured.perplexity_known:,.2f}")
    typer.echo(f"words                  {measured.words:,} in {measured.sentences:,} sentences")
    typer.echo(f"unknown                {measured.unknown:,} ({share:.2f} %)")


@app.command(short_help="Say how likely sentences are.")
def score(
    lm: LanguageModel,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT...]", help=TEXTS_HELP, show_default="-")
    ] = None,
    words: Annotated[bool, typer.Option("--words", help="The log-probability of each word, too.")] = False,
    model: Recogniser = None,
) -> None:
    """Print the base-10 log-probability of each sentence before it."""
    from asr.text import ngram
    from asr.text.arpa import LN10

    loaded = _load(lm)
    for sentence in _sentences(texts or ["-"], model):
        scores = loaded.log_probs(sentence.split()) / LN10
        spelled = [*sentence.split(), *([ngram.END] if loaded.end >= 0 else [])]
        each = " ".join(f"{word} {value:.4f}" for word, value in zip(spelled, scores, strict=True))
        typer.echo(f"{scores.sum():.4f}\t{each if words else sentence}")


@app.command()
def generate(
    lm: LanguageModel,
    count: Annotated[int, typer.Option(min=1, help="How many sentences.")] = 10,
    temperature: Annotated[
        float, typer.Option(min=0.01, help="Below 1: nearer to the most probable; above: wilder.")
    ] = 1.0,
    longest: Annotated[int, typer.Option(min=1, metavar="WORDS", help="Cut sentences off here.")] = 100,
    seed: Annotated[int | None, typer.Option(min=0, help="For the same sentences again.")] = None,
) -> None:
    """Draw sentences from a model."""
    import numpy as np

    from asr.text.sampling import sample

    model = _load(lm)
    generator = np.random.default_rng(seed)
    for _ in range(count):
        typer.echo(" ".join(sample(model, generator, temperature, longest)))


def _load(path: Path) -> NgramModel:
    from asr.cli.reporter import TerminalReporter
    from asr.text import ngram

    with announced("reading the language model …", TerminalReporter()):
        return ngram.load(path)


def _thresholds(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise ConfigError(f"“{text}”", where="--prune", expected="numbers with commas, such as 0,0,1") from None


def _vocabulary(choice: str | None, model: Path | None) -> int | set[str] | None:
    if choice is None or choice.isdecimal():
        return choice if choice is None else int(choice)
    return {word for line in _sentences([choice], model) for word in line.split()}


def _sentences(names: Iterable[str], model: Path | None) -> Iterator[str]:
    """The sentences of texts, normalised as a recogniser's transcripts, where one is named."""
    from asr.text import sentences

    lines = sentences.read(sys.stdin.buffer if name == "-" else Path(name) for name in names)
    if model is None:
        return lines
    from asr import artefact
    from asr import build as assembly
    from asr.recipe_file import read_recipe

    recipe = read_recipe(artefact.locate(model) / artefact.CONFIG)
    return filter(None, map(assembly.normalizer(recipe.text), lines))


def _counted(sentences: Iterable[str], advance: Advance) -> Iterator[str]:
    for number, sentence in enumerate(sentences, start=1):
        if number % 1000 == 0:
            advance(number, "sentences")
        yield sentence


def _tell(estimate: Estimate, reporter: Reporter) -> None:
    """Say what a model was made from, and where the text was too small."""
    from asr.text.ngram import to_entries

    reporter.say(f"{estimate.tokens:,} words in {estimate.sentences:,} sentences")
    for length, (number, discounts, derived) in enumerate(
        zip(to_entries(estimate.model).counts, estimate.discounts, estimate.derived, strict=False), start=1
    ):
        shown = " ".join(f"{discount:.3f}" for discount in discounts)
        reporter.say(f"  {number:,} {length}-grams, discounts {shown}")
        if not derived:
            reporter.warn(
                f"too few {length}-grams, or too repetitive ones, to derive their discounts; these are generic"
            )
