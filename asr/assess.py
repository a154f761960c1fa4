"""A model's answers to the utterances of a manifest, ready to be scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from asr.data.manifest import Utterance
from asr.evaluation import wer
from asr.recognizer import BATCH_SIZE, Recognizer
from asr.sound_files import Member, Stretch


def recognise_manifest(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int], None] = lambda done: None,
) -> list[wer.Answer]:
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
    answers: dict[int, wer.Answer] = {}
    for index, transcript in zip(order, transcripts, strict=True):
        utterance = utterances[index]
        answers[index] = wer.Answer(
            id=_shown(utterance.source),
            reference=recognizer.normalizer(utterance.text),
            hypothesis=transcript.text,
            fields=utterance.fields,
        )
        progress(len(answers))
    return [answers[index] for index in range(len(utterances))]


def _shown(source: Path | Stretch | Member) -> str:
    """A path as one would type it here."""
    if isinstance(source, Stretch):
        return str(replace(source, path=Path(_shown(source.path))))
    if isinstance(source, Member):
        return str(replace(source, archive=Path(_shown(source.archive))))
    return str(source.relative_to(Path.cwd()) if source.is_relative_to(Path.cwd()) else source)
