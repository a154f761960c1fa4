"""Lists of recordings: their lines and encodings, and the files that they mean."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.data.layouts import lists
from asr.data.layouts.lists import Recordings, Row
from asr.errors import DataError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lists") / "list.txt"


lines = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\ufeff"), max_size=6), max_size=6)


@given(lines, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_lines_are_those_that_were_written(path: Path, lines: list[str], end: str, marked: bool) -> None:
    content = ("\ufeff" if marked else "") + end.join(lines)
    path.write_bytes(content.encode())
    faults: list[str] = []
    wanted = [Row(line, f"{path}:{number}") for number, line in enumerate(lines or [""], start=1)]
    assert lists.read_lines(path, faults) == wanted
    assert lists.read_rows(path, faults) == [
        Row(row.value.strip(), row.where) for row in wanted if row.value.strip()
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("good", "strange", "refused"), [(0, 10, False), (0, 11, True), (99, 11, False), (98, 11, True)]
)
def test_lines_that_are_not_utf_8_are_faults_unless_they_are_too_many(
    tmp_path: Path, good: int, strange: int, refused: bool
) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"\n".join([b"yes"] * good + ["na\u00efve".encode("latin-1")] * strange))
    faults: list[str] = []
    if refused:
        with pytest.raises(DataError, match=rf"is not UTF-8, in {strange} of its lines[\s\S]*WINDOWS-1252"):
            lists.read_lines(path, faults)
    else:
        assert [row.value for row in lists.read_lines(path, faults)] == ["yes"] * good
        assert faults[0] == f"{path}:{good + 1}: byte 3 is not UTF-8; save the file as UTF-8"
        assert len(faults) == strange


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_named(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding.endswith("be") else ""
    (tmp_path / "list").write_bytes((mark + "a b\n").encode(encoding))
    with pytest.raises(DataError, match=r"list: is UTF-16[\s\S]*iconv -f UTF-16"):
        lists.read_lines(tmp_path / "list", [])


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none: can't be read: No such file or directory"):
        lists.read_lines(tmp_path / "none", [])


def test_a_table_has_each_key_once(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("a  turn it  on \n\nb\n a\toff\nc\tx\n")
    faults: list[str] = []
    assert lists.read_table(path, faults) == {
        "a": Row("turn it  on", f"{path}:1"),
        "b": Row("", f"{path}:3"),
        "c": Row("x", f"{path}:5"),
    }
    assert faults == [f"{path}:4: a stands in {path}:1 already"]


# ------------------------------------------------------------------------------------------------- recordings

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "zoë") for form in ("NFC", "NFD"))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_recordings_are_found_in_another_format_and_in_the_first_root_that_has_them(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    touch(one, "sub/a.flac", "b.opus", "v1.2.wav", "notes.txt")
    touch(two, "sub/a.wav", "b.wav", "c.MP3")
    found = Recordings(one, two).find
    assert found("sub/a.wav") == two / "sub" / "a.wav"  # exactly this one comes before others
    assert found("sub/a") == found("sub/a.mp3") == one / "sub" / "a.flac"
    assert found("b") == one / "b.opus"
    assert found("c.wav") == two / "c.MP3"
    assert found("v1.2") == one / "v1.2.wav"  # .2 is no format
    assert found("notes") == one / "notes"  # a text is no recording; neither is what is not there
    assert found("none/d.wav") == one / "none" / "d.wav"


def test_names_in_another_normal_form_are_found(tmp_path: Path) -> None:
    touch(tmp_path, f"{DECOMPOSED}.wav")
    assert Recordings(tmp_path).find(f"{COMPOSED}.wav") == tmp_path / f"{DECOMPOSED}.wav"
    assert Recordings(tmp_path).find(COMPOSED) == tmp_path / f"{DECOMPOSED}.wav"


def test_a_name_as_it_is_spelled_comes_before_those_that_look_alike() -> None:
    both = {name: Path(repr(name)) for name in (COMPOSED, DECOMPOSED)}
    for order in (both, dict(reversed(both.items()))):
        files = lists.by_spelling(order.items())
        assert {name: lists.alike(name, files) for name in both} == both
    assert lists.alike("other", both) is None
    only = lists.by_spelling([(DECOMPOSED, Path("x"))])
    assert lists.alike(COMPOSED, only) == lists.alike(DECOMPOSED, only) == Path("x")


def test_recordings_that_no_list_names_are_faults_be_they_in_another_format() -> None:
    files = [Path(name) for name in ("a/1.flac", "a/2.WAV", "a/notes.txt", "b/1.wav")]
    assert lists.without_transcript(files, [Path("a/1.wav")]) == [
        "a/2.WAV: has no transcript",
        "b/1.wav: has no transcript",
    ]
