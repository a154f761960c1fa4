"""What lies where in the folder of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run and the places of its products, whether these are there yet or not.

    Attributes:
        folder: of the run.
    """

    folder: Path

    @property
    def config(self) -> Path:
        """The recipe, resolved."""
        return self.folder / "config.yaml"

    def record(self, stage: str) -> Path:
        """The fingerprint of a stage's inputs, and how long it took."""
        return self.folder / "stages" / f"{stage}.json"

    @property
    def checked(self) -> Path:
        """What a look at the recordings and transcripts has shown."""
        return self.folder / "check.json"

    @property
    def tokens(self) -> Path:
        """The tokenizer's folder."""
        return self.folder / "tokens"

    @property
    def pretraining(self) -> Path:
        """Log and checkpoints of the self-supervised start."""
        return self.folder / "pretrain"

    @property
    def pretraining_report(self) -> Path:
        """What the curves of the self-supervised start show."""
        return self.pretraining / "report.html"

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

    @property
    def results(self) -> Path:
        """The figures of the evaluation, and how long each stage took."""
        return self.folder / "results.json"
