"""Shards: plain tars that other programs read, planned from their index and read from beginning to end."""

from __future__ import annotations

import itertools
import json
import shutil
import tarfile
from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import command
from hypothesis import given, settings
from hypothesis import strategies as st
from tones import SETTINGS, write_recipe, write_set

from asr import audio, sound_files
from asr.data import shards
from asr.data.batching import POOL_BATCHES, Concatenation, Sample, plan_epoch
from asr.data.manifest import Utterance, read_manifest, write_manifest
from asr.errors import AudioError, DataError
from asr.recipe_file import read_recipe
from asr.sound_files import Member


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("corpus"), "train", 30, seed=1)


@pytest.fixture(scope="module")
def packed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus in shards of seven, not to be changed; the index."""
    folder = tmp_path_factory.mktemp("packed") / "shards"
    shards.write(read_manifest(corpus), folder, "train", np.random.default_rng(1), most_utterances=7)
    return folder / "train.jsonl"


def examples(path: Path) -> dict[str, dict[str, bytes]]:
    """The examples in a tar as WebDataset groups them: by the name up to its first dot."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        for info in tar:
            file = tar.extractfile(info)
            assert file is not None
            key, _, suffix = info.name.partition(".")
            found.setdefault(key, {})[suffix] = file.read()
    return found


# ------------------------------------------------------------------------------------------- what is written


def test_other_programs_read_the_shards(corpus: Path, packed: Path) -> None:
    tars = sorted(packed.parent.glob("*.tar"))
    assert [path.name for path in tars] == [f"train-{number:06d}.tar" for number in range(5)]
    assert [len(examples(path)) for path in tars] == [7, 7, 7, 7, 2]
    found = {key: files for path in tars for key, files in examples(path).items()}
    for number, utterance in enumerate(read_manifest(corpus), start=1):
        files = found.pop(f"{number:06d}_{utterance.audio.stem}")
        assert files["wav"] == utterance.audio.read_bytes()
        about = json.loads(files["json"])
        assert about == {"text": utterance.text, "duration": round(utterance.duration, 4), **utterance.fields}
    assert not found


def test_the_index_names_the_bytes(packed: Path) -> None:
    for line in packed.read_text().splitlines():
        entry = json.loads(line)
        content = (packed.parent / entry["shard"]).read_bytes()[entry["shard_offset"] :][: entry["shard_bytes"]]
        samples, rate = soundfile.read(BytesIO(content))
        assert len(samples) / rate == pytest.approx(entry["duration"], abs=1e-3)


def test_utterances_are_shuffled_by_the_seed(corpus: Path, packed: Path, tmp_path: Path) -> None:
    utterances = read_manifest(corpus)
    for name, seed in (("same", 1), ("other", 2)):
        shards.write(utterances, tmp_path / name, "train", np.random.default_rng(seed), most_utterances=7)
    first = [path.read_bytes() for path in sorted(packed.parent.iterdir())]
    assert [path.read_bytes() for path in sorted((tmp_path / "same").iterdir())] == first
    assert [path.read_bytes() for path in sorted((tmp_path / "other").iterdir())] != first
    order = [utterance.audio.name for utterance in read_manifest(packed)]
    assert order != sorted(order)


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
FIELDS = st.dictionaries(
    st.text(min_size=1).filter(lambda key: key not in shards._RESERVED),
    st.none() | st.booleans() | st.integers() | st.text(),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=20)
