"""Functions that numba compiles."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from asr.cache import cache_folder

Function = TypeVar("Function", bound=Callable[..., object])

Records = NDArray[np.void]
"""An array of records, whose fields compiled functions see as attributes."""


def compiled(function: Function) -> Function:
    """Compile a function at its first call, and keep the machine code for later processes.

    It runs without Python's global lock. Where no folder can be written, each process compiles anew.
    """
    return cast(Function, _cached(numba.njit(nogil=True, error_model="numpy")(function)))


def kernel(function: Function) -> Function:
    """As `compiled`, for a function that makes no arrays; it is written into each place where another calls it.

    It counts no references to the arrays that it is given, which would take longer than the work in inner loops,
    and make threads that share arrays wait for one another.
    """
    return _inlined(function, fastmath=False)


def arithmetic(function: Function) -> Function:
    """As `kernel`, for sums over arrays, whose order may change so that they are done many at a time.

    No number in them may be NaN.
    """
    return _inlined(function, fastmath={"reassoc", "contract", "nsz", "nnan"})


def _inlined(function: Function, fastmath: bool | set[str]) -> Function:
    options = {"nogil": True, "error_model": "numpy", "forceinline": True, "_nrt": False, "fastmath": fastmath}
    return cast(Function, _cached(numba.njit(**options)(function)))


def _cached(dispatcher: numba.core.dispatcher.Dispatcher) -> object:
    """Keep what is compiled.

    Numba looks at a function's own source file only, and does not notice when one that it calls has changed. So the
    folder is named after all sources that use this module.
    """
    folder, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(_folder())  # which enable_caching reads
    try:
        dispatcher.enable_caching()
    except RuntimeError:
        pass  # no folder can be written
    finally:
        numba.config.CACHE_DIR = folder
    return dispatcher


@cache
def _folder() -> Path:
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py"))]
    digest = hashlib.sha256(b"".join(source for source in sources if b"asr.compiled" in source))
    parent = os.environ.get("NUMBA_CACHE_DIR") or cache_folder() / "compiled"
    return Path(parent) / digest.hexdigest()[:16]
