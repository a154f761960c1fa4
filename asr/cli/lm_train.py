"""`asr lm train`: train a neural language model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from asr.cli.inputs import Device, check_outputs
from asr.cli.texts import Recogniser, Texts, read_sentences, with_progress
from asr.errors import ConfigError, DataError
from asr.run_folder import RunFolder

if TYPE_CHECKING:
    from asr.reporting import Reporter
    from asr.text.neural import NeuralLm
    from asr.text.neural_network import Architecture, LanguageNetwork
    from asr.text.units import Units
    from asr.text.vectors import WordVectors
    from asr.training.language import Job

STEPS, SMALLEST_BATCH, LARGEST_BATCH = 200, 256, 2048
HELD_OUT = 0.05
MANY_UNITS = 5000
LAYERS, HIDDEN, EMBEDDING = 1, 512, 256
SETTINGS = "settings.json"

EPILOG = """
Examples:

  asr lm train transcripts.txt --out lm.safetensors

  asr lm train news.txt.gz --dev dev.txt --vocabulary 30000 --layers 2 --embeddings news.bin --out news.safetensors

  asr lm train transcripts.txt --tokens-of runs/quickstart --out pieces.safetensors

  asr lm train transcripts.txt --init-from news.safetensors --learning-rate 1e-3 --out ours.safetensors