@given(st.lists(st.tuples(NAMES, TEXTS, FIELDS), min_size=1, max_size=6), st.integers(1, 3000), st.integers(0, 9))
def test_any_names_texts_and_fields_come_back(
    tmp_path_factory: pytest.TempPathFactory, entries: list, most_bytes: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    utterances = []
    for number, (name, text, fields) in enumerate(entries):
        path = folder / str(number) / (name.encode()[:100].decode(errors="ignore") + ".wav")
        path.parent.mkdir()
        audio.save(path, np.full(800 + number, 0.1 * number, np.float32), 8000)
        utterances.append(Utterance(path, (800 + number) / 8000, text, fields))
    out = folder / "out"
    written = shards.write(utterances, out, "set", np.random.default_rng(seed), most_bytes=most_bytes)
    found = read_manifest(out / "set.jsonl")
    assert found == written
    for utterance in found:
        assert utterance.member is not None
        original = utterances[int(utterance.member.name[:6]) - 1]
        assert (utterance.text, utterance.fields) == (original.text, original.fields)
        assert utterance.duration == round(original.duration, 4)
        assert utterance.member.read() == original.audio.read_bytes()
    assert len({utterance.audio for utterance in found}) == len(entries)
    assert all(path.stat().st_size < most_bytes + 20_000 for path in out.glob("*.tar"))


def test_shards_can_be_packed_anew_and_listed_elsewhere(packed: Path, tmp_path: Path) -> None:
    utterances = read_manifest(packed)
    again = shards.write(utterances, tmp_path / "again", "all", np.random.default_rng(5))
    assert len(list((tmp_path / "again").glob("*.tar"))) == 1
    assert {u.text for u in again} == {u.text for u in utterances}
    write_manifest(tmp_path / "part.jsonl", utterances[:3])
    assert read_manifest(tmp_path / "part.jsonl") == utterances[:3]


def test_stretches_are_cut_out(corpus: Path, tmp_path: Path) -> None:
    utterance = max(read_manifest(corpus), key=lambda utterance: utterance.duration)
    stretch = replace(utterance, start=0.2, duration=0.3)
    (packed,) = shards.write([stretch], tmp_path / "out", "set", np.random.default_rng(1))
    assert (packed.start, packed.duration, packed.audio.suffix) == (None, 0.3, ".flac")
    np.testing.assert_array_equal(audio.load(packed.source, 8000), audio.load(stretch.source, 8000))


def test_stretches_beyond_full_scale_are_made_softer_not_clipped(tmp_path: Path) -> None:
    waveform = (8000 * np.sin(np.arange(8000) / 5)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", waveform, 8000, subtype="FLOAT")
    stretch = Utterance(tmp_path / "a.wav", 0.5, "a", start=0.25)
    (packed,) = shards.write([stretch], tmp_path / "out", "set", np.random.default_rng(1))
    np.testing.assert_allclose(audio.load(packed.source, 8000), waveform[2000:6000] / 8000, atol=1e-4)


def test_what_cannot_be_packed(corpus: Path, tmp_path: Path) -> None:
    (utterance, *_) = read_manifest(corpus)
    rng = np.random.default_rng(1)
    with pytest.raises(DataError, match="names that the index of shards needs: shard_bytes, shard_offset"):
        shards.write(
            [replace(utterance, fields={"shard_bytes": 1, "shard_offset": 2})], tmp_path / "out", "set", rng
        )
    with pytest.raises(AudioError, match=r"gone\.wav: can't be read: No such file"):
        shards.write([utterance, replace(utterance, audio=tmp_path / "gone.wav")], tmp_path / "out", "set", rng)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------- what is planned


def listed(counts: list[int], seconds: float = 1.0) -> list[Utterance]:
    """Utterances in shards that are nowhere."""
    rng = np.random.default_rng(0)
    return [
        Utterance(
            path / str(number), seconds * rng.uniform(0.2, 2), "a", {"speaker": str(number % 3)}, member=member
        )
        for index, count in enumerate(counts)
        for number in range(count)
        for path in [Path(f"/{index}.tar")]
        for member in [Member(path, str(number), 1024 * (number + 1), 500)]
    ]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=30), st.integers(0, 3), st.booleans(), st.booleans())
def test_every_utterance_once_an_epoch(counts: list[int], seed: int, shortest_first: bool, mixed: bool) -> None:
    corpus = listed(counts)
    if mixed:
        corpus += loose(20)
    plan = plan_epoch(corpus, batch_seconds=5, seed=seed, epoch=1, shortest_first=shortest_first)
    assert plan == plan_epoch(corpus, batch_seconds=5, seed=seed, epoch=1, shortest_first=shortest_first)
    heard = Counter(utterance.audio for batch in plan for sample in batch for utterance in sample.utterances)
    assert heard == Counter(utterance.audio for utterance in corpus)
    seeds = Counter(sample.seed for batch in plan for sample in batch)
    assert set(seeds.values()) <= {1}


