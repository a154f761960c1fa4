"""A trained model at work: audio to text."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr import artefact, audio, build
from asr.artefact import Model
from asr.decoder_settings import Choice, choose
from asr.decoding.types import BatchDecoder, Hypothesis, Options, refuse_unknown, require_positive
from asr.errors import AsrError, AudioError, ConfigError
from asr.longform import Window, Windowing, stretches
from asr.sound_files import AudioSource, FloatArray, Member, Stretch
from asr.transcript import Alternative, TimedWord, Transcript, join_alternatives, mean_confidence

Source: TypeAlias = AudioSource | os.PathLike[str] | NDArray[np.floating[Any]] | Tensor
"""A sound file, an open one, a part of one, or a waveform at the model's sample rate."""
Sources: TypeAlias = list[Any] | tuple[Any, ...]
"""Several `Source`s: `Sequence[Source]` would take a lone str for a sequence of paths."""

BATCH_SIZE = 8
BLOCK_SECONDS = 30.0
LONGEST_STRETCH_SECONDS = 30.0
_NO_WINDOW = Window(np.zeros(0, np.float32), 0, 0, slice(0, 0))

T = TypeVar("T")


def load(path: str | Path | None = None, device: str = "auto", **choice: Unpack[Choice]) -> Recognizer:
    """Load a trained model; see `asr.load`."""
    where = build.device(device)
    model = artefact.load(artefact.newest(Path("runs")) if path is None else artefact.locate(path))
    return Recognizer(replace(model, decoder=choose(model.decoder, choice)), where)


