"""Files and folders: written so that none is ever half there, locked, listed, fingerprinted; errors in words."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from filelock import FileLock, Timeout

from asr.errors import AsrError, ConfigError, DataError, DiskFullError

WAIT_FOR_OTHERS = 10.0
"""Seconds in which another process may leave a folder."""
WAIT_FOR_SCANNERS = 5.0
"""Seconds in which a virus scanner or an indexer of Windows may leave a file."""
LOCK = ".lock"
"""In a folder: the file on which its only writer has a claim."""
PARTIAL = ".partial-"
"""In the names of hidden folders that hold what is not whole yet; killed processes leave theirs behind."""

ResultT = TypeVar("ResultT")

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # as network file systems say it
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # Windows has no quotas


@contextmanager
def atomic_path(path: Path, size: int | None = None, sync_each: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what is written there takes its place when the block succeeds.

    Works for a file and for a folder (create it at the yielded path). A folder replaces an existing one as a
    whole; where a link stands, it stays, and what it leads to is replaced. When the block raises, `path` is left as
    it was. Afterwards, a power cut undoes nothing: what was written is on the disk before it gets its name, and the
    name before this returns.

    Args:
        path: to be written.
        size: bytes to be written, if they are known, for the error.
        sync_each: wait for each file in a folder to be on the disk, which takes an hour for 100,000; else for all
            that the system has to write, at once, and on Windows, which has no call for it, for none of them.

    Raises:
        DiskFullError: there is no room for it.
    """
    with full_disk_in_words(path, size):
        if path.is_symlink():
            path = real_path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = _holder(path)
        temporary, previous = holder / path.name, holder / ("before" if path.name == "previous" else "previous")
        try:
            yield temporary
            if sync_each:
                for each in (*temporary.rglob("*"), temporary):
                    _sync(each)
            elif sys.platform != "win32":
                os.sync()
            if temporary.is_dir() and path.is_dir():
                patiently(path, lambda: path.rename(previous))
            patiently(path, lambda: temporary.replace(path))
            _sync(path.parent)
        finally:
            if previous.exists() and not path.exists():  # Windows replaces no folder in which a file is open
                patiently(path, lambda: previous.rename(path))
            shutil.rmtree(holder, ignore_errors=True)


def patiently(path: Path, act: Callable[[], ResultT]) -> ResultT:
    """Do what Windows refuses with a file or folder that others have open, as virus scanners do with all new ones.

    Raises:
        PermissionError: they still have it open after some seconds, or, elsewhere, at once.
    """
    end = time.monotonic() + WAIT_FOR_SCANNERS
    while True:
        try:
            return act()
        except PermissionError as error:
            if sys.platform != "win32":
                raise
            if time.monotonic() > end:
                fault = "it may be open in another program: close it, then run the same command again"
                raise PermissionError(error.errno, fault, str(path)) from error
        time.sleep(0.1)


@contextmanager
def full_disk_in_words(path: Path, size: int | None = None) -> Iterator[None]:
    """Raise a `DiskFullError` where the block finds no room to write a file of so many bytes."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        needed = "" if size is None else f"{_megabytes(size)} are needed, "
        free = _megabytes(shutil.disk_usage(nearest_existing(real_path(path))).free)
        raise DiskFullError(
            f"there is no room to write it ({str(error.strerror).lower()}): {needed}{free} are free",
            where=path,
            hint="free some space, then run the same command again",
        ) from error
    except DiskFullError as error:  # of a file in the folder that this is
        raise DiskFullError(error.what, where=path, hint=error.hint) from error


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there, as a whole: killed on the way, this leaves no part of it under its name."""
    if path.is_dir():
        holder = _holder(path)
        patiently(path, lambda: path.rename(holder / path.name))
        patiently(path, lambda: shutil.rmtree(holder))


def _holder(path: Path) -> Path:
    """A new hidden folder beside a path, for what is to take or leave its place."""
    start = path.name[:40]  # of a name that may be as long as names can be, which are 255 bytes
    return Path(tempfile.mkdtemp(prefix=f".{start}{PARTIAL}", dir=path.parent))


def real_path(path: str | Path) -> Path:
    """Where a path leads to. A link that leads to itself leads nowhere else; `Path.resolve` raises for it."""
    return Path(os.path.realpath(path))


def clear_folder(folder: Path, keep: str) -> None:
    """Remove what is in a folder whose only writer this is, but for the file that tells what folder it is.

    Killed on the way, this leaves next to nothing half removed under its name.
    """
    holder = Path(tempfile.mkdtemp(prefix=f".old{PARTIAL}", dir=folder))
    for path in folder.iterdir():
        if path.name not in (LOCK, keep, holder.name):
            patiently(path, partial(path.rename, holder / path.name))
    patiently(folder, lambda: shutil.rmtree(holder))


def is_of_others(folder: Path, mark: str) -> bool:
    """Whether a folder holds something, but not the file that its own writers put there first."""
    return (
        folder.exists()
        and not (folder / mark).is_file()
        and any(path.name != LOCK and PARTIAL not in path.name for path in folder.iterdir())
    )


