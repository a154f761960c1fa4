"""How well the model does on the dev set while it is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from asr.data.batching import Sample
from asr.data.loading import Batch
from asr.decoding.greedy import GreedyDecoder
from asr.evaluation.wer import Answer, score
from asr.features import FeatureExtractor
from asr.lengths import valid_mask
from asr.model.acoustic import AcousticModel
from asr.model.ctc import BLANK, CtcLoss, ctc_loss
from asr.text.tokenizer import Tokenizer
from asr.training.distributed import ALONE, World
from asr.training.task import DivergedTrainingError, comparable

UNLEARNT = 0.75
"""A CER above which an answer is as good as noise."""


@dataclass(frozen=True)
class DevResult:
    """Figures of a pass over the dev set, greedily decoded.

    Attributes:
        loss: negative log-likelihood per label, of the utterances that have an alignment and no unknown token.
        wer, cer: rates as fractions.
        blank_share: of all frames, those in which the blank is the likeliest token.
        empty_share: of the utterances in which something is said, those in which nothing is heard.
        infinite: names of the utterances without an alignment.
    """

    loss: float
    wer: float
    cer: float
    blank_share: float = 0.0
    empty_share: float = 0.0
    infinite: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better: the CER, and the loss between equals; of answers as good as noise, the loss alone.

        Before it learns anything, CTC goes from noise to blanks, which have more errors and a lower loss.
        """
        return self.cer if self.cer <= UNLEARNT else 1.0, comparable(self.loss)

    @property
    def logged(self) -> Mapping[str, Any]:
        """What the log has of them."""
        return {
            "dev_loss": self.loss,
            "dev_wer": self.wer,
            "dev_cer": self.cer,
            "dev_blank_share": self.blank_share,
            "dev_empty_share": self.empty_share,
            "dev_infinite": list(self.infinite),
        }

    @property
    def figures(self) -> Mapping[str, float]:
        """Everything as numbers."""
        return asdict(self) | {"infinite": len(self.infinite)}

    def __str__(self) -> str:
        return f"dev loss {self.loss:.3f}, WER {self.wer:.2%}, CER {self.cer:.2%}"


@dataclass
class _Counts:
    """What is added up over batches, and over processes."""

    loss: float = 0.0
    labels: int = 0
    blanks: int = 0
    frames: int = 0
    answers: list[Answer] = field(default_factory=list)
    infinite: list[str] = field(default_factory=list)


def validate(
    acoustic: AcousticModel,
    extractor: FeatureExtractor,
    batches: Iterable[Batch],
    tokenizer: Tokenizer,
    world: World = ALONE,
) -> DevResult:
    """Measure a model on batches that hold every utterance of the dev set once.

    Of several processes, each has some of the batches; all return the same.

    Raises:
        DivergedTrainingError: a valid frame of the model's answer holds NaN.
    """
    parts = world.gather(_count(acoustic, extractor, batches, tokenizer))
    labels = sum(part.labels for part in parts)
    answers = [answer for part in parts for answer in part.answers]
    errors = score(answers, bootstrap=1)
    return DevResult(
        sum(part.loss for part in parts) / max(labels, 1),
        errors.wer,
        errors.cer,
        blank_share=sum(part.blanks for part in parts) / max(sum(part.frames for part in parts), 1),
        empty_share=_empty_share(answers),
        infinite=tuple(name for part in parts for name in part.infinite),
    )


@torch.inference_mode()
def _count(
    acoustic: AcousticModel, extractor: FeatureExtractor, batches: Iterable[Batch], tokenizer: Tokenizer
) -> _Counts:
    device = next(acoustic.parameters()).device
    decoder = GreedyDecoder(tokenizer.surfaces)
    acoustic.eval()
    counts = _Counts()
    for batch in batches:
        on_device = batch.to(device)
        log_probs, lengths = acoustic(*on_device.features(extractor))
        if log_probs[valid_mask(lengths, log_probs.shape[1])].isnan().any():
            raise DivergedTrainingError(
                "the weights have run away: the model answers with what is not a number",
                hint="a smaller training.learning_rate; `asr tune lr` shows which suit",
            )
        known = [not tokenizer.unknown(text) for text in batch.texts]
        result = _loss(log_probs, lengths, on_device, known)
        counts.loss += result.mean.item() * result.labels
        counts.labels += result.labels
        counts.infinite += without_alignment(result, list(compress(batch.samples, known)))
        counts.blanks += int(((log_probs.argmax(2) == BLANK) & valid_mask(lengths, log_probs.shape[1])).sum())
        counts.frames += int(lengths.sum())
        heard = decoder.decode(log_probs, lengths, timestamps=False)
        counts.answers += [
            Answer(sample.name, text, hypothesis.text)
            for sample, text, hypothesis in zip(batch.samples, batch.texts, heard, strict=True)
        ]
    return counts


def without_alignment(loss: CtcLoss, samples: Sequence[Sample]) -> list[str]:
    """The names of the samples of a batch of which the loss is infinite."""
    if not loss.infinite:
        return []  # and nothing is fetched from the device
    return [sample.name for sample in compress(samples, loss.per_utterance.isinf().tolist())]


def _loss(log_probs: Tensor, lengths: Tensor, batch: Batch, known: Sequence[bool]) -> CtcLoss:
    """The loss of the utterances whose transcripts can be written in tokens."""
    if not any(known):
        return CtcLoss(log_probs.new_zeros(0), labels=0, infinite=0, frames=0)
    chosen = torch.tensor(known)
    return ctc_loss(log_probs[chosen], lengths[chosen], batch.targets[chosen], batch.target_lengths[chosen])


def _empty_share(answers: Iterable[Answer]) -> float:
    heard = [bool(answer.hypothesis) for answer in answers if answer.reference]
    return heard.count(False) / max(len(heard), 1)
