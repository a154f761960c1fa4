"""Corpora as shards: tar files of many recordings each, read from beginning to end.

Where opening a file is slow, as on network file systems and object storage, a few large files that are read in
sequence serve a training better than many small ones. A shard is a plain tar in the convention of WebDataset
(Aizman et al. 2019): the files of an example follow one another and share a key, their name up to its first dot.
Here they are a recording and a JSON object with its text, its duration and all its fields. The index, which is
the manifest of a sharded corpus, tells where each recording is, so that an epoch is planned without opening a
shard.
"""

from __future__ import annotations

import io
import json
import math
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr import audio
from asr.data.manifest import MEMBER_KEYS, Utterance, write_manifest
from asr.effects.level import within_peak
from asr.errors import AudioError, DataError
from asr.files import atomic_path, is_of_macos
from asr.sound_files import Member

OPEN_SHARDS = 8
"""How many shards an epoch reads side by side."""
_RESERVED = ("audio_filepath", "offset", "duration", "text", *MEMBER_KEYS)
_LONGEST_STEM = 60


# ------------------------------------------------------------------------------------------------ planning


def pools(utterances: Sequence[Utterance], seconds: float, rng: np.random.Generator) -> Iterator[list[int]]:
    """Part a training set into pools that are read one after another, and shuffled each in itself.

    Shards come in random order, `OPEN_SHARDS` at a time, and a pool is what comes next in each of them: every shard
    is read once, in sequence but for the order within a pool. What is in no shard is dealt out among the pools, in
    random order and in proportion, or is one pool where there are no shards. Where the first epoch is to go from
    short to long, each of its pools does: the next one begins with the shortest again.

    Args:
        utterances: the training set.
        seconds: about how much audio a pool of shards holds.
        rng: draws the order of shards, and of what is in none.

    Yields:
        Indices of utterances.
    """
    shards = _by_shard(utterances)
    queue = [shards[index] for index in rng.permutation(len(shards))]
    loose = [index for index, utterance in enumerate(utterances) if utterance.member is None]
    if not shards:
        yield loose
        return
    loose, in_shards = rng.permutation(loose).tolist(), len(utterances) - len(loose)
    pool: list[int] = []
    held, read, dealt = 0.0, 0, 0
    for indices in _rounds(queue):
        read += len(indices)
        due = len(loose) * read // in_shards
        indices += loose[dealt:due]
        dealt = due
        pool += indices
        held += sum(utterances[index].duration for index in indices)
        if held >= seconds:
            yield pool
            pool, held = [], 0.0
    if pool:
        yield pool


def _rounds(queue: list[list[int]]) -> Iterator[list[int]]:
    """What comes next in each of the shards that are read side by side, again and again until all are read."""
    lanes: list[Iterator[int]] = []
    while queue or lanes:
        while queue and len(lanes) < OPEN_SHARDS:
            lanes.append(iter(queue.pop()))
        indices: list[int] = []
        for lane in list(lanes):
            index = next(lane, None)
            if index is None:
                lanes.remove(lane)
            else:
                indices.append(index)
        yield indices


def _by_shard(utterances: Sequence[Utterance]) -> list[list[int]]:
    """The indices of utterances in each shard, in the order in which it holds them."""
    found: dict[Path, list[tuple[int, int]]] = {}
    for index, utterance in enumerate(utterances):
        if utterance.member is not None:
            found.setdefault(utterance.member.archive, []).append((utterance.member.offset, index))
    return [[index for _, index in sorted(found[path])] for path in sorted(found)]


# ------------------------------------------------------------------------------------------------- writing


def write(
    utterances: Sequence[Utterance],
    folder: Path,
    name: str,
    rng: np.random.Generator,
    most_bytes: int | None = None,
    most_utterances: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Utterance]:
    """Pack recordings into shards, in random order: `NAME-000000.tar` and so on, and their index `NAME.jsonl`.

    The same utterances and seed give the same shards, to the bit.

    Args:
        utterances: to pack.
        folder: to make, which is there as a whole or not at all.
        name: of the shards and the index.
        rng: draws the order.
        most_bytes: of a shard, but it holds at least one utterance; or None for no limit.
        most_utterances: in a shard, or None for no limit.
        progress: is told how many are packed.

    Returns:
        The utterances, in the order of the shards, where they now are.

    Raises:
        AudioError: a recording can't be read.
        DataError: a field has a name that the index needs.
        DiskFullError: there is no room for the shards.
    """
    taken = sorted({key for utterance in utterances for key in utterance.fields if key in _RESERVED})
    if taken:
        raise DataError(f"fields with names that the index of shards needs: {', '.join(taken)}", hint="rename them")
    nameless = [str(each.audio) for each in utterances if each.audio.suffix.lower() not in audio.SUFFIXES]
    if nameless:
        raise DataError(
            f"of {len(nameless)} recordings the names do not say what kind of sound they hold",
            where=nameless[0],
            expected="names that end in .wav, .flac or the like",
        )
    order = rng.permutation(len(utterances)).tolist()
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        packed = 0
        paths: list[Path] = []
        while packed < len(order):
            paths.append(temporary / f"{name}-{len(paths):06d}.tar")
            packed += _write_shard(paths[-1], utterances, order[packed:], most_bytes, most_utterances)
            progress(packed)
        index = [utterance for path in paths for utterance in scan(path)]
        write_manifest(temporary / f"{name}.jsonl", index)
    return [_moved(utterance, folder) for utterance in index]


