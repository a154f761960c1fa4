"""`asr tune`: settings of a trained model, found on recordings whose text is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from asr.cli.decoding import LanguageModel, Lexicon, prepare
from asr.cli.inputs import Device, ModelFolder, load_model
from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.artefact import Model
    from asr.decoder_settings import DecoderSettings
    from asr.recognizer import Recognizer
    from asr.reporting import Advance, Reporter
    from asr.tuning import Evidence, Trial

DECODER_EPILOG = """
Examples:

  asr tune decoder runs/quickstart data/dev.jsonl --lm commands.arpa

  asr tune decoder my-model dev.jsonl --lm news.ngram --lexicon words.txt --trials 200 --dry-run
"""

RESCORING_EPILOG = """
Example:

  asr tune rescoring my-model dev.jsonl --lm large.ngram
"""

Manifest = Annotated[
    Path, typer.Argument(metavar="MANIFEST", help="Recordings that it was not trained on, and their text.")
]
Trials = Annotated[int, typer.Option(metavar="N", min=1, help="How many weights to try.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the weights that are tried.")]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Recordings decoded at once.",
        show_default="one, more where they are long, up to the cores",
    ),
]
BatchSize = Annotated[int, typer.Option(metavar="N", min=1, help="Recordings through the network at once.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Leave the model as it is.")]

_RESCORING = {"rescore", "nbest_rescored", "gamma", "delta", "first_pass", "rescoring_tuning"}

app = typer.Typer(no_args_is_help=True, help="Find settings for a recipe or a trained model.")


@app.command(epilog=DECODER_EPILOG, short_help="Find the weights of the beam search.")
def decoder(
    model: ModelFolder,
    manifest: Manifest,
    lm: LanguageModel = None,
    lexicon: Lexicon = None,
    trials: Trials = 60,
    seed: Seed = 0,
    threads: Threads = None,
    device: Device = "auto",
    batch_size: BatchSize = 8,
    dry_run: DryRun = False,
) -> None:
    """Find the language model's weight, the bonuses and the beam width with the fewest errors.

    They become part of the model, with the language model and the lexicon, and `asr transcribe` and `asr
    evaluate` use them from then on. Without --lm or --lexicon, those that the model has are tuned again, and
    keep their weights unless others have fewer errors. If it rescores, that is taken from it, as the weights of a
    rescoring suit the search that they were found with.
    """
    from asr import tuning
    from asr.cli.reporter import TerminalReporter
    from asr.decoder_settings import DecoderSettings

    reporter = TerminalReporter()
    folder, loaded = load_model(model)
    own = loaded.decoder or DecoderSettings()
    as_before = lm is None and lexicon is None  # so that the weights that these have are tried first
    weights = own.model_dump(include={*tuning.RANGES, "beam_width"}) if as_before else {}
    settings = DecoderSettings(lm=lm or own.lm, lexicon=lexicon or own.lexicon, **weights)
    heard = _listen(folder, loaded, manifest, device, batch_size, settings, reporter)
    with reporter.progress("tune", (trials if settings.lm else 1) + len(tuning.BEAM_WIDTHS)) as advance:
        table = _Table(_DECODER_COLUMNS, advance)
        tuned = tuning.tune(*heard, settings, trials, seed, threads, table)
    best = tuned.best.score
    rates = f"{tuned.baseline.wer:.2%} greedy, {tuned.untuned.wer:.2%} beam search untuned, {best.wer:.2%} tuned"
    typer.echo(_summary(_DECODER_COLUMNS, tuned.candidates, tuned.best, manifest, rates))
    if not tuned.helps:
        typer.echo(f"the beam search is no better than greedy decoding: {folder} stays as it is")
        return
    _keep(folder, tuned.search_settings(manifest), dry_run)
    if own.rescore is not None and not dry_run:
        reporter.warn("the rescoring was tuned for another search: run `asr tune rescoring` with it again")


@app.command(epilog=RESCORING_EPILOG, short_help="Find the weights of a language model that rescores.")
def rescoring(
    model: ModelFolder,
    manifest: Manifest,
    lm: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Language model to rescore with: .arpa, .arpa.gz, .ngram, .safetensors.",
        ),
    ] = None,
    nbest_rescored: Annotated[
        int,
        typer.Option(min=2, metavar="N", help="How many hypotheses to rescore at most; fewer if they do as well."),
    ] = 100,
    trials: Trials = 200,
    seed: Seed = 0,
    threads: Threads = None,
    device: Device = "auto",
    batch_size: BatchSize = 8,
    dry_run: DryRun = False,
) -> None:
    """Find how a second language model best ranks what the beam search finds.

    The search stays as the model has it: tune that first. The weights become part of the model, with the language
    model, and `asr transcribe` and `asr evaluate` use them from then on. Without --lm, the one that the model
    rescores with is tuned again.
    """
    from asr import tuning
    from asr.cli.reporter import TerminalReporter
    from asr.decoder_settings import DecoderSettings

    reporter = TerminalReporter()
    folder, loaded = load_model(model)
    own = loaded.decoder or DecoderSettings()
    # Of the model's own rescoring only the language model counts: the weights begin as usual.
    settings = DecoderSettings(**{**own.model_dump(exclude=_RESCORING), "rescore": lm or own.rescore})
    if settings.rescore is None:
        raise ConfigError("no language model to rescore with", where=folder, hint="--lm FILE")
    heard = _listen(folder, loaded, manifest, device, batch_size, settings, reporter)
    numbers = [*(number for number in tuning.LISTS if number < nbest_rescored), nbest_rescored]
    with reporter.progress("tune", trials + len(numbers)) as advance:
        table = _Table(_RESCORING_COLUMNS, advance)
        tuned = tuning.tune_rescoring(*heard, settings, trials, seed, threads, table, numbers)
    best = tuned.best.score
    rates = f"{tuned.baseline.wer:.2%} first pass, {tuned.untuned.wer:.2%} rescored untuned, {best.wer:.2%} tuned"
    typer.echo(_summary(_RESCORING_COLUMNS, tuned.candidates, tuned.best, manifest, rates))
    if tuned.helps:
        _keep(folder, tuned.rescoring_settings(manifest), dry_run)
    else:
        typer.echo(f"rescoring is no better than the search alone: {folder} stays as it is")


def _listen(
    folder: Path,
    loaded: Model,
    manifest: Path,
    device: str,
    batch_size: int,
    settings: DecoderSettings,
    reporter: Reporter,
) -> tuple[Recognizer, Evidence]:
    """The model at work, and what it makes of the manifest's recordings."""
    from asr import build, tuning
    from asr.data.manifest import read_manifest
    from asr.recognizer import Recognizer

    utterances = read_manifest(manifest)
    where = build.device(device)
    reporter.say(f"model {folder} on {where}, {_materials(settings)}")
    prepare(settings, reporter)
    recognizer = Recognizer(replace(loaded, decoder=None), where)
    with reporter.progress("listen", len(utterances)) as advance:
        return recognizer, tuning.listen(recognizer, utterances, batch_size, advance)


