"""Starting several processes of this program on this machine, as torchrun does, and seeing them to their end.

Unlike torchrun it gives an interrupted training the time that it needs to save, and says nothing of its own unless
it has to.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from asr import stop_signals
from asr.errors import AsrError

GRACE = 30.0
"""Seconds for the others to end when one has failed."""
_POLL = 0.1  # seconds
_LAUNCHED = "ASR_LAUNCHED"  # in the environment of the processes


def world_size() -> int:
    """How many processes this one was started with, itself among them: here, by torchrun, or 1."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class KilledProcessError(AsrError):
    """A process was killed from outside."""


def launch(count: int) -> int:
    """Run the command of this process again, in so many processes, and wait for them.

    Signals are handed on to them, but on Windows, where the console tells all of its processes. When one fails, the
    others end too; those that do not, perhaps since they wait for it inside a GPU's library, are killed. Where this
    process itself is killed, they notice: see `end_with_launcher`.

    Returns:
        The exit code: that of the first to fail or, of processes that were interrupted, the highest; or 0.

    Raises:
        KilledProcessError: the first to fail was killed.
    """
    port = _free_port()
    processes: list[subprocess.Popen[bytes]] = []
    with _pipe() as inlet, _handing_on_signals(processes) as signals:
        for rank in range(count):
            who = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment = {name: str(value) for name, value in {**who, **where, _LAUNCHED: 1}.items()}
            # Of the one that failed first torch would say, in those that miss it, that it is gone, with backtraces.
            environment["TORCH_CPP_LOG_LEVEL"] = os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR")
            processes.append(
                subprocess.Popen(
                    [sys.executable, *sys.orig_argv[1:]],
                    env={**os.environ, **environment},
                    stdin=inlet,
                    start_new_session=True,  # a terminal's Ctrl-C would come twice, and the second stops at once
                )
            )
        failed = _first_to_fail(processes)
        if failed is None:
            return 0
        _end(processes)
    code = processes[failed].returncode
    if signals:  # which not all need have seen: some only miss the others
        codes = [process.returncode for process in processes]
        return max(code if code >= 0 else 128 - code for code in codes)
    if code < 0:
        name = signal.Signals(-code).name
        if code == -signal.SIGABRT:
            hint = "see what it wrote; NCCL ends so a process that has waited for another one for half an hour"
        else:
            hint = (
                "was there enough memory? with fewer processes, or a smaller training.batch_seconds, less is needed"
            )
        raise KilledProcessError(f"process {failed + 1} of {count} was killed by {name}", hint=hint)
    return code


def end_with_launcher() -> None:
    """In a process that `launch` has started: be told to stop, by SIGTERM, when the launcher is no more.

    One that was killed can tell nobody, and the processes would train on unseen.
    """
    if os.environ.pop(_LAUNCHED, None) is None:
        return

    def watch() -> None:
        os.read(0, 1)  # it never writes: this is the end of its pipe
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=watch, name="launcher", daemon=True).start()


@contextmanager
def _pipe() -> Iterator[int]:
    """The end to read of a pipe whose other end this process alone has, as long as it is there."""
    inlet, outlet = os.pipe()
    try:
        yield inlet
    finally:
        os.close(inlet)
        os.close(outlet)


def _first_to_fail(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait until a process has failed, and tell which, or until all are done."""
    while True:
        codes = [process.poll() for process in processes]
        for rank, code in enumerate(codes):
            if code:
                return rank
        if None not in codes:
            return None
        time.sleep(_POLL)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _handing_on_signals(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Send each signal that would end this process to the others instead, and collect them."""
    signals: list[int] = []

    def hand_on(number: int, _: object) -> None:
        signals.append(number)
        if os.name == "nt":
            return  # the console has told all of its processes, and nobody else can
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    with stop_signals.handled_by(hand_on):
        yield signals


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
