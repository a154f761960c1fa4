"""How well the model does on the dev set while it is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from asr.data.loading import Batch
from asr.decoding.greedy import GreedyDecoder
from asr.evaluation.wer import Utterance, score
from asr.features import FeatureExtractor
from asr.model.acoustic import AcousticModel
from asr.model.ctc import ctc_loss
from asr.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class DevResult:
    """Figures of a pass over the dev set, greedily decoded.

    Attributes:
        loss: negative log-likelihood per label, of the utterances that have an alignment.
        wer, cer: rates as fractions.
        infinite: utterances without an alignment.
    """

    loss: float
    wer: float
    cer: float
    infinite: int

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better: the CER, and the loss between equals."""
        return self.cer, self.loss


@torch.inference_mode()
def validate(
    acoustic: AcousticModel, extractor: FeatureExtractor, batches: Iterable[Batch], tokenizer: Tokenizer
) -> DevResult:
    """Measure a model on batches that hold every utterance of the dev set once."""
    device = next(acoustic.parameters()).device
    decoder = GreedyDecoder(tokenizer.surfaces)
    acoustic.eval()
    references, hypotheses = [], []
    loss, labels, infinite = 0.0, 0, 0
    for batch in batches:
        on_device = batch.to(device)
        log_probs, lengths = acoustic(*on_device.features(extractor))
        result = ctc_loss(log_probs, lengths, on_device.targets, on_device.target_lengths)
        loss += result.mean.item() * result.labels
        labels += result.labels
        infinite += result.infinite
        hypotheses += [found.text for found in decoder.decode(log_probs.cpu(), lengths.cpu())]
        references += [
            tokenizer.decode(target[:length].tolist())
            for target, length in zip(batch.targets, batch.target_lengths, strict=True)
        ]
    pairs = [Utterance(str(i), *pair) for i, pair in enumerate(zip(references, hypotheses, strict=True))]
    errors = score(pairs, bootstrap=1)
    return DevResult(loss / max(labels, 1), errors.wer, errors.cer, infinite)
