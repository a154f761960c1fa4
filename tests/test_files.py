"""Files are there as a whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from asr import files
from asr.errors import DiskFullError
from asr.files import (
    LOCK,
    PARTIAL,
    atomic_path,
    clear_folder,
    file_fingerprint,
    files_in,
    fingerprint,
    is_of_others,
    missing_files,
    one_at_a_time,
    only_writer,
    read_json,
    remove_folder,
    remove_partial,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "before")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [child.name for child in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_can_not_be_replaced_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder"
    write_text(path / "old", "x")

    def refused(temporary: Path, target: Path) -> Path:
        raise PermissionError(errno.EACCES, "a file in it is open")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refused)
        with pytest.raises(PermissionError), atomic_path(path) as temporary:
            temporary.mkdir()
    assert (path / "old").read_text() == "x"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where a virus scanner looks at each path before it can be renamed, replaced or removed."""

    def look_first(module: object, name: str) -> None:
        seen = set()
        act = getattr(module, name)

        def refused_once(path: Path, *arguments: object, **of_a_folder: object) -> object:
            if path in seen or of_a_folder:
                return act(path, *arguments, **of_a_folder)
            seen.add(path)
            raise PermissionError(errno.EACCES, "it is open", str(path))

        monkeypatch.setattr(module, name, refused_once)

    monkeypatch.setattr(sys, "platform", "win32")
    for name in ("rename", "replace"):
        look_first(Path, name)
    look_first(os, "open")


def test_who_opens_what_is_new_is_waited_for(tmp_path: Path, scanned: None) -> None:
    folder = tmp_path / "folder"
    for content in ("old", "new"):
        write_text(folder / "file", content)
        with atomic_path(folder / "sub") as temporary:
            temporary.mkdir()
            (temporary / content).write_text("x")
    assert (folder / "file").read_text() == "new"
    assert [path.name for path in (folder / "sub").iterdir()] == ["new"]
    clear_folder(folder, "file")
    assert [path.name for path in folder.iterdir()] == ["file"]
    remove_folder(folder)
    assert not list(tmp_path.iterdir())


def test_what_stays_open_elsewhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WAIT_FOR_SCANNERS", 0)
    refused = PermissionError(errno.EACCES, "Access is denied", "temporary")
    for platform, expected in (("linux", "denied: 'temporary'"), ("win32", "open in another program.*file'")):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(Path, "replace", lambda *paths: (_ for _ in ()).throw(refused))
        with pytest.raises(PermissionError, match=expected):
            write_text(tmp_path / "file", "x")


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with atomic_path(tmp_path / "previous") as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [child.name for child in (tmp_path / "previous").iterdir()] == ["new"]


@pytest.mark.skipif(sys.platform == "win32", reason="whole paths are that short there")
@pytest.mark.parametrize("name", ["n" * 255, "語" * 85], ids=["of one byte each", "of three"])
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "x")
    assert (tmp_path / name).read_text() == "x"
    (tmp_path / name).unlink()
    for _ in range(2):
        with atomic_path(tmp_path / name) as temporary:
            temporary.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    remove_folder(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="links take a privilege there")
def test_a_link_that_leads_to_itself_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").read_text() == "x"


def test_json_has_no_infinity(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"loss": float("inf")})
    assert not list(tmp_path.iterdir())
    for number in ("NaN", "-Infinity"):
        (tmp_path / "x.json").write_text(f'{{"loss": {number}}}')
        with pytest.raises(ValueError, match=f"{number} is no number of JSON"):
            read_json(tmp_path / "x.json")


def test_fingerprints(tmp_path: Path) -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})
    for name, content in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(content)
    assert file_fingerprint(tmp_path / "a") == file_fingerprint(tmp_path / "b") != file_fingerprint(tmp_path / "c")


def test_names_that_are_not_utf_8_have_fingerprints() -> None:
    assert len({fingerprint([name, 1]) for name in ("\udce9.wav", "\udcea.wav", "?.wav", "é.wav")}) == 4


