"""`python -m asr` is the command `asr`."""

from __future__ import annotations

from asr.cli import main

main()
