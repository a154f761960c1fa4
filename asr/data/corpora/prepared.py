"""What the preparation of a corpus leaves: a manifest for each set, and `corpus.json`, which names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from asr.data.manifest import Utterance, write_manifest
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
    """
    for name, utterances in {"train": train, "dev": dev, **tests}.items():
        write_manifest(output / f"{name}.jsonl", utterances)
    names = {name: f"{name}.jsonl" for name in tests}
    write_json(output / "corpus.json", {"train": "train.jsonl", "dev": "dev.jsonl", "tests": names})
