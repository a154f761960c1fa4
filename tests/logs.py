"""What trainings have logged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def log(folder: Path) -> list[dict[str, Any]]:
    """Of each epoch, its figures."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def without_times(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Which are never the same twice."""
    return [{key: value for key, value in entry.items() if not key.startswith("seconds")} for entry in entries]
