"""A model's answers to the utterances of a manifest, ready to be scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from asr.data.manifest import Utterance
from asr.evaluation import wer
from asr.recognizer import BATCH_SIZE, Recognizer


def recognise_manifest(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int], None] = lambda done: None,
) -> list[wer.Utterance]:
    """Transcribe the utterances of a manifest.

    References are normalised as the model's training transcripts were, so that both sides are written alike.

    Args:
        recognizer: the model.
        utterances: of the manifest.
        batch_size: how many go through the network at once.
        progress: is told how many are done.

    Returns:
        Reference and hypothesis of every utterance, in the manifest's order.

    Raises:
        AudioError: a recording can't be read; none is left out.
    """
    # Utterances of similar length batch with little padding.
    order = sorted(range(len(utterances)), key=lambda index: utterances[index].duration)
    sources = [utterances[index].source for index in order]
    transcripts = recognizer.stream(sources, batch_size, timestamps=False)
    answers: dict[int, wer.Utterance] = {}
    for index, transcript in zip(order, transcripts, strict=True):
        utterance = utterances[index]
        answers[index] = wer.Utterance(
            id=_shown(utterance.audio),
            reference=recognizer.normalizer(utterance.text),
            hypothesis=transcript.text,
            fields=utterance.fields,
            duration=transcript.duration,
        )
        progress(len(answers))
    return [answers[index] for index in range(len(utterances))]


def _shown(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
