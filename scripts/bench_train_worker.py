"""Train for some epochs, by asr or in a bare loop, and say how fast: `bench_train.py` starts it.

The last line that it prints is JSON: the seconds of audio that were learnt from in a second, as "speed"; on a GPU
also the share of the time in which that was at work, and the most memory that was taken.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import peers
import torch
from gpu import Watch

from asr import pipeline, recipe_file, stages
from asr.data.loading import Batch
from asr.model.ctc import ctc_loss
from asr.reporting import Silent
from asr.training import acoustic, log
from asr.training.acoustic import AcousticTask, Job
from asr.training.optimization import needs_scaling, resolve_precision


def main() -> None:
    """Do what the first argument says."""
    task = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        job = new_job(task, Path(folder))
        clock = time.process_time if task.get("processor_time") else time.perf_counter
        watch = Watch(next(job.acoustic.parameters()).device)
        if task["tool"] == "asr":
            speed = by_asr(job, watch)
        else:
            speed = in_a_bare_loop(job, clock, watch, task.get("reading", False))
    print(json.dumps({"speed": speed, **watch.stop()}))


def new_job(task: dict[str, Any], folder: Path) -> Job:
    """A training of one epoch more than are measured."""
    wanted = recipe_file.read_recipe(
        Path(task["recipe"]),
        [
            f"training.epochs={task['epochs'] + 1}",
            f"training.threads={task['threads']}",
            f"training.precision={task['precision']}",
        ],
    )
    work = pipeline.workspace(wanted, folder, Path(task["data"]), Silent())
    stages.prepare(work)
    stages.tokens(work)
    return stages.training_job(work)


def by_asr(job: Job, watch: Watch) -> float:
    """As `asr train` does it; the log tells the time of each epoch, without that of the dev set."""

    def begin(epoch: int, _: object) -> None:
        if epoch == 1:
            watch.start()

    acoustic.train(replace(job, on_epoch=begin), Silent())
    entries = log.read(job.folder)[1:]
    audio, seconds, waiting = (
        sum(entry[key] for entry in entries) for key in ("audio_seconds", "seconds", "seconds_waiting_for_data")
    )
    peers.log(f"{waiting / seconds:.1%} of {seconds:.1f} s were spent waiting for data")
    return float(audio / seconds)


def in_a_bare_loop(job: Job, clock: Callable[[], float], watch: Watch, reading: bool) -> float:
    """Features of all batches in memory; forward, loss, backward, clipping and step, and nothing else.

    With `reading`, the same batches are read beside it, as they are for asr, and thrown away.
    """
    settings = job.settings
    assert settings.threads is not None
    torch.set_num_threads(settings.threads)
    task = AcousticTask(replace(job, workers=0))
    device = task.device
    precision = resolve_precision(settings.precision, device)
    epochs = [
        [with_features(batch, device, job) for batch in task.epoch(number, 0).batches]
        for number in range(1, settings.epochs + 1)
    ]
    on_gpu = device.type == "cuda"
    scaler = torch.amp.grad_scaler.GradScaler(device.type, enabled=needs_scaling(precision, device))
    model = job.acoustic.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    started, seconds = 0.0, 0.0
    beside = AcousticTask(job)
    for number, batches in enumerate(epochs):
        read = beside.epoch(number + 1, 0).batches if reading else repeat(None)
        if number == 1:
            watch.start()
            started = clock()
        for (batch, frames), _ in zip(batches, read, strict=False):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                log_probs, _ = model(batch.inputs, batch.lengths)
            loss = ctc_loss(log_probs, frames, batch.targets, batch.target_lengths).mean
            torch.autograd.backward(scaler.scale(loss))
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or float("inf"))
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            if number:
                seconds += sum(sample.duration for sample in batch.samples)
    if on_gpu:
        torch.cuda.synchronize()
    return seconds / (clock() - started)


def with_features(batch: Batch, device: torch.device, job: Job) -> tuple[Batch, torch.Tensor]:
    """The batch on a device, with features where it has waveforms, and the network's frames for it on the CPU."""
    on_device = batch.to(device)
    inputs, lengths = on_device.features(job.extractor)
    frames = job.acoustic.output_length(batch.frames(job.extractor))
    return replace(on_device, inputs=inputs, lengths=lengths, masks=()), frames


if __name__ == "__main__":
    main()