class _Column(NamedTuple):
    """Of a table of trials: a setting, its heading, and how a number is written."""

    setting: str
    heading: str
    form: str


_DECODER_COLUMNS = (
    _Column("alpha", " alpha", "6.3f"),
    _Column("beta", "  beta", "6.3f"),
    _Column("unknown", "unknown", "7.3f"),
    _Column("beam_width", "width", "5"),
)
_RESCORING_COLUMNS = (
    _Column("gamma", " gamma", "6.3f"),
    _Column("delta", " delta", "6.3f"),
    _Column("first_pass", "first pass", "10.3f"),
    _Column("nbest_rescored", "texts", "5"),
)


@dataclass
class _Table:
    """Prints the trials that are better than all before, as they come."""

    columns: Sequence[_Column]
    advance: Advance
    done: int = 0
    best: list[Trial] = field(default_factory=list)

    def __call__(self, trial: Trial) -> None:
        if not self.done:
            typer.echo(f"trial  {'  '.join(column.heading for column in self.columns)}  WER %  CER %")
        self.done += 1
        if not self.best or trial.rank < self.best[-1].rank:
            self.best.append(trial)
            typer.echo(_row(self.columns, str(self.done), trial))
        self.advance(self.done, f"WER {self.best[-1].score.wer:.2%}")


def _row(columns: Sequence[_Column], name: str, trial: Trial) -> str:
    numbers = "  ".join(f"{getattr(trial.settings, column.setting):{column.form}}" for column in columns)
    return f"{name:>5}  {numbers}  {100 * trial.score.wer:5.2f}  {100 * trial.score.cer:5.2f}"


def _summary(columns: Sequence[_Column], trials: Sequence[Trial], best: Trial, manifest: Path, rates: str) -> str:
    rows = [_row(columns, "kept" if trial is best else "", trial) for trial in trials]
    size = f"{best.score.words} words in {best.score.utterances} utterances"
    return "\n".join(["", *rows, "", f"{manifest.stem}: WER {rates} ({size})"])


def _materials(settings: DecoderSettings) -> str:
    parts = []
    if settings.lm is not None:
        parts.append(f"language model {settings.lm}")
    elif settings.rescore is None:
        parts.append("no language model, so only the beam width is tuned")
    if settings.lexicon is not None:
        parts.append(f"words of {settings.lexicon}")
    if settings.rescore is not None:
        parts.append(f"rescored by {settings.rescore}")
    return ", ".join(parts)


def _keep(folder: Path, settings: DecoderSettings, dry_run: bool) -> None:
    """Make settings part of the model."""
    from asr import artefact

    if dry_run:
        typer.echo(f"dry run: {folder} stays as it is")
        return
    artefact.save_decoder(folder, settings)
    named = (
        (artefact.DECODER, True),
        (artefact.LANGUAGE_MODEL, settings.lm),
        (artefact.LEXICON, settings.lexicon),
        (artefact.rescoring_name(settings), settings.rescore),
    )
    typer.echo(f"written into {folder}: {', '.join(name for name, there in named if there)}")
