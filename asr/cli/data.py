"""`asr data`: corpora."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Bring corpora into shape.")
