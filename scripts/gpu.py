"""How busy a GPU is while something runs, and how much of its memory torch takes."""

from __future__ import annotations

import subprocess
from statistics import mean

import torch

QUERY = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=500"]


class Watch:
    """From `start` to `stop`; on a CPU there is nothing to see.

    Args:
        device: where the network is.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.samples: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Begin to look, every half second."""
        if self.device.type != "cuda":
            return
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats(self.device)
        # nvidia-smi counts all GPUs, torch those that CUDA_VISIBLE_DEVICES leaves.
        identity = f"--id=GPU-{torch.cuda.get_device_properties(self.device).uuid}"
        self.samples = subprocess.Popen([*QUERY, identity], stdout=subprocess.PIPE, encoding="utf-8")

    def stop(self) -> dict[str, float]:
        """What was seen: the share of the time in which the GPU was at work, and the most memory, in GiB."""
        if self.samples is None:
            return {}
        torch.cuda.synchronize()
        self.samples.terminate()
        said, _ = self.samples.communicate()
        busy = [float(line) / 100 for line in said.splitlines() if line.strip().isdecimal()]
        return {
            "busy": mean(busy) if busy else float("nan"),
            "peak_gib": torch.cuda.max_memory_allocated(self.device) / 2**30,
        }
