"""Importing: every layout on a miniature of it, every fault told with its line, sets that share no speaker."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import soundfile
import sounds
import yaml
from command_line import Result, Run, command
from headerless import write_mp3_without_length
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from prepared_corpora import write

from asr.cli import main
from asr.data.layouts import folder, kaldi, librispeech, ljspeech, table
from asr.data.layouts.detection import Layout, detect
from asr.data.layouts.entries import Listing, measure
from asr.data.layouts.table import Columns
from asr.data.manifest import Utterance, read_manifest
from asr.data.splitting import overshoots, split
from asr.errors import DataError
from asr.reporting import length_of_sound

RATE = 8000


sound = partial(sounds.sound, rate=RATE)


def texts(found: Listing) -> list[str]:
    assert found.faults == []
    return [entry.text for entry in found.entries]


# -------------------------------------------------------------------------------------------------- Kaldi


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory as Kaldi's recipes make it: paths start from two folders above."""
    sound(tmp_path / "wavs" / "call 1.wav", 4.0)
    sound(tmp_path / "wavs" / "call2.flac", 2.0)
    data = tmp_path / "data" / "train"
    write(data / "wav.scp", "call1 wavs/call 1.wav", "call2\twavs/call2.flac")
    write(data / "segments", "u1 call1 0.5 1.75", "u2 call1 1.75 4.3", "u3 call2 0.25 -1")
    write(data / "text", "u1 hello  there", "u2\tgeneral", "u3 Käse’s end")
    write(data / "utt2spk", "u1 anna", "u2 ben", "u3 anna")
    write(data / "spk2gender", "anna f", "ben m")
    return data


def test_kaldi_golden(data: Path, tmp_path: Path, run: Run) -> None:
    assert run("data/train", "--out", "m.jsonl").code == 0
    assert [json.loads(line) for line in (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()] == [
        {
            "audio_filepath": "wavs/call 1.wav", "offset": 0.5, "duration": 1.25, "text": "hello  there",
            "id": "u1", "speaker": "anna", "gender": "female",
        },
        {  # whose end is beyond that of the recording, a little
            "audio_filepath": "wavs/call 1.wav", "offset": 1.75, "duration": 2.25, "text": "general",
            "id": "u2", "speaker": "ben", "gender": "male",
        },
        {
            "audio_filepath": "wavs/call2.flac", "offset": 0.25, "duration": 1.75, "text": "Käse’s end",
            "id": "u3", "speaker": "anna", "gender": "female",
        },
    ]  # fmt: skip


def test_kaldi_without_segments_and_speakers(data: Path) -> None:
    (data / "segments").unlink()
    (data / "utt2spk").unlink()
    write(data / "text", "call1 one", "call2 two")
    found, faults = measure(kaldi.read(data))
    assert faults == []
    assert [(each.text, each.start, each.duration, dict(each.fields)) for each in found] == [
        ("one", None, 4.0, {"id": "call1"}),
        ("two", None, 2.0, {"id": "call2"}),
    ]


def test_kaldi_from_windows(data: Path) -> None:
    for name in ("wav.scp", "segments", "text", "utt2spk", "spk2gender"):
        content = (data / name).read_text(encoding="utf-8")
        (data / name).write_bytes(b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode())
    assert texts(kaldi.read(data)) == ["hello  there", "general", "Käse’s end"]


def test_kaldi_where_paths_start(data: Path, tmp_path: Path) -> None:
    (tmp_path / "wavs").rename(tmp_path / "elsewhere")
    assert len(measure(kaldi.read(data))[1]) == 3
    (tmp_path / "corpus").mkdir()
    (tmp_path / "elsewhere").rename(tmp_path / "corpus" / "wavs")
    assert measure(kaldi.read(data, tmp_path / "corpus"))[1] == []


def test_every_fault_of_a_data_directory_is_told_with_its_line(data: Path) -> None:
    write(
        data / "wav.scp",
        "call1 sph2pipe -f wav call1.sph |",
        "call2 wavs/call2.flac",
        "call3 feats.ark:1234",
        "call4 wavs/missing.wav",
        "call2 wavs/call2.flac",
        "call5",
    )
    write(
        data / "segments",
        "u1 call1 0 1",
        "u2 call2 1 0.5",
        "u3 call2 0 9",
        "u4 call9 0 1",
        "u5 call2 0 x",
        "u6 call4 0 1",
        "u7 call2 0 1",
        "u8 call2 0 1",
        "u9 call2 0 1",
    )
    lines = [f"u{number} text" for number in range(1, 7)]
    write(data / "text", *lines, "u7", "u8 text", "u10 text", "u8 again")
    write(data / "utt2spk", *(f"u{number} anna" for number in range(1, 8)))
    (data / "text").write_bytes((data / "text").read_bytes() + "u11 é\n".encode("latin-1"))
    _, faults = measure(kaldi.read(data))
    expected = {
        "wav.scp:1": "a command, which is never run: sph2pipe -f wav call1.sph |; put its output into a file",
        "wav.scp:3": "a place in a Kaldi archive",
        "wav.scp:5": "call2 stands in",
        "wav.scp:6": "call5 has no path",
        "segments:2": "1 s to 0.5 s is no stretch of",
        "segments:3": "which lasts 2.00 s",
        "segments:4": "wav.scp has no recording call9",
        "text:5": "not RECORDING START END, as in",
        "segments:6": "missing.wav: there is no such file",
        "text:7": "the transcript of u7 is empty",
        "text:8": "utt2spk has no utterance u8",
        "text:9": "segments has no utterance u10",
        "text:10": "u8 stands in",
        "text:11": "byte 5 is not UTF-8",
        "segments:9": "u9 has no transcript",
    }
    found = {fault.split(": ")[0].removeprefix(f"{data}/"): fault for fault in faults}
    assert found.keys() == expected.keys()
    for where, message in expected.items():
        assert message in found[where]


def test_segments_that_are_the_same_sound_are_told(data: Path, run: Run) -> None:
    write(data / "segments", "u1 call1 0.5 1.75", "u2 call1 0.50 1.75", "u3 call1 0.5 1.8")
    told = run("data/train", "--out", "m.jsonl")
    assert told.code == 0
    assert "warning: 1 utterance is the same sound as another\n  u2 as u1: " in told.err
    assert "call 1.wav (0.50 to 1.75 s)" in told.err and "u3" not in told.err


def test_segments_of_several_channels_are_not_averaged(data: Path, tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((RATE * 4, 2))
    soundfile.write(tmp_path / "wavs" / "call 1.wav", noise, RATE)
    write(data / "segments", "u1 call1 0.5 1.75", "u2 call1 1.75 4.3 B", "u3 call2 0.25 -1")
    (utterance,), faults = measure(kaldi.read(data))
    assert utterance.fields["id"] == "u3"
    assert "segments:2: call1 1.75 4.3 B" in faults[0]
    assert "text:2: channel B: split the file into one per channel" in faults[0]
    assert "segments:1: " in faults[1] and "call 1.wav has 2 channels" in faults[1]
    (data / "segments").unlink()
    write(data / "text", "call1 both", "call2 one")
    write(data / "utt2spk", "call1 anna", "call2 ben")
    assert measure(kaldi.read(data))[1] == []


def test_what_is_no_data_directory(data: Path) -> None:
    with pytest.raises(DataError, match=r"no wav.scp in it(.|\n)*one of its folders: train"):
        kaldi.read(data.parent)
    write(data / "text", "u1 a", encoding="utf-16")
    with pytest.raises(DataError, match="is UTF-16"):
        kaldi.read(data)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=8)
SENTENCES = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1).map(
    lambda text: " ".join(text.split())
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, SENTENCES.filter(bool), min_size=1, max_size=5), st.sampled_from([" ", "\t"]))
def test_any_kaldi_text_reads_back(tmp_path: Path, sentences: dict[str, str], space: str) -> None:
    sound(tmp_path / "a.wav")
    write(tmp_path / "wav.scp", *(f"{name}{space}a.wav" for name in sentences))
    write(tmp_path / "text", *(f"{name}{space}{sentence}" for name, sentence in sentences.items()))
    found = kaldi.read(tmp_path)
    assert found.faults == []
    assert {entry.id: entry.text for entry in found.entries} == sentences