class Recognizer:
    """Transcribes.

    An utterance gets the same answer alone and in a batch. A recording of any length is read in windows, and memory
    grows only by its words: 20 to 30 MiB for each hour.

    Args:
        model: a trained model, which is put into evaluation mode and moved to the device.
        device: where to compute.
        decoder: log-probabilities to text; by default, as the model's settings say, and greedy without any.
        reject_above: with a grammar, a recording whose rejection is above this has no text; by default, all have.
        options: of the decoder, where a call does not say otherwise. Hotwords are normalised as transcripts are.

    Attributes:
        model: what it was made from.
        sample_rate: of the waveforms that it hears, in hertz.
        normalizer: how the transcripts were written that the model has learnt from.
    """

    def __init__(
        self,
        model: Model,
        device: str | torch.device = "cpu",
        decoder: BatchDecoder | None = None,
        reject_above: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        _check(options)
        self.model = model
        self.device = torch.device(device)
        self.sample_rate = model.config.features.sample_rate
        self.normalizer = build.normalizer(model.config.text)
        surfaces = model.tokenizer.surfaces
        self._features = model.features.to(self.device).eval()
        self._acoustic = model.acoustic.to(self.device).eval()
        self._decoder = decoder or build.decoder(surfaces, self.normalizer, model.decoder)
        width: Options = {} if decoder or model.decoder is None else {"beam_width": model.decoder.beam_width}
        self._options: Options = {**width, **options}
        self._reject_above = reject_above
        # A model of characters may put its space anywhere into a pause.
        self._says_nothing = torch.tensor([not surface.strip() for surface in surfaces])
        frame = round(model.features.frame_shift * self.sample_rate) * model.acoustic.subsampling
        learnt = model.metadata.get("training", {}).get("sample_seconds", {})
        self._windowing = Windowing.for_samples(frame, self.sample_rate, learnt.get("typical"), learnt.get("long"))
        self._longest_stretch = round(LONGEST_STRETCH_SECONDS * self.sample_rate / frame)

    @overload
    def transcribe(self, source: Source, **options: Unpack[Options]) -> Transcript: ...
    @overload
    def transcribe(self, source: Sources, **options: Unpack[Options]) -> list[Transcript]: ...
    def transcribe(self, source: Source | Sources, **options: Unpack[Options]) -> Transcript | list[Transcript]:
        """Transcribe a recording, or each of a list.

        Args:
            source: a path, an open binary file, or a float waveform (samples,) at `sample_rate`, of numpy or torch;
                or a list.
            options: of the decoder.

        Returns:
            A transcript, empty when nothing was said; or a list of them in the same order.

        Raises:
            AudioError: a recording can't be read.
            ConfigError: the decoder can't do what the options ask for.
        """
        if isinstance(source, list | tuple):
            return list(self.stream(source, **options))
        (transcript,) = self.stream([source], **options)
        return transcript

    def stream(
        self, sources: Iterable[Source], batch_size: int = BATCH_SIZE, **options: Unpack[Options]
    ) -> Iterator[Transcript]:
        """Transcribe recordings one after another, as they are asked for.

        Args:
            sources: as for `transcribe`.
            batch_size: how many windows of at most 30 s, of whatever recordings, go through the network at once.
            options: of the decoder.

        Yields:
            A transcript for each source, in order.

        Raises:
            AudioError: a recording can't be read.
            ConfigError: the decoder can't do what the options ask for, there is nothing in a batch, or the sources
                are but one.
        """
        for result in self.attempt(sources, batch_size, **options):
            if isinstance(result, AsrError):
                raise result
            yield result

    def attempt(
        self,
        sources: Iterable[Source],
        batch_size: int = BATCH_SIZE,
        on_progress: Callable[[float], None] = lambda seconds: None,
        **options: Unpack[Options],
    ) -> Iterator[Transcript | AsrError]:
        """As `stream`, but a recording that can't be read is an answer too, and the others still get theirs.

        Args:
            sources: as for `transcribe`.
            batch_size: as for `stream`.
            on_progress: is told how many seconds of audio have gone through the network.
            options: of the decoder.

        Yields:
            A transcript, or what is wrong with the recording, for each source, in order.

        Raises:
            ConfigError: the decoder can't do what the options ask for, there is nothing in a batch, or the sources
                are but one.
        """
        _require_several(sources)
        require_positive(batch_size=batch_size)
        asked = self._normalized({**self._options, **options})
        parts = self._stretches(self._pieces(self._items(sources), batch_size, on_progress))
        for recording in _recordings(self._heard(parts, batch_size, asked)):
            yield self._result(list(recording), asked.get("nbest", 1))

    def outputs(self, sources: Iterable[Source], batch_size: int = BATCH_SIZE) -> Iterator[list[Tensor]]:
        """What the network makes of recordings, before anything is decoded.

        Args:
            sources: as for `transcribe`.
            batch_size: as for `stream`.

        Yields:
            For each source, log-probabilities (frames, vocab) on the CPU, cut into the stretches that are decoded.

        Raises:
            AudioError: a recording can't be read.
            ConfigError: there is nothing in a batch, or the sources are but one.
        """
        _require_several(sources)
        require_positive(batch_size=batch_size)
        pieces = self._pieces(self._items(sources), batch_size, lambda seconds: None)
        for recording in _recordings(self._stretches(pieces)):
            parts = list(recording)
            if parts[-1].place.error is not None:
                raise parts[-1].place.error
            yield [part.log_probs for part in parts]

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

    def _normalized(self, options: Options) -> Options:
        _check(options)
        hotwords = options.get("hotwords")
        if not hotwords:
            return options
        return {**options, "hotwords": {self.normalizer(phrase): bonus for phrase, bonus in hotwords.items()}}

    def _items(self, sources: Iterable[Source]) -> Iterator[_Item]:
        """The windows of all the sources, in order."""
        for source in sources:
            try:
                source = _understood(source)
                for window, last in _with_last(self._windowing.windows(self._blocks(source))):
                    yield _Item(_Place(source, window.end / self.sample_rate, last), window)
            except AsrError as error:
                yield _Item(_Place(source, 0.0, True, error), _NO_WINDOW)

    def _pieces(
        self, items: Iterator[_Item], batch_size: int, on_progress: Callable[[float], None]
    ) -> Iterator[_Piece]:
        """What the network makes of each window, in batches."""
        heard = 0
        while batch := list(islice(items, batch_size)):
            log_probs, lengths = self.log_probs([item.window.waveform for item in batch])
            heard += sum(item.window.fresh for item in batch)
            on_progress(heard / self.sample_rate)
            for item, output, length in zip(batch, log_probs.cpu(), lengths.tolist(), strict=True):
                window, kept = item.window, item.window.kept
                start = window.start // self._windowing.frame + kept.start
                pauses = tuple(pause - kept.start for pause in window.pauses)
                yield _Piece(item.place, start, output[:length][kept], pauses)

    def _stretches(self, pieces: Iterator[_Piece]) -> Iterator[_Stretch]:
        """The same, joined to whole recordings and cut where nobody speaks."""
        for recording in _recordings(pieces):
            yield from self._cut(recording)

    def _cut(self, recording: Iterator[_Piece]) -> Iterator[_Stretch]:
        """The stretches of one recording; each belongs to the place of the latest piece that it needed."""
        place: _Place

        def pieces() -> Iterator[tuple[int, Tensor, tuple[int, ...]]]:
            nonlocal place
            for piece in recording:
                place = piece.place
                yield piece.start, piece.log_probs, piece.pauses

        cut = stretches(pieces(), self._is_silent, self._longest_stretch)
        for (start, output), last in _with_last(cut):
            yield _Stretch(replace(place, last=last), start, output)

    def _heard(self, parts: Iterator[_Stretch], batch_size: int, options: Options) -> Iterator[_Heard]:
        """What the decoder makes of each stretch, in batches."""
        while batch := list(islice(parts, batch_size)):
            log_probs = pad_sequence([part.log_probs for part in batch], batch_first=True)
            lengths = torch.tensor([len(part.log_probs) for part in batch])
            hypotheses = self._decoder.decode(log_probs, lengths, **options)
            for part, hypothesis in zip(batch, hypotheses, strict=True):
                # A grammar has to make a sentence of each stretch, of a pause too.
                pause = options.get("grammar") is not None and bool(self._is_silent(part.log_probs).all())
                yield _Heard(part.place, part.start, hypothesis, pause)

    def _blocks(self, source: AudioSource | NDArray[np.floating[Any]]) -> Iterator[FloatArray]:
        """A recording in blocks of samples (samples,) float32 at the model's rate; a waveform is one block."""
        if not isinstance(source, np.ndarray):
            yield from audio.stream(source, self.sample_rate, BLOCK_SECONDS)
        elif source.ndim != 1 or not np.issubdtype(source.dtype, np.floating):
            raise AudioError(
                f"a waveform of shape {source.shape} and type {source.dtype}",
                expected=f"shape (samples,), floats between -1 and 1 at {self.sample_rate} Hz",
            )
        else:
            with np.errstate(over="ignore"):  # infinite then, and refused
                waveform = source.astype(np.float32)
            if len(waveform):
                audio.refuse_wreckage(waveform, None, self.sample_rate)
            yield waveform

    def _result(self, parts: Sequence[_Heard], nbest: int) -> Transcript | AsrError:
        """Put what was heard in the stretches of one recording together."""
        place = parts[-1].place
        if place.error is not None:
            return place.error
        parts = [part for part in parts if not part.pause] or parts[:1]
        hypotheses = [part.hypothesis for part in parts]
        words = [word for part in parts for word in self._timed(part)]
        rejections = [hypothesis.rejection for hypothesis in hypotheses if hypothesis.rejection is not None]
        transcript = Transcript(
            path=_name(place.source),
            duration=place.seconds,
            text=" ".join(hypothesis.text for hypothesis in hypotheses if hypothesis.text),
            words=tuple(words),
            confidence=mean_confidence(words) if words else min(each.confidence for each in hypotheses),
            alternatives=_alternatives(hypotheses, nbest) if nbest > 1 else (),
            slots=tuple(slot for hypothesis in hypotheses for slot in hypothesis.slots),
            rejection=max(rejections, default=None),
        )
        if self._reject_above is None or transcript.rejection is None or transcript.rejection <= self._reject_above:
            return transcript
        return transcript.without_text()

    def _timed(self, part: _Heard) -> Iterator[TimedWord]:
        """The words of a stretch, in seconds of the recording."""
        frame = self._windowing.frame / self.sample_rate
        for word in part.hypothesis.words:
            end = min((part.start + word.end) * frame, part.place.seconds)
            yield TimedWord(word.text, (part.start + word.start) * frame, end, word.confidence)

    def _is_silent(self, log_probs: Tensor) -> Tensor:
        return self._says_nothing[log_probs.argmax(-1)]


@dataclass(frozen=True)
class _Place:
    """Where a part of a recording belongs.

    Attributes:
        source: the recording.
        seconds: from the recording's start to the part's end, or to a later place.
        last: whether the recording ends here.
        error: why it does, if it could not be read.
    """

    source: Source
    seconds: float
    last: bool
    error: AsrError | None = None


@dataclass(frozen=True)
class _Item:
    """A window on its way into the network."""

    place: _Place
    window: Window


@dataclass(frozen=True)
class _Piece:
    """The network's output for the part of a window that counts: its first frame's place in the recording,
    log_probs (frames, vocab), and which of these are in the middle of pauses."""

    place: _Place
    start: int
    log_probs: Tensor
    pauses: tuple[int, ...]


@dataclass(frozen=True)
class _Stretch:
    """What is decoded at once: its first frame's place in the recording, and log_probs (frames, vocab)."""

    place: _Place
    start: int
    log_probs: Tensor


@dataclass(frozen=True)
class _Heard:
    """A stretch, decoded, and whether it is but a pause, of which a grammar has made a sentence."""

    place: _Place
    start: int
    hypothesis: Hypothesis
    pause: bool


Part = TypeVar("Part", _Piece, _Stretch, _Heard)


def _recordings(parts: Iterator[Part]) -> Iterator[Iterator[Part]]:
    """Divide parts by recordings. Nothing after a recording's last part is asked for before the next recording."""
    for first in parts:
        yield _to_the_last(first, parts)


def _to_the_last(part: Part, others: Iterator[Part]) -> Iterator[Part]:
    yield part
    while not part.place.last:
        part = next(others)
        yield part


def _with_last(items: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Each of at least one item, and whether it is the last."""
    iterator = iter(items)
    current = next(iterator)
    for following in iterator:
        yield current, False
        current = following
    yield current, True


def _alternatives(hypotheses: Sequence[Hypothesis], count: int) -> tuple[Alternative, ...]:
    """The best ways to hear a recording, given the best ones of each of its stretches."""
    heard = [
        [Alternative(each.text, each.score) for each in (hypothesis, *hypothesis.alternatives)]
        for hypothesis in hypotheses
    ]
    return tuple(reduce(partial(join_alternatives, count=count), heard, (Alternative("", 0.0),)))


def _understood(source: Source) -> AudioSource | NDArray[np.floating[Any]]:
    """A source, as what reads it knows it.

    Raises:
        AudioError: it is of no kind that can be a recording.
    """
    if isinstance(source, Tensor):
        source = source.detach().cpu()
        return (source.float() if source.is_floating_point() else source).numpy()
    if isinstance(source, str | Path | Stretch | Member | np.ndarray):
        return source
    if isinstance(source, os.PathLike):
        return Path(os.fsdecode(source))
    is_text = hasattr(source, "encoding")
    if not is_text and hasattr(source, "read") and hasattr(source, "seekable"):
        return source
    hint = None
    if isinstance(source, bytes | bytearray | memoryview):
        hint = "io.BytesIO(…), where these are the bytes of a sound file"
    elif isinstance(source, list | tuple | float | int):
        hint = "np.array(samples, np.float32)"
    elif is_text and hasattr(source, "read"):
        hint = 'open(path, "rb")'
    raise AudioError(
        f"{_kind(source)}{' of text' if is_text else ''} is no recording",
        expected="a path, an open binary file, or a waveform: an array of floats (samples,)",
        hint=hint,
    )


def _require_several(sources: object) -> None:
    """Refuse what is but one source, of which the letters, lines or samples would be taken for several."""
    if isinstance(sources, np.ndarray | Tensor):
        paths = isinstance(sources, np.ndarray) and not np.issubdtype(sources.dtype, np.number)
        alone = sources.ndim < 2 and not paths
    else:
        alone = isinstance(sources, str | bytes | os.PathLike) or hasattr(sources, "read")
    if alone or not isinstance(sources, Iterable):
        raise ConfigError(
            f"{_kind(sources)}, where several recordings were expected",
            where="sources",
            expected="a list of recordings, or another iterable",
            hint="[source]; or transcribe(source), which takes one alone",
        )


def _check(options: Options) -> None:
    """Refuse options that no decoder can make sense of."""
    for name in options:
        if name in Choice.__annotations__ and name not in Options.__annotations__:
            raise ConfigError("is chosen once, when the model is loaded", where=name, hint=f"asr.load(…, {name}=…)")
    refuse_unknown(options)
    numbers = {name: options.get(name) for name in ("beam_width", "nbest", "threads") if name in options}
    if numbers.get("threads", 1) is None:
        del numbers["threads"]
    require_positive(**numbers)
    hotwords, grammar = options.get("hotwords"), options.get("grammar")
    if hotwords is not None and not (
        isinstance(hotwords, Mapping)
        and all(isinstance(phrase, str) and isinstance(bonus, Real) for phrase, bonus in hotwords.items())
    ):
        raise ConfigError(
            f"{_kind(hotwords)}: {hotwords!r:.80}",
            where="hotwords",
            expected='phrases with the bonus of each, as in {"new york": 3.0}',
        )
    if grammar is not None:
        from asr.decoding.automaton import Automaton

        if not isinstance(grammar, Automaton):
            raise ConfigError(
                f"{_kind(grammar)}: {grammar!r:.80}",
                where="grammar",
                expected="a compiled grammar: of asr.decoding.automaton, load(path of a .vocab file), or "
                "compile(asr.text.grammar.read(path of its text))",
            )


def _kind(value: object) -> str:
    """The type of a value, with its article."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _name(source: Source) -> str:
    if isinstance(source, np.ndarray):
        return ""
    if not isinstance(source, str | Path | Stretch | Member):
        return "-"
    return str(source).encode(errors="surrogateescape").decode(errors="replace")  # a name may be in no UTF-8