"""


def train(
    texts: Texts,
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to make: .safetensors.")],
    dev: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Sentences to measure each epoch with.",
            show_default="5 % of the sentences, drawn at random",
        ),
    ] = None,
    model: Recogniser = None,
    tokens_of: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Predict this recogniser's tokens, not words; text is written as it writes."
        ),
    ] = None,
    vocabulary: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Know only the N most frequent words.")
    ] = None,
    min_count: Annotated[
        int, typer.Option(metavar="N", min=1, help="Take words that occur less often for <unk>.")
    ] = 2,
    init_from: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Go on from this model, which learns the new words of the texts."),
    ] = None,
    cell: Annotated[
        Literal["lstm", "gru"] | None, typer.Option(help="Kind of the recurrent layers.", show_default="lstm")
    ] = None,
    layers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="How many recurrent layers.", show_default=f"{LAYERS}")
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Width of a recurrent layer.", show_default=f"{HIDDEN}")
    ] = None,
    embedding: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Width of embeddings.", show_default=f"{EMBEDDING}, or --embeddings'"
        ),
    ] = None,
    embeddings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Begin with these word vectors (`asr embed train`).")
    ] = None,
    tied: Annotated[
        bool | None,
        typer.Option(
            "--tied/--untied",
            help="Predict words by the matrix that embeds them.",
            show_default="tied, unless the softmax is adaptive",
        ),
    ] = None,
    softmax: Annotated[
        Literal["full", "sampled", "adaptive"] | None,
        typer.Option(
            help="How to tell a word from the others while training.",
            show_default=f"full for up to {MANY_UNITS} units, else sampled",
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(metavar="N", min=1, help="Words that the sampled softmax draws for a batch.")
    ] = 4096,
    dropout: Annotated[
        float, typer.Option(metavar="X", min=0, max=0.95, help="Share of activations to drop.")
    ] = 0.3,
    epochs: Annotated[
        int, typer.Option(metavar="N", min=1, help="How often to go through the text, at most.")
    ] = 10,
    patience: Annotated[
        int, typer.Option(metavar="N", min=1, help="Stop after so many epochs without a better perplexity.")
    ] = 2,
    batch_units: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Words (or tokens) in a batch.", show_default="2048, less for little text"
        ),
    ] = None,
    longest: Annotated[
        int, typer.Option(metavar="N", min=1, help="Learn longer sentences in pieces of so many words (or tokens).")
    ] = 256,
    learning_rate: Annotated[
        float, typer.Option(metavar="X", min=0, help="Highest learning rate, at the end of the warm-up.")
    ] = 3e-3,
    weight_decay: Annotated[float, typer.Option(metavar="X", min=0, help="Weight decay of matrices.")] = 0.01,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        typer.Option(help="Numbers to compute with. auto: bf16 where the GPU, or the CPU, has it, else fp32."),
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="CPU threads.", show_default="as many as there are cores")
    ] = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of all that is drawn.")] = 1,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of checkpoints and log.",
            show_default="runs/<name of FILE>",
            file_okay=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace FILE, and a training with other settings in the run's folder."),
    ] = False,
) -> None:
    """Train a model on text: an LSTM or GRU that predicts each word from all those before it.

    The same command again goes on with a training that was cut off.
    """
    from asr.files import refuse_folder_of_others
    from asr.text import neural

    neural.check_name(out)
    check_outputs([out], overwrite, made_from=texts)
    folder = run_dir or Path("runs") / out.stem
    refuse_folder_of_others(
        folder, SETTINGS, "a language model's training", hint="another name for the model, or --run-dir"
    )

    import torch

    from asr import build
    from asr.cli.reporter import TerminalReporter
    from asr.files import only_writer
    from asr.training import language, report
    from asr.training.checkpoint import claim

    wanted = _NetworkOptions(
        tokens_of=tokens_of,
        vocabulary=vocabulary,
        min_count=min_count,
        init_from=init_from,
        cell=cell,
        layers=layers,
        hidden=hidden,
        embedding=embedding,
        embeddings=embeddings,
        tied=tied,
        softmax=softmax,
        dropout=dropout,
    )
    training = _TrainingOptions(
        draws=draws,
        epochs=epochs,
        patience=patience,
        batch_units=batch_units,
        longest=longest,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        precision=precision,
        seed=seed,
    )
    reporter = TerminalReporter()
    sets = _read(texts, dev, tokens_of or model, seed, reporter)
    torch.manual_seed(seed)  # of the first weights and of dropout
    units, network = _begin(wanted, sets.train, reporter)
    trained = neural.NeuralLm(units, network.to(build.device(device)))
    _tell_size(trained, sets, precision, reporter)
    # What decides the weights. An option that is new belongs here only where it is given: without it, trainings
    # that are under way are the same as before.
    identity = {
        **wanted.identity(),
        "texts": _digest([*sets.train, "", *sets.dev]),
        "dev": dev and str(dev),
        "model": model and str(model),
        **asdict(training),
    }
    with only_writer(folder):
        claim(folder / SETTINGS, identity, overwrite, lambda: _discard(folder))
        about = report.About(out.stem, (folder / SETTINGS).read_text(encoding="utf-8"))
        with report.reported(folder, RunFolder(folder).report, out, reporter, lambda: about) as noted:
            outcome = language.train(_job(training, trained, sets, threads, folder), noted)
            neural.save(trained, out)
    reporter.say(f"wrote {out}: {outcome.dev} per word, after {outcome.epochs} epochs")


def _tell_size(model: NeuralLm, sets: _Sets, precision: str, reporter: Reporter) -> None:
    """Say how large the model and the text are, and where and in which precision the training computes."""
    from asr.training.optimization import resolve_precision

    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    where = f"{model.device} in {resolve_precision(precision, model.device)}"
    reporter.say(
        f"{parameters:,} parameters on {where}, {len(model.units.symbols):,} {model.units.kind}, "
        f"{len(sets.train):,} sentences, {len(sets.dev):,} to measure with"
    )


def _job(training: _TrainingOptions, model: NeuralLm, sets: _Sets, threads: int | None, folder: Path) -> Job:
    """All that the training loop needs."""
    from asr.training import language, loop

    settings = loop.Settings(
        epochs=training.epochs,
        learning_rate=training.learning_rate,
        warmup=0.05,
        schedule="cosine",
        weight_decay=training.weight_decay,
        clip_norm=1.0,
        patience=training.patience,
        average=3,
        precision=training.precision,
        threads=threads,
    )
    return language.Job(
        model=model,
        train=sets.train,
        dev=sets.dev,
        settings=settings,
        seed=training.seed,
        folder=folder,
        batch_units=training.batch_units or _batch_units(sets.train),
        longest=training.longest,
        draws=training.draws,
    )


def _discard(folder: Path) -> None:
    """Throw away a training, and what it has said."""
    from asr.files import remove_folder
    from asr.training.report import OUTPUT

    remove_folder(folder / "checkpoints")
    (folder / OUTPUT).unlink(missing_ok=True)


def _batch_units(sentences: Sequence[str]) -> int:
    """Fit batches to a text: an epoch needs a hundred steps or so, a step enough words for the machine."""
    words = sum(len(sentence.split()) for sentence in sentences)
    return min(max(words // STEPS, SMALLEST_BATCH), LARGEST_BATCH)


@dataclass(frozen=True)
class _NetworkOptions:
    """The options that say which network is trained; those that were left out are None."""

    tokens_of: Path | None
    vocabulary: int | None
    min_count: int
    init_from: Path | None
    cell: str | None
    layers: int | None
    hidden: int | None
    embedding: int | None
    embeddings: Path | None
    tied: bool | None
    softmax: str | None
    dropout: float

    def identity(self) -> dict[str, Any]:
        """All of them as JSON has them; of the model to go on from, what it holds counts, not where it lies."""
        from asr.files import file_fingerprint

        options = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        return {**options, "init_from": self.init_from and file_fingerprint(self.init_from)}


_FREE = ("init_from", "min_count", "dropout")
"""Of these options, those in which a model to go on from leaves a choice."""


@dataclass(frozen=True)
class _TrainingOptions:
    """The options that say how it is trained, as far as the weights depend on them: all are in the run's record."""

    draws: int
    epochs: int
    patience: int
    batch_units: int | None
    longest: int
    learning_rate: float
    weight_decay: float
    precision: str
    seed: int


class _Sets(NamedTuple):
    train: list[str]
    dev: list[str]