def read_order(plan: list[list[Sample]]) -> dict[Path, list[int]]:
    """The offsets that a plan reads in each shard, in order."""
    found: dict[Path, list[int]] = {}
    for utterance in (utterance for batch in plan for sample in batch for utterance in sample.utterances):
        if utterance.member is not None:
            found.setdefault(utterance.member.archive, []).append(utterance.member.offset)
    return found


def loose(count: int) -> list[Utterance]:
    seconds = np.random.default_rng(0).uniform(0.2, 2, count).tolist()
    return [Utterance(Path(f"/{number}.wav"), each, "b", {"speaker": "0"}) for number, each in enumerate(seconds)]


@pytest.mark.parametrize("join", [None, Concatenation(4, (0.1, 0.2))])
@pytest.mark.parametrize("beside", [0, 3000])
def test_shards_are_read_from_beginning_to_end(join: Concatenation | None, beside: int) -> None:
    corpus = listed([400] * 24) + loose(beside)
    seconds = sum(utterance.duration for utterance in corpus)
    plan = plan_epoch(corpus, batch_seconds=8, seed=1, epoch=1, concatenation=join)
    orders = read_order(plan)
    assert len(orders) == 24
    pools = seconds / (POOL_BATCHES * 8)
    slice_bytes = 1024 * 400 * 24 / pools / shards.OPEN_SHARDS  # of one shard in one pool
    for offsets in orders.values():
        backwards = [earlier - later for earlier, later in itertools.pairwise(offsets) if later < earlier]
        assert max(backwards) < 1.5 * slice_bytes
        assert slice_bytes < 1024 * 400 / 2
    firsts = {path: place for place, path in reversed(list(enumerate(archives(plan))))}
    lasts = {path: place for place, path in enumerate(archives(plan))}
    open_at = [sum(firsts[path] <= place <= lasts[path] for path in firsts) for place in range(len(lasts))]
    assert max(open_at) <= 2 * shards.OPEN_SHARDS


def archives(plan: list[list[Sample]]) -> list[Path]:
    members = (utterance.member for batch in plan for sample in batch for utterance in sample.utterances)
    return [member.archive for member in members if member is not None]


def test_epochs_differ_and_batches_are_of_similar_length() -> None:
    corpus = listed([200] * 20)
    first, second = (plan_epoch(corpus, batch_seconds=20, seed=1, epoch=epoch) for epoch in (1, 2))
    assert list(dict.fromkeys(archives(first))) != list(dict.fromkeys(archives(second)))
    for plan in (first, second):
        padded = sum(len(batch) * max(sample.duration for sample in batch) for batch in plan)
        assert padded < 1.1 * sum(utterance.duration for utterance in corpus)
    lengths = [batch[0].duration for batch in first[:POOL_BATCHES]]
    assert lengths != sorted(lengths)


@pytest.mark.parametrize("beside", [200, 2000, 5000])
def test_what_is_in_no_shard_is_heard_all_through_the_epoch(beside: int) -> None:
    corpus = [*loose(beside), *listed([100] * 20)]
    heard = []
    for epoch in (1, 2):
        plan = plan_epoch(corpus, batch_seconds=10, seed=1, epoch=epoch)
        samples = [sample.utterances[0] for batch in plan for sample in batch]
        for quarter in np.array_split(np.array([utterance.member is None for utterance in samples]), 4):
            assert quarter.mean() == pytest.approx(beside / len(corpus), rel=0.3)
        heard.append([utterance.audio for utterance in samples if utterance.member is None])
    places = [[int(path.stem) for path in paths] for paths in heard]
    assert places[0] != places[1]
    for order in places:
        assert abs(np.corrcoef(order, range(beside))[0, 1]) < 0.2  # not in the manifest's order


