"""`asr tune`: settings of a trained model, found on recordings whose text is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.decoding import LanguageModel, Lexicon, prepare
from asr.cli.inputs import load_model
from asr.files import file_fingerprint

if TYPE_CHECKING:
    from asr.decoder_settings import DecoderSettings
    from asr.reporting import Advance
    from asr.tuning import Trial, Tuned

EPILOG = """
Examples:

  asr tune decoder runs/quickstart data/dev.jsonl --lm commands.arpa

  asr tune decoder my-model dev.jsonl --lexicon words.txt --trials 200 --dry-run
"""

app = typer.Typer(no_args_is_help=True, help="Find settings for a trained model.")


@app.callback()
def _commands() -> None:
    """Find settings for a trained model."""  # typer would make a single command the whole app


@app.command(epilog=EPILOG, short_help="Find the weights of the beam search.")
def decoder(
    model: Annotated[Path, typer.Argument(help="Folder of a model or of a run.")],
    manifest: Annotated[Path, typer.Argument(help="Recordings that it was not trained on, and their text.")],
    lm: LanguageModel = None,
    lexicon: Lexicon = None,
    trials: Annotated[int, typer.Option(min=1, help="How many weights to try.")] = 60,
    seed: Annotated[int, typer.Option(help="Of where they lie.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Recordings decoded at once.", show_default="one for each core")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Recordings through the network at once.")] = 8,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Leave the model as it is.")] = False,
) -> None:
    """Find the language model's weight, the bonuses and the beam width with the fewest errors.

    They become part of the model, with the language model and the lexicon, and `asr transcribe` and `asr
    evaluate` use them from then on. Without --lm or --lexicon, those that the model has are tuned again.
    """
    from asr import artefact, build, tuning
    from asr.cli.reporter import TerminalReporter
    from asr.data.manifest import read_manifest
    from asr.decoder_settings import DecoderSettings
    from asr.recognizer import Recognizer

    reporter = TerminalReporter()
    utterances = read_manifest(manifest)
    where = build.device(device)
    folder, loaded = load_model(model)
    own = loaded.decoder or DecoderSettings()
    settings = DecoderSettings(lm=lm or own.lm, lexicon=lexicon or own.lexicon)
    reporter.say(f"model {folder} on {where}, {_materials(settings)}")
    prepare(settings, reporter)
    recognizer = Recognizer(replace(loaded, decoder=None), where)
    with reporter.progress("listen", len(utterances)) as advance:
        evidence = tuning.listen(recognizer, utterances, batch_size, lambda done: advance(done, ""))
    with reporter.progress("tune", trials + len(tuning.BEAM_WIDTHS)) as advance:
        tuned = tuning.tune(recognizer, evidence, settings, trials, seed, threads, _Table(advance))
    typer.echo(_summary(manifest, tuned))
    if tuned.best.score.errors >= tuned.greedy.errors:
        typer.echo(f"the beam search is no better than greedy decoding: {folder} stays as it is")
    elif dry_run:
        typer.echo(f"dry run: {folder} stays as it is")
    else:
        artefact.save_decoder(folder, _with_origin(tuned, manifest))
        typer.echo(f"written into {folder}: {', '.join(_files(settings))}")


@dataclass
class _Table:
    """Prints the trials that are better than all before, as they come."""

    advance: Advance
    done: int = 0
    best: list[Trial] = field(default_factory=list)

    def __call__(self, trial: Trial) -> None:
        if not self.done:
            typer.echo("trial   alpha    beta  unknown  width  WER %  CER %")
        self.done += 1
        if not self.best or trial.rank < self.best[-1].rank:
            self.best.append(trial)
            typer.echo(_row(str(self.done), trial))
        self.advance(self.done, f"WER {self.best[-1].score.wer:.2%}")


def _row(name: str, trial: Trial) -> str:
    weights, score = trial.settings, trial.score
    return (
        f"{name:>5}  {weights.alpha:6.3f}  {weights.beta:6.3f}  {weights.unknown:7.3f}  {weights.beam_width:5}"
        f"  {100 * score.wer:5.2f}  {100 * score.cer:5.2f}"
    )


def _summary(manifest: Path, tuned: Tuned) -> str:
    widths = [_row("kept" if trial is tuned.best else "", trial) for trial in tuned.widths]
    best = tuned.best.score
    return "\n".join(
        [
            "",
            *widths,
            "",
            f"{manifest.stem}: WER {tuned.greedy.wer:.2%} greedy, {tuned.untuned.wer:.2%} beam search untuned, "
            f"{best.wer:.2%} tuned ({best.words} words in {best.utterances} utterances)",
        ]
    )


def _materials(settings: DecoderSettings) -> str:
    parts = [
        "no language model, so only the beam width is tuned"
        if settings.lm is None
        else f"language model {settings.lm}"
    ]
    if settings.lexicon is not None:
        parts.append(f"words of {settings.lexicon}")
    return ", ".join(parts)


def _with_origin(tuned: Tuned, manifest: Path) -> DecoderSettings:
    """The settings, and what they were tuned on."""
    from asr.decoder_settings import Tuning

    score = tuned.best.score
    tuning = Tuning(
        manifest=file_fingerprint(manifest),
        utterances=score.utterances,
        words=score.words,
        wer_greedy=tuned.greedy.wer,
        wer_untuned=tuned.untuned.wer,
        wer=score.wer,
    )
    return tuned.best.settings.model_copy(update={"tuning": tuning})


def _files(settings: DecoderSettings) -> list[str]:
    from asr.artefact import DECODER, LANGUAGE_MODEL, LEXICON

    named = ((DECODER, True), (LANGUAGE_MODEL, settings.lm), (LEXICON, settings.lexicon))
    return [name for name, there in named if there]
