"""`asr data`: recordings and their manifests."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Manifests, shards, synthesised speech, augmentation.")
