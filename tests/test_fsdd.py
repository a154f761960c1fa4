"""The digit corpus: its splits and strings, on a stand-in with its layout and on the recordings themselves."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import soundfile
from prepared_corpora import prepared

from asr.data.corpora import download as download_module
from asr.data.corpora import fsdd
from asr.data.manifest import Utterance, read_manifest
from asr.errors import DataError

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
NAMES = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]

TONE = np.array([0] * 80 + [1, -1] * 80, "<i2")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the corpus: 10 ms of silence, then a tone whose amplitude tells which recording it is."""
    folder = tmp_path_factory.mktemp("fsdd")
    (folder / "recordings").mkdir()
    buffer = io.BytesIO()
    soundfile.write(buffer, TONE, 8000, format="WAV")
    header = buffer.getvalue()[: -2 * len(TONE)]
    for digit in range(10):
        for number, speaker in enumerate(NAMES):
            for index in range(50):
                sound = header + (code(digit, number, index) * TONE).tobytes()
                (folder / "recordings" / f"{digit}_{speaker}_{index}.wav").write_bytes(sound)
    return folder


def code(digit: int, speaker: int, index: int) -> int:
    return 1 + 50 * (10 * speaker + digit) + index


def decode(value: int) -> tuple[int, int, int]:
    """Digit, speaker, index."""
    return (value - 1) // 50 % 10, (value - 1) // 500, (value - 1) % 50


Prepare = Callable[..., dict[str, list[Utterance]]]


