"""`asr evaluate`: how well a model does on recordings whose text is known."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.decoding import (
    Alpha,
    BeamWidth,
    Beta,
    DecoderName,
    DecodingOptions,
    GrammarFile,
    Hotwords,
    LanguageModel,
    Lexicon,
    NbestRescored,
    RejectAbove,
    Rescore,
)
from asr.cli.inputs import Device, ModelFolder, OverwriteFiles, check_outputs, load_recognizer
from asr.errors import ConfigError
from asr.files import write_json, write_text

if TYPE_CHECKING:
    from asr.data.manifest import Utterance
    from asr.evaluation import wer

EPILOG = """
Examples:

  asr evaluate runs/quickstart data/test.jsonl

  asr evaluate my-model test.jsonl --by speaker --by gender --worst 20

  asr evaluate my-model test.jsonl --json wer.json --hypotheses heard.tsv
"""


def evaluate(
    model: ModelFolder,
    manifest: Annotated[
        Path,
        typer.Argument(metavar="MANIFEST", help="JSONL: audio_filepath, duration, text, and any further fields."),
    ],
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD", help="Figures for each value of this field, too; may be given several times."
        ),
    ] = None,
    worst: Annotated[int, typer.Option(metavar="N", min=0, help="How many of the worst utterances to show.")] = 10,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures.")] = None,
    hypotheses: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write what was heard: audio path (and shard, or offset and duration) and text, between tabs.",
        ),
    ] = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Recordings at once.")] = 8,
    overwrite: OverwriteFiles = False,
    decoder: DecoderName = None,
    beam_width: BeamWidth = None,
    lm: LanguageModel = None,
    alpha: Alpha = None,
    beta: Beta = None,
    lexicon: Lexicon = None,
    hotwords: Hotwords = None,
    grammar: GrammarFile = None,
    reject_above: RejectAbove = None,
    rescore: Rescore = None,
    nbest_rescored: NbestRescored = None,
) -> None:
    """Measure word and character error rate, with counts, confidence interval and the worst utterances.

    Every utterance of the manifest counts: where one can't be read, nothing is measured.
    """
    decoding = DecodingOptions(
        decoder=decoder,
        beam_width=beam_width,
        lm=lm,
        alpha=alpha,
        beta=beta,
        lexicon=lexicon,
        hotwords=hotwords,
        grammar=grammar,
        reject_above=reject_above,
        rescore=rescore,
        nbest_rescored=nbest_rescored,
    )
    if json_file is not None and json_file == hypotheses:
        raise ConfigError("the same file for both", where="--json and --hypotheses", expected="a file for each")
    if manifest.is_dir():
        raise ConfigError("a folder", where=manifest, expected="the model, and behind it a manifest (.jsonl)")
    check_outputs([json_file, hypotheses], overwrite, made_from=[manifest])
    from asr.cli.reporter import TerminalReporter
    from asr.data.manifest import manifest_text, parse_manifest, refuse_missing

    content = manifest_text(manifest)
    utterances = parse_manifest(content, manifest)
    _check_fields(by or [], utterances)
    refuse_missing(utterances, manifest)
    reporter = TerminalReporter()
    recognizer = load_recognizer(model, device, decoding, reporter)
    from asr.assess import recognise_manifest
    from asr.evaluation import report, wer

    if hypotheses is None:  # which are worth having where nothing can be measured
        wer.refuse_wordless([recognizer.normalizer(utterance.text) for utterance in utterances])
    started = time.monotonic()
    with reporter.progress("evaluate", len(utterances)) as advance:
        answers = recognise_manifest(recognizer, utterances, batch_size, lambda done: advance(done, "utterances"))
    seconds = time.monotonic() - started
    if hypotheses is not None:
        write_text(hypotheses, _hypotheses(content, answers))
    score = wer.score(answers)
    breakdowns = {field: wer.breakdown(answers, field) for field in by or []}
    if json_file is not None:
        write_json(json_file, _figures(manifest, score, breakdowns, seconds))
    width = shutil.get_terminal_size().columns
    typer.echo(report.format_report(manifest.stem, answers, score, breakdowns, worst, width))


def _check_fields(fields: Sequence[str], utterances: Sequence[Utterance]) -> None:
    known = sorted({field for utterance in utterances for field in utterance.fields})
    unknown = [field for field in fields if field not in known]
    if unknown:
        raise ConfigError(
            f"no utterance has the field {unknown[0]}", where="--by", expected=", ".join(known) or "no field at all"
        )


def _figures(
    manifest: Path, score: wer.Score, breakdowns: Mapping[str, Mapping[str, wer.Score]], seconds: float
) -> dict[str, object]:
    from asr.evaluation.report import to_results

    return {
        "tests": [to_results(manifest.stem, score)],
        "stages": {"evaluate": round(seconds, 3)},
        "details": asdict(score),
        "by": {
            field: {value: asdict(part) for value, part in scores.items()} for field, scores in breakdowns.items()
        },
    }


def _hypotheses(manifest: str, answers: Sequence[wer.Answer]) -> str:
    # What names them stands as it is in the manifest, for others to join the two by it.
    named = [json.loads(line) for line in filter(str.strip, manifest.split("\n"))]
    entries = [{key: value for key, value in entry.items() if value is not None} for entry in named]
    keys = ["audio_filepath"]
    for further in (["shard"], ["offset", "duration"]):
        if any(further[0] in entry for entry in entries):
            keys += further
    return "".join(
        "\t".join([*(str(entry.get(key, "")) for key in keys), answer.hypothesis]) + "\n"
        for entry, answer in zip(entries, answers, strict=True)
    )
