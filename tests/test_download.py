"""Downloads over a line that fails, from a server on this machine."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import numpy as np
import platformdirs
import pytest

from asr.data.corpora import download as module
from asr.data.corpora.download import Archive, download, extract, fetch, silent
from asr.errors import DataError, DiskFullError

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"

Answer = Callable[[BaseHTTPRequestHandler, int], None]
"""Answers a request that starts at a byte."""
Serve = Callable[..., AbstractContextManager[tuple[str, list[int]]]]


def whole(handler: BaseHTTPRequestHandler, start: int) -> None:
    """From the byte asked for to the end."""
    cut(len(CONTENT))(handler, start)


def cut(most: int) -> Answer:
    """Promises everything from the byte asked for, ends after some bytes."""

    def answer(handler: BaseHTTPRequestHandler, start: int) -> None:
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.send_header("Content-Length", str(len(CONTENT) - start))
        handler.end_headers()
        handler.wfile.write(CONTENT[start : start + most])

    return answer


def without_range(most: int) -> Answer:
    """A server that knows no ranges: it starts over whatever is asked for."""
    return lambda handler, start: cut(most)(handler, 0)


def chunked(most: int) -> Answer:
    """A server that does not say how long the file is, nor knows ranges; it may leave out the end."""

    def answer(handler: BaseHTTPRequestHandler, start: int) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n" % (most, CONTENT[:most]))
        if most == len(CONTENT):
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def holding(content: bytes) -> Answer:
    """Other content than `CONTENT`, whole."""

    def answer(handler: BaseHTTPRequestHandler, start: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def status(code: int) -> Answer:
    """Nothing but a status."""

    def answer(handler: BaseHTTPRequestHandler, start: int) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """`with serve(answer, …) as (url, starts)`: one answer for each request; `starts` are the bytes asked for."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "PAUSE", 0.001)

    @contextmanager
    def running(*answers: Answer) -> Iterator[tuple[str, list[int]]]:
        starts: list[int] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                starts.append(int(match[1]) if match else 0)
                answers[len(starts) - 1](self, starts[-1])
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/archive.tar.gz", starts
            finally:
                server.shutdown()
                thread.join()

    return running


