"""Memory that is not there is refused, not promised."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from asr.training import headroom

GIB = 2**30

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux promises what it does not have")


def machine(folder: Path, free: int, groups: str) -> tuple[Path, Path]:
    """Folders as Linux shows processes and control groups."""
    (folder / "proc" / "self").mkdir(parents=True)
    (folder / "proc" / "meminfo").write_text(
        f"MemTotal: 1 kB\nMemAvailable:  {free // 1024} kB\nHugePages_Total:\n"
    )
    (folder / "proc" / "self" / "cgroup").write_text(groups)
    return folder / "proc", folder / "groups"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def test_without_limits_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert headroom.available(*machine(tmp_path, 3 * GIB, "0::/user\n")) == 3 * GIB


def test_the_narrowest_of_all_control_groups_counts(tmp_path: Path) -> None:
    proc, groups = machine(tmp_path, 9 * GIB, "0::/job/step\n")
    statistics = f"anon 5\ninactive_file {GIB}\n"
    write(
        groups,
        {
            "job/step/memory.max": "max\n",
            "job/step/memory.current": f"{GIB}\n",
            "job/step/memory.stat": statistics,
            "job/memory.max": f"{4 * GIB}\n",
            "job/memory.current": f"{3 * GIB}\n",
            "job/memory.stat": statistics,
        },
    )
    assert headroom.available(proc, groups) == 2 * GIB
    write(groups, {"job/memory.current": f"{6 * GIB}\n"})
    assert headroom.available(proc, groups) == 0


def test_control_groups_of_version_1_count_too(tmp_path: Path) -> None:
    proc, groups = machine(tmp_path, 9 * GIB, "7:cpu:/a\n4:memory:/seen/only/outside\n0::/\n")
    write(
        groups,
        {
            "memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "memory/memory.usage_in_bytes": f"{GIB}\n",
            "memory/memory.stat": "cache 9\ntotal_inactive_file 0\n",
        },
    )
    assert headroom.available(proc, groups) == GIB


def test_other_systems_do_not_tell(tmp_path: Path) -> None:
    assert headroom.available(tmp_path / "proc", tmp_path / "groups") is None


def test_this_machine_tells() -> None:
    """No more than is free, and than its control groups leave; what others take meanwhile aside."""
    (free,) = re.findall(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    left = headroom.available()
    assert left is not None and 0 < left < 1.2 * 1024 * int(free)


ALLOCATE = """
import torch
from asr.training import headroom, memory
headroom.available = lambda: 400 * 2**20

def fits(mebibytes):
    try:
        torch.empty(mebibytes, 2**18).fill_(1.0)
    except RuntimeError as error:
        assert memory.is_lack_of_memory(error), error
        return False
    return True

with headroom.limited():
    print(fits(100), fits(800))
with headroom.limited(processes=8):
    print(fits(100))
with headroom.limited(readers=1):
    print(fits(100), fits(200))
with headroom.limited(readers=50):
    print(fits(80), fits(200))
print(fits(800))
"""


def test_what_is_not_there_fails_within_the_block_alone() -> None:
    command = [sys.executable, "-c", ALLOCATE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False", "True", "False", "True", "False", "True"]
