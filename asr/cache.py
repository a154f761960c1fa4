"""Where what can be made or fetched again is kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The folder that the environment variable `ASR_CACHE` names, or asr's in the user's cache folder."""
    named = os.environ.get("ASR_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("asr")
