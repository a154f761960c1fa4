"""A trained model at work: audio to text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr import artefact, audio, build
from asr.artefact import Model
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.types import Hypothesis
from asr.errors import AsrError, AudioError
from asr.longform import Window, Windowing, stretches
from asr.sound_files import FloatArray
from asr.transcript import TimedWord, Transcript, mean_confidence

Source: TypeAlias = str | Path | BinaryIO | NDArray[np.floating[Any]]
"""A sound file, an open one, or a waveform at the model's sample rate."""
Sources: TypeAlias = list[Any] | tuple[Any, ...]
"""Several `Source`s: `Sequence[Source]` would take a lone str for a sequence of paths."""

BATCH_SIZE = 8
BLOCK_SECONDS = 30.0
_NO_WINDOW = Window(np.zeros(0, np.float32), 0, 0, slice(0))


class Decoder(Protocol):
    """From log-probabilities to text."""

    def decode(self, log_probs: Tensor, lengths: Tensor) -> list[Hypothesis]:
        """Decode a batch: log_probs (batch, time, vocab), lengths (batch,)."""
        ...


def load(path: str | Path | None = None, device: str = "auto") -> Recognizer:
    """Load a trained model; see `asr.load`."""
    folder = artefact.newest(Path("runs")) if path is None else artefact.locate(path)
    return Recognizer(artefact.load(folder), build.device(device))


