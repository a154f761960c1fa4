"""How well the model does on the dev set while it is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.data.loading import Batch
from asr.decoding.greedy import GreedyDecoder
from asr.evaluation.wer import Utterance, score
from asr.features import FeatureExtractor
from asr.model.acoustic import AcousticModel
from asr.model.ctc import CtcLoss, ctc_loss
from asr.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class DevResult:
    """Figures of a pass over the dev set, greedily decoded.

    Attributes:
        loss: negative log-likelihood per label, of the utterances that have an alignment and no unknown token.
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

    def __str__(self) -> str:
        return f"dev loss {self.loss:.3f}, WER {self.wer:.2%}, CER {self.cer:.2%}"


@torch.inference_mode()
def validate(
    acoustic: AcousticModel, extractor: FeatureExtractor, batches: Iterable[Batch], tokenizer: Tokenizer
) -> DevResult:
    """Measure a model on batches that hold every utterance of the dev set once."""
    device = next(acoustic.parameters()).device
    decoder = GreedyDecoder(tokenizer.surfaces)
    acoustic.eval()
    answers: list[Utterance] = []
    loss, labels, infinite = 0.0, 0, 0
    for batch in batches:
        on_device = batch.to(device)
        log_probs, lengths = acoustic(*on_device.features(extractor))
        result = _loss(log_probs, lengths, on_device, tokenizer)
        loss += result.mean.item() * result.labels
        labels += result.labels
        infinite += result.infinite
        heard = decoder.decode(log_probs, lengths, timestamps=False)
        answers += [
            Utterance(sample.name, text, hypothesis.text)
            for sample, text, hypothesis in zip(batch.samples, batch.texts, heard, strict=True)
        ]
    errors = score(answers, bootstrap=1)
    return DevResult(loss / max(labels, 1), errors.wer, errors.cer, infinite)


def _loss(log_probs: Tensor, lengths: Tensor, batch: Batch, tokenizer: Tokenizer) -> CtcLoss:
    """The loss of the utterances whose transcripts can be written in tokens."""
    known = torch.tensor([not tokenizer.unknown(text) for text in batch.texts], device=log_probs.device)
    if not known.any():
        return CtcLoss(log_probs.new_zeros(0), labels=0, infinite=0)
    return ctc_loss(log_probs[known], lengths[known], batch.targets[known], batch.target_lengths[known])
