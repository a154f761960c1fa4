"""`asr lm`: language models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli import lm_train
from asr.cli.decoding import announced
from asr.cli.inputs import OverwriteFile, check_outputs
from asr.cli.texts import TEXTS_HELP, Recogniser, Texts, read_sentences, with_progress
from asr.errors import ConfigError, counted

if TYPE_CHECKING:
    from asr.reporting import Reporter
    from asr.text.kneser_ney import Estimate
    from asr.text.neural import NeuralLm
    from asr.text.ngram import NgramModel

app = typer.Typer(no_args_is_help=True, help="Build, train and use language models.")

LanguageModel = Annotated[
    Path,
    typer.Argument(
        metavar="LM",
        help="ARPA file of any tool (.gz too), .ngram of `asr lm build`, or .safetensors of `asr lm train`.",
    ),
]

NgramFile = Annotated[Path, typer.Option(metavar="FILE", help="File to make: .ngram (compact), .arpa or .arpa.gz.")]
Half = Annotated[bool, typer.Option("--half", help="For .ngram: logarithms in 16 bits, a quarter of the size.")]

EPILOG = """
Examples:

  asr lm build transcripts.txt --model runs/quickstart --out lm.arpa

  asr lm build news.txt.gz --order 4 --prune 0,0,1 --vocabulary 20000 --out news.ngram

  asr transcribe memo.wav --lm lm.arpa
"""


@app.command(epilog=EPILOG, short_help="Make an n-gram model of text.")
def build(
    texts: Texts,
    out: NgramFile,
    order: Annotated[int, typer.Option(metavar="N", min=1, help="Words in the longest n-grams.")] = 3,
    prune: Annotated[
        str,
        typer.Option(
            metavar="N,N,...",
            help="Leave out n-grams that occur so often or less: by length, the last N for all longer ones.",
        ),
    ] = "0",
    vocabulary: Annotated[
        str | None,
        typer.Option(
            metavar="N|FILE", help="Of the text's words, know only the N most frequent, or those in a file."
        ),
    ] = None,
    model: Recogniser = None,
    half: Half = False,
    overwrite: OverwriteFile = False,
) -> None:
    """Estimate a model from text, by interpolated modified Kneser-Ney smoothing."""
    thresholds = _thresholds(prune)
    from asr.cli.reporter import TerminalReporter
    from asr.text import kneser_ney, ngram

    ngram.check_name(out, half)
    check_outputs([out], overwrite, made_from=texts)
    words = _vocabulary(vocabulary, model)
    reporter = TerminalReporter()
    with reporter.progress("read") as advance:
        estimate = kneser_ney.build(with_progress(read_sentences(texts, model), advance), order, thresholds, words)
    _tell(estimate, reporter)
    if isinstance(words, set) and (unseen := len(words - set(estimate.model.words))):
        reporter.say(f"  {unseen:,} of the vocabulary's {counted(len(words), 'word', ',')} left out")
    ngram.save(estimate.model, out, half)
    reporter.say(f"wrote {out}")


MIX_EPILOG = """
Examples:

  asr lm mix calls.ngram news.ngram --tune dev.txt --out lm.ngram

  asr lm mix calls.ngram news.ngram --weights 0.7,0.3 --out lm.arpa
