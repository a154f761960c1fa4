"""A program for the tests: run a recipe in processes that are cut off, one after another.

    python cut_off.py SEED RECIPE TEXT FOLDER [SETTING]...

FOLDER gets a run that is not cut off, "uninterrupted", and three that are, each in another way; and the same again
of a language model, as .safetensors:

    time        SIGPROF at a random moment, which is no more heeded than SIGKILL
    operation   SIGKILL before a random change to the file system
    full        no room on the disk, from a random write on

After `CUTS` of them the next process is left alone. All are forked from one that has imported everything. Prints a
line of JSON: for each way, what the processes that were cut off said of a full disk.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from asr import pipeline
from asr.cli import lm_train
from asr.errors import DiskFullError
from asr.files import PARTIAL
from asr.recipe_file import read_recipe
from asr.reporting import Silent

CUTS = 8
FULL = 3


def writes(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event is one that needs room on the disk."""
    if event == "open":
        return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and arguments[0] != os.devnull
    return event == "os.mkdir"


def changes(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event is a change to the file system; folders are made and files removed by these too."""
    return writes(event, arguments) or event in ("os.rename", "os.remove", "os.rmdir")


def from_the(number: int, kind: Callable[[str, tuple[Any, ...]], bool], act: Callable[[], None]) -> None:
    """Act before an operation of a kind, and before all that follow it."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if kind(event, arguments):
            seen += 1
            if seen >= number:
                act()

    sys.addaudithook(hook)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def child(run: Callable[[], None], pipe: int) -> None:
    try:
        run()
    except DiskFullError as error:
        os.write(pipe, str(error).encode())
        os._exit(FULL)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def attempt(how: str, number: int, seconds: float, run: Callable[[], None]) -> tuple[int, str]:
    """Run a process, cut off at an operation or after a while; returns its code, and what it said if `FULL`."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        if how == "time":
            signal.setitimer(signal.ITIMER_PROF, seconds)  # of the processor's: how busy it is does not matter
        elif how == "operation":
            from_the(number, changes, kill)
        elif how == "full":
            from_the(number, writes, refuse)
        child(run, writer)
    os.close(writer)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with os.fdopen(reader, "rb") as pipe:
        return status, pipe.read().decode()


def cut_off(
    how: str, rng: random.Random, most: int, longest: float, folder: Path, run: Callable[[], None]
) -> list[str]:
    """Processes until one runs through, the others cut off at operations up to `most`; returns what these said."""
    said: list[str] = []
    while True:
        way = how if len(said) < CUTS else "not at all"
        # The first ones soon, so that there are several.
        seconds = rng.uniform(0, longest * min((len(said) + 1) / 4, 1))
        status, message = attempt(way, rng.randint(1, most), seconds, run)
        if status == 0:
            return said
        assert status in (-signal.SIGKILL, -signal.SIGPROF, FULL), f"a process ended with {status}"
        if status == FULL:
            assert not list(folder.rglob(f"*{PARTIAL}*")), "a full disk left something half made"
        said.append(message)


def main(seed: str, recipe: str, text: str, folder: str, *settings: str) -> None:
    torch.set_num_threads(1)
    resolved = read_recipe(Path(recipe), settings)

    def train(name: str) -> None:
        pipeline.run(resolved, Path(folder) / name, Path(folder) / "data" / name, Silent())

    def train_lm(name: str) -> None:
        out = Path(folder) / f"{name}.safetensors"
        if not out.exists():
            small = {"hidden": 8, "embedding": 8, "epochs": 4, "threads": 1, "device": "cpu"}
            lm_train.train([text], out, run_dir=Path(folder) / f"lm-{name}", **small)

    rng = random.Random(int(seed))
    said = {}
    for run, most, ways in ((train, 100, ("time", "operation", "full")), (train_lm, 25, ("operation", "full"))):
        run("imports")
        started = time.process_time()
        run("uninterrupted")
        longest = (time.process_time() - started) / 2
        for how in ways:
            said[f"{run.__name__} {how}"] = cut_off(how, rng, most, longest, Path(folder) / how, partial(run, how))
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
