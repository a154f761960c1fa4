"""Arrays in a file that is mapped into memory, against safetensors' own reader."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from asr.errors import DataError
from asr.text import compact

Arrays = dict[str, NDArray[Any]]

names = st.text("abcé_.", min_size=1, max_size=5)
kinds = st.sampled_from([np.int64, np.int32, np.float32, np.float16, np.uint8])
contents = st.lists(st.integers(0, 100), max_size=9)
arrays = st.dictionaries(names, st.builds(np.array, contents, kinds), min_size=1, max_size=4)
texts = st.dictionaries(names, st.text(max_size=5), max_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compact")


def assert_same(found: Arrays, wanted: Arrays) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@given(arrays, texts)
def test_what_is_written_is_read_here_and_by_safetensors(
    folder: Path, arrays: Arrays, texts: dict[str, str]
) -> None:
    path = folder / "file"
    compact.save(path, arrays, texts)
    found_texts, found = compact.load(path)
    assert_same(found, arrays)
    assert found_texts == compact.metadata(path) == texts
    assert_same(load_file(path), arrays)
    with safe_open(path, "numpy") as file:
        assert (file.metadata() or {}) == texts
    assert compact.is_compact(path)
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0  # so that the arrays are aligned


def test_the_order_of_names_is_nothing_to_the_file(tmp_path: Path) -> None:
    values = {name: np.arange(number, dtype=np.int32) for number, name in enumerate("xyz")}
    texts = {name: name * 2 for name in "nopqrst"}
    compact.save(tmp_path / "a", values, texts)
    compact.save(tmp_path / "b", values, dict(reversed(texts.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_written_into_the_arrays_stays_in_memory(tmp_path: Path) -> None:
    compact.save(tmp_path / "file", {"a": np.arange(5, dtype=np.int32)}, {"kind": "x"})
    before = (tmp_path / "file").read_bytes()
    _, found = compact.load(tmp_path / "file")
    found["a"][:] = 7
    assert (tmp_path / "file").read_bytes() == before
    assert compact.load(tmp_path / "file")[1]["a"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 20, -1])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "file"
    compact.save(path, {"a": np.arange(50, dtype=np.int64)}, {"kind": "x"})
    os.truncate(path, kept if kept >= 0 else path.stat().st_size + kept)
    with pytest.raises(DataError, match=r"file: the file is damaged: [\s\S]*copy or make it again"):
        compact.load(path)
    if kept >= 0:
        with pytest.raises(DataError, match="file: the file is damaged"):
            compact.metadata(path)


@pytest.mark.parametrize(
    "header",
    [b"[]", b'"x"', b"{}", b"{", b"\xff\xff", b'{"__metadata__":{},"a":{}}', b'{"__metadata__":{},"a":[1]}']
    + [
        b'{"__metadata__":{},"a":{"dtype":"%b","data_offsets":[%b]}}' % each
        for each in ((b"F8", b"0,8"), (b"I32", b"8"))
    ],
)
def test_a_header_of_another_kind_is_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "file").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(DataError, match="file: the file is damaged"):
        compact.load(tmp_path / "file")


def test_other_files_are_not_taken_for_one(tmp_path: Path) -> None:
    for content in (b"", b"\\data\\\nngram 1=3\n", b"\x1f\x8b\x08\x00{}", bytes(20)):
        (tmp_path / "file").write_bytes(content)
        assert not compact.is_compact(tmp_path / "file")