def _write_shard(
    path: Path, utterances: Sequence[Utterance], order: Sequence[int], most_bytes: int | None, most: int | None
) -> int:
    """Write the first utterances of an order into a shard; returns how many."""
    count = 0
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index in order[:most]:
            utterance = utterances[index]
            suffix, content = _recording(utterance)
            if count and most_bytes is not None and tar.offset + len(content) > most_bytes:
                break
            key = _key(index, utterance.audio)
            _add(tar, key + suffix, content)
            fields = {"text": utterance.text, "duration": round(utterance.duration, 4), **utterance.fields}
            _add(tar, key + ".json", json.dumps(fields, ensure_ascii=False).encode())
            count += 1
    return count


def _recording(utterance: Utterance) -> tuple[str, bytes]:
    """Suffix and content of a file with an utterance's sound: as it is, or a stretch as FLAC, mono and 16 bits."""
    suffix = utterance.audio.suffix.lower()
    if utterance.member is not None:
        return suffix, utterance.member.read()
    if utterance.start is not None:
        return ".flac", _cut_out(utterance)
    try:
        return suffix, utterance.audio.read_bytes()
    except OSError as error:
        raise AudioError(f"can't be read: {error.strerror}", where=utterance.audio) from error


def _cut_out(utterance: Utterance) -> bytes:
    rate = audio.read_header(utterance.source).sample_rate
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stretch.flac"
        audio.save(path, within_peak(audio.load(utterance.source, rate)), rate)
        return path.read_bytes()


def _key(index: int, path: Path) -> str:
    """A name that no other utterance has, and that every tar takes: its number in the manifest, and a hint."""
    return f"{index + 1:06d}_{re.sub('[^A-Za-z0-9_-]+', '-', path.stem)[:_LONGEST_STEM]}"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)  # without time and owner: the same corpus gives the same file
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _moved(utterance: Utterance, folder: Path) -> Utterance:
    assert utterance.member is not None
    member = replace(utterance.member, archive=folder / utterance.member.archive.name)
    return replace(utterance, audio=member.archive / member.name, member=member)


# ------------------------------------------------------------------------------------------------- reading


def scan(path: Path) -> Iterator[Utterance]:
    """The utterances in a tar of WebDataset's convention: recordings beside a .json with "text", or a .txt.

    Where no duration is given, it is read from the recording's header.

    Raises:
        DataError: it is no tar, or cut off; keys come twice, a recording has no text or a text no recording.
        AudioError: the duration of a recording can't be read.
    """
    keys: set[str] = set()
    for key, files in _examples(path):
        if key in keys:
            raise DataError(f"two examples have the key {key!r}", where=path, expected="a key of its own for each")
        keys.add(key)
        yield _utterance(path, key, files)


@dataclass(frozen=True)
class File:
    """A file in a tar, with what it holds if it is small: no recording."""

    member: Member
    content: bytes


def _examples(path: Path) -> Iterator[tuple[str, dict[str, File]]]:
    """The files of each example, by suffix: those that follow one another and share a key."""
    key = ""
    files: dict[str, File] = {}
    for file in _files(path):
        folder, slash, name = file.member.name.rpartition("/")
        stem, dot, rest = name.partition(".")
        own, suffix = folder + slash + stem, (dot + rest).lower()
        if own != key or suffix in files:
            if files:
                yield key, files
            key, files = own, {}
        files[suffix] = file
    if files:
        yield key, files


def _files(path: Path) -> Iterator[File]:
    """The files in a tar.

    Raises:
        DataError: it is none, or cut off.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if info.isfile() and not any(map(is_of_macos, info.name.split("/"))):
                    content = tar.extractfile(info) if info.name.lower().endswith((".json", ".txt")) else None
                    member = Member(path, info.name, info.offset_data, info.size)
                    yield File(member, b"" if content is None else content.read())
            end = tar.offset  # of what stands after the last file
    except FileNotFoundError:
        raise DataError("there is no such shard", where=path) from None
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"no tar file, or a damaged one ({error})", where=path, expected="a plain tar") from None
    with path.open("rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise DataError("has been cut off: the end mark of a tar is missing", where=path, hint="copy it again")


def _utterance(path: Path, key: str, files: Mapping[str, File]) -> Utterance:
    sounds = [file.member for suffix, file in files.items() if suffix in audio.SUFFIXES]
    if len(sounds) != 1:
        held = f"{key} has {len(sounds)} recordings (it has {', '.join(files)})"
        raise DataError(held, where=path, expected="one, with its .json or .txt after it or before it")
    try:
        fields = _fields(files)
    except (UnicodeDecodeError, ValueError, TypeError) as error:
        raise DataError(f"the .json or .txt of {key} can't be read ({error})", where=path) from None
    if not isinstance(fields.get("text"), str):
        raise DataError(f"{key} has no text", where=path, expected="a .txt, or a .json with “text”, beside it")
    text, duration = fields.pop("text"), fields.pop("duration", None)
    if type(duration) not in (int, float) or not 0 < duration < math.inf:
        duration = audio.measure(sounds[0]).duration
    return Utterance(path / sounds[0].name, float(duration), text, fields, member=sounds[0])


def _fields(files: Mapping[str, File]) -> dict[str, Any]:
    """What is known of an example, without what only another manifest's place would say."""
    fields: dict[str, Any] = {}
    if ".txt" in files:
        fields["text"] = files[".txt"].content.decode("utf-8").strip()
    if ".json" in files:
        fields |= json.loads(files[".json"].content)
    return {key: value for key, value in fields.items() if key in ("text", "duration") or key not in _RESERVED}