def test_file_arrives_whole_with_progress_in_bytes(serve: Serve, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    path = tmp_path / "cache" / "file"
    with serve(whole) as (url, starts):
        assert download(url, path, SHA256, lambda *report: reports.append(report)) == path
        assert download(url, path, SHA256) == path  # here already: the server would have no second answer
    assert path.read_bytes() == CONTENT
    assert starts == [0]
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert {total for _, total in reports} == {len(CONTENT)}
    assert list(path.parent.iterdir()) == [path]


def test_interrupted_transfer_goes_on_where_it_stopped(serve: Serve, tmp_path: Path) -> None:
    with serve(cut(100_000), cut(50_000), whole) as (url, starts):
        download(url, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    # Each asks again for the last byte that it has, and gets 50,000 bytes from there.
    assert starts == [0, 99_999, 149_998]


def test_next_call_goes_on_where_the_last_one_gave_up(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with serve(*[cut(20_000)] * module.ATTEMPTS) as (url, starts):
        with pytest.raises(DataError, match=r"failed 5 times.* the transfer ended after .* of 300000 bytes"):
            download(url, path)
        assert not path.exists()
    with serve(whole) as (url, starts):
        download(url, path)
    assert starts == [5 * 20_000 - 5]
    assert path.read_bytes() == CONTENT


def test_part_that_is_complete_already_is_taken(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    with serve(whole) as (url, starts):
        download(url, tmp_path / "file", SHA256)
    assert starts == [len(CONTENT) - 1]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_part_longer_than_the_file_is_thrown_away(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT + b"of an older version")
    with serve(status(416), whole) as (url, starts):
        download(url, tmp_path / "file", SHA256)
    assert starts[1] == 0
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("answers", [without_range, chunked])
def test_server_without_ranges_starts_over(answers: Callable[[int], Answer], serve: Serve, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    with serve(answers(200_000), answers(len(CONTENT))) as (url, starts):
        download(url, tmp_path / "file", progress=lambda *report: reports.append(report))
    assert starts[0] == 0
    assert starts[1] > 0
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert reports[-1] == (len(CONTENT), 0 if answers is chunked else len(CONTENT))


def test_wrong_checksum_leaves_no_file(serve: Serve, tmp_path: Path) -> None:
    wrong = f"sha256:{hashlib.sha256(b'').hexdigest()}"
    with serve(whole) as (url, _), pytest.raises(DataError, match=f"{SHA256}(.|\n)*{wrong}"):
        download(url, tmp_path / "file", wrong)
    assert list(tmp_path.iterdir()) == []


def test_md5_will_do(serve: Serve, tmp_path: Path) -> None:
    checksum = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
    with serve(whole) as (url, _):
        assert download(url, tmp_path / "file", checksum).read_bytes() == CONTENT
    with serve(whole) as (url, _), pytest.raises(DataError, match=checksum):
        download(url, tmp_path / "other", f"md5:{'0' * 32}")


def test_file_with_another_checksum_is_fetched_anew(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"an older version")
    with serve(whole) as (url, _):
        download(url, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_refusal_is_final(serve: Serve, tmp_path: Path) -> None:
    answer = r"archive.tar.gz.* 404 Not Found\n.*yourself.* prepare\.source=FILE"
    with serve(status(404)) as (url, starts), pytest.raises(DataError, match=answer):
        download(url, tmp_path / "file")
    assert starts == [0]
    assert not (tmp_path / "file").exists()


def test_busy_server_is_asked_again(serve: Serve, tmp_path: Path) -> None:
    with serve(status(503), status(429), status(500), whole) as (url, _):
        download(url, tmp_path / "file", SHA256)
    with serve(*[status(503)] * module.ATTEMPTS) as (url, _), pytest.raises(DataError, match="503 Service"):
        download(url, tmp_path / "other")


def test_server_that_is_not_there(serve: Serve, tmp_path: Path) -> None:
    with serve() as (url, _):
        pass
    with pytest.raises(DataError, match=r"archive.tar.gz.*[Cc]onnection refused"):
        download(url, tmp_path / "file")


def test_a_full_disk_is_no_fault_of_the_line(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "_receive", full)
    with serve(whole) as (url, starts), pytest.raises(DiskFullError, match=r"no room .*: 0\.3 MB are needed"):
        download(url, tmp_path / "file", SHA256)
    assert starts == [0]


def tar(*members: tuple[str, bytes], compression: Literal["gz", "bz2", "xz"] = "gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def damaged(compression: Literal["gz", "bz2", "xz"]) -> bytes:
    """An archive in whose last third some bytes are others: only there, so that it can be opened."""
    archive = tar(("good", " ".join(map(str, range(400_000))).encode()), compression=compression)
    place = len(archive) * 2 // 3
    return archive[:place] + bytes(100) + archive[place + 100 :]


def test_archive_is_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(tar(("root/a", b"1"), ("root/deep/b", b"2")))
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out" / "root" / "a").read_bytes() == b"1"
    assert (tmp_path / "out" / "root" / "deep" / "b").read_bytes() == b"2"


@pytest.mark.skipif(os.name != "posix", reason="Windows can't wait for all files at once")
def test_unpacking_tells_how_far_it_is_and_waits_for_the_disk_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    told: list[tuple[int, int, str]] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append("one"))
    monkeypatch.setattr(os, "sync", lambda: synced.append("all"), raising=False)
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(tar(*((f"root/{number}", 4 * CONTENT) for number in range(4))))
    extract(archive, tmp_path / "out", lambda done, total, unit="": told.append((done, total, unit)))
    assert synced == ["all", "one"]  # the files, then the folder that has the name
    steps = [report[0] for report in told]
    assert steps == sorted(steps)
    assert len(set(steps)) > 2
    assert {report[1:] for report in told} == {(4, "MB unpacked")}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(tar(("good", b"1"), ("../bad", b"2")), id="member outside"),
        pytest.param(tar(("good", CONTENT))[:-1000], id="cut off"),
        pytest.param(damaged("gz"), id="damaged"),
        pytest.param(damaged("xz"), id="damaged xz"),
        pytest.param(damaged("bz2"), id="damaged bz2"),
        pytest.param(b"<html>", id="a web page"),
    ],
)
def test_bad_archive_leaves_nothing(content: bytes, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"archive.tar.gz: the archive can't be unpacked"):
        extract(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "asr"


@pytest.mark.parametrize("end", [KeyboardInterrupt(), DiskFullError("there is no room to write it")])
def test_download_outlives_an_unpacking_that_does_not_end(
    end: BaseException, serve: Serve, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> None:
        raise end

    with serve(holding(tar(("root/a", b"1")))) as (url, starts):
        with monkeypatch.context() as patched, pytest.raises(type(end)):
            patched.setattr(module, "extract", ended)
            fetch(Archive("one", url, "root"), silent)
        folder = fetch(Archive("one", url, "root"), silent)
    assert starts == [0]
    assert (folder / "root" / "a").read_bytes() == b"1"
    assert not list(cache.glob("*.tar.gz"))


def test_damaged_download_is_fetched_anew(serve: Serve, cache: Path) -> None:
    with serve(holding(b"<html>"), holding(tar(("root/a", b"1")))) as (url, _):
        with pytest.raises(DataError, match="can't be unpacked"):
            fetch(Archive("one", url, "root"), silent)
        assert not list(cache.glob("*.tar.gz"))
        assert (fetch(Archive("one", url, "root"), silent) / "root" / "a").read_bytes() == b"1"


def test_processes_that_start_together_download_once(serve: Serve, cache: Path) -> None:
    told, another_waits = [], threading.Event()

    def slowly(handler: BaseHTTPRequestHandler, start: int) -> None:
        another_waits.wait(5)
        holding(tar(("root/a", b"1")))(handler, start)

    def progress(done: int, total: int, unit: str = "") -> None:
        told.append(unit)
        if "another process" in unit:
            another_waits.set()

    with serve(slowly, slowly) as (url, starts), ThreadPoolExecutor() as pool:
        folders = list(pool.map(lambda _: fetch(Archive("one", url, "root"), progress), range(2)))
    assert starts == [0]
    assert told.count("another process is downloading it") == 1
    assert folders == [cache / "one"] * 2
    assert (cache / "one" / "root" / "a").read_bytes() == b"1"
