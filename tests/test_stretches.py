"""Utterances that are stretches of a longer recording: whatever reads them hears that stretch and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_recognizer import real_recognizer
from tones import write_recipe

from asr import audio, build
from asr.assess import recognise_manifest
from asr.config import Features
from asr.data.batching import Sample
from asr.data.checks import check_sets
from asr.data.loading import Reader
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.errors import AudioError, DataError
from asr.sound_files import Stretch
from asr.text.normalize import Normalizer
from asr.text.tokenizer import WordTokenizer
from asr.tuning import listen

RATE = 16000


def chirp(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * (200 + 60 * time) * time) + noise).astype(np.float32)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3", "gsm.wav"])
def test_a_stretch_is_a_slice_of_the_whole(tmp_path: Path, name: str) -> None:
    if name == "gsm.wav":
        soundfile.write(tmp_path / name, chirp(9), RATE, subtype="GSM610")  # in which libsndfile does not seek
    else:
        audio.save(tmp_path / name, chirp(9), RATE)
    whole = audio.load(tmp_path / name, RATE)
    for start, duration in ((0, 2.5), (3.21, 1.2345), (7, 2)):
        part = audio.load(Stretch(tmp_path / name, start, duration), RATE)
        first = round(start * RATE)
        np.testing.assert_array_equal(part, whole[first : first + round(duration * RATE)])


def test_a_stretch_at_the_end_of_a_vorbis_file(tmp_path: Path) -> None:
    """A pure tone needs few bits, so that the last page, in which libsndfile finds no place, is a long one."""
    time = np.arange(90 * RATE) / RATE
    audio.save(tmp_path / "a.ogg", (0.3 * np.sin(2 * np.pi * (200 + 30 * time) * time)).astype(np.float32), RATE)
    whole = audio.load(tmp_path / "a.ogg", RATE)
    for start in (10, 40, 89.2):
        part = audio.load(Stretch(tmp_path / "a.ogg", start, 0.5), RATE)
        first = round(start * RATE)
        np.testing.assert_array_equal(part, whole[first : first + RATE // 2])


def test_m4a_is_decoded_up_to_the_stretch(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV reads M4A")
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        track = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(chirp(9)[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        converter = av.AudioResampler(format=track.format, layout="mono", rate=RATE, frame_size=track.frame_size)
        for piece in [*converter.resample(frame), *converter.resample(None), None]:
            container.mux(track.encode(piece))
    whole = audio.load(tmp_path / "a.m4a", RATE)
    part = audio.load(Stretch(tmp_path / "a.m4a", 6.5, 1.5), RATE)
    np.testing.assert_array_equal(part, whole[round(6.5 * RATE) : 8 * RATE])


def test_the_length_is_the_same_at_another_rate_and_in_the_header(tmp_path: Path) -> None:
    audio.save(tmp_path / "a.wav", chirp(5), RATE)
    stretch = Stretch(tmp_path / "a.wav", 1.5, 2.0)
    assert len(audio.load(stretch, 8000)) == 16000
    assert [len(block) for block in audio.stream(stretch, RATE, 0.75)] == [12000, 12000, 8000]
    info = audio.read_header(stretch)
    assert (info.duration, info.frames, info.sample_rate) == (2.0, 32000, RATE)


@pytest.mark.parametrize("start", [4.5, 5.0, 60.0])
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.opus"])
def test_a_stretch_that_is_not_there(tmp_path: Path, name: str, start: float) -> None:
    audio.save(tmp_path / name, chirp(5), RATE)
    with pytest.raises(
        AudioError, match=rf"{name} \({start:.2f} to {start + 1:.2f} s\): the recording ends at 5\."
    ):
        audio.load(Stretch(tmp_path / name, start, 1), RATE)


@pytest.mark.parametrize("start", [3.0, 6.0])
def test_a_stretch_of_what_is_damaged(tmp_path: Path, start: float) -> None:
    """libsndfile fails to find a place in the damaged part, before anything is decoded."""
    audio.save(tmp_path / "a.flac", chirp(9), RATE)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    expected = rf"a\.flac \({start:.2f} to {start + 3:.2f} s\): is damaged or cut off somewhere after"
    with pytest.raises(AudioError, match=expected):
        audio.load(Stretch(tmp_path / "a.flac", start, 3), RATE)


def test_in_manifests_it_has_an_offset(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    utterances = [
        Utterance(tmp_path / "a.wav", 2, "a", {"speaker": "x"}, 0.0),
        Utterance(tmp_path / "a.wav", 2, "b"),
    ]
    write_manifest(path, utterances)
    first, second = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    assert first == {"audio_filepath": "a.wav", "offset": 0.0, "duration": 2, "text": "a", "speaker": "x"}
    assert "offset" not in second
    assert read_manifest(path) == utterances
    assert utterances[0].source == Stretch(tmp_path / "a.wav", 0, 2)
    assert utterances[1].source == tmp_path / "a.wav"


def test_wrong_offsets(tmp_path: Path) -> None:
    wrong = {-1: "offset is -1 seconds", "3": "offset is '3', not a number", True: "offset is True, not a number"}
    lines = [json.dumps({"audio_filepath": "a.wav", "offset": value, "duration": 1, "text": ""}) for value in wrong]
    (tmp_path / "m.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_manifest(tmp_path / "m.jsonl")
    for number, message in enumerate(wrong.values(), start=1):
        assert f"line {number}: {message}" in str(raised.value)


def test_checks(tmp_path: Path) -> None:
    audio.save(tmp_path / "a.wav", chirp(5), RATE)
    good = [Utterance(tmp_path / "a.wav", 1, "one", start=start) for start in (0.0, 1.0, 2.0)]
    _, warnings = check_sets({"train": good[:2], "dev": good[2:]}, Normalizer())
    assert warnings == []
    _, warnings = check_sets({"train": good, "dev": good[2:]}, Normalizer())
    assert "1 recording is in train and in dev" in warnings[0]
    assert "a.wav (2.00 to 3.00 s)" in warnings[0]
    for other, shared in ((Utterance(tmp_path / "a.wav", 5, "all"), True), (replace(good[1], start=0.95), False)):
        _, warnings = check_sets({"train": [good[0]], "dev": [other]}, Normalizer())
        assert any("in train and in dev" in warning for warning in warnings) is shared
    with pytest.raises(DataError, match=r"a\.wav \(4\.50 to 5\.50 s\): the recording ends at 5\.00 s"):
        check_sets({"train": [*good, Utterance(tmp_path / "a.wav", 1, "two", start=4.5)]}, Normalizer())


def joined(manifest: Path) -> Path:
    """The same utterances as stretches of one recording, with half a second of noise between them."""
    utterances = read_manifest(manifest)
    rng = np.random.default_rng(1)
    pieces, stretches, position = [], [], 0
    for utterance in utterances:
        waveform, rate = soundfile.read(utterance.audio, dtype="int16")
        pieces += [rng.integers(-3000, 3000, rate // 2).astype(np.int16), waveform]
        position += rate // 2
        start = position / rate
        stretches.append(
            Utterance(manifest.with_suffix(".wav"), utterance.duration, utterance.text, utterance.fields, start)
        )
        position += len(waveform)
    soundfile.write(manifest.with_suffix(".wav"), np.concatenate(pieces), rate)
    write_manifest(manifest, stretches)
    return manifest


def test_the_recogniser_hears_the_same(tmp_path: Path) -> None:
    write_recipe(tmp_path, train=8)
    manifest = tmp_path / "corpus" / "train.jsonl"
    recognizer = real_recognizer()
    utterances = read_manifest(manifest)
    apart = recognise_manifest(recognizer, utterances)
    outputs = listen(recognizer, utterances).batches
    within = recognise_manifest(recognizer, read_manifest(joined(manifest)))
    assert [each.hypothesis for each in within] == [each.hypothesis for each in apart]
    assert any(each.hypothesis for each in apart)
    assert within[0].id.endswith("train.wav (0.50 to %.2f s)" % (0.5 + utterances[0].duration))
    for (first, _), (second, _) in zip(outputs, listen(recognizer, read_manifest(manifest)).batches, strict=True):
        assert first.equal(second)


def test_the_training_hears_the_same(tmp_path: Path) -> None:
    write_recipe(tmp_path, train=4)
    manifest = tmp_path / "corpus" / "train.jsonl"
    sample = Sample(tuple(read_manifest(manifest)), (0.1, 0.2, 0.3))
    apart = read_waveform(sample)
    joined(manifest)
    np.testing.assert_array_equal(read_waveform(replace(sample, utterances=tuple(read_manifest(manifest)))), apart)


def read_waveform(sample: Sample) -> np.ndarray:
    reader = Reader(RATE, build.features(Features()), Normalizer(), WordTokenizer([]))
    return reader.waveform(sample, np.random.default_rng(0))