# -------------------------------------------------------------------------------- LibriSpeech and LJ Speech


@pytest.fixture
def libri(tmp_path: Path) -> Path:
    root = tmp_path / "LibriSpeech"
    write(
        root / "SPEAKERS.TXT",
        "; comment",
        "19   | F | train-clean-100  | 25.19 | Kara Shallenberg",
        "26   | M | x | 1 | y",
    )
    for speaker, chapter in (("19", "198"), ("26", "495")):
        place = root / "train-clean-100" / speaker / chapter
        stems = [f"{speaker}-{chapter}-{number:04d}" for number in range(2)]
        for stem in stems:
            sound(place / f"{stem}.flac")
        write(place / f"{speaker}-{chapter}.trans.txt", *(f"{stem} NORTHANGER {stem[-1]}" for stem in stems))
    return root


def test_librispeech(libri: Path) -> None:
    for place in (libri, libri / "train-clean-100"):
        found, faults = measure(librispeech.read(place))
        assert faults == []
        assert [(each.audio.name, each.text, each.speaker, each.fields["gender"]) for each in found] == [
            ("19-198-0000.flac", "NORTHANGER 0", "19", "female"),
            ("19-198-0001.flac", "NORTHANGER 1", "19", "female"),
            ("26-495-0000.flac", "NORTHANGER 0", "26", "male"),
            ("26-495-0001.flac", "NORTHANGER 1", "26", "male"),
        ]


def test_faults_of_librispeech(libri: Path) -> None:
    place = libri / "train-clean-100" / "19" / "198"
    (place / "19-198-0000.flac").unlink()
    write(place / "19-198.trans.txt", "19-198-0000 A", "19-198-0001", "19-198-0000 B")
    utterances, faults = measure(librispeech.read(libri))
    assert len(utterances) == 2
    assert [fault.removeprefix(f"{place}/").split(": ")[0] for fault in faults] == [
        "19-198.trans.txt:3",
        "19-198.trans.txt:2",
        "19-198.trans.txt:1",
    ]
    with pytest.raises(DataError, match="no such folder"):
        librispeech.read(libri.parent / "nothing")
    with pytest.raises(DataError, match="no transcripts"):
        librispeech.read(sound(libri.parent / "none" / "a.wav").parent)


def test_ljspeech(tmp_path: Path) -> None:
    for name in ("LJ001-0001", "LJ001-0002"):
        sound(tmp_path / "wavs" / f"{name}.wav")
    lines = [
        "LJ001-0001|In 1450, “so” it is|In fourteen fifty, “so” it is",
        'LJ001-0002|only "one',
        "LJ001-0003|gone|gone",
        "LJ4",
        "LJ001-0005|said A | B.|said A | B.",
        "LJ001-0006|hello|",
    ]
    write(tmp_path / "metadata.csv", *lines)
    found = ljspeech.read(tmp_path)
    assert [(entry.id, entry.text) for entry in found.entries] == [
        ("LJ001-0001", "In fourteen fifty, “so” it is"),
        ("LJ001-0002", 'only "one'),
        ("LJ001-0003", "gone"),
        ("LJ001-0006", "hello"),
    ]
    utterances, faults = measure(found)
    assert len(utterances) == 2
    place = str(tmp_path)[0]
    assert [fault.split("metadata.csv:")[1][:4] for fault in faults] == [
        "4: n",
        "5: n",
        f"3: {place}",
        f"6: {place}",
    ]
    assert len(ljspeech.read(tmp_path, partial=True).entries) == 2


def test_recordings_without_a_transcript_are_told(libri: Path, tmp_path: Path) -> None:
    extra = [sound(libri / "train-clean-100" / "19" / name) for name in ("198/19-198-0007.flac", "199/a.wav")]
    sound(libri / "train-clean-100" / "19" / "198" / "19-198-0000.wav")  # in another format
    assert librispeech.read(libri).faults == [f"{path}: has no transcript" for path in extra]
    for name in "abc":
        sound(tmp_path / "lj" / "wavs" / f"{name}.wav")
    write(tmp_path / "lj" / "metadata.csv", "a|text", "b")
    assert ljspeech.read(tmp_path / "lj").faults == [
        f"{tmp_path / 'lj' / 'metadata.csv'}:2: not ID|TEXT or ID|TEXT|NORMALISED: b",
        f"{tmp_path / 'lj' / 'wavs' / 'c.wav'}: has no transcript",
    ]


# ------------------------------------------------------------------------------------------------- tables


