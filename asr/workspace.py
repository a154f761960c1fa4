"""What a run works with: its recipe, its folder and its corpus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from asr.config import Recipe
from asr.data.manifest import Utterance, read_manifest
from asr.errors import DataError
from asr.files import read_json
from asr.reporting import Reporter
from asr.run_folder import RunFolder
from asr.training.distributed import ALONE, World
from asr.training.validation import DevResult


@dataclass(frozen=True)
class Workspace(RunFolder):
    """A run at work: what to do, where, and who is told.

    Attributes:
        recipe: what to do.
        corpus: folder of the prepared corpus, shared between runs.
        reporter: told what happens.
        on_epoch: told the dev set's figures after each epoch of the training; what it raises ends the training.
        world: the processes that train together; all other stages are run by the first alone.
    """

    recipe: Recipe
    corpus: Path
    reporter: Reporter
    on_epoch: Callable[[int, DevResult], None] = lambda epoch, dev: None
    world: World = ALONE

    @property
    def corpus_file(self) -> Path:
        """Names the manifests of the prepared corpus."""
        return self.corpus / "corpus.json"

    def manifests(self) -> dict[str, Path]:
        """The manifests: "train", "dev" and each test set.

        Raises:
            DataError: the file that names them is damaged.
        """
        try:
            named = read_json(self.corpus_file)
            sets = {"train": named["train"], "dev": named["dev"], **named["tests"]}
            return {name: self.corpus / path for name, path in sets.items()}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"the list of a prepared corpus's manifests is damaged ({error!r})",
                where=self.corpus_file,
                hint="delete this file; then the same command prepares the corpus again",
            ) from None

    def sets(self) -> dict[str, list[Utterance]]:
        """The utterances of each manifest."""
        return {name: read_manifest(path) for name, path in self.manifests().items()}

    def tests(self) -> dict[str, Path]:
        """The test sets' manifests."""
        return {name: path for name, path in self.manifests().items() if name not in ("train", "dev")}
