"""The scripts of benchmarks and measurements: that they can start, which nobody else tries every day."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
PEERS = {"audiomentations", "kenlm", "speechbrain"}
"""What workers import in environments of their own."""

IMPORT = """
import importlib, sys
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in sys.argv[1].split(","):
            raise
        print(name)
"""


def test_all_scripts_can_be_imported() -> None:
    names = sorted(path.stem for path in SCRIPTS.glob("*.py"))
    command = [sys.executable, "-c", IMPORT, ",".join(PEERS), *names]
    done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) - {"augment_peer", "kenlm_worker", "speechbrain_ctc", "speechbrain_worker"}