def make_table(path: Path, rows: Sequence[Sequence[str]], **dialect: object) -> Path:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, **dialect).writerows(rows)  # type: ignore[arg-type]
    path.write_bytes(buffer.getvalue().encode())
    return path


ROWS = [
    ["path", "sentence", "client_id", "age", "duration"],
    ["a.wav", 'She said, "no; never"', "anna", "20s", "999"],
    ["b.wav", "two\nlines | or", "", "", ""],
]


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_dialects_of_csv(tmp_path: Path, delimiter: str, mark: str) -> None:
    for name in ("a", "b"):
        sound(tmp_path / f"{name}.wav")
    rows = [[mark + ROWS[0][0], *ROWS[0][1:]], *ROWS[1:]]
    found, faults = measure(table.read(make_table(tmp_path / "t.csv", rows, delimiter=delimiter)))
    assert faults == []
    assert [(each.text, each.duration, dict(each.fields)) for each in found] == [
        ('She said, "no; never"', 1.0, {"id": found[0].fields["id"], "speaker": "anna", "age": "20s"}),
        ("two\nlines | or", 1.0, {"id": found[1].fields["id"]}),
    ]


def test_common_voice(tmp_path: Path) -> None:
    """Its texts are quoted only by some of its releases, and may begin with a quotation mark that never closes."""
    sentences = ['"Hello" she said', '"""Kasimir"" said', 'a "b" c', '"', '"plain"', "d'accord"]
    lines = [f"ab{number}\tcv_{number}.mp3\t{sentence}\t2\t\teo" for number, sentence in enumerate(sentences)]
    write(tmp_path / "validated.tsv", "client_id\tpath\tsentence\tup_votes\tage\tlocale", *lines)
    for number in range(len(sentences)):
        sound(tmp_path / "clips" / f"cv_{number}.mp3")
    found = table.read(tmp_path / "validated.tsv")
    assert texts(found) == ['"Hello" she said', '"""Kasimir"" said', 'a "b" c', '"', '"plain"', "d'accord"]
    utterances, faults = measure(found)
    assert faults == []
    assert utterances[0].fields == {"id": "cv_0", "speaker": "ab0", "up_votes": "2", "locale": "eo"}
    assert utterances[0].audio == tmp_path / "clips" / "cv_0.mp3"


def test_columns_by_name(tmp_path: Path) -> None:
    sound(tmp_path / "audio" / "x.wav", 3)
    make_table(
        tmp_path / "t.csv",
        [["Datei", "Text", "Wer", "von", "bis"], ["x", "eins", "a", "0", "1.5"], ["x", "zwei", "b", "1.5", ""]],
    )
    columns = Columns("Datei", "Text", "Wer", "von", "bis")
    found, faults = measure(table.read(tmp_path / "t.csv", columns, tmp_path / "audio"))
    assert faults == []
    assert [(each.text, each.speaker, each.start, each.duration) for each in found] == [
        ("eins", "a", 0.0, 1.5),
        ("zwei", "b", 1.5, 1.5),
    ]


def test_a_table_says_which_part_of_a_recording_a_row_means(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", 4.0)
    for columns, times in (
        (["audio_filepath", "offset", "duration", "text"], ["1", "1.5"]),
        (["path", "start", "end", "text"], ["1", "2.5"]),
        (["path", "start", "duration", "text"], ["1", "1.5"]),
    ):
        path = make_table(tmp_path / "t.csv", [columns, ["a.wav", *times, "one"], ["a.wav", "1", "3", "two"]])
        (first, _), faults = measure(table.read(path))
        assert faults == []
        assert (first.start, first.duration, first.fields) == (1.0, 1.5, {"id": "a@1-2.5"})


def test_a_table_may_name_its_utterances(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", 4.0)
    sound(tmp_path / "b.wav")
    rows = [["a.wav", "0", "2", "u1"], ["a.wav", "2", "4", "u2"], ["b.wav", "", "", ""], ["a.wav", "2", "4", "u3"]]
    header = ["path", "start", "end", "id", "text"]
    rows.append(["b.wav", "", "", "u1"])
    path = make_table(tmp_path / "t.csv", [header, *([*row, "text"] for row in rows)])
    found, faults = measure(table.read(path))
    assert [(each.fields["id"], each.start) for each in found] == [("u1", 0.0), ("u2", 2.0), ("b", None)]
    assert [fault.removeprefix(f"{path}:") for fault in faults] == [
        f"5: u3 is the same sound as u2 in {path}:3",
        f"6: the id u1 is in {path}:2 already; give the column another name if it names no utterances",
    ]
    found, faults = measure(table.read(path, Columns(speaker="id")))
    assert [(each.fields["id"], each.speaker) for each in found][:2] == [("a@0-2", "u1"), ("a@2-4", "u2")]


def test_a_path_from_windows_is_explained(tmp_path: Path) -> None:
    path = make_table(tmp_path / "t.csv", [["path", "text"], ["wavs\\0.wav", "one"], ["wavs/0.wav", "two"]])
    _, faults = measure(table.read(path))
    assert faults == [
        rf"{path}:2: {tmp_path}/wavs\0.wav: there is no such file (try: / in place of \ in its path)",
        f"{path}:3: {tmp_path}/wavs/0.wav: there is no such file",
    ]


def test_where_all_paths_are_of_windows_no_folder_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["path", "text"], ["C:\\clips\\0.wav", "one"], ["C:\\clips\\1.wav", "two"]]
    path = make_table(tmp_path / "t.csv", rows)
    with pytest.raises(SystemExit):
        main(["data", "import", str(path), "--out", str(tmp_path / "t.jsonl")])
    said = capsys.readouterr().err
    assert "none of its 2 recordings is there" in said
    assert r"try: / in place of \ in its path, and what is here in place of C:" in " ".join(said.split())


def test_stretches_of_one_recording_need_their_ends(tmp_path: Path) -> None:
    rows = [["path", "text", "from"], ["long.wav", "one", "0.1"], ["long.wav", "two", "1.5"]]
    path, columns = make_table(tmp_path / "t.csv", rows), Columns(start="from")
    with pytest.raises(DataError, match=r"1 recording with several stretches, .*long\.wav\n  try: --end-column"):
        table.read(path, columns)
    make_table(path, [*rows[:2], ["other.wav", "two", "1.5"]])
    assert len(table.read(path, columns).entries) == 2
    make_table(path, [[*row, end] for row, end in zip(rows, ("duration", "1", "1"), strict=True)])
    assert [entry.end for entry in table.read(path, columns).entries] == [1.1, 2.5]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("a.eaf", "tab-delimited"), ("a.TextGrid", "tab-delimited"), ("a.wav", "the folder"), ("a.doc", "--format")],
)
def test_what_is_no_table_can_be_made_one(name: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("…", encoding="utf-8")
    with pytest.raises(DataError, match=f"is no layout that can be read(.|\n)*try: .*{hint}"):
        detect(tmp_path / name)


def test_names_with_dots_are_told_apart(tmp_path: Path) -> None:
    for name in ("spk.1", "spk.2"):
        sound(tmp_path / f"{name}.wav")
    path = make_table(tmp_path / "t.csv", [["path", "text"], ["spk.1", "one"], ["spk.2", "two"]])
    found, faults = measure(table.read(path))
    assert faults == []
    assert [each.fields["id"] for each in found] == ["spk.1", "spk.2"]


def test_a_slip_in_a_table_costs_its_own_record(tmp_path: Path) -> None:
    for number in range(4):
        sound(tmp_path / f"{number}.wav")
    lost = b'3.wav,"over\n' + b"zw\xf6lf\n" + b'lines"\n'
    slips = b'path,text\n0.wav,zero\n1.wav,"one" more\n2.wav,two\n' + lost + b"0.wav,end\n"
    (tmp_path / "t.csv").write_bytes(slips)
    found = table.read(tmp_path / "t.csv")
    assert [entry.text for entry in found.entries] == ["zero", "two", "end"]
    where = tmp_path / "t.csv"
    assert [fault.split(": ")[0] for fault in found.faults] == [f"{where}:6", f"{where}:3", f"{where}:5"]
    assert "not CSV" in found.faults[1] and "a line of this record is not UTF-8" in found.faults[2]
    (tmp_path / "t.csv").write_bytes(b"path,text,l\xe4nge\n0.wav,zero,1\n")
    with pytest.raises(DataError, match=r"t\.csv:1: byte 12 is not UTF-8"):
        table.read(tmp_path / "t.csv")


def test_a_faulty_header_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "path,text", "a.wav,one", ends="\r")
    with pytest.raises(DataError, match=r"lines end in CR alone"):
        table.read(path)
    write(path, 'path,"te"xt', "a.wav,one")
    with pytest.raises(DataError, match=r"t\.csv:1: not CSV"):
        table.read(path)
    for lines in ("", "päth;text", "a;b"), ("sep=;", "päth;text", "a;b"):
        write(path, *lines, encoding="latin-1")
        with pytest.raises(DataError, match=r"t\.csv:2: byte 2 is not UTF-8"):
            table.read(path)


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_the_line_that_tells_excel_the_separator_is_no_header(tmp_path: Path, first: str) -> None:
    path = write(tmp_path / "t.csv", first, "", "path;text, and, more", "a.wav;one, two", ends="\r\n")
    assert texts(table.read(path, Columns(text="text, and, more"))) == ["one, two"]


