"""speechocean762: its sets and fields, on a miniature in the official layout and on the recordings themselves."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import soundfile
from prepared_corpora import prepared
from sounds import sound

from asr.config import Recipe
from asr.data.corpora.speechocean762 import prepare
from asr.errors import DataError
from asr.pipeline import workspace
from asr.reporting import Silent
from asr.stages import corpus_inputs, files_learnt_from
from asr.stages import prepare as prepare_stage

ROOT = Path(__file__).parent.parent
DEV_SPEAKERS = ROOT / "recipes" / "speechocean762" / "dev_speakers.txt"

# Speaker, age, sex, sentences; as in the official corpus, tabs part a table's columns.
SPEAKERS = {
    "train": [
        ("0001", 6, "m", ["WE CALL IT BEAR", "ONE TWO"]),
        ("0005", 15, "f", ["THE CAT SAT"]),
        ("0036", 21, "f", ["HE IS"]),
    ],
    "test": [("0003", 19, "m", ["ONE TWO", "MARK IS GOING"]), ("0024", 12, "f", ["HE IS", "THE CAT SAT"])],
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "speechocean762"
    for name, speakers in SPEAKERS.items():
        tables: dict[str, list[str]] = {key: [] for key in ("wav.scp", "text", "utt2spk", "spk2age", "spk2gender")}
        for speaker, age, sex, sentences in speakers:
            tables["spk2age"].append(f"{speaker}\t{age}")
            tables["spk2gender"].append(f"{speaker}\t{sex}")
            for number, sentence in enumerate(sentences):
                utterance = f"{speaker}{number:05d}"
                path = f"WAVE/SPEAKER{speaker}/{utterance}.WAV"
                sound(folder / path, 0.5 + 0.1 * number)
                tables["wav.scp"].append(f"{utterance}\t{path}")
                tables["text"].append(f"{utterance}\t{sentence}")
                tables["utt2spk"].append(f"{utterance} {speaker}")
        (folder / name).mkdir()
        for table, lines in tables.items():
            (folder / name / table).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def dev_speakers(tmp_path: Path) -> Path:
    path = tmp_path / "dev_speakers.txt"
    path.write_text("# held out\n0005 15 f\n", encoding="utf-8")
    return path


def test_golden(source: Path, dev_speakers: Path, tmp_path: Path) -> None:
    prepare(source, dev_speakers, [], tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "test.jsonl").read_text("utf-8").splitlines()]
    wave = f"{source.resolve()}/WAVE"
    him = {"speaker": "0003", "gender": "male", "age": 19, "group": "adult"}
    her = {"speaker": "0024", "gender": "female", "age": 12, "group": "child"}
    assert lines == [
        {
            "audio_filepath": f"{wave}/SPEAKER0003/000300000.WAV", "duration": 0.5, "text": "ONE TWO",
            "id": "000300000", **him, "sentence": "in train",
        },
        {
            "audio_filepath": f"{wave}/SPEAKER0003/000300001.WAV", "duration": 0.6, "text": "MARK IS GOING",
            "id": "000300001", **him, "sentence": "not in train",
        },
        {
            "audio_filepath": f"{wave}/SPEAKER0024/002400000.WAV", "duration": 0.5, "text": "HE IS",
            "id": "002400000", **her, "sentence": "in train",
        },
        {  # said by a speaker of the official training set who is held out here
            "audio_filepath": f"{wave}/SPEAKER0024/002400001.WAV", "duration": 0.6, "text": "THE CAT SAT",
            "id": "002400001", **her, "sentence": "in train",
        },
    ]  # fmt: skip
    sets = prepared(tmp_path / "out")
    assert [utterance.text for utterance in sets["train"]] == ["WE CALL IT BEAR", "ONE TWO", "HE IS"]
    (dev,) = sets["dev"]
    assert (dev.speaker, dev.fields["group"], dev.fields["sentence"]) == ("0005", "child", "not in train")


def test_the_official_archive_as_source(source: Path, dev_speakers: Path, tmp_path: Path) -> None:
    archive = tmp_path / "speechocean762.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, source.name)
    prepare(archive, dev_speakers, [], tmp_path / "out")
    (dev,) = prepared(tmp_path / "out")["dev"]
    assert dev.audio.is_relative_to(tmp_path / "out")
    assert dev.audio.is_file()


def test_sound_in_another_format(source: Path, dev_speakers: Path, tmp_path: Path) -> None:
    for path in source.glob("WAVE/*/*.WAV"):
        samples, rate = soundfile.read(path)
        soundfile.write(path.with_suffix(".flac"), samples, rate)
        path.unlink()
    prepare(source, dev_speakers, [], tmp_path / "out")
    assert {each.audio.suffix for each in prepared(tmp_path / "out")["test"]} == {".flac"}


def test_extra_corpora_are_added_to_the_training_alone(source: Path, dev_speakers: Path, tmp_path: Path) -> None:
    chapter = tmp_path / "libri" / "train-clean-100" / "0005" / "198"
    for number in range(2):
        sound(chapter / f"0005-198-{number:04d}.wav", 1)
    (chapter / "0005-198.trans.txt").write_text("0005-198-0000 NORTHANGER ABBEY\n0005-198-0001 THIS\n")
    sound(tmp_path / "lj" / "wavs" / "LJ001-0001.wav", 1)
    (tmp_path / "lj" / "metadata.csv").write_text("LJ001-0001|in 1450|in fourteen fifty\nLJ001-0002|gone|gone\n")
    prepare(source, dev_speakers, [tmp_path / "libri", tmp_path / "lj"], tmp_path / "out")
    sets = prepared(tmp_path / "out")
    added = [(each.text, each.speaker) for each in sets["train"][3:]]
    assert added == [
        ("NORTHANGER ABBEY", "librispeech-0005"),
        ("THIS", "librispeech-0005"),
        ("in fourteen fifty", "ljspeech"),
    ]
    assert [len(sets[name]) for name in ("dev", "test")] == [1, 4]


def test_what_is_wrong_is_told_together(source: Path, dev_speakers: Path, tmp_path: Path) -> None:
    (source / "WAVE" / "SPEAKER0001" / "000100000.WAV").unlink()
    (source / "WAVE" / "SPEAKER0036" / "003600000.WAV").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        prepare(source, dev_speakers, [], tmp_path / "out")
    assert "2 entries" in str(raised.value)
    assert (
        f"{source / 'train' / 'text'}:1: {source.resolve()}/WAVE/SPEAKER0001/000100000.WAV: there is no such file"
        in str(raised.value)
    )
    assert "text:4: " in str(raised.value)
    assert not (tmp_path / "out" / "corpus.json").exists()


def test_speakers_without_an_age(source: Path, dev_speakers: Path, tmp_path: Path) -> None:
    ages = source / "test" / "spk2age"
    for content, named in ((None, "2 speakers: 0003, 0024"), ("0003\t19\n0024\tx\n", "1 speaker: 0024")):
        ages.unlink() if content is None else ages.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=rf"spk2age: tells no age of {named}\n  expected: a number of years"):
            prepare(source, dev_speakers, [], tmp_path / "out")


def test_speakers_who_are_not_there(source: Path, dev_speakers: Path, tmp_path: Path) -> None:
    dev_speakers.write_text("0005\n0003\n9999\n", encoding="utf-8")
    with pytest.raises(DataError) as raised:
        prepare(source, dev_speakers, [], tmp_path / "out")
    for line, name in ((2, "0003"), (3, "9999")):
        assert f"{dev_speakers}:{line}: {name} is no speaker of the training set" in str(raised.value)
    dev_speakers.write_text("# nobody\n", encoding="utf-8")
    with pytest.raises(DataError, match="names no speaker"):
        prepare(source, dev_speakers, [], tmp_path / "out")


def test_the_list_of_speakers_is_part_of_the_corpus(source: Path, dev_speakers: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "so",
            "prepare": {"corpus": "speechocean762", "source": str(source), "dev_speakers": str(dev_speakers)},
        }
    )
    work = workspace(recipe, tmp_path / "run", tmp_path / "data", Silent())
    prepare_stage(work)
    assert [len(utterances) for utterances in work.sets().values()] == [3, 1, 4]
    before = corpus_inputs(recipe)
    dev_speakers.write_text("0036\n", encoding="utf-8")
    assert corpus_inputs(recipe) != before
    extra = tmp_path / "lj" / "wavs"
    sound(extra / "LJ001-0001.wav", 1)
    more = recipe.model_copy(update={"prepare": recipe.prepare.model_copy(update={"extra": (extra.parent,)})})
    before = corpus_inputs(more)
    assert files_learnt_from(more) == [dev_speakers, extra.parent]
    sound(extra / "LJ001-0002.wav", 1)
    assert corpus_inputs(more) != before
    dev_speakers.unlink()
    with pytest.raises(DataError, match="dev_speakers"):
        corpus_inputs(recipe)


def test_real_recordings(corpora: Path, tmp_path: Path) -> None:
    extra = [corpora / "librispeech_3spk", corpora / "ljspeech_part1"]
    prepare(corpora / "speechocean762", DEV_SPEAKERS, extra, tmp_path)
    sets = prepared(tmp_path)
    assert {name: len(utterances) for name, utterances in sets.items()} == {
        "train": 2500 - 300 + 367 + 385,
        "dev": 300,
        "test": 2500,
    }
    speakers = {name: {utterance.speaker for utterance in utterances} for name, utterances in sets.items()}
    assert [len(speakers[name]) for name in ("train", "dev", "test")] == [125 - 15 + 3 + 1, 15, 125]
    assert not speakers["dev"] & (speakers["train"] | speakers["test"])
    # Shared sentences: `cut -f2 test/text | grep -cxFf <(cut -f2 train/text)`.
    assert Counter(utterance.fields["sentence"] for utterance in sets["test"])["in train"] == 52
    assert Counter(utterance.fields["group"] for utterance in sets["dev"]) == {"child": 140, "adult": 160}
    hours = sum(utterance.duration for name in ("dev", "test") for utterance in sets[name]) / 3600
    assert 2.5 < hours < 3.5  # 5.6 in the corpus, about half of them