# ------------------------------------------------------------------------------------------- what is read


def test_an_epoch_reads_each_recording_once(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[tuple[Path, int]] = []
    read_at = sound_files.read_at

    def noted(archive: Path, offset: int, size: int) -> bytes:
        reads.append((archive, offset))
        return read_at(archive, offset, size)

    monkeypatch.setattr(sound_files, "read_at", noted)
    utterances = sorted(read_manifest(packed), key=lambda utterance: str(utterance.audio))
    for batch in plan_epoch(utterances, batch_seconds=5, seed=1, epoch=1):
        for sample in batch:
            audio.load(sample.utterances[0].source, 8000)
    assert len(set(reads)) == len(reads) == 30


def test_a_recording_in_a_shard_sounds_the_same(corpus: Path, packed: Path) -> None:
    originals = read_manifest(corpus)
    for utterance in read_manifest(packed):
        assert utterance.member is not None
        original = originals[int(utterance.member.name[:6]) - 1]
        np.testing.assert_array_equal(audio.load(utterance.source, 8000), audio.load(original.audio, 8000))
        assert audio.read_header(utterance.source).path == str(utterance.audio)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", r"train-000000\.tar: there is no such file"),
        ("cut off", r"train-000000\.tar: has been cut off: of .*\.wav, \d+ bytes are missing"),
        ("shifted", r"train-000000\.tar: does not hold .*\.wav \(\d+ bytes\) at byte \d+, where its index has it"),
        ("other size", r"train-000000\.tar: does not hold"),
        ("other name", r"train-000000\.tar: does not hold"),
    ],
)
def test_a_shard_that_does_not_match_its_index(packed: Path, tmp_path: Path, fault: str, message: str) -> None:
    folder = shutil.copytree(packed.parent, tmp_path / "shards")
    member = read_manifest(folder / "train.jsonl")[3].member
    assert member is not None
    content = member.archive.read_bytes()
    match fault:
        case "missing":
            member.archive.unlink()
        case "cut off":
            member.archive.write_bytes(content[: member.offset + member.size // 2])
        case "shifted":
            member.archive.write_bytes(bytes(512) + content)
        case "other size":
            member = replace(member, size=member.size - 1)
        case "other name":
            member = replace(member, name="000000_other.wav")
    with pytest.raises(AudioError, match=message):
        member.read()


def test_many_shards_are_not_all_kept_open(tmp_path: Path) -> None:
    for number in range(sound_files._MOST_ARCHIVES + 10):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 10)
    for number in [*range(sound_files._MOST_ARCHIVES + 10)] * 2:
        assert sound_files.read_at(tmp_path / str(number), 2, 3) == bytes([number]) * 3
    assert len(sound_files._archives) <= sound_files._MOST_ARCHIVES


# ------------------------------------------------------------------------------------------- others' tars


def write_tar(path: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    return path


@pytest.fixture(scope="module")
def sound(corpus: Path) -> bytes:
    return read_manifest(corpus)[0].audio.read_bytes()


@pytest.mark.parametrize("told", ["-1", "0", "NaN", "Infinity", "true", '"1"', "null"])
def test_a_duration_that_can_not_be_is_measured(tmp_path: Path, sound: bytes, told: str) -> None:
    files = {"1.wav": sound, "1.json": f'{{"text": "eins", "duration": {told}}}'.encode()}
    (found,) = shards.scan(write_tar(tmp_path / "x.tar", files, tarfile.PAX_FORMAT))
    assert found.duration == pytest.approx(audio.read_header(BytesIO(sound)).duration)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_tars_of_other_tools(tmp_path: Path, sound: bytes, form: int) -> None:
    long = "ß" * 120
    files = {
        "._a": b"of macOS",
        "a/._1.wav": b"of macOS",
        "a/1.x.wav": b"",  # its suffix is x.wav: no sound
        "a/1.wav": sound,
        "a/1.txt": "Grüß dich\n".encode(),
        f"{long}.json": json.dumps(
            {"text": "zwei", "speaker": "ben", "audio_filepath": "/old/2.wav", "offset": 7.5}
        ).encode(),
        f"{long}.WAV": sound,
    }
    first, second = shards.scan(write_tar(tmp_path / "x.tar", files, form))
    assert (first.text, first.fields) == ("Grüß dich", {})
    assert (second.text, second.fields) == ("zwei", {"speaker": "ben"})
    assert second.duration == first.duration == pytest.approx(audio.read_header(BytesIO(sound)).duration)
    for utterance in (first, second):
        assert utterance.member is not None
        assert utterance.member.read() == sound


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.wav": "sound", "a.txt": b"x", "b.wav": "sound", "b.txt": b"x", "a.flac": "sound"}, "the key 'a'"),
        ({"a.wav": "sound", "a.txt": b"x", "a.wav ": "sound"}, ""),
        ({"a.wav": "sound"}, "a has no text"),
        ({"a.wav": "sound", "a.json": b"{}"}, "a has no text"),
        ({"a.wav": "sound", "a.json": b"{"}, "of a can't be read"),
        ({"a.wav": "sound", "a.json": b"[1]"}, "of a can't be read"),
        ({"a.wav": "sound", "a.txt": b"\xff"}, "of a can't be read"),
        ({"a.txt": b"x"}, "a has 0 recordings"),
        ({"a.wav": "sound", "a.flac": "sound", "a.txt": b"x"}, "a has 2 recordings"),
    ],
)
def test_tars_that_are_wrong(tmp_path: Path, sound: bytes, files: dict, message: str) -> None:
    path = write_tar(tmp_path / "x.tar", {name: sound if body == "sound" else body for name, body in files.items()})
    if not message:
        assert len(list(shards.scan(path))) == 1
        return
    with pytest.raises(DataError, match=message) as caught:
        list(shards.scan(path))
    assert caught.value.where == path