class Recognizer:
    """Transcribes.

    An utterance gets the same answer alone and in a batch. A recording of any length is read in windows, in
    memory that does not grow with it.

    Args:
        model: a trained model, which is put into evaluation mode and moved to the device.
        device: where to compute.
        decoder: log-probabilities to text; greedy by default.

    Attributes:
        model: what it was made from.
        sample_rate: of the waveforms that it hears, in hertz.
        normalizer: how the transcripts were written that the model has learnt from.
    """

    def __init__(self, model: Model, device: str | torch.device = "cpu", decoder: Decoder | None = None) -> None:
        self.model = model
        self.device = torch.device(device)
        self.sample_rate = model.config.features.sample_rate
        self.normalizer = build.normalizer(model.config.text)
        surfaces = model.tokenizer.surfaces
        self._features = model.features.to(self.device).eval()
        self._acoustic = model.acoustic.to(self.device).eval()
        self._decoder = decoder or GreedyDecoder(surfaces)
        # A model of characters may put its space anywhere into a pause.
        self._says_nothing = torch.tensor([not surface.strip() for surface in surfaces])
        frame = round(model.features.frame_shift * self.sample_rate) * model.acoustic.subsampling
        self._windowing = Windowing.in_seconds(frame, self.sample_rate)

    @overload
    def transcribe(self, source: Source) -> Transcript: ...
    @overload
    def transcribe(self, source: Sources) -> list[Transcript]: ...
    def transcribe(self, source: Source | Sources) -> Transcript | list[Transcript]:
        """Transcribe a recording, or each of a list.

        Args:
            source: a path, an open binary file, or a float waveform (samples,) at `sample_rate`; or a list.

        Returns:
            A transcript, empty when nothing was said; or a list of them in the same order.

        Raises:
            AudioError: a recording can't be read.
        """
        if isinstance(source, list | tuple):
            return list(self.stream(source))
        (transcript,) = self.stream([source])
        return transcript

    def stream(self, sources: Iterable[Source], batch_size: int = BATCH_SIZE) -> Iterator[Transcript]:
        """Transcribe recordings one after another, as they are asked for.

        Args:
            sources: as for `transcribe`.
            batch_size: how many windows of at most 30 s, of whatever recordings, go through the network at once.

        Yields:
            A transcript for each source, in order.

        Raises:
            AudioError: a recording can't be read.
        """
        for result in self.attempt(sources, batch_size):
            if isinstance(result, AsrError):
                raise result
            yield result

    def attempt(
        self,
        sources: Iterable[Source],
        batch_size: int = BATCH_SIZE,
        on_progress: Callable[[float], None] = lambda seconds: None,
    ) -> Iterator[Transcript | AsrError]:
        """As `stream`, but a recording that can't be read is an answer too, and the others still get theirs.

        Args:
            sources: as for `transcribe`.
            batch_size: as for `stream`.
            on_progress: is told how many seconds of audio have gone through the network.

        Yields:
            A transcript, or what is wrong with the recording, for each source, in order.
        """
        pieces = self._pieces(sources, batch_size, on_progress)
        for _, group in groupby(pieces, key=lambda piece: piece.item.number):
            try:
                result: Transcript | AsrError = self._transcript(group)
            except AsrError as error:
                result = error
            yield result

    @torch.inference_mode()
    def log_probs(self, waveforms: Sequence[NDArray[np.floating[Any]]]) -> tuple[Tensor, Tensor]:
        """Run the network.

        Args:
            waveforms: (samples,) each, at `sample_rate`, of any length that memory allows.

        Returns:
            log_probs: (batch, time, vocab) on the recognizer's device.
            lengths: (batch,) valid frames; 0 where a waveform is too short for a single one.
        """
        samples = torch.tensor([len(waveform) for waveform in waveforms])
        (audible,) = torch.nonzero(self._features.num_frames(samples) > 0, as_tuple=True)
        log_probs = torch.zeros(len(waveforms), 0, len(self.model.tokenizer.surfaces), device=self.device)
        lengths = torch.zeros(len(waveforms), dtype=torch.long, device=self.device)
        if len(audible):
            features, frames = self._extract([torch.tensor(waveforms[i], dtype=torch.float32) for i in audible])
            output, output_lengths = self._acoustic(features, frames)
            log_probs = log_probs.new_zeros(len(waveforms), *output.shape[1:])
            log_probs[audible], lengths[audible] = output, output_lengths
        return log_probs, lengths

    def _extract(self, waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Features (batch, frames, bins) and their lengths: one by one on a CPU, where a batch is slower."""
        if self.device.type == "cpu":
            rows = self._features.each(waveforms)
            return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        extracted: tuple[Tensor, Tensor] = self._features(
            pad_sequence(list(waveforms), batch_first=True).to(self.device), lengths.to(self.device)
        )
        return extracted

    def _pieces(
        self, sources: Iterable[Source], batch_size: int, on_progress: Callable[[float], None]
    ) -> Iterator[_Piece]:
        """What the network makes of the windows of all the sources, in batches and in order."""
        items = self._items(sources)
        heard = 0
        while batch := list(islice(items, batch_size)):
            log_probs, lengths = self.log_probs([item.window.waveform for item in batch])
            heard += sum(item.window.fresh for item in batch)
            on_progress(heard / self.sample_rate)
            for item, output, length in zip(batch, log_probs.cpu(), lengths.tolist(), strict=True):
                yield _Piece(item, output[:length][item.window.kept])

    def _items(self, sources: Iterable[Source]) -> Iterator[_Item]:
        for number, source in enumerate(sources):
            try:
                for window in self._windowing.windows(self._blocks(source)):
                    yield _Item(number, source, window)
            except AsrError as error:
                yield _Item(number, source, _NO_WINDOW, error)

    def _blocks(self, source: Source) -> Iterator[FloatArray]:
        if not isinstance(source, np.ndarray):
            yield from audio.stream(source, self.sample_rate, BLOCK_SECONDS)
        elif source.ndim != 1 or not np.issubdtype(source.dtype, np.floating):
            raise AudioError(
                f"a waveform of shape {source.shape} and type {source.dtype}",
                expected=f"shape (samples,), floats between -1 and 1 at {self.sample_rate} Hz",
            )
        else:
            yield source.astype(np.float32)

    def _transcript(self, pieces: Iterator[_Piece]) -> Transcript:
        """Join and decode the pieces of one recording, of which there is at least one."""
        first = next(pieces)
        seconds_per_frame = self._windowing.frame / self.sample_rate
        duration = 0.0

        def joined() -> Iterator[Tensor]:
            nonlocal duration
            for piece in chain([first], pieces):
                if piece.item.error is not None:
                    raise piece.item.error
                duration = piece.item.window.end / self.sample_rate
                yield piece.log_probs

        texts: list[str] = []
        words: list[TimedWord] = []
        confidence = 1.0
        for start, log_probs in stretches(joined(), self._is_silent, self._windowing.window):
            (hypothesis,) = self._decoder.decode(log_probs[None], torch.tensor([len(log_probs)]))
            texts.append(hypothesis.text)
            confidence = min(confidence, hypothesis.confidence)
            for word in hypothesis.words:
                begin = (start + word.start) * seconds_per_frame
                end = min((start + word.end) * seconds_per_frame, duration)
                words.append(TimedWord(word.text, begin, end, word.confidence))
        return Transcript(
            path=_name(first.item.source),
            duration=duration,
            text=" ".join(filter(None, texts)),
            words=tuple(words),
            confidence=mean_confidence(words) if words else confidence,
        )

    def _is_silent(self, log_probs: Tensor) -> Tensor:
        return self._says_nothing[log_probs.argmax(-1)]


@dataclass(frozen=True)
class _Item:
    """A window of a source on its way into the network, or the error that ends the source."""

    number: int
    source: Source
    window: Window
    error: AsrError | None = None


@dataclass(frozen=True)
class _Piece:
    """The network's output for the part of a window that counts: log_probs (frames, vocab)."""

    item: _Item
    log_probs: Tensor


def _name(source: Source) -> str:
    if isinstance(source, np.ndarray):
        return ""
    return str(source) if isinstance(source, str | Path) else "-"