def test_what_is_written_is_on_the_disk_before_its_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        names = [path.name for path in (tmp_path, *tmp_path.rglob("*")) if os.path.samestat(path.stat(), status)]
        done.append(f"{'folder' if stat.S_ISDIR(status.st_mode) else 'file'} {names[0]}")
        fsync(descriptor)

    def noted_replace(path: Path, target: Path) -> Path:
        done.append(f"replace {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    with atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("x")
    assert done == ["file file", "replace file", f"folder {tmp_path.name}"]
    done.clear()
    with atomic_path(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "a").touch()
    assert done == ["file a", "folder folder", "replace folder", f"folder {tmp_path.name}"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said_in_words(tmp_path: Path, code: int) -> None:
    path = tmp_path / "new" / "folder"
    with pytest.raises(DiskFullError) as caught, atomic_path(path, size=3_210_000) as temporary:
        temporary.mkdir()
        with atomic_path(temporary / "inner"):
            raise OSError(code, os.strerror(code))
    assert str(caught.value).startswith(f"{path}: there is no room to write it ({os.strerror(code).lower()}): ")
    assert "free some space" in str(caught.value)
    assert not list(path.parent.iterdir())
    with (
        pytest.raises(DiskFullError, match=r"3\.2 MB are needed, [\d,.]+ MB are free"),
        atomic_path(path, 3_210_000),
    ):
        raise OSError(code, os.strerror(code))


def test_other_faults_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_path(tmp_path / "file"):
        raise PermissionError(errno.EACCES, "no")


def test_what_was_never_finished_is_removed(tmp_path: Path) -> None:
    killed = tmp_path / "sub" / f".state.pt{PARTIAL}abcd"
    killed.mkdir(parents=True)
    (killed / "state.pt").touch()
    write_text(tmp_path / "sub" / "mine", "x")
    (tmp_path / ".hidden").touch()
    remove_partial(tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"sub", "mine", ".hidden"}
    remove_partial(tmp_path / "nothing")


def test_what_macos_leaves_is_no_file_of_a_folder(tmp_path: Path) -> None:
    for name in (
        "a.wav",
        "._a.wav",
        ".hidden",
        "sub/b.wav",
        "sub/._b.wav",
        "__MACOSX/._a.wav",
        "__MACOSX/sub/c.wav",
    ):
        write_text(tmp_path / name, "x")
    found = [path.relative_to(tmp_path).as_posix() for path in files_in(tmp_path)]
    assert found == [".hidden", "a.wav", "sub/b.wav"]


def test_a_folder_is_removed_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    write_text(folder / "file", "x")

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", killed)
        remove_folder(folder)
    assert not folder.exists()
    remove_folder(folder)


def test_a_folder_is_cleared_but_for_its_mark_and_the_lock_of_its_writer(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with only_writer(folder):
        assert not is_of_others(folder, "mark")
        write_text(folder / "sub" / "mine", "x")
        assert is_of_others(folder, "mark")
        write_text(folder / "mark", "x")
        assert not is_of_others(folder, "mark")
        clear_folder(folder, "mark")
        assert {path.name for path in folder.iterdir()} == {LOCK, "mark"}
    assert not is_of_others(tmp_path / "none", "mark")


def test_where_the_file_system_refuses_locks_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refused(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))  # as NFS without a lock daemon does

    monkeypatch.setattr(fcntl, "flock", refused)
    with one_at_a_time(tmp_path / "data" / "lock", pytest.fail), only_writer(tmp_path / "run"):
        write_text(tmp_path / "run" / "file", "done")
    assert (tmp_path / "run" / "file").read_text() == "done"
    with only_writer(tmp_path / "run"), one_at_a_time(tmp_path / "data" / "lock", pytest.fail):
        pass  # nothing has stayed locked


def test_a_folder_in_the_place_of_a_file_is_said_to_be_one(tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.touch()
    assert missing_files([there, gone, tmp_path]) == [str(gone), f"{tmp_path} (a folder)"]
