"""Mozilla Common Voice: sentences read by volunteers in over a hundred languages, MP3 (Ardila et al. 2020).

https://commonvoice.mozilla.org, CC0. Its archives are given to those who have agreed to its terms, so they are not
downloaded here. One holds `RELEASE/LANGUAGE/` with `clips/` and a table for each set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from asr.data.corpora import prepared
from asr.data.corpora.download import Progress, extract, silent
from asr.data.layouts import table
from asr.data.layouts.entries import all_of
from asr.data.layouts.table import Columns
from asr.data.manifest import Utterance
from asr.errors import DataError

COLUMNS = Columns(audio="path", text="sentence", speaker="client_id")


def prepare(
    source: Path | None,
    language: str | None,
    train: Literal["train", "validated"],
    output: Path,
    progress: Progress = silent,
) -> None:
    """Write the manifests `train`, `dev` and `test`: the official sets.

    Args:
        source: an archive of Common Voice, or a folder that holds what it holds; it has to be given.
        language: its code, where the source has several.
        train: "train", in which a sentence stands once; or "validated": all that listeners have confirmed, of the
            speakers who are neither in the development nor in the test set.
        output: the corpus's folder.
        progress: called as megabytes are unpacked, then as recordings are looked at.

    Raises:
        DataError: the source is no Common Voice, or has several languages and none is named, or is faulty.
    """
    folder = _language_folder(_unpacked(source, output, progress), language)
    sets = {name: _read(folder, name, progress) for name in (train, "dev", "test")}
    held_out = {utterance.speaker for name in ("dev", "test") for utterance in sets[name]} - {None}
    prepared.write(
        output,
        [utterance for utterance in sets[train] if train == "train" or utterance.speaker not in held_out],
        sets["dev"],
        {"test": sets["test"]},
    )


def _read(folder: Path, name: str, progress: Progress) -> list[Utterance]:
    path = folder / f"{name}.tsv"
    without = (
        f"asr data import {path} --out {name}.jsonl --skip-faulty, for each set, then "
        "'prepare={corpus: manifests, train: train.jsonl, dev: dev.jsonl, tests: {test: test.jsonl}}'"
    )
    return all_of(table.read(path, COLUMNS, folder / "clips"), folder, progress, without)


def _unpacked(source: Path | None, output: Path, progress: Progress) -> Path:
    if source is None or not source.exists():
        raise DataError(
            "Common Voice is not downloaded here" if source is None else "there is no such file or folder",
            where=source,
            expected="an archive of a language, or what it holds: prepare.source=ARCHIVE",
            hint="https://datacollective.mozillafoundation.org gives one to those who agree to its terms",
        )
    if source.is_dir():
        return source
    extract(source, output / "archive", progress)
    return output / "archive"


def _language_folder(root: Path, language: str | None) -> Path:
    """The folder of tables: the root itself, or one or two folders further down."""
    found = sorted(path.parent for pattern in ("", "*/", "*/*/") for path in root.glob(f"{pattern}train.tsv"))
    wanted = [folder for folder in found if language in (None, folder.name)]
    if len(wanted) == 1:
        return wanted[0]
    if not found:
        raise DataError("there is no train.tsv in it", where=root, expected="RELEASE/LANGUAGE/train.tsv and clips/")
    raise DataError(
        "holds several languages" if language is None else f"does not hold {language!r} once",
        where=root,
        expected=f"prepare.language: one of {', '.join(folder.name for folder in found)}",
    )
