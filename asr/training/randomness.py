"""Torch's generators, from which dropout draws: the state to go on from, in each of several processes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]


def state(device: torch.device) -> State:
    """The states of this process's generators: the CPU's, and that of the device it trains on."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore(states: Sequence[State], device: torch.device, rank: int, size: int, step: int) -> str | None:
    """Go on from the states that so many processes had, if this is one of as many, on such a device.

    Args:
        states: of each process.
        device: to train on.
        rank, size: of this process, and how many there are now.
        step: at which this is; if anything is not as it was, fresh states follow from it and the seed.

    Returns:
        What is not as it was; None if all will be drawn as if nothing had happened.
    """
    if len(states) != size:
        separate(rank, step)
        return f"{len(states)} processes before, {size} now"
    own, on_gpu = states[rank], device.type == "cuda"
    if ("cuda" in own) != on_gpu:
        separate(rank, step)
        return "on a CPU before, on a GPU now" if on_gpu else "on a GPU before, on a CPU now"
    torch.set_rng_state(own["cpu"])
    if on_gpu:
        torch.cuda.set_rng_state(own["cuda"], device)
    return None


def separate(rank: int, step: int) -> None:
    """Seed the generators anew, from the seed that they had, so that no two processes and steps draw the same."""
    seeds = np.random.SeedSequence([torch.initial_seed(), rank, step])
    torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
