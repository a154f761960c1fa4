"""Audio to text: long recordings joined from windows, batches, and what goes wrong.

The acoustic model here is a fake that hears tones: its answers, and where they belong, are known exactly.
"""

from __future__ import annotations

import io
import itertools
import os
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from asr import audio, build
from asr.artefact import Model
from asr.assess import recognise_manifest
from asr.config import Recipe
from asr.data.manifest import Utterance
from asr.decoder_settings import DecoderSettings
from asr.decoding import automaton
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.rescoring import RescoringDecoder, Weights
from asr.decoding.types import BatchDecoder, Hypothesis, Options, Slot
from asr.errors import AudioError, ConfigError
from asr.longform import Window, Windowing, middle_of_longest_run, stretches
from asr.recognizer import Recognizer
from asr.text import grammar
from asr.transcript import Alternative, join_alternatives

RATE = 8000
TONES = {"low": 500.0, "mid": 1500.0, "high": 3000.0}
FRAME_SECONDS = 0.04
RECIPE = Recipe.model_validate(
    {
        "name": "tones",
        "prepare": {"corpus": "manifests", "train": "none", "dev": "none", "tests": {"none": "none"}},
        "tokens": {"kind": "words"},
        "features": {"kind": "spectrogram", "sample_rate": RATE, "normalization": "none"},
        "model": {
            "frontend": {"channels": [8, 8], "strides": [2, 2]},
            "encoder": {"layers": 1, "hidden": 8, "dropout": 0.5},
        },
    }
)


class ToneHearer(nn.Module):
    """A deterministic acoustic model: every fourth frame, the word whose frequency is loud, else the blank.

    Near an end at which what it is given is cut off amid a word it hears nonsense, as a model that lacks context
    might.
    """

    subsampling = 4
    nonsense_frames = 3

    def __init__(self, words: tuple[str, ...]) -> None:
        super().__init__()
        self.bins = [round(TONES[word.strip()] / RATE * 256) for word in words[1:-1]]

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        power = features[:, :: self.subsampling, self.bins]
        lengths = (lengths + self.subsampling - 1) // self.subsampling
        loud = power > 0.0  # natural logarithm
        silent = ~loud.any(-1, keepdim=True)
        scores = torch.cat([silent, loud, torch.zeros_like(silent)], dim=-1).float()
        frames = torch.arange(scores.shape[1])[None]
        ends = (frames < self.nonsense_frames, frames >= lengths[:, None] - self.nonsense_frames)
        cut_off = [end & (~silent[..., 0] & end).any(1, keepdim=True) for end in ends]
        scores[cut_off[0] | cut_off[1]] = torch.eye(scores.shape[2])[-1]
        return torch.log_softmax(10 * scores, dim=-1), lengths


def tone_model(**sample_seconds: float) -> Model:
    # Sorted, so "nonsense" would stand between the tones: the fake wants it last.
    tokenizer = build.tokens(RECIPE.tokens, ["low mid high zz"])
    features = build.features(RECIPE.features)
    known = {"training": {"sample_seconds": sample_seconds}} if sample_seconds else {}
    return Model(RECIPE, tokenizer, features, ToneHearer(tokenizer.surfaces), known)  # type: ignore[arg-type]


def tone_recognizer(decoder: BatchDecoder | None = None, **options: Any) -> Recognizer:
    return Recognizer(tone_model(), decoder=decoder, **options)


def real_recognizer() -> Recognizer:
    """A small network with random weights, whose dropout would show."""
    torch.manual_seed(3)
    tokenizer = build.tokens(RECIPE.tokens, ["low mid high"])
    features = build.features(RECIPE.features.model_copy(update={"normalization": "utterance"}))
    acoustic = build.acoustic(RECIPE.model, features.dim, len(tokenizer.surfaces))
    return Recognizer(Model(RECIPE, tokenizer, features, acoustic, {}))


@dataclass(frozen=True)
class Said:
    word: str
    start: float
    end: float


def tones(
    seconds: float, seed: int = 0, pauses: tuple[float, float] = (0.15, 1.2)
) -> tuple[np.ndarray, list[Said]]:
    """Tones of 0.3 s, about every second if not told otherwise: the waveform, and what is where."""
    rng = np.random.default_rng(seed)
    waveform = np.zeros(round(seconds * RATE), np.float32)
    said, time = [], 0.3
    while time + 0.6 < seconds:
        word = str(rng.choice(list(TONES)))
        first, last = round(time * RATE), round((time + 0.3) * RATE)
        waveform[first:last] = 0.5 * np.sin(2 * np.pi * TONES[word] / RATE * np.arange(first, last))
        said.append(Said(word, time, time + 0.3))
        time += 0.3 + rng.uniform(*pauses)
    return waveform, said


# ------------------------------------------------------------------------------------- long recordings

