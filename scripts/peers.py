"""Other people's programs, in environments of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import which

TORCH = ("torch==2.11.0", "torchaudio==2.11.0")
"""As in pyproject.toml: each torchaudio imports beside one torch only."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
"""Variables that keep a process to one thread."""


def environment(folder: Path, packages: Sequence[str]) -> Path:
    """The Python of an environment that holds some packages; it is made unless it is there."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "complete").exists():
        log(f"making {folder} with {', '.join(packages)}")
        uv = which("uv")
        make = (
            [uv, "venv", "--clear", "--python", sys.executable] if uv else [sys.executable, "-m", "venv", "--clear"]
        )
        install = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
        subprocess.run([*make, str(folder)], check=True)
        subprocess.run([*install, *packages], check=True)
        (folder / "complete").touch()
    return python


def log(line: str) -> None:
    """Say what is going on."""
    print(line, file=sys.stderr, flush=True)
