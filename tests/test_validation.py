"""The figures of a pass over the dev set, on made-up log-probabilities, counted again by hand."""

from __future__ import annotations

import math
from itertools import groupby, product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from asr.data.batching import Sample
from asr.data.loading import Batch
from asr.data.manifest import Utterance
from asr.features import FeatureExtractor, LogMel
from asr.text import tokenizer
from asr.training.task import DivergedTrainingError
from asr.training.validation import DevResult, validate


class Said(nn.Module):
    """A model that answers its input: frames of log-probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return features + self.weight, lengths


TOKENS = tokenizer.CharacterTokenizer(["a", "b"])
EXTRACTOR = FeatureExtractor(LogMel(8000, 4), None, None)  # not used: batches hold features
_, A, B = range(3)


def batch(*utterances: tuple[str, list[int], int]) -> Batch:
    """Texts, the likeliest token of each frame, and how many frames are valid."""
    frames = torch.full((len(utterances), max(len(path) for _, path, _ in utterances), 3), -5.0)
    for row, (_, path, _) in enumerate(utterances):
        frames[row, torch.arange(len(path)), torch.tensor(path, dtype=torch.long)] = 0.0
    texts = tuple(text for text, _, _ in utterances)
    labels = [TOKENS.encode(text) if not TOKENS.unknown(text) else [] for text in texts]
    targets = torch.zeros(len(texts), 4, dtype=torch.long)
    for row, ids in enumerate(labels):
        targets[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    return Batch(
        tuple(Sample((Utterance(Path(f"{text or 'nothing'}.wav"), 1.0, text),)) for text in texts),
        frames.log_softmax(2),
        torch.tensor([length for _, _, length in utterances]),
        targets,
        torch.tensor([len(ids) for ids in labels]),
        texts,
    )


def test_blanks_empty_hypotheses_and_infinite_losses_are_counted() -> None:
    batches = [
        batch(
            ("ab", [0, A, 0, B], 4),  # right; two blanks of four
            ("a", [0, 0, 0, 0], 3),  # empty; three blanks of three: the last frame is padding
            ("", [0, 0], 2),  # nothing is said, so an empty hypothesis is right
        ),
        batch(("ac", [A, 0], 2), ("aa", [A, A], 2)),  # "c" is unknown; two frames are too few for "aa"
    ]
    found = validate(Said(), EXTRACTOR, batches, TOKENS)
    assert found.blank_share == pytest.approx((2 + 3 + 2 + 0 + 1) / (4 + 3 + 2 + 2 + 2))
    assert found.empty_share == 1 / 4
    assert found.infinite == ("aa.wav",)
    assert found.figures["infinite"] == 1
    assert set(found.figures) == {"loss", "wer", "cer", "blank_share", "empty_share", "infinite"}
    assert all(isinstance(value, int | float) for value in found.figures.values())


def likelihood(log_probs: Tensor, labels: list[int]) -> float:
    """The sum over all paths that spell the labels."""
    total = 0.0
    for path in product(range(3), repeat=len(log_probs)):
        if [token for token, _ in groupby(path) if token] == labels:
            total += math.exp(sum(float(log_probs[time, token]) for time, token in enumerate(path)))
    return total


def test_loss_and_errors_are_those_of_all_utterances_together() -> None:
    """The loss of those that can be written in tokens, and have an alignment, per label; errors of all."""
    first = batch(("ab", [0, A, 0, B], 4), ("a", [0, 0, 0, 0], 3), ("", [0, 0], 2))
    second = batch(("ac", [A, 0], 2), ("aa", [A, A], 2), ("b", [B, B, A], 2))
    found = validate(Said(), EXTRACTOR, [first, second], TOKENS)
    measured = [(first, 0, [A, B]), (first, 1, [A]), (first, 2, []), (second, 2, [B])]
    losses = [-math.log(likelihood(of.inputs[row, : of.lengths[row]], labels)) for of, row, labels in measured]
    assert found.loss == pytest.approx(sum(losses) / 4)
    assert found.wer == 3 / 5  # "a" is not heard, "ac" and "aa" are heard as "a"
    assert found.cer == 3 / 8


def test_blanks_are_better_than_noise_and_anything_learnt_is_better_than_blanks() -> None:
    """As CTC begins: what an untrained model says by chance has fewer errors than blanks, and a higher loss."""
    noise, blanks, later = (DevResult(loss, 1.0, cer) for loss, cer in ((10.0, 0.876), (4.3, 1.0), (3.7, 1.0)))
    learnt, better = (
        DevResult(3.9, 0.9, 0.7),
        DevResult(4.0, 0.8, 0.3),
    )  # with fewer errors the loss may rise
    assert better.rank < learnt.rank < later.rank < blanks.rank < noise.rank
    assert DevResult(1.0, 2.0, 1.5).rank < DevResult(2.0, 1.0, 0.8).rank < DevResult(math.nan, 1.0, 1.0).rank


def test_a_model_that_has_run_away_is_called_that() -> None:
    model = Said()
    padded = batch(("ab", [A, B], 2), ("a", [A, 0], 1))
    padded.inputs[1, 1] = torch.nan
    validate(model, EXTRACTOR, [padded], TOKENS)  # what is behind an utterance's end does not count
    torch.nn.init.constant_(model.weight, torch.nan)
    with pytest.raises(DivergedTrainingError, match="not a number"):
        validate(model, EXTRACTOR, [padded], TOKENS)