@given(st.floats(0, 1, exclude_max=True))
def test_a_tar_that_was_cut_off_is_never_taken_for_whole(
    tmp_path_factory: pytest.TempPathFactory, packed: Path, share: float
) -> None:
    content = (packed.parent / "train-000000.tar").read_bytes()
    end = content.rstrip(b"\0")
    path = tmp_path_factory.mktemp("cut") / "x.tar"
    path.write_bytes(content[: int(share * len(end))])
    with pytest.raises(DataError) as caught:
        list(shards.scan(path))
    assert caught.value.where == path


# ------------------------------------------------------------------------------------------- the command line


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    return command(capsys)(*arguments)


def test_a_sharded_corpus_trains_as_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write_recipe(tmp_path, train=40)
    for name in ("train", "dev", "test"):
        code, out, _ = run(
            capsys, "data", "shard", f"corpus/{name}.jsonl", "--out", f"shards/{name}", "--utterances", 10
        )
        assert code == 0
        assert out.endswith(f"index: shards/{name}/{name}.jsonl\n")
    shutil.rmtree("corpus")
    recipe.write_text(
        "name: tones\n"
        "prepare: {corpus: manifests, train: shards/train/train.jsonl, dev: shards/dev/dev.jsonl,"
        " tests: {test: shards/test/test.jsonl}}\n"
    )
    arguments = ("train", recipe, *SETTINGS, "training.epochs=2", "training.workers=1")
    assert run(capsys, *arguments)[0] == 0
    code, out, err = run(capsys, "evaluate", "runs/tones", "shards/test/test.jsonl", "--hypotheses", "h.tsv")
    assert {line.split("\t")[1] for line in Path("h.tsv").read_text().splitlines()} == {
        "test-000000.tar",
        "test-000001.tar",
    }
    assert (code, "/ 12 utterances)" in out) == (0, True), err
    shutil.rmtree("runs/tones")
    Path("shards/train/train-000002.tar").unlink()
    code, _, err = run(capsys, *arguments)
    assert code == 1
    assert "1 of 8 shards is not there" in err
    assert "train-000002.tar" in err
    assert read_recipe(recipe).name == "tones"


