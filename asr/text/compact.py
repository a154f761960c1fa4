"""Arrays in one file that is mapped into memory, so that it is there at once, however large.

The file is a safetensors one (https://huggingface.co/docs/safetensors): the length of a header in eight bytes, the
header in JSON, and the arrays.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as to_safetensors

from asr.errors import DataError
from asr.files import atomic_path

_DTYPES = {"I64": np.int64, "I32": np.int32, "F32": np.float32, "F16": np.float16, "U8": np.uint8}


def save(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write arrays of one dimension, and what is to be known of them, atomically: the same bytes each time."""
    content = memoryview(to_safetensors(dict(arrays), dict(metadata)))
    begin = 8 + int.from_bytes(content[:8], "little")
    header = _sorted(bytes(content[8:begin]))
    with atomic_path(path, len(content)) as temporary, temporary.open("wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        file.write(content[begin:])


def _sorted(header: bytes) -> bytes:
    """The same header, in which safetensors has written the metadata in any order, in that of the names.

    Spaces fill it up to eight bytes, as those of safetensors do, so that the arrays are aligned.
    """
    text = json.dumps(json.loads(header), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def is_compact(path: Path) -> bool:
    """Whether a file looks like one of these."""
    with path.open("rb") as file:
        return file.read(9)[4:] == b"\0\0\0\0{"  # a header of less than 4 GiB


def metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, whatever its arrays are.

    Raises:
        DataError: it is damaged.
    """
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return {str(name): str(value) for name, value in header.get("__metadata__", {}).items()}
    except (ValueError, AttributeError) as error:
        raise DataError(f"the file is damaged: {error!r}", where=path, hint="copy or make it again") from None


def load(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """The metadata and the arrays of a file.

    Nothing that is written into the arrays reaches the file. (They can be written because compiled functions are
    compiled anew for arrays that can't.)

    Raises:
        DataError: it is damaged.
    """
    try:
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        begin = 8 + int.from_bytes(memory[:8], "little")
        header = json.loads(memory[8:begin])
        metadata = {str(name): str(value) for name, value in header.pop("__metadata__").items()}
        return metadata, {name: _array(memory, begin, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"the file is damaged: {error!r}", where=path, hint="copy or make it again") from None


def _array(memory: mmap.mmap, begin: int, entry: Mapping[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    start, stop = entry["data_offsets"]
    return np.frombuffer(memory, dtype, (stop - start) // dtype.itemsize, begin + start)
