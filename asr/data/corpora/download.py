"""Fetch a file over a line that may fail, and unpack it."""

from __future__ import annotations

import hashlib
import http.client
import lzma
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Protocol

from asr.cache import cache_folder
from asr.errors import DataError
from asr.files import atomic_path, full_disk_in_words, one_at_a_time, patiently

MEGABYTE = 10**6


class Progress(Protocol):
    """Told how a corpus is prepared."""

    def __call__(self, done: int, total: int, unit: str = "", /) -> None:
        """So many are done, of so many in all, or 0 where nobody knows: utterances, unless a unit is named."""


def silent(done: int, total: int, unit: str = "", /) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Archive:
    """A corpus as its makers publish it.

    Attributes:
        name: of its folder in the cache.
        url: where it is.
        root: the folder in it that holds the corpus.
        checksum: the published one, if there is one: "sha256:…" or "md5:…", in hexadecimal.
    """

    name: str
    url: str
    root: str
    checksum: str | None = None


ATTEMPTS = 5
PAUSE = 1.0  # seconds before the second attempt; each later pause is twice as long
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 16
BY_HAND = "download it yourself, with a browser or from another server, and give prepare.source=FILE"


class _CutOffError(Exception):
    """The server ended the transfer early."""


def obtain(archive: Archive, source: Path | None, output: Path, progress: Progress) -> Path:
    """The folder of a corpus: the user's own copy, or the published one.

    Args:
        archive: the published one, which is downloaded into the user's cache the first time.
        source: a copy in its place: the archive, or a folder with what the archive holds.
        output: where a copy of the archive is unpacked.
        progress: told of the megabytes that have arrived, then of those unpacked.

    Raises:
        DataError: there is no such copy, it can't be unpacked, or the download failed.
    """
    if source is None:
        return fetch(archive, progress) / archive.root
    if not source.exists():
        raise DataError("there is no such file or folder", where=source, expected=f"a copy of {archive.url}")
    folder = source
    if source.is_file():
        folder = output / archive.name
        extract(source, folder, progress)
    return folder / archive.root if (folder / archive.root).is_dir() else folder


def fetch(archive: Archive, progress: Progress) -> Path:
    """An archive's content in the user's cache, downloaded the first time, by one process alone."""
    cache = cache_folder()
    folder = cache / archive.name
    if folder.is_dir():
        return folder
    with one_at_a_time(
        cache / f".{archive.name}.lock", lambda: progress(0, 0, "another process is downloading it")
    ):
        if not folder.is_dir():  # as it is where another process was waited for
            _download_and_unpack(archive, folder, progress)
    return folder


def _download_and_unpack(archive: Archive, folder: Path, progress: Progress) -> None:
    path = download(
        archive.url,
        folder.with_name(f"{archive.name}.tar.gz"),
        archive.checksum,
        lambda done, total: progress(done // MEGABYTE, total // MEGABYTE, "MB"),
    )
    try:
        extract(path, folder, progress)
    except DataError:
        patiently(path, path.unlink)  # damaged: the next run fetches it anew
        raise
    patiently(path, path.unlink)  # used up; an unpacking that was cut off, or found no room, finds it here again


def download(
    url: str, path: Path, checksum: str | None = None, progress: Callable[[int, int], None] = silent
) -> Path:
    """Fetch a file, unless it is here already.

    What has come stays in `<path>.part`, and the next attempt, or the next call, goes on from there if the
    server can (RFC 9110, section 14). `path` itself is there only when it is whole.

    Args:
        url: where from.
        path: where to.
        checksum: the published one, if there is one: "sha256:…" or "md5:…", in hexadecimal.
        progress: called with the bytes that are here, and all bytes, or 0 where the server does not say how many.

    Returns:
        `path`.

    Raises:
        DataError: the server refuses or can't be reached, or the file has another checksum.
        DiskFullError: there is no room for it.
    """
    if path.is_file() and (checksum is None or _checksum(path, checksum) == checksum):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    _fetch(url, part, progress)
    if checksum is not None and (found := _checksum(part, checksum)) != checksum:
        patiently(part, part.unlink)
        raise DataError(f"the download has the checksum {found}", where=url, expected=checksum)
    patiently(path, lambda: part.replace(path))
    return path


def _fetch(url: str, part: Path, progress: Callable[[int, int], None]) -> None:
    """Make `part` whole, in as many attempts as are allowed."""
    for attempt in range(ATTEMPTS):
        if attempt > 0:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            return _fetch_rest(url, part, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code != HTTPStatus.TOO_MANY_REQUESTS:
                refusal = f"the server answered {error.code} {error.reason}"
                raise DataError(refusal, where=url, hint=BY_HAND) from None
            failure = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException, _CutOffError) as error:
            failure = str(getattr(error, "reason", error)) or type(error).__name__
    raise DataError(
        f"the download failed {ATTEMPTS} times, at last with: {failure}",
        where=url,
        hint=f"the same command again: it goes on where this one stopped; without a network, {BY_HAND}",
    )


def _fetch_rest(url: str, part: Path, progress: Callable[[int, int], None]) -> None:
    """One attempt: ask for what is missing of `part`, and append it."""
    done = part.stat().st_size if part.exists() else 0
    # A byte that is here already is asked for again: a range that starts at the end would be refused.
    start = max(done - 1, 0)
    headers = {"User-Agent": "asr", "Accept-Encoding": "identity"}
    if start > 0:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            patiently(part, part.unlink)  # more is here than there: it was another file
            raise _CutOffError("the file on the server has changed") from None
        raise
    length = response.headers.get("Content-Length")
    size = None if length is None else int(length)
    with response, full_disk_in_words(part, size), part.open("ab") as file:
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            start = 0  # the server sends the whole file, whatever was asked for
        file.truncate(start)
        _receive(response, file, start, 0 if size is None else start + size, progress)


def _receive(
    response: http.client.HTTPResponse,
    file: BinaryIO,
    done: int,
    total: int,
    progress: Callable[[int, int], None],
) -> None:
    while block := response.read(BLOCK):
        file.write(block)
        done += len(block)
        progress(done, total)
    # With a block size, http.client does not complain when the body is shorter than its header said.
    if done < total:
        raise _CutOffError(f"the transfer ended after {done} of {total} bytes")


def _checksum(path: Path, like: str) -> str:
    """A file's checksum of the same kind as another one."""
    kind = like.partition(":")[0]
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def extract(archive: Path, folder: Path, progress: Progress = silent) -> None:
    """Unpack a tar archive, compressed or not, as `folder`: whole or not at all.

    Args:
        archive: to unpack.
        folder: to be made.
        progress: told of the megabytes of the archive that are unpacked.

    Raises:
        DataError: the archive is damaged, or has a member that would lie outside (PEP 706).
    """
    size = archive.stat().st_size
    with atomic_path(folder, sync_each=False) as temporary, archive.open("rb") as file:
        temporary.mkdir()

        def watched(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo | None:
            progress(file.tell() // MEGABYTE, size // MEGABYTE, "MB unpacked")
            return tarfile.data_filter(member, place)

        try:
            with tarfile.open(fileobj=file) as tar:
                tar.extractall(temporary, filter=watched)
                while tar.fileobj and tar.fileobj.read(BLOCK):
                    pass  # after the tar's own end stands the file's checksum, which gzip and xz see to
        except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the system; gzip and bz2 call damage an OSError as well, without a number
            raise DataError(f"the archive can't be unpacked ({error})", where=archive) from error