# One window is 30 s; each further one brings 24 s. Around both, and around one frame (0.04 s) more or less.
LENGTHS = (1.0, 29.96, 30.0, 30.0 + 1 / RATE, 30.04, 53.96, 54.0, 54.0 + 1 / RATE, 65.3, 78.0, 90.0, 121.7)


@pytest.mark.parametrize("seconds", LENGTHS)
@pytest.mark.parametrize("pauses", [(0.15, 1.2), (0.1, 0.2)])  # with the latter, windows overlap
def test_words_and_times_are_right_across_the_seams(pauses: tuple[float, float], seconds: float) -> None:
    waveform, said = tones(seconds, pauses=pauses)
    transcript = tone_recognizer().transcribe(waveform)
    heard = transcript.words
    assert [word.text for word in heard] == [word.word for word in said]
    # A window of 25 ms hears a tone up to 25 ms early, and frames come every 40 ms.
    for word, truth in zip(heard, said, strict=True):
        assert truth.start - 0.03 <= word.start <= truth.start + 0.045
        assert abs(word.end - truth.end) <= 0.045
    assert transcript.duration == pytest.approx(seconds, abs=1 / RATE)
    assert transcript.text == " ".join(word.text for word in transcript.words)


@pytest.mark.parametrize("subsampling", [1, 2])
def test_times_are_right_where_a_frame_is_shorter_than_the_windows_of_its_features(subsampling: int) -> None:
    """So the last frames of each window of the recording are missing; here there are some fifteen of these."""
    waveform, said = tones(65.3)
    model = tone_model(typical=0.75, long=1.5)
    model.acoustic.subsampling = subsampling
    heard = Recognizer(model).transcribe(waveform).words
    assert [word.text for word in heard] == [word.word for word in said]
    for word, truth in zip(heard, said, strict=True):
        assert truth.start - 0.03 <= word.start <= truth.start + 0.045


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of the windows that a recognizer has read."""
    lengths: list[float] = []
    log_probs = Recognizer.log_probs

    def listening(recognizer: Recognizer, waveforms: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        lengths.extend(len(waveform) / RATE for waveform in waveforms)
        return log_probs(recognizer, waveforms)

    monkeypatch.setattr(Recognizer, "log_probs", listening)
    return lengths


@pytest.mark.parametrize(
    ("learnt", "window"),
    [
        ({}, 30.0),
        ({"typical": 22.5, "long": 50.0}, 30.0),
        ({"typical": 15.0, "long": 25.0}, 30.0),
        ({"typical": 6.0, "long": 16.0}, 12.0),
        ({"typical": 4.5, "long": 7.0}, 9.0),
        ({"typical": 0.75, "long": 1.5}, 4.0),
    ],
)
def test_a_window_is_at_most_twice_as_long_as_what_the_model_has_learnt_from(
    learnt: dict[str, float], window: float, read: list[float]
) -> None:
    waveform, said = tones(65.3)
    words = Recognizer(tone_model(**learnt)).transcribe(waveform).words
    assert [word.text for word in words] == [word.word for word in said]
    assert max(read) <= window + FRAME_SECONDS
    assert min(read[:-1]) >= window / 4 - FRAME_SECONDS
    read.clear()
    without_pauses, _ = tones(65.3, pauses=(0.1, 0.2))
    Recognizer(tone_model(**learnt)).transcribe(without_pauses)
    assert read[:-1] == pytest.approx([window] * (len(read) - 1), abs=FRAME_SECONDS)


def test_what_is_as_long_as_a_long_sample_is_read_as_a_whole(read: list[float]) -> None:
    recognizer = Recognizer(tone_model(typical=4.5, long=16.0))
    for samples, windows in [(16 * RATE, 1), (16 * RATE + 1, 2)]:
        read.clear()
        recognizer.transcribe(tones(20.0)[0][:samples])
        assert (len(read) > 1) == (windows > 1)
        assert read[0] == samples / RATE or read[0] <= 9.0 + FRAME_SECONDS


@pytest.mark.parametrize("faint", [0.0, 0.03])
def test_windows_end_in_the_quietest_pause(faint: float, read: list[float]) -> None:
    """Even if another one is nearer to the longest that a window may be."""
    waveform = np.random.default_rng(0).uniform(-0.3, 0.3, 45 * RATE)
    waveform[round(19.3 * RATE) : 20 * RATE] *= faint
    waveform[round(25.3 * RATE) : 26 * RATE] *= 0.1
    tone_recognizer().transcribe(waveform)
    assert 19.5 <= read[0] <= 19.8
    assert len(read) == 2


def test_windows_end_in_the_first_long_pause(read: list[float]) -> None:
    """Even if another one is quieter. In their first quarter it only ends what is decoded by itself."""
    waveform = np.random.default_rng(0).uniform(-0.3, 0.3, 45 * RATE)
    for second, faint in [(4, 0.01), (19, 0.1), (25, 0.01)]:
        waveform[second * RATE : round((second + 1.2) * RATE)] *= faint
    (parts,) = tone_recognizer().outputs([waveform])
    assert 19.4 <= read[0] <= 19.8
    assert len(read) == 2
    assert [len(part) * FRAME_SECONDS for part in parts] == pytest.approx([4.6, 15.0, 25.4], abs=0.2)


@pytest.mark.parametrize("gap", [0.3, 0.38, 0.46, 2.3])
def test_no_short_word_between_pauses_is_cut(gap: float) -> None:
    rng = np.random.default_rng(0)
    place, words, sounds = 0, [], []
    for _ in range(120):
        word, quiet = (rng.uniform(-level, level, round(s * RATE)) for level, s in ((0.2, 0.15), (0.002, gap)))
        words.append((place, place + len(word)))
        place += len(word) + len(quiet)
        sounds += [word, quiet]
    windowing = Windowing.for_samples(frame=320, sample_rate=RATE, typical=2.6, long=6.2)
    waveform = np.concatenate(sounds).astype(np.float32)
    cuts = {window.start + 320 * pause for window in windowing.windows([waveform]) for pause in window.pauses}
    assert len(cuts) > 5
    assert not [cut for cut in cuts for start, end in words if start + 320 <= cut <= end - 320]


@pytest.mark.parametrize("level", [0.0, 0.003, 0.3])
def test_nothing_is_dropped_where_nobody_speaks(level: float, read: list[float]) -> None:
    """In a window of nothing but steady noise it needs no context, and a word that is said early is kept."""
    noise = np.random.default_rng(0).uniform(-level, level, 100 * RATE)
    tone_recognizer().transcribe(noise)
    assert read == pytest.approx([29.0, 29.0, 29.0, 13.0], abs=0.2)
    assert sum(read) == pytest.approx(100)


@pytest.mark.parametrize(("silence", "ends"), [(2.0, [11.0]), (12.0, [11.0, 21.0])])
def test_long_silence_is_apart_from_what_is_said(silence: float, ends: list[float], read: list[float]) -> None:
    """Of short silence, half is before what is said, and half behind it."""
    rng = np.random.default_rng(0)
    said = [rng.uniform(-0.3, 0.3, 10 * RATE) for _ in range(2)]
    quiet = rng.uniform(-0.003, 0.003, round(silence * RATE))
    tone_recognizer().transcribe(np.concatenate([said[0], quiet, said[1], np.zeros(10 * RATE)]))
    assert np.cumsum(read)[: len(ends)] == pytest.approx(ends, abs=0.3)


def test_what_is_between_pauses_is_decoded_by_itself() -> None:
    """A model says no space where an utterance begins or ends, so words would be joined across a pause."""
    (parts,) = tone_recognizer().outputs([three_stretches()])
    seconds = [len(part) * FRAME_SECONDS for part in parts]
    assert seconds == [pytest.approx(22, abs=0.5)] * 3
    assert sum(seconds) == pytest.approx(66)


def test_a_file_is_the_same_as_its_waveform(tmp_path: Path) -> None:
    waveform, _ = tones(70.0)
    path = tmp_path / "talk.wav"
    audio.save(path, waveform, RATE)
    stored = audio.load(path, RATE)
    recognizer = tone_recognizer()
    expected = recognizer.transcribe(stored)
    assert recognizer.transcribe(path).words == expected.words
    assert recognizer.transcribe(str(path)).path == str(path)
    with path.open("rb") as file:
        assert recognizer.transcribe(io.BytesIO(file.read())).text == expected.text


def test_one_window_is_the_utterance_itself() -> None:
    waveform, _ = tones(12.3)
    recognizer = tone_recognizer()
    log_probs, lengths = recognizer.log_probs([waveform])
    (hypothesis,) = GreedyDecoder(recognizer.model.tokenizer.surfaces).decode(log_probs, lengths)
    transcript = recognizer.transcribe(waveform)
    assert transcript.text == hypothesis.text
    assert [(word.start, word.confidence) for word in transcript.words] == [
        (word.start * FRAME_SECONDS, word.confidence) for word in hypothesis.words
    ]


def test_memory_does_not_grow_with_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    minutes, block = 60, np.zeros(10 * RATE, np.float32)

    def stream(*_: object) -> Iterator[np.ndarray]:
        return (block.copy() for _ in range(6 * minutes))

    monkeypatch.setattr(audio, "stream", stream)
    recognizer = tone_recognizer()
    tracemalloc.start()
    (transcript,) = recognizer.stream(["endless.wav"], batch_size=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert transcript.duration == 60 * minutes
    assert peak < 4 * RATE * 60 * minutes / 10  # a tenth of the samples' float32 bytes


@given(
    loud=st.lists(st.booleans(), max_size=80),
    rest=st.integers(0, 3),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    whole=st.integers(4, 30),
    window=st.integers(4, 24),
    context=st.integers(0, 6),
    pause=st.integers(0, 7),
)
def test_kept_frames_join_into_the_frames_of_the_recording(
    loud: list[bool], rest: int, cuts: list[int], whole: int, window: int, context: int, pause: int
) -> None:
    if 2 * context >= window or window > whole or not 0 < pause <= window // 4:
        with pytest.raises(ValueError, match=r"no middle|from recordings|from a pause"):
            Windowing(4, whole, window, context, pause)
        return
    recording = 1.0 + np.arange(4 * len(loud) + rest, dtype=np.float32)
    recording *= np.append(np.repeat(np.where(loud, 1, 0.001), 4), np.ones(rest)).astype(np.float32)
    windows = list(Windowing(4, whole, window, context, pause).windows(np.split(recording, sorted(cuts))))

    def frames(waveform: np.ndarray) -> list[float]:
        return [float(frame[0]) for frame in np.split(waveform, range(4, len(waveform), 4)) if len(frame)]

    assert [place for part in windows for place in frames(part.waveform)[part.kept]] == frames(recording)
    assert sum(part.fresh for part in windows) == len(recording)
    assert (len(windows) == 1) == (len(recording) <= 4 * whole)
    before = 0
    for part in windows:
        assert len(part.waveform) <= 4 * (window if len(windows) > 1 else whole)
        assert part.end == part.start + len(part.waveform)
        count = len(frames(part.waveform))
        first, last, _ = part.kept.indices(count)
        assert first == before
        before = count - last
        if part is windows[-1]:
            assert (part.end, before, part.pauses) == (len(recording), 0, ())
        elif last in part.pauses:
            assert before == 0
            assert last - first >= window // 4
        else:
            assert (before, count) == (context, window)
        assert all(first < end <= last for end in part.pauses)
        assert list(part.pauses) == sorted(set(part.pauses))
        assert not any(all(loud[part.start // 4 + end - 1 :][:2]) for end in part.pauses)


@given(st.data())
def test_stretches_lose_nothing_and_are_cut_in_silence(data: st.DataObject) -> None:
    longest = data.draw(st.integers(2, 12))
    flags = data.draw(st.lists(st.booleans(), max_size=60))
    whole = torch.tensor(flags, dtype=torch.float32)[:, None]
    pauses = sorted(data.draw(st.sets(st.integers(1, len(flags)), max_size=4))) if flags else []
    cuts = data.draw(st.lists(st.integers(0, len(flags)), max_size=3).map(sorted))
    pieces = [
        (first, whole[first:last], [pause - first for pause in pauses if first < pause <= last])
        for first, last in itertools.pairwise([0, *cuts, len(flags)])
    ]
    found = list(stretches(pieces, lambda piece: piece[:, 0] > 0.5, longest))
    assert torch.cat([part for _, part in found])[:, 0].tolist() == [float(flag) for flag in flags]
    assert {start for start, _ in found} >= {pause for pause in pauses if pause < len(flags)}
    assert all(len(part) for _, part in found) or not flags
    for start, part in found:
        assert len(part) <= longest
        end = start + len(part)
        if end < len(flags) and end not in pauses and any(flags[start + longest // 2 : start + longest]):
            assert flags[end]  # the stretch behind begins with a silent frame
    if len(flags) <= longest:
        assert len(found) == len({*pauses, len(flags)})


@pytest.mark.parametrize(
    ("flags", "middle"), [("1", 0), ("0110", 2), ("1011101", 3), ("11100111", 1), ("000001", 5), ("1111", 2)]
)
def test_middle_of_longest_run(flags: str, middle: int) -> None:
    assert middle_of_longest_run(torch.tensor([flag == "1" for flag in flags])) == middle


def test_window_without_samples() -> None:
    (window,) = Windowing(4, 8, 8, 2, 2).windows([])
    assert isinstance(window, Window)
    assert (len(window.waveform), window.start, window.end) == (0, 0, 0)


# ----------------------------------------------------------------------------------------------- batches


def test_alone_or_in_a_batch_is_the_same() -> None:
    rng = np.random.default_rng(0)
    waveforms = [rng.standard_normal(size).astype(np.float32) for size in (4000, 100, 16123, 0, 8001, 230)]
    recognizer = real_recognizer()
    together, lengths = recognizer.log_probs(waveforms)
    for index, waveform in enumerate(waveforms):
        alone, (length,) = recognizer.log_probs([waveform])
        assert length == lengths[index]
        torch.testing.assert_close(alone[0, :length], together[index, :length], atol=1e-5, rtol=0)
    texts = [transcript.text for transcript in recognizer.stream(waveforms, batch_size=4)]
    assert texts == [recognizer.transcribe(waveform).text for waveform in waveforms]


def test_log_probs_are_probabilities_and_the_same_each_time() -> None:
    recognizer = real_recognizer()
    waveform = np.random.default_rng(0).standard_normal(9000).astype(np.float32)
    first, second = recognizer.log_probs([waveform])[0], recognizer.log_probs([waveform])[0]
    assert torch.equal(first, second)
    torch.testing.assert_close(first.exp().sum(-1), torch.ones(first.shape[:2]))
    assert not first.requires_grad


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_order_is_that_of_the_sources(batch_size: int) -> None:
    waveforms, expected = [], []
    for seed, seconds in enumerate((2.0, 61.0, 0.5, 33.0, 4.0)):
        waveform, said = tones(seconds, seed)
        waveforms.append(waveform)
        expected.append([word.word for word in said])
    transcripts = list(tone_recognizer().stream(waveforms, batch_size))
    assert [[word.text for word in found.words] for found in transcripts] == expected


def test_a_result_does_not_wait_for_the_next_recording() -> None:
    drawn = []

    def microphone() -> Iterator[np.ndarray]:
        for seconds in (2.0, 40.0, 3.0):
            drawn.append(seconds)
            yield tones(seconds)[0]

    transcripts = tone_recognizer().stream(microphone(), batch_size=1)
    for count, transcript in enumerate(transcripts, start=1):
        assert len(drawn) == count
        assert transcript.duration == drawn[-1]


@pytest.mark.parametrize("samples", [0, 1, 199])  # a frame needs 200
def test_too_short_is_silent(samples: int) -> None:
    transcript = real_recognizer().transcribe(np.ones(samples, np.float32))
    assert (transcript.text, transcript.words, transcript.segments) == ("", (), ())
    assert transcript.duration == samples / RATE


def test_progress_counts_each_second_once() -> None:
    reports: list[float] = []
    waveform, _ = tones(70.0)
    list(tone_recognizer().attempt([waveform, waveform[:RATE]], 2, reports.append))
    assert reports == sorted(reports)
    assert reports[-1] == pytest.approx(71.0)


# --------------------------------------------------------------------------------------------- decoding


@dataclass
class Script:
    """A decoder that gives prepared answers, and remembers what it was asked."""

    answers: list[Hypothesis]
    batches: list[int] = field(default_factory=list)
    options: list[Options] = field(default_factory=list)

    def decode(self, log_probs: Tensor, lengths: Tensor, **options: Unpack[Options]) -> list[Hypothesis]:
        self.batches.append(len(lengths))
        self.options.append(options)
        return [self.answers.pop(0) for _ in lengths]


def hypothesis(text: str, score: float = 0.0, **more: Any) -> Hypothesis:
    return Hypothesis(text, (), (), (), score, 1.0, score, **more)


def three_stretches() -> np.ndarray:
    """A recording that is decoded in three parts, between two silences amid noise."""
    waveform = np.random.default_rng(0).uniform(-0.1, 0.1, 66 * RATE).astype(np.float32)
    for second in (22, 44):
        waveform[round((second - 0.5) * RATE) : round((second + 0.5) * RATE)] = 0.0
    return waveform


def test_stretches_are_decoded_together() -> None:
    script = Script([hypothesis(text) for text in "abcd"])
    first, second = tone_recognizer(script).stream([three_stretches(), tones(2.0)[0]], batch_size=8)
    assert (first.text, second.text) == ("a b c", "d")
    assert script.batches == [4]


def test_each_stretch_is_rescored_by_itself() -> None:
    def scorer(sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [np.array([{"": 0.0, "a": -3.0, "b": -1.0, "c": -2.0}[" ".join(words)]]) for words in sentences]

    found = [("a", -1.0, "b", -2.0), ("b", -1.0, "", -1.5), ("c", -1.0, "b", -4.0)]
    script = Script([hypothesis(x, p, alternatives=(hypothesis(y, q),)) for x, p, y, q in found])
    rescoring = RescoringDecoder(script, scorer, Weights(1.0), nbest=2)
    transcript = tone_recognizer(rescoring).transcribe(three_stretches(), nbest=3)
    # b for a: -3 rather than -4; nothing for b: -1.5 rather than -2; c and b: -3 or -5.
    assert transcript.text == "b c"
    assert [(each.text, each.score) for each in transcript.alternatives] == [
        ("b c", -7.5),
        ("b b c", -8.0),
        ("a c", -8.5),
    ]


def test_the_outputs_are_what_is_decoded() -> None:
    recognizer = tone_recognizer()
    sources = [three_stretches(), tones(3.0)[0], np.zeros(0, np.float32)]
    outputs = list(recognizer.outputs(sources, batch_size=2))
    assert [len(parts) for parts in outputs] == [3, 1, 1]
    decoder = GreedyDecoder(recognizer.model.tokenizer.surfaces)
    for parts, transcript in zip(outputs, recognizer.stream(sources), strict=True):
        texts = [decoder.decode(part[None], [len(part)])[0].text for part in parts]
        assert " ".join(filter(None, texts)) == transcript.text
    (alone, (length,)) = recognizer.log_probs([sources[1]])
    torch.testing.assert_close(outputs[1][0], alone[0, :length])


def test_outputs_of_an_unreadable_recording_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav"):
        list(tone_recognizer().outputs([tmp_path / "gone.wav"]))


def test_a_waveform_may_be_a_tensor_and_a_path_of_any_kind(tmp_path: Path) -> None:
    waveform = tones(2.0)[0]
    soundfile.write(tmp_path / "a.wav", waveform, RATE)
    (entry,) = os.scandir(tmp_path)
    recognizer = tone_recognizer()
    expected = recognizer.transcribe(waveform)
    doubles = torch.tensor(waveform, dtype=torch.float64, requires_grad=True)
    assert recognizer.transcribe([torch.tensor(waveform), doubles]) == [expected] * 2
    named = recognizer.transcribe(entry)
    assert (named.text, named.path) == (expected.text, entry.path)


def test_options_of_a_call_go_before_those_of_the_recognizer() -> None:
    script = Script([hypothesis("") for _ in range(2)])
    recognizer = tone_recognizer(script, beam_width=4, hotwords={"Dr. O’Neill-Smith": 2.5})
    recognizer.transcribe(np.zeros(800, np.float32))
    recognizer.transcribe(np.zeros(800, np.float32), beam_width=9, nbest=2, hotwords=None)
    assert script.options == [
        {"beam_width": 4, "hotwords": {"dr o'neill smith": 2.5}},
        {"beam_width": 9, "nbest": 2, "hotwords": None},
    ]


alternatives = st.lists(
    st.builds(Alternative, st.sampled_from(["", "a", "b", "a b", "b b"]), st.integers(-20, 0).map(float)),
    min_size=1,
    max_size=4,
)


@given(first=alternatives, second=alternatives, count=st.integers(1, 6))
def test_joined_alternatives_are_the_best_of_all_pairs(
    first: list[Alternative], second: list[Alternative], count: int
) -> None:
    scores: dict[str, float] = {}
    for before, after in itertools.product(first, second):
        text = " ".join(f"{before.text} {after.text}".split())
        scores[text] = max(scores.get(text, -np.inf), before.score + after.score)
    joined = join_alternatives(first, second, count)
    assert [alternative.score for alternative in joined] == sorted(scores.values(), reverse=True)[:count]
    assert all(scores[alternative.text] == alternative.score for alternative in joined)
    assert len({alternative.text for alternative in joined}) == len(joined)


def test_the_n_best_of_several_stretches() -> None:
    def ranked(*texts_and_scores: tuple[str, float]) -> Hypothesis:
        best, *others = (hypothesis(text, score) for text, score in texts_and_scores)
        return replace(best, alternatives=tuple(others))

    script = Script([ranked(("a", -1), ("b", -3)), ranked(("c", -2), ("d", -2.5)), ranked(("", -1), ("e", -6))])
    transcript = tone_recognizer(script).transcribe(three_stretches(), nbest=4)
    assert transcript.text == "a c"
    # Sums: a c -4, a d -4.5, b c -6, b d -6.5, a c e -9, …
    assert transcript.alternatives == (
        Alternative("a c", -4.0),
        Alternative("a d", -4.5),
        Alternative("b c", -6.0),
        Alternative("b d", -6.5),
    )


def test_without_n_best_there_are_no_alternatives() -> None:
    assert tone_recognizer(Script([hypothesis("a")])).transcribe(tones(2.0)[0]).alternatives == ()


def commands() -> Script:
    room, lamp = Slot("room", "hall"), Slot("device", "lamp")
    return Script(
        [
            hypothesis("lamp on", slots=(lamp,), rejection=0.2),
            hypothesis("in the hall", slots=(room,), rejection=0.7),
            hypothesis("now", rejection=0.1),
        ]
    )


def test_slots_are_joined_and_the_worst_stretch_decides() -> None:
    transcript = tone_recognizer(commands()).transcribe(three_stretches())
    assert transcript.text == "lamp on in the hall now"
    assert transcript.slots == (Slot("device", "lamp"), Slot("room", "hall"))
    assert (transcript.rejection, transcript.rejected) == (0.7, False)


@pytest.mark.parametrize(("threshold", "rejected"), [(None, False), (0.7, False), (0.69, True), (0.0, True)])
def test_what_is_rejected_has_no_text(threshold: float | None, rejected: bool) -> None:
    transcript = tone_recognizer(commands(), reject_above=threshold).transcribe(three_stretches())
    assert transcript.rejected == rejected
    assert transcript.rejection == 0.7
    assert bool(transcript.text) == bool(transcript.slots) == (not rejected)
    several = tone_recognizer(commands(), reject_above=threshold).transcribe(three_stretches(), nbest=2)
    assert bool(several.alternatives) == (not rejected)


class Commander:
    """A decoder for a grammar with one sentence, which fits no silence."""

    def decode(self, log_probs: Tensor, lengths: Tensor, **options: Unpack[Options]) -> list[Hypothesis]:
        silent = [
            bool((row[:length].argmax(-1) == 0).all()) for row, length in zip(log_probs, lengths, strict=True)
        ]
        return [hypothesis("" if no else "low", rejection=np.inf if no else 0.2) for no in silent]


@pytest.mark.parametrize("commands", [0, 1, 2])
def test_of_pauses_a_grammar_makes_no_sentence(commands: int) -> None:
    """It must hear one, however unlikely, or none at all, which would reject the whole recording."""
    waveform = np.zeros(66 * RATE, np.float32)
    for second in (10, 55)[:commands]:
        times = np.arange(second * RATE, second * RATE + RATE // 2)
        waveform[times] = 0.5 * np.sin(2 * np.pi * TONES["low"] / RATE * times)
    low = automaton.compile(grammar.parse("<command> = low ;"))
    transcript = tone_recognizer(Commander(), reject_above=0.5).transcribe(waveform, grammar=low)
    assert transcript.text == " ".join(commands * ["low"])
    assert transcript.rejection == (0.2 if commands else np.inf)


def test_silence_is_one_sentence_of_a_grammar_at_most() -> None:
    """Not one for each of the stretches into which it is cut."""

    class Believer(Commander):
        def decode(self, log_probs: Tensor, lengths: Tensor, **options: Unpack[Options]) -> list[Hypothesis]:
            return [hypothesis("low", rejection=6.7) for _ in lengths]

    low = automaton.compile(grammar.parse("<command> = low ;"))
    transcript = tone_recognizer(Believer()).transcribe(np.zeros(66 * RATE, np.float32), grammar=low)
    assert (transcript.text, transcript.rejection) == ("low", 6.7)


def test_nothing_is_rejected_without_a_grammar() -> None:
    recognizer = tone_recognizer(Script([hypothesis("a")]), reject_above=0.0)
    assert recognizer.transcribe(tones(2.0)[0]).text == "a"


@pytest.mark.parametrize("options", [{"nbest": 2}, {"hotwords": {"low": 1.0}}, {"beam_width": 8}])
def test_greedy_decoding_refuses_what_only_a_beam_search_does(options: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        tone_recognizer().transcribe(tones(2.0)[0], **options)


def test_a_model_with_settings_searches_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(tone_model(), decoder=DecoderSettings(beam_width=5))
    script = Script([hypothesis("a"), hypothesis("b")])
    monkeypatch.setattr(build, "decoder", lambda surfaces, normalizer, settings: script)
    recognizer = Recognizer(model)
    recognizer.transcribe(tones(2.0)[0])
    recognizer.transcribe(tones(2.0)[0], beam_width=6)
    assert script.options == [{"beam_width": 5}, {"beam_width": 6}]


def test_beam_search_hears_what_greedy_decoding_hears_in_clear_speech() -> None:
    waveform = tones(70.0)[0]
    searching = Recognizer(replace(tone_model(), decoder=DecoderSettings()))
    assert searching.transcribe(waveform).text == tone_recognizer().transcribe(waveform).text


# ------------------------------------------------------------------------------------------------ faults


def test_an_unreadable_recording_does_not_stop_the_others(tmp_path: Path) -> None:
    waveform, said = tones(40.0)
    missing = tmp_path / "missing.wav"
    results = list(tone_recognizer().attempt([waveform, missing, waveform], batch_size=2))
    assert isinstance(results[1], AudioError)
    assert str(missing) in str(results[1])
    assert [len(result.words) for result in results[::2]] == [len(said)] * 2  # type: ignore[union-attr]


def test_a_fault_late_in_a_recording_is_one(tmp_path: Path) -> None:
    path = tmp_path / "damaged.wav"
    waveform = np.zeros(80 * RATE, np.float32)
    waveform[-1] = np.nan
    soundfile.write(path, waveform, RATE, subtype="FLOAT")
    (result,) = tone_recognizer().attempt([path], batch_size=1)
    assert isinstance(result, AudioError)
    with pytest.raises(AudioError, match=r"damaged\.wav"):
        tone_recognizer().transcribe(path)


@pytest.mark.parametrize("wreckage", [np.nan, -np.inf, 1e30, 1e300])
def test_an_array_of_no_sound_does_not_stop_the_others(wreckage: float) -> None:
    waveform, said = tones(40.0)
    broken = waveform.astype(np.float64)
    broken[RATE] = wreckage
    results = list(tone_recognizer().attempt([broken, waveform], batch_size=8))
    assert isinstance(results[0], AudioError)
    assert "no sound" in str(results[0])
    assert "at 1.00 s" in str(results[0])
    assert len(results[1].words) == len(said)  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [0, -1, 2.0, None])
def test_a_batch_holds_something(size: Any) -> None:
    recognizer, waveform = tone_recognizer(), tones(2.0)[0]
    for results in (recognizer.stream, recognizer.attempt, recognizer.outputs):
        with pytest.raises(ConfigError, match=r"batch_size: .*\n  expected: a whole number, at least 1"):
            next(iter(results([waveform], batch_size=size)))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ([0.0, 0.5], "a list is no recording"),
        (0.5, "a float is no recording"),
        (b"RIFF", "a bytes is no recording"),
        (None, "a NoneType is no recording"),
        (io.StringIO("RIFF"), "a StringIO of text is no recording"),
    ],
)
def test_what_is_no_recording_does_not_stop_the_others(source: Any, told: str) -> None:
    waveform = tones(2.0)[0]
    refused, heard = tone_recognizer().attempt([source, waveform])
    assert isinstance(refused, AudioError)
    assert told in str(refused)
    assert "expected: a path, an open binary file, or a waveform" in str(refused)
    assert heard == tone_recognizer().transcribe(waveform)


def test_a_file_open_for_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tones(2.0)[0], RATE)
    with path.open(encoding="latin-1") as file, pytest.raises(AudioError, match=r'open\(path, "rb"\)'):
        tone_recognizer().transcribe(file)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "sources", ["a.wav", b"a.wav", Path("a.wav"), io.BytesIO(), np.zeros(800, np.float32), torch.zeros(800), None]
)
def test_one_source_is_not_several(sources: Any) -> None:
    recognizer = tone_recognizer()
    for results in (recognizer.stream, recognizer.attempt, recognizer.outputs):
        with pytest.raises(ConfigError, match=r"where several(.|\n)*transcribe\(source\)"):
            next(iter(results(sources)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"nbest": 0}, "nbest: 0\n  expected: a whole number"),
        ({"nbest": "3"}, "nbest: '3'\n  expected: a whole number"),
        ({"beam_width": 2.5}, "beam_width: 2.5\n  expected: a whole number"),
        ({"threads": 0}, "threads: 0\n"),
        ({"hotwords": ["low"]}, "hotwords: a list: ['low']\n  expected: phrases with the bonus of each"),
        ({"hotwords": "low"}, "hotwords: a str"),
        ({"hotwords": {"low": "3"}}, "hotwords: a dict"),
        ({"grammar": "commands.gram"}, "grammar: a str: 'commands.gram'\n  expected: a compiled grammar"),
    ],
)
def test_options_of_another_kind_are_refused(options: Any, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        tone_recognizer(Script([])).transcribe(tones(2.0)[0], **options)
    assert told in str(refused.value)


@pytest.mark.parametrize("settings", [None, DecoderSettings()])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"beamwidth": 3},
            "beamwidth: there is no such option of decoding (did you mean beam_width?)\n  expected: ",
        ),
        ({"colour": 3}, "colour: there is no such option of decoding\n  expected: beam_width, nbest, hotwords, "),
        ({"lm": "foo.arpa"}, "lm: is chosen once, when the model is loaded\n  try: asr.load(…, lm=…)"),
        ({"nbest": 2, "alpha": 0.5}, "alpha: is chosen once"),
    ],
)
def test_options_that_there_are_not_are_refused(options: Any, told: str, settings: DecoderSettings | None) -> None:
    model = replace(tone_model(), decoder=settings)
    with pytest.raises(ConfigError) as at_a_call:
        Recognizer(model).transcribe(tones(2.0)[0], **options)
    with pytest.raises(ConfigError) as from_the_beginning:
        Recognizer(model, **options)
    assert told in str(at_a_call.value)
    assert told in str(from_the_beginning.value)


@pytest.mark.parametrize("waveform", [np.zeros((2, 800), np.float32), np.zeros(800, np.int16), torch.zeros(2, 800)])
def test_what_is_no_waveform_is_refused(waveform: Any) -> None:
    with pytest.raises(AudioError, match="samples"):
        tone_recognizer().transcribe(waveform)


# ------------------------------------------------------------------------------------------- evaluation


def test_answers_come_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    utterances, expected = [], []
    for index, seconds in enumerate((3.0, 1.5, 40.0, 2.0)):
        waveform, said = tones(seconds, index)
        path = tmp_path / f"{index}.wav"
        audio.save(path, waveform, RATE)
        utterances.append(Utterance(path, seconds, f"  Text, {index}!", {"speaker": f"s{index}"}))
        expected.append([word.word for word in said])
    done: list[int] = []
    answers = recognise_manifest(tone_recognizer(), utterances, batch_size=2, progress=done.append)
    assert [answer.hypothesis.split() for answer in answers] == expected
    assert [answer.reference for answer in answers] == ["text 0", "text 1", "text 2", "text 3"]
    assert [answer.fields["speaker"] for answer in answers] == ["s0", "s1", "s2", "s3"]
    assert done == [1, 2, 3, 4]


def test_no_utterance_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav"):
        recognise_manifest(tone_recognizer(), [Utterance(tmp_path / "gone.wav", 1.0, "text")])