"""


@app.command(epilog=MIX_EPILOG, short_help="Make one n-gram model of several.")
def mix(
    models: Annotated[list[Path], typer.Argument(metavar="LM", help="N-gram models: .arpa, .arpa.gz, .ngram.")],
    out: NgramFile,
    tune: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Find the weights with which the mixture foresees this text best: a file or manifest that none of "
            "the models has learnt from.",
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="W,W,...", help="The weights, one for each model.", show_default="equal")
    ] = None,
    model: Recogniser = None,
    half: Half = False,
    overwrite: OverwriteFile = False,
) -> None:
    """Mix n-gram models linearly, as of a little text of what will be said and much of everything else.

    The mixture knows the words of all of them.
    """
    if tune and weights:
        raise ConfigError("weights are given, or found", where="--tune and --weights", expected="one of them")
    from asr.cli.reporter import TerminalReporter
    from asr.text import mixing, ngram

    ngram.check_name(out, half)
    check_outputs([out], overwrite, made_from=models)
    reporter = TerminalReporter()
    with announced("reading the language models …", reporter):
        parts = [ngram.load(path) for path in models]
    found = mixing.fitting_weights(parts, read_sentences(tune, model)) if tune else None
    shares = found or _weights(weights, len(parts))
    mixed = mixing.mix(parts, shares)
    for path, share in zip(models, shares, strict=True):
        reporter.say(f"{share:.3f}  {path}")
    ngram.save(mixed, out, half)
    reporter.say(f"wrote {out}")


def _weights(given: str | None, count: int) -> list[float]:
    if given is None:
        return [1 / count] * count
    try:
        return [float(part) for part in given.split(",")]
    except ValueError:
        expected = f"{count} positive numbers, such as 0.7,0.3"
        raise ConfigError(f"{given!r} are no weights", where="--weights", expected=expected) from None


app.command(epilog=lm_train.EPILOG, short_help="Train a neural model on text.")(lm_train.train)


@app.command(epilog="\nExample:\n\n  asr lm info lm.arpa")
def info(lm: LanguageModel) -> None:
    """Say what is in a model."""
    from asr.text.ngram import NgramModel

    model = _load(lm)
    lines = _of_ngrams(model) if isinstance(model, NgramModel) else _of_network(model)
    for line in lines:
        typer.echo(line)


def _of_ngrams(model: NgramModel) -> Iterator[str]:
    from asr.text import ngram

    special = [word for word in (ngram.START, ngram.END) if word in model]
    yield f"words    {len(model.words):,}, among them <unk>{''.join(f', {word}' for word in special)}"
    for length, number in enumerate(ngram.to_entries(model).counts, start=1):
        yield f"{length}-grams  {number:,}"
    arrays = (*model.ngram.arcs, *model.ngram[1:])
    yield f"memory   {sum(array.nbytes for array in arrays) / 2**20:,.1f} MiB"


def _of_network(model: NeuralLm) -> Iterator[str]:
    like = model.network.architecture
    numbers = [parameter.numel() for parameter in model.network.parameters()]
    yield f"{model.units.kind:10}  {len(model.words):,}, among them </s> and <unk>"
    yield f"network     {like.layers} × {like.hidden} {like.cell.upper()}, embeddings of {like.embedding}"
    yield f"softmax     {like.softmax}, {'tied to the embeddings' if like.tied else 'with weights of its own'}"
    yield f"parameters  {sum(numbers):,}"


@app.command(epilog="\nExample:\n\n  asr lm perplexity lm.ngram dev.txt")
def perplexity(lm: LanguageModel, texts: Texts, model: Recogniser = None) -> None:
    """Measure how well a model foresees a text.

    The end of a sentence counts as a word.
    """
    from asr.text.perplexity import measure

    measured = measure(_load(lm), read_sentences(texts, model))
    share = 100 * measured.unknown / measured.words
    typer.echo(f"perplexity             {measured.perplexity:,.2f}")
    typer.echo(f"without unknown words  {measured.perplexity_known:,.2f}")
    sentences = counted(measured.sentences, "sentence", ",")
    typer.echo(f"words                  {measured.words:,} in {sentences}")
    typer.echo(f"unknown                {measured.unknown:,} ({share:.2f} %)")


@app.command(
    short_help="Say how likely sentences are.",
    epilog="\nExamples:\n\n  asr lm score lm.ngram sentences.txt --words\n\n"
    "  echo turn the lights on | asr lm score lm.ngram",
)
def score(
    lm: LanguageModel,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help=TEXTS_HELP, show_default="-")] = None,
    words: Annotated[bool, typer.Option("--words", help="Print the log-probability of each word, too.")] = False,
    model: Recogniser = None,
) -> None:
    """Print the base-10 log-probability of each sentence before it."""
    from asr.text import ngram
    from asr.text.arpa import LN10

    for sentence, scores in _load(lm).scored(read_sentences(texts or ["-"], model)):
        spelled = [*sentence, ngram.END][: len(scores)]
        each = " ".join(f"{word} {value / LN10:.4f}" for word, value in zip(spelled, scores, strict=True))
        typer.echo(f"{scores.sum() / LN10:.4f}\t{each if words else ' '.join(sentence)}")


@app.command(
    epilog="\nExamples:\n\n  asr lm generate lm.ngram --count 5\n\n"
    "  asr lm generate lm.safetensors --temperature 0.7 --seed 1"
)
def generate(
    lm: LanguageModel,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many sentences.")] = 10,
    temperature: Annotated[
        float, typer.Option(metavar="X", min=0.01, help="Below 1: nearer to the most probable; above: wilder.")
    ] = 1.0,
    top_k: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="For neural models: draw from the K most probable only.")
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="WIDTH", help="For neural models: print the most probable sentences, by a beam search."
        ),
    ] = None,
    longest: Annotated[
        int, typer.Option(min=1, metavar="WORDS", help="Cut sentences off here (tokens, for a model of these).")
    ] = 100,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Seed of what is drawn.", show_default="another one each time"),
    ] = None,
) -> None:
    """Draw sentences from a model."""
    from asr.text.ngram import NgramModel

    if beam is not None and (top_k is not None or temperature != 1.0):
        raise ConfigError("a beam search draws nothing", where="--beam", hint="no --temperature or --top-k with it")
    model = _load(lm)
    if not isinstance(model, NgramModel):
        sentences = _generated(model, count, temperature, top_k, beam, longest, seed)
    elif top_k is None and beam is None:
        sentences = _drawn(model, count, temperature, longest, seed)
    else:
        hint = "a model of `asr lm train`, or --temperature below 1"
        raise ConfigError("--top-k and --beam are for neural language models", where=lm, hint=hint)
    for sentence in sentences:
        typer.echo(sentence)


def _drawn(model: NgramModel, count: int, temperature: float, longest: int, seed: int | None) -> Iterable[str]:
    import numpy as np

    from asr.text.sampling import sample

    generator = np.random.default_rng(seed)
    return (" ".join(sample(model, generator, temperature, longest)) for _ in range(count))


def _generated(
    model: NeuralLm,
    count: int,
    temperature: float,
    top_k: int | None,
    beam: int | None,
    longest: int,
    seed: int | None,
) -> Iterable[str]:
    import torch

    from asr.text import generation

    if beam is not None:
        return [found.text for found in generation.search(model, beam, count, longest)]
    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    return generation.sample(model, generator, count, temperature, top_k, longest)


def _load(path: Path) -> NgramModel | NeuralLm:
    from asr.cli.reporter import TerminalReporter
    from asr.text import language_models

    with announced("reading the language model …", TerminalReporter()):
        return language_models.load(path)


def _thresholds(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise ConfigError(f"“{text}”", where="--prune", expected="numbers with commas, such as 0,0,1") from None


def _vocabulary(choice: str | None, model: Path | None) -> int | set[str] | None:
    if choice is None or choice.isdecimal():
        return choice if choice is None else int(choice)
    return {word for line in read_sentences([choice], model) for word in line.split()}


def _tell(estimate: Estimate, reporter: Reporter) -> None:
    """Say what a model was made from, and where the text was too small."""
    from asr.text.ngram import to_entries

    reporter.say(f"{counted(estimate.tokens, 'word', ',')} in {counted(estimate.sentences, 'sentence', ',')}")
    for length, (number, discounts, derived) in enumerate(
        zip(to_entries(estimate.model).counts, estimate.discounts, estimate.derived, strict=False), start=1
    ):
        shown = " ".join(f"{discount:.3f}" for discount in discounts)
        reporter.say(f"  {counted(number, f'{length}-gram', ',')}, discounts {shown}")
        if not derived:
            reporter.warn(
                f"too few {length}-grams, or too repetitive ones, to derive their discounts; these are generic"
            )
