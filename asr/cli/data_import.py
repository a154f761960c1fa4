"""`asr data import`: manifests for recordings that others' programs, or one's own table, have listed."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from asr.cli.inputs import check_outputs
from asr.data.layouts.detection import Layout, detect
from asr.errors import ConfigError, DataError, counted
from asr.reporting import length_of_sound

if TYPE_CHECKING:
    from asr.data.layouts.entries import Listing
    from asr.data.layouts.table import Columns
    from asr.data.manifest import Utterance
    from asr.reporting import Reporter

EPILOG = """
What can be read:

  kaldi        a data directory: wav.scp, text, perhaps segments, utt2spk

  librispeech  SET/SPEAKER/CHAPTER/*.trans.txt, and the recordings beside them

  ljspeech     metadata.csv, and wavs/

  table        CSV or TSV whose first line names the columns, such as Common Voice's

  folder       recordings, each beside a text of the same name: a.wav, a.txt

Examples:

  asr data import recordings --out mine --dev 0.1 --test 0.1

  asr data import corpus.csv --out mine.jsonl --audio-column file --text-column said

  asr data import cv-corpus/eo/validated.tsv --out esperanto --dev 0.05 --test 0.05
"""


def column(what: str) -> typer.models.OptionInfo:
    """An option that names a table's column."""
    option: typer.models.OptionInfo = typer.Option(metavar="NAME", help=f"Column of a table that holds {what}.")
    return option


def import_(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", exists=True, help="A folder, or a table.")],
    out: Annotated[Path, typer.Option(metavar="PATH", help="Manifest to make; with --dev or --test, a folder.")],
    layout: Annotated[
        Layout | None,
        typer.Option("--format", help="How the source is laid out.", show_default="what it looks like"),
    ] = None,
    dev: Annotated[
        float, typer.Option(min=0, max=0.9, metavar="SHARE", help="Share to hold out as development set.")
    ] = 0.0,
    test: Annotated[
        float, typer.Option(min=0, max=0.9, metavar="SHARE", help="Share to hold out as test set.")
    ] = 0.0,
    hold_out: Annotated[
        Literal["speakers", "recordings"],
        typer.Option(
            help="What no two sets share; where fewer than two speakers are named, recordings in any case."
        ),
    ] = "speakers",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the choice of what is held out.")] = 1,
    audio_column: Annotated[str | None, column("paths")] = None,
    text_column: Annotated[str | None, column("transcripts")] = None,
    speaker_column: Annotated[str | None, column("speakers")] = None,
    start_column: Annotated[str | None, column("seconds at which utterances start")] = None,
    end_column: Annotated[str | None, column("seconds at which they end")] = None,
    audio_root: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where relative paths in a table or wav.scp start.")
    ] = None,
    speaker_folders: Annotated[
        bool, typer.Option("--speaker-folders", help="Each folder in SOURCE is named after a speaker.")
    ] = False,
    skip_faulty: Annotated[
        bool, typer.Option("--skip-faulty", help="Leave out what can't be used, and warn.")
    ] = False,
    relative: Annotated[
        bool,
        typer.Option("--relative", help="Write relative paths, to recordings outside the manifest's folder too."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace manifests that are there.")] = False,
) -> None:
    """List recordings and their transcripts, as they are, in manifests to train on.

    Everything that is wrong is told at once, by file and line. Where at least two speakers are named, none of them
    is in two sets; recordings without a speaker, or all of one speaker, are held out by themselves.
    """
    from asr.cli.reporter import TerminalReporter
    from asr.data.layouts.entries import faulty, measure, repeated
    from asr.data.layouts.table import Columns
    from asr.data.manifest import write_manifest
    from asr.data.splitting import Unit, overshoots, refuse_too_few, split

    unit: Unit = "speaker" if hold_out == "speakers" else "recording"
    shares = {name: share for name, share in (("dev", dev), ("test", test)) if share}
    paths = _outputs(out, shares)
    check_outputs(paths.values(), overwrite)
    layout = layout or detect(source)
    columns = Columns(audio_column, text_column, speaker_column, start_column, end_column)
    _refuse_what_is_for_others(layout, columns, audio_root, speaker_folders)
    listing = _read(source, layout, columns, audio_root, speaker_folders)
    if shares and listing.entries and (skip_faulty or not listing.faults):
        speakers = ((entry.audio, entry.fields.get("speaker")) for entry in listing.entries)
        refuse_too_few(list(speakers), len(shares) + 1, unit)
    reporter = TerminalReporter()
    with reporter.progress("read", len({entry.audio for entry in listing.entries})) as advance:
        utterances, faults = measure(listing, lambda done, total: advance(done))
    if not listing.entries and not faults:
        raise DataError("lists no utterances", where=source)
    if not utterances and layout in (Layout.TABLE, Layout.KALDI):
        _refuse_where_all_are_elsewhere(source, listing)
    if faults and not (skip_faulty and utterances):
        raise faulty(faults, source, hint="mend them, or --skip-faulty leaves them out")
    if faults:
        reporter.warn(str(faulty(faults, source)))
    sets = split(utterances, shares, seed, unit)
    for name, path in paths.items():
        write_manifest(path, sets[name], relative)
        typer.echo(f"{path}: {_summary(sets[name])}")
    for message in [*repeated(utterances), *overshoots(sets, shares, unit)]:
        reporter.warn(message)
    if shares:
        _tell_of_speakers(utterances, layout, columns, reporter)
    if shares and layout is Layout.FOLDER and not speaker_folders:
        _hint_at_folders(source, listing, reporter)
    for path in _left_over(paths.values()):
        reporter.warn(f"{path} is of an earlier import: the new sets may share speakers and recordings with it")
    if len(paths) == 3:
        typer.echo(_recipe(paths))
    elif len(paths) == 2:
        typer.echo("a recipe takes three sets: --dev and --test make two, or a manifest of your own is one")


def _tell_of_speakers(
    utterances: Sequence[Utterance], layout: Layout, columns: Columns, reporter: Reporter
) -> None:
    """Say so where sets share a speaker who is the only one, or speakers who may be in a column of another name."""
    speakers = {utterance.speaker for utterance in utterances}
    if len(speakers) > 1:
        return
    if speakers != {None}:
        reporter.say("one speaker is in all sets: what they measure holds for no other voice")
    elif layout is Layout.TABLE and columns.speaker is None:
        from asr.data.manifest import grouping_fields

        others = grouping_fields(utterances)
        if others:
            reporter.say(f"no speakers named; does a column name them (--speaker-column)? {', '.join(others)}")


def _refuse_where_all_are_elsewhere(source: Path, listing: Listing) -> None:
    """Say it once where no recording is there.

    Raises:
        DataError: so it is, and there would be several.
    """
    from asr.sound_files import hint_at_windows

    missing = [entry.audio for entry in listing.entries if not entry.audio.exists()]
    if len(missing) == len(listing.entries) > 1:
        raise DataError(
            f"none of its {len(missing)} recordings is there, such as {missing[0]}",
            where=source,
            hint=hint_at_windows(missing[0]) or "--audio-root FOLDER, from which the paths in it start",
        )


def _outputs(out: Path, shares: Mapping[str, float]) -> dict[str, Path]:
    """The manifests to make, by the names of the sets.

    Raises:
        ConfigError: a manifest is wanted where there will be several, or the other way round.
    """
    if sum(shares.values()) >= 1:
        raise ConfigError("nothing is left to train on", where="--dev and --test", expected="together below 1")
    if not shares:
        if out.suffix != ".jsonl":
            raise ConfigError(
                "one manifest is made",
                where=f"--out {out}",
                expected="a name that ends in .jsonl; or --dev 0.1 --test 0.1, for a folder of three",
            )
        return {"train": out}
    if out.suffix == ".jsonl" or out.is_file():
        raise ConfigError("a file", where=f"--out {out}", expected="a folder, for several manifests")
    return {name: out / f"{name}.jsonl" for name in ("train", *shares)}


def _left_over(paths: Collection[Path]) -> list[Path]:
    """The held-out sets beside new ones that were not made with them."""
    beside = {path.with_name(f"{name}.jsonl") for path in paths for name in ("dev", "test")}
    return sorted(path for path in beside - set(paths) if len(paths) > 1 and path.exists())


def _refuse_what_is_for_others(
    layout: Layout, columns: Columns, audio_root: Path | None, speaker_folders: bool
) -> None:
    """Refuse options that would have no effect.

    Raises:
        ConfigError: some are given.
    """
    given = {
        "--…-column": (any(vars(columns).values()), (Layout.TABLE,)),
        "--audio-root": (audio_root is not None, (Layout.TABLE, Layout.KALDI)),
        "--speaker-folders": (speaker_folders, (Layout.FOLDER,)),
    }
    for option, (is_given, layouts) in given.items():
        if is_given and layout not in layouts:
            raise ConfigError(f"means nothing for the format {layout}", where=option, expected=" or ".join(layouts))


def _read(
    source: Path, layout: Layout, columns: Columns, audio_root: Path | None, speaker_folders: bool
) -> Listing:
    from asr.data.layouts import folder, kaldi, librispeech, ljspeech, table

    match layout:
        case Layout.KALDI:
            return kaldi.read(source, audio_root)
        case Layout.LIBRISPEECH:
            return librispeech.read(source)
        case Layout.LJSPEECH:
            return ljspeech.read(source)
        case Layout.TABLE:
            return table.read(source, columns, audio_root)
        case Layout.FOLDER:
            return folder.read(source, speaker_folders)


def _hint_at_folders(source: Path, listing: Listing, reporter: Reporter) -> None:
    """Say that held-out sets may share speakers, where folders might tell these apart."""
    folders = {Path(entry.id).parts[0] for entry in listing.entries if "/" in entry.id}
    if len(folders) > 1:
        reporter.warn(
            f"sets may share speakers, as none are named; --speaker-folders takes the {len(folders)} folders in "
            f"{source} for speakers"
        )


def _summary(utterances: Sequence[Utterance]) -> str:
    length = length_of_sound(sum(utterance.duration for utterance in utterances))
    speakers = len({utterance.speaker for utterance in utterances} - {None})
    return f"{counted(len(utterances), 'utterance')}, {length}, " + (
        counted(speakers, "speaker") if speakers else "no speakers named"
    )


def _recipe(paths: Mapping[str, Path]) -> str:
    import yaml

    train, dev, test = (str(path.resolve()) for path in paths.values())
    section = {"corpus": "manifests", "train": train, "dev": dev, "tests": {"test": test}}
    lines = yaml.safe_dump(
        {"prepare": section}, default_flow_style=None, sort_keys=False, allow_unicode=True, width=sys.maxsize
    )
    return "in a recipe:\n" + indent(lines, "  ").rstrip()
