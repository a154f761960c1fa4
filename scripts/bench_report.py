"""Tables and a plot of what `bench_decoders.py` has measured: FOLDER/results.json → .md, .csv and .png.

    FOLDER/peers/bin/python scripts/bench_report.py FOLDER

Times at equal word error rate are read off each decoder's best trade-offs: of its beams, those that no other one
beats in both. Between two of them the logarithm of the time is taken to be linear in the word error rate; above the
greatest word error rate among them, the quickest counts.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TOLERANCE = 0.0005
"""The lowest word error rate that two decoders reach is missed by this much, lest one error more decide."""
LEVELS = 50
COLOURS = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#CC79A7")  # Okabe & Ito 2008
MARKERS = "osD^vP"


class Point(NamedTuple):
    """A decoder at one beam: error rate, and microseconds for a frame: median, least and most of the rounds."""

    task: str
    decoder: str
    beam: int
    micros: float
    least: float
    most: float
    wer: float


def points(rows: Iterable[dict[str, Any]]) -> list[Point]:
    """One for each task, decoder and beam, in the order in which they were measured."""
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["decoder"], row["beam"]), []).append(row)
    return [point(*key, members) for key, members in groups.items()]


def point(task: str, decoder: str, beam: int, rounds: Sequence[dict[str, Any]]) -> Point:
    """Put the rounds together."""
    micros = [row["seconds"] / row["frames"] * 1e6 for row in rounds]
    errors = sum(row["errors"] for row in rounds) / sum(row["words"] for row in rounds)
    return Point(task, decoder, beam, float(np.median(micros)), min(micros), max(micros), errors)


def trade_offs(beams: Iterable[Point]) -> list[Point]:
    """Those that no other beats in both time and word error rate, the slowest and best first."""
    kept: list[Point] = []
    for candidate in sorted(beams, key=lambda beam: (beam.micros, beam.wer)):
        if not kept or candidate.wer < kept[0].wer:
            kept.insert(0, candidate)
    return kept


def micros_at(rate: float, curve: Sequence[Point]) -> float:
    """The time for a frame that a word error rate costs, along the trade-offs."""
    logarithms = np.log([beam.micros for beam in curve])
    return float(np.exp(np.interp(rate, [beam.wer for beam in curve], logarithms)))


class Comparison(NamedTuple):
    """How much slower a peer is: at the lowest word error rate that both reach, and on average over all levels."""

    wer: float
    peer: float
    ours: float
    mean: float


def compare(peer: Sequence[Point], ours: Sequence[Point]) -> Comparison:
    """Compare two decoders' points of one task.

    The average is geometric, over evenly spaced word error rates from the lowest that both reach to the highest of
    the peer's trade-offs.
    """
    slow, fast = trade_offs(peer), trade_offs(ours)
    lowest = max(slow[0].wer, fast[0].wer) + TOLERANCE
    levels = np.linspace(lowest, max(lowest, slow[-1].wer), LEVELS)
    ratios = [micros_at(level, slow) / micros_at(level, fast) for level in levels]
    return Comparison(
        lowest, micros_at(lowest, slow), micros_at(lowest, fast), float(np.exp(np.mean(np.log(ratios))))
    )


def tables(results: dict[str, Any], measured: Sequence[Point]) -> Iterator[str]:
    """The lines of the Markdown report."""
    for task in dict.fromkeys(point.task for point in measured):
        of_task = [point for point in measured if point.task == task]
        swept = {point.decoder: [p for p in of_task if p.decoder == point.decoder] for point in of_task}
        beams = sorted({point.beam for points in swept.values() if len(points) > 1 for point in points})
        yield f"### {task}\n"
        yield "Word error rate and time for a frame (median of the rounds, least and most), by beam:\n"
        yield "| decoder | settings | " + " | ".join(map(str, beams)) + " |"
        yield "| --- | --- |" + " --- |" * len(beams)
        for decoder, found in swept.items():
            if len(found) > 1:
                cells = [f"{p.wer:.2%} {p.micros:.2f} µs ({p.least:.2f}–{p.most:.2f})" for p in found]
                settings = ", ".join(
                    f"{key} {value:g}" for key, value in results["settings"][task][decoder].items()
                )
                yield f"| {decoder} | {settings or 'as they come'} | " + " | ".join(cells) + " |"
        yield "\n| peer | asr's decoder | at WER | peer | asr | ratio | mean ratio |"
        yield "| --- | --- | --- | --- | --- | --- | --- |"
        for peer, ours in results["comparisons"]:
            result = compare(swept[peer], swept[ours])
            times = f"{result.peer:.1f} µs | {result.ours:.2f} µs | {result.peer / result.ours:.1f} ×"
            yield f"| {peer} | {ours} | {result.wer:.2%} | {times} | {result.mean:.1f} × |"
        yield "\n| time | of that of | ratio | in the rounds |"
        yield "| --- | --- | --- | --- |"
        for slow, fast in results["ratios"]:
            low, middle, high = paired(results["rows"], task, slow, fast)
            yield f"| {slow} | {fast} | {middle:.2f} | {low:.2f} to {high:.2f} |"
        yield ""


def paired(rows: Iterable[dict[str, Any]], task: str, slow: str, fast: str) -> tuple[float, float, float]:
    """Least, median and greatest ratio of two decoders' times in the rounds, at every beam that both have."""
    seconds = {(row["decoder"], row["beam"], row["round"]): row["seconds"] for row in rows if row["task"] == task}
    ratios = [
        value / seconds[fast, beam, number]
        for (decoder, beam, number), value in seconds.items()
        if decoder == slow and (fast, beam, number) in seconds
    ]
    return min(ratios), float(np.median(ratios)), max(ratios)


def plot(measured: Sequence[Point], path: Path) -> None:
    """Word error rate over time, a panel for each task and a line for each decoder."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels: dict[str, dict[str, list[Point]]] = {}
    for point in measured:
        panels.setdefault(point.task, {}).setdefault(point.decoder, []).append(point)
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(5 * columns, 4 * rows + 0.6), squeeze=False, layout="constrained"
    )
    for unused in axes.flat[len(panels) :]:
        unused.set_axis_off()
    for axis, (task, lines) in zip(axes.flat, panels.items(), strict=False):
        swept = [line for line in lines.values() if len(line) > 1]
        for line, colour, marker in zip(swept, COLOURS, MARKERS, strict=True):
            draw(axis, line, colour, marker)
        axis.set(title=task, xscale="log", yscale="log", xlabel="µs for a frame", ylabel="word error rate, %")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
        axis.grid(which="both", alpha=0.25)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3 * columns, frameon=False)
    figure.savefig(path, dpi=150)


def draw(axis: Any, line: Sequence[Point], colour: str, marker: str) -> None:
    """A decoder's line, with the beam beside its first and last point."""
    rates = [100 * point.wer for point in line]
    axis.plot([point.micros for point in line], rates, color=colour, marker=marker, label=line[0].decoder)
    for point, rate in ((line[0], rates[0]), (line[-1], rates[-1])):
        axis.annotate(str(point.beam), (point.micros, rate), (4, 4), textcoords="offset points", fontsize=7)


def main() -> None:
    """Write the report beside the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the --work of `bench_decoders.py`")
    path = parser.parse_args().folder / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    measured = points(results["rows"])
    with path.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Point._fields)
        writer.writerows(measured)
    report = "\n".join(tables(results, measured))
    path.with_suffix(".md").write_text(report, encoding="utf-8")
    plot(measured, path.with_suffix(".png"))
    print(report)


if __name__ == "__main__":
    main()