def test_an_index_is_made_of_the_tars_of_others(
    corpus: Path, tmp_path: Path, sound: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tar(tmp_path / "tars" / "1.tar", {"a.wav": sound, "a.txt": b"one"})
    write_tar(tmp_path / "tars" / "2.tar", {"a.wav": sound, "a.txt": b"two"})
    code, out, _ = run(capsys, "data", "index", tmp_path / "tars", "--out", tmp_path / "all.jsonl")
    assert (code, out.splitlines()[0]) == (0, "2 utterances in 2 shards")
    assert [utterance.text for utterance in read_manifest(tmp_path / "all.jsonl")] == ["one", "two"]
    assert run(capsys, "data", "index", tmp_path / "tars", "--out", tmp_path / "all.jsonl")[0] == 2
    assert run(capsys, "data", "index", tmp_path, "--out", tmp_path / "none.jsonl")[0] == 2
    (tmp_path / "tars" / "2.tar").unlink()
    _, out, _ = run(capsys, "data", "index", tmp_path / "tars", "--out", tmp_path / "one.jsonl")
    assert out.splitlines()[0] == "1 utterance in 1 shard"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard-size", "1GB", "--utterances", 5], "a shard has one limit"),
        (["--shard-size", "large"], "'large' is no size"),
        (["--shard-size", "0"], "'0' is no size"),
    ],
)
def test_wrong_arguments(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list, message: str
) -> None:
    code, _, err = run(capsys, "data", "shard", corpus, "--out", tmp_path / "out", *arguments)
    assert (code, message in err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_left_alone(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "data", "shard", corpus, "--out", tmp_path)
    assert (code, "already there" in err) == (2, True)


def test_what_the_system_refuses_is_told_in_a_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("which is no folder")
    code, _, err = run(capsys, "data", "shard", corpus, "--out", tmp_path / "file" / "out")
    assert (code, err.startswith(f"error: {tmp_path / 'file'}"), len(err.splitlines())) == (1, True, 1)


@pytest.mark.parametrize(("size", "shards_made"), [("1GB", 1), ("40kB", None), ("1", 30)])
def test_the_size_of_a_shard(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: str, shards_made: int | None
) -> None:
    assert run(capsys, "data", "shard", corpus, "--out", tmp_path / "out", "--shard-size", size)[0] == 0
    made = list((tmp_path / "out").glob("*.tar"))
    assert len(made) == shards_made or shards_made is None
    if shards_made is None:
        assert 2 < len(made) < 30


def test_wrong_lines_of_an_index(tmp_path: Path) -> None:
    good = {
        "shard": "a.tar",
        "audio_filepath": "a.wav",
        "shard_offset": 512,
        "shard_bytes": 10,
        "duration": 1,
        "text": "a",
    }
    wrong = [{"shard": 3}, {"shard_offset": 100}, {"shard_bytes": "10"}, {"shard_bytes": 10**30}, {"shard": "a\0"}]
    lines = [good, *({**good, **change} for change in wrong)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path / "x.jsonl")
    for message in (
        "line 2: shard is 3",
        "line 3: shard_offset is 100",
        "line 4: shard_bytes is '10'",
        "line 5: shard_bytes is 1000",
        r"line 6: shard is 'a\x00'",
    ):
        assert message in str(caught.value)


def test_a_shard_takes_no_memory_for_a_mere_claim(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(bytes(2000))
    for offset, size in ((512, 1 << 50), (1 << 60, 10)):
        with pytest.raises(AudioError, match=r"a\.tar: (does not hold|has been cut off)"):
            Member(tmp_path / "a.tar", "a.wav", offset, size).read()
    with pytest.raises(AudioError, match="there is no such file"):
        Member(tmp_path / "a\0.tar", "a.wav", 512, 10).read()
    with pytest.raises(AudioError, match="is a folder"):
        Member(tmp_path, "a.wav", 512, 10).read()
