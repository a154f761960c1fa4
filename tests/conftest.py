"""Fixtures that several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A deadline for each example would fail on a busy machine, not on a broken program.
settings.register_profile("asr", deadline=None)
settings.load_profile("asr")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real recordings (see CONTRIBUTING.md); tests that need it skip where it is not."""
    named = os.environ.get("ASR_CORPORA")
    folder = Path(named) if named else ROOT.parent / "shared" / "corpora"
    if not folder.is_dir():
        message = f"real recordings are not at hand: {folder} is no folder (set ASR_CORPORA)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