def test_missing_columns_are_told_with_those_that_are_there(tmp_path: Path) -> None:
    make_table(tmp_path / "t.csv", [["Datei", "Text"], ["a", "b"]])
    with pytest.raises(DataError) as raised:
        table.read(tmp_path / "t.csv", Columns(speaker="wer"))
    assert "no column 'wer', none for the audio" in str(raised.value)
    assert "it reads: Datei, Text\n  try: --audio-column NAME" in str(raised.value)
    assert "--text-column" not in str(raised.value)
    write(tmp_path / "t.csv", "a.wav;one", "b.wav;two")
    with pytest.raises(DataError, match=r"no columns, but a recording\n  try: a line above it, such as audio;text"):
        table.read(tmp_path / "t.csv")
    write(tmp_path / "t.csv", "path,text,path")
    with pytest.raises(DataError, match="names a column twice"):
        table.read(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes(b"")
    with pytest.raises(DataError, match="it reads: nothing"):
        table.read(tmp_path / "t.csv")


def test_a_table_in_the_encoding_of_windows_is_told_once(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "path,text", *(f"{n}.wav,zwölf" for n in range(20)), encoding="cp1252")
    with pytest.raises(DataError) as raised:
        table.read(path)
    assert str(raised.value).startswith(f"{path}: is not UTF-8, in 20 of its lines\n  expected: UTF-8, in Excel")


def test_a_workbook_is_called_one(run: Run, tmp_path: Path) -> None:
    for name, form in (("t.xlsx", []), ("t.csv", []), ("t.xlsx", ["--format", "table"])):
        (tmp_path / name).write_bytes(b"PK\x03\x04" + bytes(99))
        assert f"{name}: is a workbook" in run(name, "--out", "m.jsonl", *form).err


def test_a_table_may_have_another_name(run: Run, tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    write(tmp_path / "t.txt", "path\ttext", "a.wav\tone", encoding="utf-16")
    assert "try: --format table" in run("t.txt", "--out", "m.jsonl").err
    assert "t.txt: is UTF-16" in run("t.txt", "--out", "m.jsonl", "--format", "table").err
    write(tmp_path / "t.txt", "path\ttext", "a.wav\tone")
    assert run("t.txt", "--out", "m.jsonl", "--format", "table").code == 0


def test_recordings_that_are_all_elsewhere_are_looked_for_there(run: Run, tmp_path: Path) -> None:
    sound(tmp_path / "sounds" / "a.wav")
    sound(tmp_path / "sounds" / "b.wav")
    write(tmp_path / "t.csv", "path,text", "a.wav,one", "b.wav,two")
    told = run("t.csv", "--out", "m.jsonl")
    assert told.code == 1
    assert "t.csv: none of its 2 recordings is there, such as " in told.err
    assert "try: --audio-root FOLDER" in told.err
    assert run("t.csv", "--out", "m.jsonl", "--audio-root", "sounds").code == 0


def test_what_spreadsheets_add_to_a_table_is_left_out(tmp_path: Path) -> None:
    lines = ["path;text;;", "a.wav;one;;", ";;;", "b.wav;two", "c.wav;three;;;", "d.wav;four; five;"]
    found = table.read(write(tmp_path / "t.csv", *lines))
    assert [entry.text for entry in found.entries] == ["one", "two", "three"]
    assert found.faults == [f"{tmp_path / 't.csv'}:6: 3 cells, where the header names 2 columns"]
    assert texts(table.read(write(tmp_path / "t.tsv", "path\ttext\t\t", "a.wav\tone\t\t", "\t\t\t"))) == ["one"]


def test_columns_may_be_named_in_capitals(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "ID,File,Text,Speaker,Start,DURATION,Age", "u,a.wav,one,Anna,1,2,Old")
    (entry,) = table.read(path).entries
    assert (entry.id, entry.audio, entry.text) == ("u", tmp_path / "a.wav", "one")
    assert (entry.start, entry.end, entry.fields) == (1, 3, {"speaker": "Anna", "Age": "Old"})
    write(path, "path,text,Text,TEXT", "a.wav,one,One,ONE")
    assert texts(table.read(path)) == ["one"]
    assert texts(table.read(path, Columns(text="TEXT"))) == ["ONE"]
    write(path, "path,Text,TEXT", "a.wav,one,ONE")
    with pytest.raises(DataError, match="no column for the text"):
        table.read(path)


def test_commas_are_decimal_where_semicolons_part_the_cells(tmp_path: Path) -> None:
    header = ["path", "text", "offset", "duration", "price"]
    path = write(tmp_path / "t.csv", ";".join(header), "a.wav;eins, zwei;1,25;0,125;1,5", "b.wav;drei;0.5;1;2,5")
    entries = table.read(path).entries
    assert [(entry.text, entry.start, entry.end) for entry in entries] == [
        ("eins, zwei", 1.25, 1.375),
        ("drei", 0.5, 1.5),
    ]
    assert [entry.fields for entry in entries] == [{"price": "1,5"}, {"price": "2,5"}]
    for delimiter, written in ((",", '"1,250"'), ("\t", "1,25"), (";", "1.000,25"), (";", "1,000,000")):
        row = delimiter.join(["a.wav", "one", written, "1", "1"])
        (fault,) = table.read(write(path, delimiter.join(header), row)).faults
        told = written.strip('"')
        assert fault == f"{path}:2: offset is {told!r}, not a number of seconds with a decimal point"


def test_every_fault_of_a_table_is_told_with_its_line(tmp_path: Path) -> None:
    for name in "abcd":
        sound(tmp_path / f"{name}.wav")
    lines = ["path,text,start", '"a.wav","two', 'lines",', "b.wav", ",text,", "c.wav,,", "d.wav,x,soon", "e.wav,x,"]
    write(tmp_path / "t.csv", *lines, "a.wav,again,", 'b.wav,a "b" c,', 'c.wav,"open,', "d.wav,x,", ends="\r\n")
    with (tmp_path / "t.csv").open("ab") as file:
        file.write(b"\xff.wav,x,\r\n")
    _, faults = measure(table.read(tmp_path / "t.csv", Columns(start="start")))
    found = {fault.split(": ")[0].removeprefix(f"{tmp_path}/"): fault for fault in faults}
    expected = {
        "t.csv:4": "1 cells, where the header names 3 columns",
        "t.csv:5": "there is no path",
        "t.csv:6": "the transcript of c.wav is empty",
        "t.csv:7": "start is 'soon', not a number of seconds",
        "t.csv:8": "e.wav: there is no such file",
        "t.csv:9": f"a is in {tmp_path}/t.csv:2 already",
        "t.csv:11": "not CSV (unexpected end of data); quotation marks go round a whole cell",
        "t.csv:13": "byte 1 is not UTF-8",
    }
    assert found.keys() == expected.keys()
    for where, message in expected.items():
        assert message in found[where]


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(CELLS.map(str.strip).filter(bool), min_size=1, max_size=5),
    st.sampled_from([",", ";", "|"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_csv_reads_back(tmp_path: Path, sentences: list[str], delimiter: str, quoting: int) -> None:
    rows = [["path", "text"], *([f"{number}.wav", sentence] for number, sentence in enumerate(sentences))]
    path = make_table(tmp_path / "t.csv", rows, delimiter=delimiter, quoting=quoting)
    assert texts(table.read(path)) == sentences


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(CELLS.map(str.strip).filter(bool), min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)
@example(['"so" it is'], True, "\r\n")
def test_any_tsv_reads_back(tmp_path: Path, sentences: list[str], quoted: bool, ends: str) -> None:
    rows = [["path", "text"], *([f"{number}.wav", sentence] for number, sentence in enumerate(sentences))]
    if quoted:
        path = make_table(tmp_path / "t.tsv", rows, delimiter="\t", lineterminator=ends)
    else:  # text/tab-separated-values, as IANA has it; but for texts that look as if they were quoted
        assume(not any('""' in sentence for sentence in sentences))
        path = write(tmp_path / "t.tsv", *("\t".join(row) for row in rows), ends=ends)
    assert texts(table.read(path)) == sentences


# ------------------------------------------------------------------------------------- folders, detection


def test_folder(tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    for name, text in {"anna/1": "one\r\ntwo\r\n", "anna/2": "three", "ben/1": "\ufefffour"}.items():
        sound(root / f"{name}.flac")
        (root / f"{name}.txt").write_bytes(text.encode())
    write(root / "README.txt", "about")
    found, faults = measure(folder.read(root))
    assert faults == []
    assert [(each.fields["id"], each.text, each.speaker) for each in found] == [
        ("anna/1", "one two", None),
        ("anna/2", "three", None),
        ("ben/1", "four", None),
    ]
    assert [entry.fields.get("speaker") for entry in folder.read(root, True).entries] == ["anna", "anna", "ben"]


def test_faults_of_a_folder(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "c.wav", "d.wav", "d.flac"):
        sound(tmp_path / name)
    (tmp_path / "e.wav").write_bytes(b"RIFF")
    write(tmp_path / "b.txt", "", "  ")
    (tmp_path / "c.txt").write_bytes("hé".encode("latin-1"))
    for name in "def":
        write(tmp_path / f"{name}.txt", "text")
    _, faults = measure(folder.read(tmp_path))
    messages = [fault.removeprefix(f"{tmp_path}/") for fault in faults]
    assert messages[:4] == [
        "a.wav: there is no a.txt beside it",
        f"{'b.txt'}: is empty",
        "c.txt:1: byte 2 is not UTF-8; save the file as UTF-8",
        "f.txt: there is no recording beside it",
    ]
    assert messages[4].startswith(f"d.wav: d is in {tmp_path}/d.flac already")
    assert messages[5].startswith("e.wav: ") and messages[5].count("e.wav") == 1
    assert len(messages) == 6
    with pytest.raises(DataError, match="no recordings"):
        (tmp_path / "empty").mkdir()
        folder.read(tmp_path / "empty")


def test_a_text_that_cannot_be_read_is_a_fault_among_others(tmp_path: Path) -> None:
    for name in "abcd":
        sound(tmp_path / f"{name}.wav")
        write(tmp_path / f"{name}.txt", "text", encoding="utf-16" if name in "ab" else "utf-8")
    (tmp_path / "c.txt").write_text("")
    found = folder.read(tmp_path)
    assert [entry.id for entry in found.entries] == ["d"]
    assert found.faults == [
        f"{tmp_path / 'a.txt'}: is UTF-16 (try: iconv -f UTF-16 -t UTF-8 a.txt > NEWFILE)",
        f"{tmp_path / 'b.txt'}: is UTF-16 (try: iconv -f UTF-16 -t UTF-8 b.txt > NEWFILE)",
        f"{tmp_path / 'c.txt'}: is empty",
    ]


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("this system lets its users make no links")


def test_folders_that_are_links_are_read_and_circles_left(tmp_path: Path) -> None:
    for name in ("anna", "ben"):
        sound(tmp_path / "elsewhere" / name / "1.wav")
        write(tmp_path / "elsewhere" / name / "1.txt", name)
    link(tmp_path / "corpus" / "anna", tmp_path / "elsewhere" / "anna")
    link(tmp_path / "corpus" / "ben", tmp_path / "elsewhere" / "ben")
    link(tmp_path / "elsewhere" / "ben" / "up", tmp_path / "corpus")
    found = folder.read(tmp_path / "corpus", speaker_folders=True)
    assert texts(found)[0] == "anna"
    assert {entry.text for entry in found.entries} == {"anna", "ben"}
    assert {entry.fields["speaker"] for entry in found.entries} == {"anna", "ben"}


def test_a_linked_recording_keeps_the_name_that_tells_its_format(tmp_path: Path, run: Run) -> None:
    blob = sound(tmp_path / "cache" / "blob.wav").rename(tmp_path / "cache" / "cdef0123")
    link(tmp_path / "a" / "a.wav", blob)
    write(tmp_path / "a" / "a.txt", "one")
    assert run("a", "--out", "a.jsonl").code == 0
    assert [each.audio.name for each in read_manifest(tmp_path / "a.jsonl")] == ["a.wav"]


def test_a_transcript_of_which_a_line_is_lost_is_not_used(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    (tmp_path / "a.TXT").write_bytes(b"first\n" + b"zw\xf6lf\nthird\n")
    found = folder.read(tmp_path)
    assert found.entries == []
    assert found.faults == [f"{tmp_path / 'a.TXT'}:2: byte 3 is not UTF-8; save the file as UTF-8"]


def test_a_length_that_a_header_does_not_tell_is_measured(tmp_path: Path) -> None:
    quiet = np.concatenate([np.zeros(16000 * 6), 0.3 * np.random.default_rng(0).standard_normal(32000)])
    write_mp3_without_length(tmp_path / "a.mp3", quiet, 16000)
    write(tmp_path / "a.txt", "hello")
    (utterance,), faults = measure(folder.read(tmp_path))
    assert faults == []
    assert utterance.duration == pytest.approx(8, abs=0.2)


def test_names_may_be_spelled_in_another_normal_form(tmp_path: Path) -> None:
    for form, other in (("NFC", "NFD"), ("NFD", "NFC")):
        root = tmp_path / form
        recording = sound(root / f"{normalize(form, 'Käse')}.wav")
        write(root / f"{normalize(other, 'Käse')}.txt", "eins")
        assert texts(folder.read(root)) == ["eins"]
        (entry,) = table.read(write(root / "t.csv", "path,text", normalize(other, "Käse.wav,zwei"))).entries
        assert entry.audio.samefile(recording)
    write(root / f"{normalize('NFD', 'Käse')}.txt", "zwei")  # which is another file, except on macOS
    assert folder.read(root).entries[0].text == "zwei"


def test_detection(data: Path, libri: Path, tmp_path: Path) -> None:
    sound(tmp_path / "lj" / "wavs" / "a.wav")
    write(tmp_path / "lj" / "metadata.csv", "a|text")
    sound(tmp_path / "mine" / "a.wav")
    assert detect(data) == Layout.KALDI
    assert detect(libri) == Layout.LIBRISPEECH
    assert detect(tmp_path / "lj") == Layout.LJSPEECH
    assert detect(tmp_path / "mine") == Layout.FOLDER
    assert detect(write(tmp_path / "t.TSV", "path\ttext")) == Layout.TABLE
    with pytest.raises(DataError, match=rf"the one meant: {data}(.|\n)*--format folder"):
        detect(data.parent)
    with pytest.raises(DataError, match="a table"):
        detect(write(tmp_path / "a.xlsx", ""))


# ---------------------------------------------------------------------------------------------- splitting


def spoken(speakers: Sequence[str | None], seconds: Sequence[float]) -> list[Utterance]:
    return [
        Utterance(Path(f"{number}.wav"), duration, "", {} if speaker is None else {"speaker": speaker})
        for number, (speaker, duration) in enumerate(zip(speakers, seconds, strict=True))
    ]


@given(st.data(), st.integers(0, 100))
def test_sets_share_no_speaker_and_lose_nothing(data: st.DataObject, seed: int) -> None:
    names = data.draw(st.lists(st.sampled_from(["a", "b", "c", "d", "e", None]), min_size=3, max_size=20))
    assume(len(set(names) - {None}) + names.count(None) > 2)
    utterances = spoken(names, data.draw(st.lists(st.floats(0.1, 20), min_size=len(names), max_size=len(names))))
    sets = split(utterances, {"dev": 0.2, "test": 0.2}, seed)
    assert list(sets) == ["train", "dev", "test"]
    assert all(sets.values())
    assert sorted(str(each.audio) for part in sets.values() for each in part) == sorted(
        str(each.audio) for each in utterances
    )
    if len(set(names)) > 1:
        voices = [{each.speaker for each in part} - {None} for part in sets.values()]
        assert sum(map(len, voices)) == len(set(names) - {None})
    assert split(utterances, {"dev": 0.2, "test": 0.2}, seed) == sets


def test_shares_are_met_where_speakers_are_many() -> None:
    rng = np.random.default_rng(0)
    utterances = spoken([str(speaker) for speaker in rng.integers(0, 200, 4000)], rng.uniform(1, 10, 4000).tolist())
    sets = split(utterances, {"dev": 0.1, "test": 0.05}, 1)
    seconds = {name: sum(each.duration for each in part) for name, part in sets.items()}
    whole = sum(seconds.values())
    assert seconds["dev"] / whole == pytest.approx(0.1, abs=0.005)
    assert seconds["test"] / whole == pytest.approx(0.05, abs=0.005)
    assert split(utterances, {"dev": 0.1}, 2)["dev"] != split(utterances, {"dev": 0.1}, 1)["dev"]
    order = {each.audio: number for number, each in enumerate(utterances)}
    for part in sets.values():
        assert [order[each.audio] for each in part] == sorted(order[each.audio] for each in part)


def test_one_speaker_is_divided_and_a_recording_never() -> None:
    sets = split(spoken(["a"] * 20, [1.0] * 20), {"dev": 0.1, "test": 0.1}, 1)
    assert [len(part) for part in sets.values()] == [16, 2, 2]
    stretches = [Utterance(Path(f"{number % 4}.wav"), 1, "", {}, float(number)) for number in range(20)]
    for part in split(stretches, {"dev": 0.25}, 1).values():
        files = {each.audio for each in part}
        assert len(part) == 5 * len(files)


def test_too_few_speakers() -> None:
    two = spoken(["a", "b", "b"], [1, 1, 1])
    with pytest.raises(DataError, match=r"2 speakers can't be dealt out to 3 sets(.|\n)*--hold-out recordings"):
        split(two, {"dev": 0.1, "test": 0.1}, 1)
    sets = split(two, {"dev": 0.1, "test": 0.1}, 1, by="recording")
    assert [len(part) for part in sets.values()] == [1, 1, 1]
    with pytest.raises(DataError, match=r"1 recording can't be dealt out to 2 sets(.|\n)*more recordings"):
        split(spoken(["a"], [1]), {"dev": 0.1}, 1)


def test_sets_that_come_out_much_larger_than_asked_for_are_told() -> None:
    shares = {"dev": 0.1, "test": 0.25}
    utterances = spoken(["a", "b", "c", "c"], [3, 3, 3, 1])
    assert overshoots(split(utterances, shares, 1), shares) == [
        "dev: asked for 10%, held out 30%: no speaker is divided, and there are 3"
    ]
    many = spoken([None] * 20, [1.0] * 20)
    assert overshoots(split(many, shares, 1), shares) == []
    assert overshoots(split(many[:3], {"dev": 0.1}, 1), {"dev": 0.1}) == [
        "dev: asked for 10%, held out 33%: no recording is divided, and there are 3"
    ]


@pytest.mark.parametrize(("share", "told"), [(0.1, True), (0.13, True), (0.14, False), (0.2, False)])
def test_half_as_much_again_is_much_larger(share: float, told: bool) -> None:
    sets = split(spoken(list("abcde"), [1.0] * 5), {"dev": share}, 1)
    assert len(sets["dev"]) == 1
    assert bool(overshoots(sets, {"dev": share})) == told


@pytest.mark.parametrize("seed", range(6))
def test_where_all_are_too_much_the_shortest_is_held_out(seed: int) -> None:
    sets = split(spoken(list("abcd"), [5.0, 2.0, 7.0, 4.0]), {"dev": 0.01}, seed)
    assert [each.speaker for each in sets["dev"]] == ["b"]


# -------------------------------------------------------------------------------------- the command itself


def test_torch_is_not_waited_for() -> None:
    modules = "asr.data.layouts.folder, asr.data.layouts.kaldi, asr.data.layouts.table, asr.data.splitting"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return command(capsys, "data", "import")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for speaker in "abcdefghij":
        for number in range(2):
            sound(tmp_path / "recordings" / speaker / f"{number}.wav", 0.5)
            write(tmp_path / "recordings" / speaker / f"{number}.txt", f"{speaker} {number}")
    return tmp_path / "recordings"


def test_a_manifest_and_its_summary(recordings: Path, run: Run) -> None:
    result = run("recordings", "--out", "mine/all.jsonl", "--speaker-folders")
    assert result == Result(0, f"{Path('mine/all.jsonl')}: 20 utterances, 10.0 seconds, 10 speakers\n", "")
    (first, *_) = Path("mine/all.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(first)["audio_filepath"] == str(recordings / "a" / "0.wav")
    assert run("recordings", "--out", "mine/rel.jsonl", "--relative").code == 0
    (first, *_) = Path("mine/rel.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(first)["audio_filepath"] == "../recordings/a/0.wav"
    assert read_manifest(Path("mine/rel.jsonl"))[0].audio.resolve() == (recordings / "a" / "0.wav").resolve()


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.5, "0.5 seconds"),
        (59.9, "59.9 seconds"),
        (59.96, "1.0 minutes"),
        (750, "12.5 minutes"),
        (3596, "59.9 minutes"),
        (3599, "1.00 hours"),
        (8676, "2.41 hours"),
        (3_600_000, "1,000.00 hours"),
    ],
)
def test_a_length_is_told_in_a_unit_that_suits_it(seconds: float, told: str) -> None:
    assert length_of_sound(seconds) == told


def test_sets_and_a_recipe_for_them(recordings: Path, run: Run, tmp_path: Path) -> None:
    result = run("recordings", "--out", "mine", "--dev", 0.2, "--test", 0.2, "--speaker-folders")
    assert result.out.splitlines()[:3] == [
        f"{Path('mine') / name}: {count} utterances, {count / 2} seconds, {count // 2} speakers"
        for name, count in (("train.jsonl", 12), ("dev.jsonl", 4), ("test.jsonl", 4))
    ]
    assert f"    tests: {{test: {tmp_path / 'mine' / 'test.jsonl'}}}" in result.out


@pytest.mark.parametrize("name", ["a, b", "a #b", "a: b", "a [b]", "it's", "größer {x}", "w" * 200 + " x"])
def test_the_recipe_is_yaml_whatever_the_folder_is_called(
    recordings: Path, run: Run, tmp_path: Path, name: str
) -> None:
    printed = run("recordings", "--out", name, "--dev", 0.2, "--test", 0.2, "--speaker-folders").out
    sets = {each: str(tmp_path / name / f"{each}.jsonl") for each in ("train", "dev", "test")}
    assert yaml.safe_load(printed.partition("in a recipe:\n")[2]) == {
        "prepare": {
            "corpus": "manifests",
            "train": sets["train"],
            "dev": sets["dev"],
            "tests": {"test": sets["test"]},
        }
    }


def test_folders_that_might_be_speakers_are_named_where_sets_are_held_out(recordings: Path, run: Run) -> None:
    hint = "--speaker-folders takes the 10 folders in recordings for speakers"

    def told(*options: object) -> str:
        return " ".join(run("recordings", "--overwrite", *options).err.split())

    assert hint in told("--out", "mine", "--dev", 0.2)
    assert told("--out", "mine", "--dev", 0.2, "--speaker-folders") == ""
    assert told("--out", "m.jsonl") == ""
    assert "dev: asked for 1%, held out 10%" in told("--out", "mine", "--dev", 0.01, "--speaker-folders")


def test_nothing_is_overwritten_unasked(recordings: Path, run: Run) -> None:
    assert run("recordings", "--out", "m.jsonl").code == 0
    before = Path("m.jsonl").read_bytes()
    refused = run("recordings", "--out", "m.jsonl", "--speaker-folders")
    assert (refused.code, "m.jsonl: already there" in refused.err) == (2, True)
    assert Path("m.jsonl").read_bytes() == before
    assert run("recordings", "--out", "m.jsonl", "--speaker-folders", "--overwrite").code == 0
    assert Path("m.jsonl").read_bytes() != before


def test_sets_of_an_earlier_import_are_named(recordings: Path, run: Run) -> None:
    options = ("--out", "mine", "--dev", 0.2, "--speaker-folders", "--overwrite")
    assert "earlier import" not in run("recordings", *options, "--test", 0.2).err
    told = run("recordings", *options).err
    assert f"{Path('mine') / 'test.jsonl'} is of an earlier import" in told
    assert "dev.jsonl" not in told


def test_faults_leave_no_manifest_unless_they_may_be_skipped(recordings: Path, run: Run) -> None:
    (recordings / "a" / "0.txt").unlink()
    (recordings / "b" / "0.wav").write_bytes(b"")
    result = run("recordings", "--out", "m.jsonl")
    assert result.code == 1
    assert "2 entries can't be used" in result.err
    assert "there is no 0.txt beside it" in result.err
    assert "is empty (0 bytes)" in result.err
    assert not Path("m.jsonl").exists()
    result = run("recordings", "--out", "m.jsonl", "--skip-faulty")
    assert (result.code, "18 utterances" in result.out, "2 entries" in result.err) == (0, True, True)


def test_too_few_speakers_are_told_before_recordings_are_read(tmp_path: Path, run: Run) -> None:
    for speaker in "ab":
        write(tmp_path / "two" / speaker / "0.wav", "no sound")
        write(tmp_path / "two" / speaker / "0.txt", "text")
    result = run("two", "--out", "mine", "--dev", 0.2, "--test", 0.2, "--speaker-folders")
    assert (result.code, "2 speakers can't be dealt out to 3 sets" in result.err) == (1, True), result.err


def test_what_sets_share_is_told_where_it_may_surprise(tmp_path: Path, run: Run) -> None:
    for number in range(6):
        sound(tmp_path / f"{number}.wav")
    held_out = ("--dev", 0.2, "--test", 0.2, "--overwrite", "--out", "mine")
    for speakers, said in (
        (["a"] * 6, "one speaker is in all sets"),
        (["a", "b", "c"] * 2, ""),
        (["a", "b"] * 3, ""),
    ):
        rows = ([f"{number}.wav", "x", who] for number, who in enumerate(speakers))
        make_table(tmp_path / "t.csv", [["path", "text", "speaker"], *rows])
        result = run("t.csv", *held_out, "--hold-out", "recordings")
        assert (result.code, "one speaker" in result.err) == (0, bool(said)), result.err
    make_table(tmp_path / "t.csv", [["path", "text", "Sprecher"], *([f"{n}.wav", "x", "a"] for n in range(6))])
    assert "does a column name them (--speaker-column)? Sprecher\n" in run("t.csv", *held_out).err


def test_a_list_without_utterances(run: Run) -> None:
    write(Path("t.csv"), "path,text")
    result = run("t.csv", "--out", "m.jsonl")
    assert (result.code, result.err) == (1, "error: t.csv: lists no utterances\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "m.csv"], "a name that ends in .jsonl"),
        (["--out", "m.jsonl", "--dev", "0.1"], "a folder"),
        (["--out", "m", "--dev", "0.6", "--test", "0.4"], "nothing is left to train on"),
        (["--out", "m.jsonl", "--text-column", "text"], "means nothing for the format folder"),
        (["--out", "m.jsonl", "--audio-root", "."], "means nothing for the format folder"),
        (["--out", "m.jsonl", "--format", "table"], "can't be read: Is a directory"),
        (["--out", "m.jsonl", "--format", "kaldi"], "there is no wav.scp in it"),
        (["--out", "m.jsonl", "--format", "kaldi", "--speaker-folders"], "means nothing for the format kaldi"),
    ],
)
def test_wrong_arguments(recordings: Path, run: Run, arguments: list[str], message: str) -> None:
    result = run("recordings", *arguments)
    assert (result.code in (1, 2), message in result.err) == (True, True), result.err
    assert not Path("m.jsonl").exists()


def test_what_the_system_refuses_is_told_in_a_line(recordings: Path, run: Run, tmp_path: Path) -> None:
    write(tmp_path / "file", "which is no folder")
    refused = run("recordings", "--out", "file/m.jsonl")
    assert refused.code == 2
    assert refused.err.startswith("error: file: ") and len(refused.err.splitlines()) == 1


def test_real_corpora(corpora: Path, run: Run) -> None:
    for source, length, unit, speakers, count in (
        ("speechocean762/train", 2.9, "hours", "125 speakers", 2500),
        ("speechocean762/test", 2.7, "hours", "125 speakers", 2500),
        ("librispeech_3spk", 1.2, "hours", "3 speakers", 367),
        ("ljspeech_part1", 42, "minutes", "no speakers", 385),
    ):
        result = run(corpora / source, "--out", "m.jsonl", "--overwrite", "--skip-faulty")
        assert result.code == 0
        assert f"{count} utterances" in result.out
        assert speakers in result.out
        told, unit_told = result.out.split(", ")[1].split()
        assert (float(told), unit_told) == (pytest.approx(length, rel=0.03), unit)
        assert (result.err == "") == (count != 385)  # of LJ Speech the whole list is there, and a part of the sound
