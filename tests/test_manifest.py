"""Manifests: NeMo's convention, and every fault reported with its line."""

from __future__ import annotations

import json
import ntpath
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.data.manifest import Utterance, grouping_fields, read_manifest, write_manifest
from asr.errors import ConfigError, DataError

FIELDS = st.dictionaries(
    st.text(min_size=1).filter(lambda key: key not in ("audio_filepath", "offset", "duration", "text")),
    st.none() | st.booleans() | st.integers() | st.text(),
)


def test_nemos_convention(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    line = {"audio_filepath": "wavs/a.wav", "duration": 1.5, "text": "Hej då", "speaker": "anna", "age": 9}
    path.write_text("\ufeff" + json.dumps(line | {"offset": None}, ensure_ascii=False) + "\n\n", encoding="utf-8")
    (utterance,) = read_manifest(path)
    assert utterance == Utterance(tmp_path / "wavs" / "a.wav", 1.5, "Hej då", {"speaker": "anna", "age": 9})
    assert utterance.speaker == "anna"


@given(st.lists(st.tuples(st.text(), st.floats(0, 1e5), FIELDS), min_size=1, max_size=5))
def test_what_is_written_reads_back(tmp_path_factory: pytest.TempPathFactory, entries: list) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    utterances = [
        Utterance(folder / f"{i}.wav", round(duration, 4), text, fields)
        for i, (text, duration, fields) in enumerate(entries)
    ]
    write_manifest(folder / "m.jsonl", utterances)
    assert read_manifest(folder / "m.jsonl") == utterances


def test_paths_are_relative_to_the_manifest_where_they_can_be(tmp_path: Path) -> None:
    inside, outside = tmp_path / "set" / "wavs" / "a.wav", tmp_path / "elsewhere" / "b.wav"
    write_manifest(tmp_path / "set" / "m.jsonl", [Utterance(inside, 1, "a"), Utterance(outside, 1, "b")])
    lines = (tmp_path / "set" / "m.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["audio_filepath"] for line in lines] == ["wavs/a.wav", outside.as_posix()]


def test_no_relative_path_leads_to_another_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "relpath", lambda path, start: ntpath.relpath(f"D:{path}", f"C:{start}"))
    with pytest.raises(ConfigError, match=r"a\.wav: no relative path leads to another drive"):
        write_manifest(tmp_path / "m.jsonl", [Utterance(tmp_path / "a.wav", 1, "a")], relative=True)
    assert not (tmp_path / "m.jsonl").exists()


def test_every_wrong_line_is_named(tmp_path: Path) -> None:
    good = '{"audio_filepath": "a.wav", "duration": 1, "text": "a"}'
    wrong = {
        "{": "not JSON",
        "[1]": "a JSON list",
        '{"audio_filepath": "a.wav"}': "no duration, text",
        '{"audio_filepath": "a.wav", "duration": "1", "text": "a"}': "duration is '1'",
        '{"audio_filepath": "a.wav", "duration": NaN, "text": "a"}': "duration is nan",
        '{"audio_filepath": "a.wav", "duration": -1, "text": "a"}': "duration is -1",
        '{"audio_filepath": "a.wav", "duration": true, "text": "a"}': "duration is True",
        '{"audio_filepath": "", "duration": 1, "text": "a"}': "audio_filepath is ''",
        '{"audio_filepath": "a.wav", "duration": 1, "text": null}': "text is None",
        r'{"audio_filepath": "a\u0000.wav", "duration": 1, "text": "a"}': r"audio_filepath is 'a\x00.wav'",
        '{"audio_filepath": "a.wav", "duration": 1e308, "text": "a"}': "duration is 1e+308 seconds",
        f'{{"audio_filepath": "a.wav", "duration": 1{"0" * 400}, "text": "a"}}': "duration is 1000",
        f'{{"audio_filepath": "a.wav", "duration": 1{"0" * 9000}, "text": "a"}}': "a number in it has thousands",
        good[:-1] + ', "b": ' + "[" * 3000 + "]" * 3000 + "}": "its brackets are nested more than 100 deep",
        good[:-1] + ', "b": ' + '{"c": ' * 500 + "1" + "}" * 501: "its brackets are nested more than 100 deep",
        r'{"audio_filepath": "a.wav", "duration": 1, "text": "a \ud800"}': r"'text' holds '\ud800', one half of",
        r'{"audio_filepath": "a.wav", "duration": 1, "text": "a", "b": [{"c\uDFFF": 1}]}': r"'b' holds '\udfff'",
        r'{"audio_filepath": "a.wav", "duration": 1, "text": "a", "\udbff": 1}': r"'\udbff' holds '\udbff'",
    }
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join([good, *wrong]), encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_manifest(path)
    for number, message in enumerate(wrong.values(), start=2):
        assert f"line {number}: {message}" in str(raised.value)


def test_characters_in_two_halves_and_lists_are_no_faults(tmp_path: Path) -> None:
    words = [{"word": "a", "at": [[0.1, 0.2]]}] * 200
    line = {"audio_filepath": "😀.wav", "duration": 1, "text": "😀 \\ud800", "words": words, "b": nested(98)}
    (tmp_path / "m.jsonl").write_text(json.dumps(line))
    (utterance,) = read_manifest(tmp_path / "m.jsonl")
    assert (utterance.audio.name, utterance.text) == ("😀.wav", "😀 \\ud800")
    assert utterance.fields == {"words": words, "b": nested(98)}


def nested(depth: int) -> list:
    """Lists in one another."""
    value: list = [1]
    for _ in range(depth):
        value = [value]
    return value


def test_a_table_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path;text\n" + 50 * "a.wav;one\n")
    with pytest.raises(DataError) as raised:
        read_manifest(tmp_path / "a.csv")
    assert "a.csv: is no manifest: line 1: not JSON" in str(raised.value)
    assert "try: asr data import" in str(raised.value) and "line 2" not in str(raised.value)


def test_files_that_are_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    for name, message in {
        "empty": "empty",
        "latin": "UTF-8",
        "missing": "no such manifest",
        ".": "a folder",
    }.items():
        with pytest.raises(DataError, match=message):
            read_manifest(tmp_path / name)


def test_fields_whose_values_are_shared_make_groups() -> None:
    fields = [
        {"id": f"u{number}", "size": 1000 + number * (number < 9), "who": "ab"[number % 2], "notes": ["x"]}
        for number in range(12)
    ]
    fields = [{**each, "rare": "yes"} if number < 2 else each for number, each in enumerate(fields)]
    utterances = [Utterance(Path("a.wav"), 1.0, "a", each) for each in fields]
    assert grouping_fields(utterances) == ["notes", "rare", "who"]
    assert grouping_fields(utterances[8:10]) == ["notes"]
    assert grouping_fields([]) == []