def _read(texts: list[str], dev: Path | None, model: Path | None, seed: int, reporter: Reporter) -> _Sets:
    """The sentences to train on, and those to measure with."""
    import numpy as np

    with reporter.progress("read") as advance:
        sentences = list(with_progress(read_sentences(texts, model), advance))
    if dev is not None:
        sets = _Sets(sentences, list(read_sentences([str(dev)], model)))
    else:
        order = np.random.default_rng(seed).permutation(len(sentences))
        held_out = set(order[: -int(-HELD_OUT * len(sentences) // 1)].tolist())
        sets = _Sets(
            [sentence for place, sentence in enumerate(sentences) if place not in held_out],
            [sentences[place] for place in sorted(held_out)],
        )
        reporter.say(f"held out {len(held_out):,} of {len(sentences):,} sentences, drawn with seed {seed}")
    if not sets.train or not sets.dev:
        raise DataError("there are too few sentences", expected="some to train on, and some to measure with")
    return sets


def _begin(wanted: _NetworkOptions, sentences: Sequence[str], reporter: Reporter) -> tuple[Units, LanguageNetwork]:
    """The network to train: a new one, or that of a model to go on from."""
    from asr.text.neural_network import LanguageNetwork

    if wanted.init_from is not None:
        _refuse({name: value for name, value in asdict(wanted).items() if name not in _FREE})
        return _grown(wanted.init_from, sentences, wanted.min_count, wanted.dropout, reporter)
    units = _units(sentences, wanted)
    vectors = _vectors(wanted.embeddings, wanted.embedding)
    network = LanguageNetwork(_architecture(wanted, units, vectors))
    if vectors is not None:
        _begin_with(vectors, network, units, reporter)
    return units, network


def _units(sentences: Sequence[str], wanted: _NetworkOptions) -> Units:
    from asr.text import tokenizer, units

    if wanted.tokens_of is None:
        return units.count_words(sentences, wanted.vocabulary, wanted.min_count)
    if wanted.vocabulary is not None:
        raise ConfigError("tokens are a vocabulary already", where="--vocabulary", hint="no --tokens-of with it")
    from asr import artefact

    return units.Tokens(tokenizer.load(artefact.locate(wanted.tokens_of)))


def _architecture(wanted: _NetworkOptions, units: Units, vectors: WordVectors | None) -> Architecture:
    """What a new network is like: as wanted, or else as suits the units and the vectors to begin with."""
    from asr.text.neural_network import Architecture

    softmax = wanted.softmax or ("full" if len(units.symbols) <= MANY_UNITS else "sampled")
    if units.kind == "tokens" and softmax != "full":
        raise ConfigError(
            "tokens are in no order of frequency", where="--softmax", expected="full, with --tokens-of"
        )
    return Architecture(
        units=len(units.symbols),
        cell=wanted.cell or "lstm",
        layers=wanted.layers or LAYERS,
        embedding=wanted.embedding or (EMBEDDING if vectors is None else vectors.vectors.shape[1]),
        hidden=wanted.hidden or HIDDEN,
        dropout=wanted.dropout,
        tied=softmax != "adaptive" if wanted.tied is None else wanted.tied,
        softmax=softmax,
    )


def _refuse(options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            what = "the model to go on from has its own"
            raise ConfigError(what, where=f"--{name.replace('_', '-')}", expected="no such option with --init-from")


def _grown(
    path: Path, sentences: Sequence[str], min_count: int, dropout: float, reporter: Reporter
) -> tuple[Units, LanguageNetwork]:
    """A model, and the new words of sentences that occur often enough."""
    from asr.text import neural, units

    model = neural.load(path)
    words = units.frequent_words(sentences, min_count) if model.units.kind == "words" else ()
    grown = neural.extended(model, words, dropout)
    new = len(grown.words) - len(model.words)
    reporter.say(f"going on from {path}, which knows {len(model.words):,} {model.units.kind}; {new:,} are new")
    return grown.units, grown.network


def _vectors(path: Path | None, width: int | None) -> WordVectors | None:
    if path is None:
        return None
    from asr.text import vector_files

    vectors = vector_files.load(path)
    found = vectors.vectors.shape[1]
    if width not in (None, found):
        raise ConfigError(f"the vectors have {found} numbers", where=path, expected=f"{width}, as --embedding says")
    return vectors


def _begin_with(vectors: WordVectors, network: LanguageNetwork, units: Units, reporter: Reporter) -> None:
    """Copy the vectors of known words into the embeddings."""
    import torch

    words = [symbol.strip() for symbol in units.symbols]  # a token may have the space before it
    places = [place for place, word in enumerate(words) if word in vectors]
    known = vectors.vectors[[vectors.id(words[place]) for place in places]]
    with torch.no_grad():
        network.embedding.weight[places] = torch.from_numpy(known)
    reporter.say(f"{len(places):,} of {len(units.symbols):,} embeddings begin with a vector")


def _digest(sentences: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sentences).encode()).hexdigest()[:16]
