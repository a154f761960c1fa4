"""What a command's arguments mean: recordings, a model, files that may be written."""

from __future__ import annotations

import glob
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from asr.cli.decoding import DecodingOptions, announced, describe, prepare
from asr.errors import ConfigError, some
from asr.files import full_disk_in_words, nearest_existing, real_path

if TYPE_CHECKING:
    from asr.artefact import Model
    from asr.recognizer import Recognizer
    from asr.reporting import Reporter

ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a model or of a run.")]
Device = Annotated[
    str, typer.Option(metavar="DEVICE", help="Where the network computes: auto, cpu, cuda or cuda:N.")
]
OverwriteFile = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
OverwriteFiles = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]


@dataclass(frozen=True)
class Recording:
    """A recording to transcribe.

    Attributes:
        source: its path, or the standard input.
        name: its path below the folder that was named, or its file name.
    """

    source: Path | BinaryIO
    name: Path


def find_recordings(arguments: Iterable[str]) -> list[Recording]:
    """The recordings that are meant: files, all those in folders, those that match patterns, standard input (-).

    What is meant several times comes once, where it is meant first. Links to a file by other names are others.
    Whether a file that was named is there shows when it is read.

    Raises:
        ConfigError: a folder or a pattern holds none, or one is a manifest.
    """
    recordings: dict[Path | None, Recording] = {}
    for argument in arguments:
        for recording in _recordings(argument):
            recordings.setdefault(_place(recording.source), recording)
    return list(recordings.values())


def _place(source: Path | BinaryIO) -> Path | None:
    """Where a recording is, however it was named; None is the standard input."""
    return real_path(source.parent) / source.name if isinstance(source, Path) else None


def _recordings(argument: str) -> Iterator[Recording]:
    path = Path(argument)
    if not argument:  # as of a variable that is not set: as a path it would be the current folder
        raise ConfigError("an empty name", where="''", expected="a recording, or . for the current folder")
    if argument == "-":
        yield Recording(sys.stdin.buffer, Path("stdin"))
    elif path.is_dir():
        yield from _in_folder(path)
    elif not path.exists() and glob.has_magic(argument):
        # The pattern was quoted, or the shell leaves patterns alone, as that of Windows does.
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207  # Path.glob refuses absolute patterns
        if not matches:
            raise ConfigError("no file matches this pattern", where=argument)
        for match in map(Path, matches):
            yield from _in_folder(match) if match.is_dir() else [Recording(match, Path(match.name))]
    elif path.suffix.lower() == ".jsonl" and path.is_file():
        hint = f"asr evaluate MODEL {argument} --hypotheses FILE, which writes what is heard, and measures it"
        raise ConfigError("a manifest, not a recording", where=argument, hint=hint)
    else:
        yield Recording(path, Path(path.name))


def _in_folder(folder: Path) -> list[Recording]:
    from asr.audio import SUFFIXES
    from asr.files import files_in

    found = [path for path in files_in(folder) if path.suffix.lower() in SUFFIXES]
    if not found:
        known = ", ".join(sorted(SUFFIXES))
        raise ConfigError("no recordings in this folder", where=folder, expected=f"files that end in {known}")
    return [Recording(path, path.relative_to(folder)) for path in found]


def files_for(recordings: Sequence[Recording], folder: Path, suffix: str) -> list[Path]:
    """A file in the folder for each recording, in subfolders like its own.

    Where names differ in their suffixes only, they keep them: a.wav.txt, a.mp4.txt. Capitals are no difference,
    as they are none in the names of files on macOS and Windows.

    Raises:
        ConfigError: two recordings would share a file.
    """
    from asr.formats import without_suffix

    names = [recording.name for recording in recordings]
    stems = [without_suffix(name) for name in names]
    folded = [str(stem).casefold() for stem in stems]
    shared = Counter(folded)
    paths = [
        folder / f"{stem if shared[key] == 1 else name}{suffix}"
        for name, stem, key in zip(names, stems, folded, strict=True)
    ]
    caseless = sys.platform in ("darwin", "win32")
    keys = [str(path).casefold() if caseless else str(path) for path in paths]
    key, sources = most_shared(recordings, keys)
    if len(sources) > 1:
        raise ConfigError(
            f"would hold the text of {' and of '.join(sources)}",
            where=paths[keys.index(key)],
            hint="an --output for each",
        )
    return paths


def most_shared(recordings: Sequence[Recording], names: Sequence[str]) -> tuple[str, list[str]]:
    """The name, of those that recordings are to have, that most of them would share, and where these come from."""
    (name, _), *_ = Counter(names).most_common(1)
    return name, [str(recording.source) for recording, own in zip(recordings, names, strict=True) if own == name]


def check_outputs(paths: Iterable[Path | None], overwrite: bool, made_from: Iterable[str | Path] = ()) -> None:
    """See, before time is spent on what they will hold, that files can be made; None stands for no file.

    Raises:
        ConfigError: one is among those that they are made from; some are there already, and not to be overwritten;
            or nothing can be made there.
        DiskFullError: the disk is full.
    """
    wanted = [path for path in paths if path is not None]
    inputs = {real_path(source) for source in made_from}
    for path in wanted:
        if real_path(path) in inputs:
            raise ConfigError("would take the place of what it is made from", where=path, hint="another name")
    devices = [str(path) for path in wanted if path.exists() and not (path.is_file() or path.is_dir())]
    if devices:  # of which a file would take the place, even of /dev/null, where one may write to its folder
        raise ConfigError("a device or pipe, where a file is to be written", where=some(devices))
    existing = [str(path) for path in wanted if os.path.lexists(path)]
    if existing and not overwrite:
        raise ConfigError("already there", where=some(existing), hint="another place, or --overwrite")
    folders = [str(path) for path in wanted if path.is_dir()]
    if folders:
        raise ConfigError("a folder, where a file is to be written", where=some(folders))
    for folder in dict.fromkeys(nearest_existing(path.parent) for path in wanted):
        try:
            with full_disk_in_words(folder), tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ConfigError(f"nothing can be written there ({error.strerror})", where=folder) from None


def load_model(model: Path | None) -> tuple[Path, Model]:
    """Load a model, the newest one by default, and tell its folder."""
    from asr import artefact

    folder = artefact.newest(Path("runs")) if model is None else artefact.locate(model)
    return folder, artefact.load(folder)


def load_recognizer(model: Path | None, device: str, decoding: DecodingOptions, reporter: Reporter) -> Recognizer:
    """Load a model to work with, and say which, and how it will decode."""
    from asr import build
    from asr.recognizer import Recognizer

    where = build.device(device)
    options = decoding.options()
    folder, loaded = load_model(model)
    settings = decoding.settings(loaded.decoder)
    created = loaded.metadata.get("created")  # as in any model that asr has made
    known = loaded.config.name + (f", trained {created[:10]}" if created else "")
    reporter.say(f"model {folder} ({known}) on {where}, " + describe(settings, decoding, options.get("hotwords")))
    prepare(settings, reporter)
    with announced("reading the language model …", reporter):
        return Recognizer(replace(loaded, decoder=settings), where, reject_above=decoding.reject_above, **options)