@pytest.fixture
def prepare(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepare with defaults, and read everything that `corpus.json` names."""
    monkeypatch.setattr(fsdd, "DEV_STRINGS", 60)

    def run(
        held_out_speaker: str | None = None,
        test_strings: int = 60,
        seed: int = 1,
        folder: str = "out",
        recordings_per_digit: int | None = None,
    ) -> dict[str, list[Utterance]]:
        output = tmp_path / folder
        fsdd.prepare(source, held_out_speaker, recordings_per_digit, test_strings, seed, output)
        return prepared(output)

    return run


def is_single(utterance: Utterance) -> bool:
    return utterance.audio.parent.name == "recordings"


def parts(utterance: Utterance) -> list[tuple[int, int, int]]:
    """Digit, speaker and index of each recording in a string, read from its sound, whose pauses are silent."""
    samples, rate = soundfile.read(utterance.audio, dtype="int16")
    assert rate == 8000
    assert len(samples) / rate == pytest.approx(utterance.duration, abs=1e-4)
    starts = np.flatnonzero(np.diff(samples != 0) & (samples[1:] != 0)) + 1
    return [decode(int(samples[start])) for start in starts]


def test_official_split(prepare: Prepare) -> None:
    sets = prepare()
    assert list(sets) == ["train", "dev", "single", "strings"]
    names = {name: [each.audio.name for each in sets[name] if is_single(each)] for name in sets}
    every = {(d, s, i) for d in range(10) for s in NAMES for i in range(50)}
    for name, indices in (("train", range(10, 50)), ("dev", range(5, 10)), ("single", range(5))):
        assert sorted(names[name]) == sorted(f"{d}_{s}_{i}.wav" for d, s, i in every if i in indices)
    assert [len(sets[name]) for name in sets] == [2400, 300 + 60, 300, 60]
    for utterance in sets["train"] + sets["single"]:
        digit, speaker, _ = utterance.audio.stem.split("_")
        assert DIGITS.index(utterance.text) == int(digit)
        assert utterance.fields == {"speaker": speaker, "digits": 1}
        assert utterance.duration == 0.03
        assert utterance.audio.is_file()


def test_strings_are_recordings_of_one_speaker_in_the_order_of_the_text(prepare: Prepare) -> None:
    sets = prepare()
    for name, indices in (("dev", range(5, 10)), ("strings", range(5))):
        strings = [each for each in sets[name] if not is_single(each)]
        for utterance in strings:
            found = parts(utterance)
            assert [digit for digit, _, _ in found] == [DIGITS.index(word) for word in utterance.text.split()]
            assert {NAMES[speaker] for _, speaker, _ in found} == {utterance.speaker}
            assert {index for _, _, index in found} <= set(indices)
            assert len(set(found)) == len(found) == utterance.fields["digits"]
            pauses = utterance.duration - 0.03 * len(found)
            assert 0.05 * (len(found) - 1) - 1e-3 <= pauses <= 0.4 * (len(found) - 1) + 1e-3
        assert {each.fields["digits"] for each in strings} == set(range(1, 9))
        assert {each.speaker for each in strings} == set(NAMES)


def test_pauses_hold_noise_as_loud_as_the_background() -> None:
    rng = np.random.default_rng(0)
    background = 0.003 * rng.standard_normal(4000) + 0.01
    tone = 0.3 * np.sin(2 * np.pi * 440 / 8000 * np.arange(4000))
    digit = (background + np.where(np.arange(4000) < 3000, tone, 0)).astype(np.float32)
    joined = fsdd.join([digit, digit], rng)
    pause = joined[4000:-4000]
    assert 400 <= len(pause) <= 3200
    assert np.std(pause) == pytest.approx(0.003, rel=0.3)
    assert np.mean(pause) == pytest.approx(0.01, abs=0.002)


def test_same_seed_same_strings_to_the_bit(prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsdd, "DEV_STRINGS", 1)
    few = {"test_strings": 10}
    first, again, other = prepare(folder="a", **few), prepare(folder="b", **few), prepare(folder="c", seed=2, **few)
    assert [each.text for each in first["strings"]] == [each.text for each in again["strings"]]
    sounds = [[each.audio.read_bytes() for each in sets["strings"]] for sets in (first, again, other)]
    assert sounds[0] == sounds[1]
    assert sounds[0] != sounds[2]


def test_few_recordings_of_each_digit_are_drawn_from_all_speakers(prepare: Prepare) -> None:
    whole = prepare(folder="whole")
    drawn = {count: prepare(folder=f"few{count}", recordings_per_digit=count) for count in (2, 7)}
    for count, sets in drawn.items():
        assert Counter(each.text for each in sets["train"]) == dict.fromkeys(DIGITS, count)
        singles = [each for each in sets["dev"] if is_single(each)]
        assert Counter(each.text for each in singles) == dict.fromkeys(DIGITS, count)
        assert len(sets["dev"]) == len(singles) + min(10 * count, 60)
        assert {each.audio for each in sets["train"]} < {each.audio for each in whole["train"]}
        assert [each.text for each in sets["strings"]] == [each.text for each in whole["strings"]]
    few, more = ({each.audio for each in drawn[count]["train"]} for count in (2, 7))
    assert few < more
    assert {each.speaker for each in drawn[7]["train"]} == set(NAMES)
    other = prepare(folder="other", recordings_per_digit=2, seed=2)
    assert few != {each.audio for each in other["train"]}
    with pytest.raises(DataError, match=r"recordings_per_digit is 201\n.*at most 200 of each digit"):
        prepare(folder="too-many", recordings_per_digit=201, held_out_speaker="theo")


def test_held_out_speaker_is_the_test_and_nothing_else(prepare: Prepare) -> None:
    sets = prepare(held_out_speaker="theo")
    assert Counter(each.speaker for each in sets["single"]) == {"theo": 500}
    assert {each.speaker for each in sets["strings"]} == {"theo"}
    others = set(NAMES) - {"theo"}
    assert {each.speaker for each in sets["train"]} == {each.speaker for each in sets["dev"]} == others
    assert [len(sets[name]) for name in sets] == [2000, 250 + 60, 500, 60]
    indices = {
        name: {int(each.audio.stem.split("_")[2]) for each in sets[name] if is_single(each)} for name in sets
    }
    assert indices["train"] == set(range(10, 50))
    assert indices["dev"] == set(range(5, 10))
    assert indices["single"] == set(range(50))
    assert {index for each in sets["strings"] for _, _, index in parts(each)} > set(range(0, 50, 5))


def test_progress_counts_every_utterance(source: Path, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    fsdd.prepare(source, None, None, 5, 1, tmp_path, lambda *report: reports.append(report))
    total = 2400 + 300 + 200 + 300 + 5
    assert reports == [(done, total) for done in range(1, total + 1)]


def test_unknown_speaker(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'fred'(.|\n)*george, jackson, lucas, nicolas, theo, yweweler"):
        fsdd.prepare(source, "fred", None, 5, 1, tmp_path)


def test_source_without_recordings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder “recordings”"):
        fsdd.prepare(tmp_path, None, None, 5, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_incomplete_source_says_what_is_wrong(source: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(source, broken, copy_function=os.link)
    (broken / "recordings" / "3_theo_17.wav").unlink()
    (broken / "recordings" / "4_theo_17.wav").rename(broken / "recordings" / "4_teo_17.wav")
    (broken / "recordings" / ".DS_Store").touch()  # file managers leave such things
    with pytest.raises(DataError) as error:
        fsdd.prepare(broken, None, None, 5, 1, tmp_path / "out")
    assert "2999 files" in str(error.value)
    assert "2 missing: 3_theo_17.wav, 4_theo_17.wav" in str(error.value)
    assert "1 unexpected: 4_teo_17.wav" in str(error.value)


def archive_of(files: Sequence[Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in files:
            archive.add(path, f"free-spoken-digit-dataset-1.0.10/recordings/{path.name}")
    return buffer.getvalue()


def test_official_archive_is_fetched_once_into_the_cache(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive_of(sorted((source / "recordings").iterdir()))
    fetched: list[str] = []

    def download(url: str, path: Path, sha256: str | None, progress: object) -> Path:
        if not path.exists():
            fetched.append(url)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if len(fetched) > 1 else content[: len(content) // 2])
        return path

    monkeypatch.setattr(fsdd, "DEV_STRINGS", 1)
    monkeypatch.setattr(download_module, "download", download)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    with pytest.raises(DataError, match="can't be unpacked"):
        fsdd.prepare(None, None, None, 5, 1, tmp_path / "out")
    for _ in range(2):
        fsdd.prepare(None, None, None, 5, 1, tmp_path / "out")
    assert fetched == [fsdd.ARCHIVE.url, fsdd.ARCHIVE.url]  # damaged, then whole, then from the cache
    train = read_manifest(tmp_path / "out" / "train.jsonl")
    assert all(each.audio.is_relative_to(tmp_path / "asr") for each in train)
    assert len(train) == 2400


def test_real_recordings(corpora: Path, tmp_path: Path) -> None:
    fsdd.prepare(corpora / "fsdd", None, None, 20, 1, tmp_path)
    train = read_manifest(tmp_path / "train.jsonl")
    minutes = sum(each.duration for each in train) / 60
    assert (len(train), round(minutes)) == (2400, 18)  # 0.4 hours of 3000 recordings, four fifths of them
    for utterance in read_manifest(tmp_path / "strings.jsonl"):
        samples, rate = soundfile.read(utterance.audio)
        assert rate == 8000
        assert np.abs(samples).max() > 0.01
