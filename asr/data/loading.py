"""From a plan to batches of tensors, in worker processes."""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from asr import audio, stop_signals
from asr.augment import Masks, SpecAugment, WaveformAugmenter
from asr.data.batching import LENGTH_STEP, Sample
from asr.errors import AsrError, ExhaustedError
from asr.features import FeatureExtractor
from asr.text.normalize import Normalizer
from asr.text.tokenizer import Tokenizer

CPU = torch.device("cpu")

BatchT = TypeVar("BatchT")
BatchT_co = TypeVar("BatchT_co", covariant=True)


@dataclass(frozen=True)
class Batch:
    """A batch of examples.

    Attributes:
        samples: where they come from; of several views, each has as many rows, one view after the other.
        inputs: features (batch, time, bins), or waveforms (batch, samples) whose features the device computes.
        lengths: (batch,) valid frames, or samples.
        targets: (batch, labels) token ids, padded with 0.
        target_lengths: (batch,).
        texts: the normalised transcripts.
        masks: SpecAugment's choice for each row of waveforms; features come masked.
    """

    samples: tuple[Sample, ...]
    inputs: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    texts: tuple[str, ...]
    masks: tuple[Masks, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """What the network reads, on a device; labels stay, since `ctc_loss` counts them on the CPU."""
        inputs, lengths = (tensor.to(device, non_blocking=True) for tensor in (self.inputs, self.lengths))
        return replace(self, inputs=inputs, lengths=lengths)

    def pin_memory(self) -> Batch:
        """Its tensors in pinned memory, from which a GPU fetches them while it computes; the loader asks for it."""
        return replace(
            self,
            inputs=self.inputs.pin_memory(),
            lengths=self.lengths.pin_memory(),
            targets=self.targets.pin_memory(),
            target_lengths=self.target_lengths.pin_memory(),
        )

    def frames(self, extractor: FeatureExtractor) -> Tensor:
        """How many valid frames of features each row has, found where its lengths are."""
        return self.lengths if self.inputs.ndim == 3 else extractor.num_frames(self.lengths)

    def features(self, extractor: FeatureExtractor) -> tuple[Tensor, Tensor]:
        """Features (batch, time, bins) and their lengths; computed here if the loader left it to the device."""
        if self.inputs.ndim == 3:
            return self.inputs, self.lengths
        features, lengths = extractor(self.inputs, self.lengths)
        return SpecAugment.apply(features, self.masks) if self.masks else features, lengths


@dataclass(frozen=True)
class Reader:
    """Reads samples: audio, augmentation, features, tokens.

    Args:
        sample_rate: hertz.
        extractor: waveforms to features.
        normalizer, tokenizer: transcripts to token ids.
        on_device: leave the features to the device (a GPU computes them faster in the batch, a CPU one by one).
        augmenter, spec_augment: for training.
        views: how often a batch has each sample, each time under other masks of SpecAugment.
    """

    sample_rate: int
    extractor: FeatureExtractor
    normalizer: Normalizer
    tokenizer: Tokenizer
    on_device: bool = False
    augmenter: WaveformAugmenter | None = None
    spec_augment: SpecAugment | None = None
    views: int = 1

    def read_batch(self, samples: Sequence[Sample]) -> Batch:
        """Read a batch.

        That of no samples has one row, of which no frame is valid: a network can't do without any.

        Raises:
            AudioError: a recording can't be read.
        """
        if not samples:
            return self._nothing()
        rngs = [np.random.default_rng(sample.seed or 0) for sample in samples]
        waveforms = [
            torch.from_numpy(self.waveform(sample, rng)) for sample, rng in zip(samples, rngs, strict=True)
        ]
        texts = tuple(self.text(sample) for sample in samples)
        targets = [torch.tensor(self.labels(text), dtype=torch.long) for text in texts] * self.views
        masks: tuple[Masks, ...] = ()
        if self.spec_augment is not None:
            frames = [self.extractor.num_frames(len(waveform)) for waveform in waveforms]
            masks = tuple(
                self.spec_augment.plan(count, self.extractor.dim, rng)
                for _ in range(self.views)
                for count, rng in zip(frames, rngs, strict=True)
            )
        rows = (waveforms if self.on_device else self.extractor.each(waveforms)) * self.views
        rate = self.sample_rate if self.on_device else self.frame_rate
        inputs = pad_in_steps(rows, round(LENGTH_STEP * rate))
        if masks and not self.on_device:
            inputs, masks = SpecAugment.apply(inputs, masks), ()
        return Batch(
            tuple(samples),
            inputs,
            torch.tensor([len(row) for row in rows]),
            pad_sequence(targets, batch_first=True),
            torch.tensor([len(target) for target in targets]),
            texts,
            masks,
        )

    @property
    def frame_rate(self) -> float:
        """Feature frames per second."""
        return 1 / self.extractor.frame_shift

    def waveform(self, sample: Sample, rng: np.random.Generator) -> np.ndarray:
        """The sample's waveform: float32, (samples,)."""
        waveform = read_waveform(sample, self.sample_rate, rng)
        return waveform if self.augmenter is None else self.augmenter(waveform, rng)

    def text(self, sample: Sample) -> str:
        """The sample's normalised transcript."""
        return self.normalizer(" ".join(part.text for part in sample.utterances))

    def labels(self, text: str) -> list[int]:
        """Token ids; none for a transcript, of the dev set, with units that the training transcripts lack."""
        return [] if self.tokenizer.unknown(text) else self.tokenizer.encode(text)

    def _nothing(self) -> Batch:
        inputs = torch.zeros(1, round(LENGTH_STEP * self.frame_rate), self.extractor.dim)
        nothing = torch.zeros(1, dtype=torch.long)
        return Batch((), inputs, nothing, nothing[:, None][:, :0], nothing, ())


class BatchReader(Protocol[BatchT_co]):
    """Reads the samples of a batch, the same whenever and wherever it does so."""

    def read_batch(self, samples: Sequence[Sample]) -> BatchT_co:
        """Read a batch.

        Raises:
            AudioError: a recording can't be read.
        """
        ...


class Loader(Generic[BatchT]):
    """Batches of a plan, read ahead by worker processes that live as long as the loader.

    Args:
        reader: reads a batch.
        workers: processes; 0 reads in this one.
        device: where batches go to. For a GPU, they are in pinned memory; if other processes train on GPUs as well,
            workers are no forks of this one: torch expects deadlocks of those beside NCCL's threads.
    """

    def __init__(self, reader: BatchReader[BatchT], workers: int = 0, device: torch.device = CPU) -> None:
        self._plan = _Plan()
        on_gpu = device.type == "cuda"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than there are cores
            self._loader = DataLoader(
                _Batches(reader),
                sampler=self._plan,  # the "indices" that reach the workers are the batches' samples themselves
                batch_size=None,
                num_workers=workers,
                persistent_workers=workers > 0,
                prefetch_factor=4 if workers else None,
                pin_memory=on_gpu,
                multiprocessing_context="forkserver" if workers and on_gpu and dist.is_initialized() else None,
                worker_init_fn=_follow_the_parent,
                generator=torch.Generator(),  # else each pass would draw from the generator of dropout
            )

    def __call__(self, plan: Sequence[Sequence[Sample]]) -> Iterator[BatchT]:
        """Read the batches of a plan, in order.

        The processes begin at once, before a batch is asked for, and leave what is unread of the plan before it.

        Raises:
            AudioError: a recording can't be read.
        """
        self._plan.batches = plan
        with _signals_kept_from_new_processes():
            batches = iter(self._loader)
        return self._checked(_fetched(batches) if self._loader.num_workers else batches)

    @staticmethod
    def _checked(batches: Iterator[BatchT | AsrError]) -> Iterator[BatchT]:
        for batch in batches:
            if isinstance(batch, AsrError):
                raise batch
            yield batch


_LOST_WORKER = re.compile(r"DataLoader worker \(pid.*?\) (is |exited)|shared memory\(shm\)|</torch_")
"""In torch's errors where a loader's process was killed, or shared memory is used up."""


@contextmanager
def lost_workers_named() -> Iterator[None]:
    """Train from a loader, of whose processes one may be killed: torch then raises an error, wherever this one is.

    Raises:
        ExhaustedError: one was.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if _LOST_WORKER.search(said) is None:
            raise
        again = "; the same command again goes on from the last checkpoint"
        if "Bus error" in said or "DataLoader worker (pid" not in said:
            hint = f"a larger one (docker run --shm-size=8g), or training.workers=0{again}"
            raise ExhaustedError("too little shared memory for the processes that read data", hint=hint) from None
        name = re.search(r"killed by signal: ([^.]+)", said)
        how = f"was killed ({name[1]})" if name else "has ended"
        hint = f"was there enough memory? with fewer training.workers, less is needed{again}"
        raise ExhaustedError(f"a process that reads data {how}", hint=hint) from None


def read_waveform(sample: Sample, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """The recordings of a sample, joined, with its silence around them: float32, (samples,).

    Raises:
        AudioError: one can't be read.
    """
    parts = [audio.load(utterance.source, sample_rate) for utterance in sample.utterances]
    joined = join(parts, sample.pauses, sample_rate, rng)
    return joined if sample.silence is None else sample.silence.around(joined, sample_rate)


def pad_in_steps(rows: Sequence[Tensor], step: int) -> Tensor:
    """Stack rows (length, …) to (batch, time, …), zeros after them, time a multiple of `step` for few shapes."""
    longest = max(1, *(len(row) for row in rows))  # convolutions refuse a batch without a single frame
    time = -(-longest // step) * step
    padded = rows[0].new_zeros(len(rows), time, *rows[0].shape[1:])
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded


def join(
    waveforms: Sequence[np.ndarray], pauses: Sequence[float], sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Join waveforms with pauses that sound as quiet as the recordings' own quietest 10 ms.

    Args:
        waveforms: each (samples,).
        pauses: seconds before each waveform but the first.
        sample_rate: hertz.
        rng: draws the noise in the pauses.
    """
    if len(waveforms) <= 1:
        return waveforms[0] if waveforms else np.zeros(0, np.float32)
    level = min(_quietest(waveform, sample_rate // 100) for waveform in waveforms)
    parts = [waveforms[0]]
    for pause, waveform in zip(pauses, waveforms[1:], strict=True):
        parts += [level * rng.standard_normal(round(pause * sample_rate), dtype=np.float32), waveform]
    return np.concatenate(parts)


def _quietest(waveform: np.ndarray, window: int) -> np.float32:
    frames = waveform[: len(waveform) // window * window].reshape(-1, window)
    return np.float32(np.sqrt(np.square(frames).mean(1).min())) if len(frames) else np.float32(0)


@dataclass
class _Plan:
    batches: Sequence[Sequence[Sample]] = ()

    def __iter__(self) -> Iterator[Sequence[Sample]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _fetched(batches: Iterator[BatchT]) -> Iterator[BatchT]:
    """The same, each fetched from its process by a thread while the one before it is used.

    A batch that is ready takes 3 ms to arrive: a twentieth of a small network's step.
    """
    with ThreadPoolExecutor(1, "batches") as thread:
        arriving = thread.submit(next, batches, None)
        while (batch := arriving.result()) is not None:
            arriving = thread.submit(next, batches, None)
            yield batch


class _Batches(Dataset[BatchT | AsrError]):
    def __init__(self, reader: BatchReader[BatchT]) -> None:
        self.reader = reader

    def __getitem__(self, samples: Sequence[Sample]) -> BatchT | AsrError:
        try:
            return self.reader.read_batch(samples)
        except AsrError as error:  # raised here, it would reach the user inside a worker's traceback
            return error


@contextmanager
def _signals_kept_from_new_processes() -> Iterator[None]:
    """A process that begins meanwhile gets none, and so can't end by one before it has learnt to ignore them.

    Those to this process come at the end; on Windows, Ctrl-C in between is lost.
    """
    if sys.platform == "win32":
        ctypes.windll.kernel32.SetConsoleCtrlHandler(None, True)
    else:
        multiprocessing.Lock()  # starts Python's resource tracker, where one is needed, which would unblock them
        before = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals.ALL)
    try:
        yield
    finally:
        if sys.platform == "win32":
            ctypes.windll.kernel32.SetConsoleCtrlHandler(None, False)
        else:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow_the_parent(_: int) -> None:
    """In a worker: leave signals to the parent, and end with it, though that be killed.

    Signals reach all processes of a terminal or a cluster's job, and the parent still wants its batch. Torch's own
    watch for its end sees nothing while it waits for room in a pipe which nobody reads any more.
    """
    for number in stop_signals.ALL:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, name="parent", daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@atexit.register
def _end_workers() -> None:
    """End those of a loader that an error has left behind.

    Python would do it with SIGTERM, and wait for ever, since they ignore that.
    """
    workers = [process for process in multiprocessing.active_children() if process.daemon]
    if workers and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes the end of a worker for an error
    for worker in workers:
        worker.kill()