def refuse_folder_of_others(folder: Path, mark: str, whose: str, hint: str = "another --run-dir") -> None:
    """Make sure that a folder is not that of others.

    Args:
        folder: which need not be there.
        mark: the file that its own writers put there first.
        whose: folder it should be, for the message.
        hint: what to do.

    Raises:
        ConfigError: it is.
    """
    if is_of_others(folder, mark):
        raise ConfigError(f"this is not the folder of {whose}", where=folder, hint=hint)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, made if it is not there, that want to be its only writer too.

    The system ends the claim with the process, however that ends; a loader's processes, which share it, outlive a
    killed one by seconds, which are waited for. File systems that know no locks keep nobody out.

    Raises:
        ConfigError: another one is there.
    """
    try:
        with full_disk_in_words(folder):
            folder.mkdir(parents=True, exist_ok=True)
            claim = _claim(folder / LOCK, WAIT_FOR_OTHERS)
    except Timeout:
        hint = "wait until it has ended, or take another --run-dir"
        raise ConfigError("another asr is at work in this folder", where=folder, hint=hint) from None
    try:
        yield
    finally:
        claim.release()


@contextmanager
def one_at_a_time(lock: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Run the block once no other process is in the block of this lock, as far as the file system knows locks.

    Args:
        lock: a file that stands for the block; it may stay behind.
        waiting: called once if another process is there, which is waited for.
    """
    with full_disk_in_words(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            claim = _claim(lock, timeout=0)
        except Timeout:
            waiting()
            claim = _claim(lock, timeout=-1)
    try:
        yield
    finally:
        claim.release()


def _claim(path: Path, timeout: float) -> FileLock:
    """A lock that is held, unless the file system has none; for -1 seconds is waited without end."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout)
    except OSError as error:  # a Timeout too, which has no number
        if error.errno not in _NO_LOCKS:
            raise
    return lock


def remove_partial(folder: Path) -> None:
    """Remove what writers that were killed left below a folder, to which nobody else writes now."""
    for path in list(folder.rglob(f".*{PARTIAL}*")):
        shutil.rmtree(path, ignore_errors=True)


def files_in(folder: Path) -> Iterator[Path]:
    """All files in a folder and in those within it, sorted; links are followed, but not back to where they are.

    What macOS leaves beside the files of others, `._*` and `__MACOSX`, is not among them.

    Raises:
        DataError: a folder can't be read; one that is not there holds nothing.
    """
    return _walk(folder, frozenset()) if folder.is_dir() else iter(())


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        return
    try:
        entries = sorted(entry for entry in folder.iterdir() if not is_of_macos(entry.name))
        for entry in entries:
            if entry.is_dir():
                yield from _walk(entry, above | {real})
            elif entry.is_file():
                yield entry
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}", where=error.filename or folder) from error


def is_of_macos(name: str) -> bool:
    """Whether a file or folder holds what only macOS keeps of another, under that one's name, suffix and all."""
    return name.startswith("._") or name == "__MACOSX"


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    posix = os.name == "posix"
    if path.is_dir() and not posix:
        return  # Windows has no call for it
    descriptor = patiently(path, lambda: os.open(path, os.O_RDONLY if posix else os.O_RDWR))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def nearest_existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(each for each in (path, *path.parents) if os.path.lexists(each))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(path, len(content)) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically, with "\\n" line ends on every platform."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically. Non-finite numbers are refused: JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote.

    Raises:
        OSError: it can't be read.
        ValueError: it is damaged: not UTF-8, not JSON, or with numbers that JSON doesn't have.
    """
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)


def read_record(path: Path) -> dict[str, Any]:
    """Read the mapping that `write_json` wrote; empty where the file is not there, or damaged."""
    try:
        found = read_json(path)
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits that identify a JSON-able value, whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    # Names of files, which are all that is known of some folders, need not be UTF-8.
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()[:16]


def contents(source: Path) -> str | list[tuple[str, int]]:
    """What tells a file, or a folder of files, from what it was before: the content, or all names and sizes.

    Raises:
        OSError, DataError: it can't be read; a folder that is not there holds nothing.
    """
    if source.is_file():
        return file_fingerprint(source)
    return [(path.relative_to(source).as_posix(), path.stat().st_size) for path in files_in(source)]


def missing_files(paths: Iterable[Path]) -> list[str]:
    """Those of the paths at which there is no file; of folders it is said that they are some."""
    return [f"{path} (a folder)" if path.is_dir() else str(path) for path in paths if not path.is_file()]


def file_fingerprint(path: Path) -> str:
    """Sixteen hexadecimal digits that identify a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, or of a pipe: what gzip has compressed, whatever its name is, or what stands there."""
    with path.open("rb") as file:
        if file.peek(2)[:2] == b"\x1f\x8b":
            with gzip.open(file) as content:
                yield cast(BinaryIO, content)
        else:
            yield file


@contextmanager
def unreadable_in_words(
    path: Path, expected: str | None = None, *, kind: str = "file", error: type[AsrError] = DataError
) -> Iterator[None]:
    """Raise an error for the user where the block can't read a file: it isn't there, or is damaged.

    Args:
        path: of the file.
        expected: what it should be.
        kind: what to call it if it is not there.
        error: to raise.
    """
    try:
        yield
    except FileNotFoundError:
        raise error(f"there is no such {kind}", where=path, expected=expected) from None
    except IsADirectoryError:
        raise error("this is a folder", where=path, expected=expected) from None
    except UnicodeDecodeError as fault:
        raise error(f"byte {fault.start} is not UTF-8", where=path, hint="save it as UTF-8") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as fault:
        raise error(f"gzip can't read it: {fault}", where=path, hint="copy the file again") from None


def read_text(
    path: Path, expected: str | None = None, *, kind: str = "file", error: type[AsrError] = DataError
) -> str:
    """The text of a UTF-8 file, without a byte-order mark; errors as in `unreadable_in_words`."""
    with unreadable_in_words(path, expected, kind=kind, error=error):
        return path.read_text(encoding="utf-8-sig")
