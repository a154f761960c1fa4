"""What the preparation of a corpus leaves: a manifest for each set, and `corpus.json`, which names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asr.cache import cache_folder
from asr.data.manifest import Utterance, files_of, write_manifest
from asr.errors import DataError, listing
from asr.files import write_json


def write(
    output: Path, train: Sequence[Utterance], dev: Sequence[Utterance], tests: Mapping[str, Sequence[Utterance]]
) -> None:
    """Write the manifests of a corpus, and last the file that says that they are all there.

    Args:
        output: the corpus's folder.
        train: the training set.
        dev: the development set.
        tests: the test sets, by name.

    Raises:
        DataError: sets are empty; nothing is written.
    """
    sets = {"train": train, "dev": dev, **tests}
    if empty := [name for name, utterances in sets.items() if not utterances]:
        raise DataError(
            f"the source holds no recordings for {' and '.join(empty)}",
            where=output,
            expected="at least one utterance in each set",
            hint="see whether the source is complete",
        )
    for name, utterances in sets.items():
        write_manifest(output / f"{name}.jsonl", utterances)
    names = {name: f"{name}.jsonl" for name in tests}
    write_json(output / "corpus.json", {"train": "train.jsonl", "dev": "dev.jsonl", "tests": names})


def refuse_missing(corpus: Path, utterances: Iterable[Utterance]) -> None:
    """See that the recordings are still there that a corpus listed when it was prepared.

    Args:
        corpus: its folder.
        utterances: of all its sets.

    Raises:
        DataError: some are gone; it names the folders without which the corpus is prepared again.
    """
    recordings = files_of(utterances)
    missing = sorted(path for path in recordings if not path.exists())
    if not missing:
        return
    cache = cache_folder().resolve()
    unpacked = {cache / path.relative_to(cache).parts[0] for path in missing if path.is_relative_to(cache)}
    folders = [str(folder) for folder in (corpus, *sorted(unpacked)) if folder.is_dir()]
    raise DataError(
        f"{len(missing)} of {len(recordings)} files with recordings have gone since this corpus was prepared\n"
        f"{listing(missing)}",
        where=corpus,
        hint=f"bring them back; or delete {' and '.join(folders)}, then the same command prepares the corpus again",
    )
