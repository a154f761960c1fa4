"""`asr transcribe`: recordings to text."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
from asr.cli.inputs import (
    Device,
    OverwriteFiles,
    Recording,
    check_outputs,
    files_for,
    find_recordings,
    load_recognizer,
    most_shared,
)
from asr.errors import AsrError, ConfigError
from asr.files import write_text

if TYPE_CHECKING:
    from asr.formats import Format
    from asr.recognizer import Recognizer
    from asr.reporting import Reporter
    from asr.transcript import Transcript

EPILOG = """
Examples:

  asr transcribe memo.wav

  asr transcribe talk.mp3 --output talk.srt

  asr transcribe recordings/ --format json --output texts/

  ffmpeg -i video.mkv -f wav - | asr transcribe -
"""


def transcribe(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Recordings, folders of them, patterns, or - for standard input."),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder of a model or of a run.", show_default="the newest model in ./runs"
        ),
    ] = None,
    format: Annotated[
        Literal["text", "json", "srt", "vtt", "ctm", "tsv"] | None,
        typer.Option(help="What to write.", show_default="by the suffix of --output, else text"),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A file for all (FILE.txt), or a folder for a file each (a.txt; a.wav.txt beside a.mp4.txt).",
            show_default="standard output",
        ),
    ] = None,
    device: Device = "auto",
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Recordings (or windows of long ones) at once.")
    ] = 8,
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
    nbest: Annotated[int, typer.Option(metavar="N", min=1, help="How many ways to hear it, best first.")] = 1,
) -> None:
    """Write down what is said in recordings of any length, format and sample rate.

    The text goes to standard output, everything else to standard error. A recording that can't be read is
    reported, and the others are transcribed; the exit code is then 1.
    """
    from asr.cli.reporter import TerminalReporter

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
        nbest=nbest,
    )
    recordings = find_recordings(files)
    where = _Output.of(output)
    form = _choose_format(format, where)
    if nbest > 1 and not form.shows_alternatives:
        raise ConfigError(
            f"--nbest {nbest}, but a file of this kind ({form.suffix}) holds only one way to hear a recording",
            expected="--format text or --format json",
        )
    _check_output(recordings, form, where, overwrite)
    seconds = _seconds(recordings)
    reporter = TerminalReporter()
    recognizer = load_recognizer(model, device, decoding, reporter)
    work = _Work(recognizer, recordings, batch_size, reporter, seconds)
    _write(work, form, where)
    if work.failed:
        reporter.warn(f"{work.failed} of {len(recordings)} recordings could not be transcribed")
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Output:
    """One file for all transcripts, or a folder for a file each, or else standard output."""

    file: Path | None = None
    folder: Path | None = None

    @classmethod
    def of(cls, given: str | None) -> _Output:
        if given is None:
            return cls()
        path = Path(given)
        slash = given.endswith(("/", os.sep))
        is_folder = slash or path.is_dir() or not (path.suffix or path.exists())
        return cls(folder=path) if is_folder else cls(file=path)


def _choose_format(name: str | None, output: _Output) -> Format:
    from asr.formats import FORMATS

    if name is not None:
        return FORMATS[name]
    if output.file is None:
        return FORMATS["text"]
    by_suffix = {form.suffix: form for form in FORMATS.values()}
    suffix = output.file.suffix.lower()
    if suffix not in by_suffix:
        raise ConfigError(
            "no format is known by this suffix",
            where=output.file,
            expected=", ".join(by_suffix),
            hint="--format NAME, whatever the file is called",
        )
    return by_suffix[suffix]


def _check_output(recordings: Sequence[Recording], form: Format, output: _Output, overwrite: bool) -> None:
    """Refuse what can't be written before time is spent on it."""
    from asr.formats import FORMATS

    if output.folder:
        paths = files_for(recordings, output.folder, form.suffix)
    elif len(recordings) > 1 and not form.holds_many:
        raise ConfigError(
            f"the subtitles of {len(recordings)} recordings do not go into one file",
            expected="--output FOLDER, for a file each",
        )
    else:
        paths = [output.file] if output.file else []
        if form is FORMATS["ctm"]:
            _refuse_equal_names(recordings)
    sources = [recording.source for recording in recordings if isinstance(recording.source, Path)]
    check_outputs(paths, overwrite, made_from=sources)


def _refuse_equal_names(recordings: Sequence[Recording]) -> None:
    from asr.formats import ctm_name

    name, sources = most_shared(recordings, [ctm_name(recording.name) for recording in recordings])
    if len(sources) > 1:
        raise ConfigError(
            f"{' and '.join(sources[:3])} would have the same name in the CTM file, {name}",
            expected="recordings with names of their own; or --output FOLDER, for a file each",
        )


def _seconds(recordings: Sequence[Recording]) -> int | None:
    """The length of all recordings together, as far as their headers tell it.

    Raises:
        AudioError: there is but one, and it can't be read.
    """
    from asr.audio import read_header

    total = 0.0
    for recording in recordings:
        if not isinstance(recording.source, Path) or recording.source.is_fifo():
            return None  # a pipe can be read only once
        try:
            total += read_header(recording.source).duration
        except AsrError:
            if len(recordings) == 1:
                raise
    return round(total)


@dataclass
class _Work:
    """The transcripts of recordings, made as they are asked for; tells of those that can't be read."""

    recognizer: Recognizer
    recordings: Sequence[Recording]
    batch_size: int
    reporter: Reporter
    seconds: int | None
    done: int = 0
    failed: int = 0

    def __iter__(self) -> Iterator[tuple[Recording, Transcript]]:
        sources = [recording.source for recording in self.recordings]
        with self.reporter.progress("transcribe", self.seconds) as advance:
            results = self.recognizer.attempt(
                sources, self.batch_size, lambda seconds: advance(round(seconds), "seconds of audio")
            )
            for recording, result in zip(self.recordings, results, strict=True):
                if isinstance(result, AsrError):
                    self.failed += 1
                    self.reporter.warn(str(result))
                else:
                    yield recording, result
                    self.done += 1


def _write(work: _Work, form: Format, output: _Output) -> None:
    from asr.formats import FORMATS, NAMED_TEXT

    if output.folder:
        paths = dict(zip(work.recordings, files_for(work.recordings, output.folder, form.suffix), strict=True))
        for recording, transcript in work:
            write_text(paths[recording], "".join(form.render([transcript])))
        return
    if form is FORMATS["text"] and len(work.recordings) > 1:
        form = NAMED_TEXT
    parts = form.render(transcript for _, transcript in work)
    if output.file is None:
        for part in parts:
            sys.stdout.write(part)  # which stands above the progress bar, when both are on a terminal
            sys.stdout.flush()
        return
    written: list[str] = []
    try:
        written.extend(parts)
    except (Exception, KeyboardInterrupt):
        if work.done:
            work.reporter.warn(f"{output.file} holds {work.done} of {len(work.recordings)} recordings")
        raise
    finally:
        if work.done:
            write_text(output.file, "".join(written))
