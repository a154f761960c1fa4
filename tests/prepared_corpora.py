"""Miniatures of corpora, and what is prepared of them."""

from __future__ import annotations

import json
from pathlib import Path

from asr.data.manifest import Utterance, read_manifest


def write(path: Path, *lines: str, ends: str = "\n", encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + ends for line in lines).encode(encoding))
    return path


def prepared(output: Path) -> dict[str, list[Utterance]]:
    """The utterances of each set."""
    corpus = json.loads((output / "corpus.json").read_text(encoding="utf-8"))
    names = {"train": corpus["train"], "dev": corpus["dev"], **corpus["tests"]}
    return {name: read_manifest(output / path) for name, path in names.items()}
