"""`asr doctor`: what works here."""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer


def doctor() -> None:
    """Show versions, devices and optional parts, and test that asr works here.

    The self-test trains a tiny model for some seconds. The exit code is 1 when it fails.
    """
    from asr import doctor as examination

    typer.echo("Versions")
    for name, version in examination.versions().items():
        typer.echo(f"  {name:14} {version}")
    typer.echo("\nDevices")
    for device in examination.devices():
        typer.echo(f"  {device}")
    typer.echo("\nOptional parts")
    for part in examination.optional_parts():
        state = f"✓ {part.name} {part.version}" if part.version else f"– {part.name} missing: {part.install}"
        typer.echo(f"  {state}\n      {part.purpose}")
    typer.echo("\nSelf-test")
    healthy = True
    with tempfile.TemporaryDirectory() as folder:
        for check in examination.self_test(Path(folder)):
            healthy = check.fault is None
            typer.echo(f"  {'✓' if healthy else '✗'} {check.name} ({check.seconds:.1f} s)")
            if check.fault:
                typer.echo("      " + check.fault.replace("\n", "\n      "))
    typer.echo("\nAll is well." if healthy else "\nSomething is broken.")
    if not healthy:
        raise typer.Exit(1)
