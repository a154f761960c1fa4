"""Where the products of a run are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from asr.config import Recipe
from asr.data.manifest import Utterance, read_manifest
from asr.files import read_json
from asr.reporting import Reporter
from asr.training.distributed import ALONE, World
from asr.training.validation import DevResult


@dataclass(frozen=True)
class Workspace:
    """Where a run's products are.

    Attributes:
        recipe: what to do.
        folder: of the run.
        corpus: folder of the prepared corpus, shared between runs.
        reporter: told what happens.
        on_epoch: told the dev set's figures after each epoch of the training; what it raises ends the training.
        world: the processes that train together; all other stages are run by the first alone.
    """

    recipe: Recipe
    folder: Path
    corpus: Path
    reporter: Reporter
    on_epoch: Callable[[int, DevResult], None] = lambda epoch, dev: None
    world: World = ALONE

    @property
    def corpus_file(self) -> Path:
        """Names the manifests of the prepared corpus."""
        return self.corpus / "corpus.json"

    @property
    def tokens(self) -> Path:
        """The tokenizer's folder."""
        return self.folder / "tokens"

    @property
    def pretraining(self) -> Path:
        """Log and checkpoints of the self-supervised start."""
        return self.folder / "pretrain"

    @property
    def untranscribed(self) -> Path:
        """The manifest of recordings without transcripts that it has heard besides, if there are any."""
        return self.pretraining / "audio.jsonl"

    @property
    def pretrained(self) -> Path:
        """The weights that it leaves to the training."""
        return self.pretraining / "final.safetensors"

    @property
    def training(self) -> Path:
        """Log, checkpoints and final weights."""
        return self.folder / "train"

    @property
    def trained(self) -> Path:
        """The trained model, before it is measured; not called "model", so that nobody takes it for the result."""
        return self.training / "final"

    @property
    def origin(self) -> Path:
        """Tells which model the training began with, where there is one."""
        return self.training / "begun_from.json"

    @property
    def report(self) -> Path:
        """What the curves of the training show."""
        return self.folder / "report.html"

    @property
    def language_model(self) -> Path:
        """The language model that guides the search."""
        return self.folder / "lm.ngram"

    @property
    def search(self) -> Path:
        """The settings of the search, as tuned; null where greedy decoding is as good."""
        return self.folder / "search.json"

    @property
    def figures(self) -> Path:
        """The figures of the evaluation."""
        return self.folder / "evaluate" / "tests.json"

    @property
    def model(self) -> Path:
        """The model that a user takes along."""
        return self.folder / "model"

    def manifests(self) -> dict[str, Path]:
        """The manifests: "train", "dev" and each test set."""
        corpus = read_json(self.corpus_file)
        return {"train": self.corpus / corpus["train"], "dev": self.corpus / corpus["dev"], **self.tests()}

    def sets(self) -> dict[str, list[Utterance]]:
        """The utterances of each manifest."""
        return {name: read_manifest(path) for name, path in self.manifests().items()}

    def tests(self) -> dict[str, Path]:
        """The test sets' manifests."""
        corpus = read_json(self.corpus_file)
        return {name: self.corpus / path for name, path in corpus["tests"].items()}
