"""Text files are read line by line, whatever their size."""

from __future__ import annotations

import gzip
import io
from itertools import islice
from pathlib import Path

import pytest

from asr.data import texts
from asr.data.manifest import Utterance, write_manifest
from asr.errors import DataError
from asr.text import sentences


def test_files_are_read_one_after_another_without_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\n  two \n \t\n")
    (tmp_path / "b.GZ").write_bytes(gzip.compress("drei\u2028vier\n".encode()))
    sources = [tmp_path / "a.txt", tmp_path / "b.GZ", io.BytesIO("fünf".encode())]
    assert list(sentences.read(sources)) == ["one", "two", "drei\u2028vier", "fünf"]


def test_zeros_are_spaces_as_the_reader_of_arpa_files_takes_them() -> None:
    assert list(sentences.read([io.BytesIO(b"a\0b\n\0\n")])) == ["a b"]


def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "good-then-bad.txt"
    path.write_bytes(b"good\n" * 3 + b"\xff\n")
    assert list(islice(sentences.read([path]), 3)) == ["good"] * 3


def test_what_cant_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("good\nécole\n".encode("latin-1"))
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"hello\n" * 100)[:-9])
    for name, message in {
        "latin.txt": "line 2: not UTF-8",
        "cut.txt.gz": "gzip can't read it",
        "missing.txt": "no such file",
        ".": "this is a folder",
    }.items():
        with pytest.raises(DataError, match=message):
            list(sentences.read([tmp_path / name]))


def test_of_manifests_the_transcripts_are_read(tmp_path: Path) -> None:
    said = ["one two", " ", "three"]
    write_manifest(tmp_path / "a.jsonl", [Utterance(Path(f"{text}.wav"), 1.0, text) for text in said])
    assert list(texts.read(tmp_path / "a.jsonl")) == ["one two", "three"]
    assert list(texts.read(io.BytesIO(b"four\n"))) == ["four"]


@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.csv.gz"])
def test_a_table_is_no_text(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"wav_filename,transcript\na.wav,one\n")
    with pytest.raises(DataError, match=r"a table, not a text\n(.|\n)*try: asr data import"):
        texts.read(tmp_path / name)
