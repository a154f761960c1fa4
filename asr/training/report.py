"""The report of a training: its curves as a page that needs nothing else, and in words what they say."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template

from asr import axes, pictures
from asr.axes import Axis, Drawing
from asr.errors import AsrError, DiskFullError, counted
from asr.files import write_text
from asr.reporting import Noted, Reporter
from asr.training import log
from asr.training.charts import Chart, Points, charts
from asr.training.diagnosis import Entries, Finding, curve, curve_of_steps, diagnose

MOST_LINES = 8
"""In the terminal; of more findings the gravest are shown."""
OUTPUT = "output.txt"
"""In a training's folder: what it has said."""
LITTLE_LEARNT = 0.9
"""Dev WER from which curves that look well are no reason to be content."""
NOTHING_RESTORED = 1.0
"""Error of restoration of the mean."""

_WIDTH, _HEIGHT = 560, 260  # of a chart, in units of the drawing
_DASHES = ("", "6 3", "2 3")  # lines differ by more than their colour
_COLOURS = 8  # as pages have
_LEAST, _MOST = 1e-30, 1e30  # what is beyond has come from an overflow


@dataclass(frozen=True)
class About:
    """What a report has beside the curves of a training.

    Attributes:
        title: of the training.
        settings: all of them, as text.
        used: the settings that are not at their defaults, each with what it means.
        said: the lines that the training has said.
    """

    title: str
    settings: str = ""
    used: Sequence[tuple[str, str]] = ()
    said: Sequence[str] = ()


def summary(entries: Entries, findings: Sequence[Finding]) -> list[str]:
    """The training in two to eight lines."""
    if not findings:
        return [headline(entries), _nothing_found(entries)]
    lines = [headline(entries), *(line for finding in findings for line in str(finding).splitlines())]
    rest = len(findings) - (MOST_LINES - 2) // 2  # of two lines each
    return lines if rest <= 0 else [*lines[: MOST_LINES - 1], f"… and {rest} more in the report"]


def _nothing_found(entries: Entries) -> str:
    said = "nothing in the curves looks wrong"
    restored, wers = curve(entries, "dev_restoration"), curve(entries, "dev_wer")
    if restored and restored[-1][1] >= NOTHING_RESTORED:
        error = f"error of restoration {restored[-1][1]:.3f}"
        return f"{said}, but nothing has been learnt yet: {error}, no better than the mean"
    if not wers or wers[-1][1] < LITTLE_LEARNT:
        return said
    return f"{said}, but little has been learnt yet: dev WER {wers[-1][1]:.2%}"


def headline(entries: Entries) -> str:
    """How far the training has come."""
    seconds = sum(entry.get("seconds", 0.0) for entry in entries)
    planned = entries[-1].get("epochs", len(entries))
    epochs = counted(len(entries), "epoch") if len(entries) == planned else f"{len(entries)} of {planned} epochs"
    parts = [f"{epochs} in {_duration(seconds)}"]
    for name, figure, form in (
        ("train loss", "train_loss", ".3f"),
        ("dev loss", "dev_loss", ".3f"),
        ("dev WER", "dev_wer", ".2%"),
        ("dev perplexity", "dev_perplexity", ".2f"),
        ("error of restoration", "dev_restoration", ".3f"),
    ):
        points = curve_of_steps(entries, figure) if figure == "train_loss" else curve(entries, figure)
        if points:
            epoch, lowest = min(points, key=lambda point: point[1])
            course = " → ".join(f"{value:{form}}" for _, value in dict.fromkeys((points[0], points[-1])))
            best = "" if lowest == points[-1][1] else f" ({lowest:{form}} in epoch {epoch})"
            parts.append(f"{name} {course}{best}")
    return ", ".join(parts)


@contextmanager
def reported(
    training: Path,
    path: Path,
    product: Path,
    reporter: Reporter,
    about: Callable[[], About],
) -> Iterator[Reporter]:
    """Write the report of a training when the block ends, however it does, and say in short what it says.

    Args:
        training: its folder, in which what is said in the block is kept for later reports.
        path: of the page.
        product: what is there when the training has come to its end.
        reporter: told what the report says.
        about: what else the page has, when the block ends.

    Yields:
        The reporter of the training.
    """

    def tell() -> None:
        try:
            lines = write(path, about(), training, product.exists())
        except OSError as error:  # as where Windows has the page open
            reporter.warn(f"{path}: the report can't be written ({error.strerror})")
            return
        for line in [*lines, f"report: {path}"] if lines else []:
            reporter.say(line)

    try:
        yield Noted(reporter, training / OUTPUT)
    except BaseException:
        with suppress(AsrError):  # what stopped the training says more; `asr report` writes it later
            tell()
        raise
    with suppress(DiskFullError):
        tell()


def write(path: Path, about: About, training: Path, finished: bool) -> list[str]:
    """Write the page, unless no epoch has ended yet.

    Args:
        path: of the file, which is replaced.
        about: what it has beside the curves; what the training has said is added.
        training: its folder.
        finished: whether the training has come to its end.

    Returns:
        The same in short, for the terminal; nothing if there is no page.
    """
    entries, output = log.read(training), training / OUTPUT
    if not entries:
        return []
    findings = diagnose(entries, finished)
    said = []
    with suppress(OSError):  # there may be none
        said = output.read_text(encoding="utf-8", errors="replace").splitlines()
    write_text(path, page(replace(about, said=said), entries, findings))
    return summary(entries, findings)


def page(about: About, entries: Entries, findings: Sequence[Finding]) -> str:
    """A page in HTML, complete in itself, without any script, readable in light and dark."""
    well, changes = _nothing_found(entries), events(entries)
    body = _BODY.substitute(
        headline=html.escape(headline(entries)),
        findings="\n".join(map(_finding, findings)) or f"<p>{well[0].upper()}{well[1:]}.</p>",
        used=_used(about.used),
        events=_list("What happened when", [f"epoch {epoch}: {event}" for epoch, event in changes]),
        charts="\n".join(_figure(chart, changes) for chart in charts(entries)),
        infinite=_infinite(entries),
        said=_folded("What the training has said", _preformatted(line for line in about.said if _tells_more(line))),
        table=_folded("All numbers", _table(entries)),
        settings=_folded("Settings", _preformatted([about.settings])),
    )
    return pictures.page(f"Training of {about.title}", _STYLE, body)


def events(entries: Entries) -> list[tuple[int, str]]:
    """What changed in the course of a training, and from which epoch on."""
    found, growing = [], False
    for before, entry in zip([{}, *entries], entries, strict=False):
        changes = list(entry.get("events", []))
        if before and entry.get("masked", False) > before.get("masked", False):
            changes.append("masks of SpecAugment from here on")
        growth, grew = entry.get("batch_growth", 1.0), growing
        growing = growth != before.get("batch_growth", 1.0)
        if growing and not grew:  # not in each epoch, where they grow in all
            changes.append(f"batches are {growth:.3g} times as large as at first")
        found += [(entry["epoch"], change) for change in changes]
    return found


# ----------------------------------------------------------------------------------------------- drawing


def _figure(chart: Chart, marks: Sequence[tuple[int, str]]) -> str:
    curves = {name: _drawable(points, chart.logarithmic) for name, points in chart.curves.items()}
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return f"<figure><figcaption>{html.escape(chart.title)}</figcaption><p>Nothing to draw.</p></figure>"
    drawing = _drawing([point for points in curves.values() for point in points], chart.logarithmic)

    def label(value: float) -> str:
        return f"{100 * value:.3g} %" if chart.percent else f"{value:.3g}"

    parts = [
        *drawing.rows((tick, label(tick)) for tick in drawing.up.ticks()),
        *drawing.columns((tick, f"{tick:.0f}") for tick in drawing.across.ticks()),
        f'<text x="{_WIDTH - axes.RIGHT}" y="{_HEIGHT - 3}" text-anchor="end">epoch</text>',
        *(
            _mark(epoch, event, drawing)
            for epoch, event in marks
            if drawing.across.low <= epoch <= drawing.across.high
        ),
        *(_line(points, drawing, index) for index, points in enumerate(curves.values())),
    ]
    keys = "".join(f"<li>{_key(index)}{html.escape(name)}</li>" for index, name in enumerate(curves))
    said = "; ".join(
        f"{name} from {label(points[0][1])} to {label(points[-1][1])}" for name, points in curves.items()
    )
    return (
        f"<figure><figcaption>{html.escape(chart.title)}</figcaption>\n"
        f"{drawing.svg(f'{chart.title}: {said}', parts)}\n<ul>{keys}</ul>\n"
        f"<p>{html.escape(chart.meaning)}</p></figure>"
    )


def _drawable(points: Points, logarithmic: bool) -> list[tuple[int, float]]:
    least = _LEAST if logarithmic else -_MOST
    return [(epoch, value) for epoch, value in points if least <= value <= _MOST]


def _drawing(points: Points, logarithmic: bool) -> Drawing:
    epochs, values = zip(*points, strict=True)
    across = Axis(min(epochs), max(*epochs, min(epochs) + 1), integer=True, most=8)
    low, high = min(values) if logarithmic else 0.0, max(values)
    if high - low <= max(1e-9 * abs(high), _LEAST):
        high = low * 10 if logarithmic else low + 1
    return Drawing(_WIDTH, _HEIGHT, across, Axis(low, high, logarithmic))


def _mark(epoch: int, event: str, drawing: Drawing) -> str:
    """A line where something changed, which says what under the pointer."""
    return f"<g><title>epoch {epoch}: {html.escape(event)}</title>{drawing.upright(epoch, 'mark')}</g>"


def _line(points: Points, drawing: Drawing, index: int) -> str:
    dots = "".join(
        f'<circle cx="{drawing.x(epoch):.1f}" cy="{drawing.y(value):.1f}" r="2"/>' for epoch, value in points
    )
    return f'<g {_style(index)}><path d="{drawing.path(points)}"/>{dots if len(points) < 40 else ""}</g>'


def _key(index: int) -> str:
    return (
        f'<svg class="key" viewBox="0 0 24 8" aria-hidden="true"><g {_style(index)}><path d="M0 4H24"/></g></svg>'
    )


def _style(index: int) -> str:
    dash = _DASHES[index // _COLOURS % len(_DASHES)]
    return f'class="curve c{index % _COLOURS}" stroke-dasharray="{dash or "none"}"'


# ------------------------------------------------------------------------------------------------- words


def _finding(finding: Finding) -> str:
    kind, seen, advice = map(html.escape, (finding.kind, finding.seen, finding.advice))
    return (
        f'<section class="{finding.severity}"><h3>{kind} <small>{finding.severity}</small></h3>'
        f"<p>{seen}</p><p><b>Try:</b> {advice}</p></section>"
    )


def _used(used: Sequence[tuple[str, str]]) -> str:
    rows = "\n".join(
        f"<tr><td><code>{html.escape(setting)}</code></td><td>{html.escape(meaning)}</td></tr>"
        for setting, meaning in used
    )
    return _folded("What is set otherwise than by default", f"<table class='used'>{rows}</table>") if used else ""


def _infinite(entries: Entries) -> str:
    """All recordings with an infinite loss."""
    names = dict.fromkeys(
        name for key in ("infinite", "dev_infinite") for entry in entries for name in entry.get(key, ())
    )
    return _folded(f"{len(names)} utterances with an infinite loss", _list("", list(names))) if names else ""


def _list(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    heading = f"<h2>{title}</h2>" if title else ""
    return heading + "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>" if content else ""


def _preformatted(lines: Iterable[str]) -> str:
    text = "\n".join(lines)
    return f"<pre>{html.escape(text)}</pre>" if text else ""


def _tells_more(line: str) -> bool:
    """Whether a line tells more than the figures of an epoch."""
    return not re.match(r"epoch +\d+  train ", line)


def _table(entries: Entries) -> str:
    """The numbers behind the curves, those of layers apart."""
    columns = dict.fromkeys(key for entry in entries for key, value in entry.items() if _is_number(value))
    columns.pop("epochs", None)  # the same in all rows
    head = "".join(f'<th scope="col">{html.escape(column.replace("_", " "))}</th>' for column in columns)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{_cell(entry.get(column))}</td>" for column in columns) + "</tr>"
        for entry in entries
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


_STYLE = """
section { margin: 0.8rem 0; padding: 0.4rem 1rem; background: var(--box); border-left: 5px solid var(--grid); }
section.serious { border-color: var(--c3); }
section.warning { border-color: var(--c1); }
section h3, section p { margin: 0.3rem 0; }
small { font-weight: normal; opacity: 0.75; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(28rem, 100%), 1fr)); gap: 1.5rem; }
figure p { margin: 0.3rem 0; font-size: 0.8rem; opacity: 0.75; }
figure ul { display: flex; flex-wrap: wrap; gap: 0.1rem 1rem; margin: 0; padding: 0; list-style: none;
  font-size: 0.8rem; }
svg.key { width: 24px; height: 8px; margin-right: 0.4rem; vertical-align: middle; }
.curve path { stroke-width: 2; }
.curve circle { stroke: none; }
.c0 { stroke: var(--c0); fill: var(--c0); } .c1 { stroke: var(--c1); fill: var(--c1); }
.c2 { stroke: var(--c2); fill: var(--c2); } .c3 { stroke: var(--c3); fill: var(--c3); }
.c4 { stroke: var(--c4); fill: var(--c4); } .c5 { stroke: var(--c5); fill: var(--c5); }
.c6 { stroke: var(--c6); fill: var(--c6); } .c7 { stroke: var(--c7); fill: var(--c7); }
.mark { stroke: var(--ink); stroke-dasharray: 2 4; opacity: 0.5; }
.used td { text-align: left; vertical-align: top; padding-right: 1rem; }
details { margin: 1.5rem 0; overflow-x: auto; }
pre { font-size: 0.8rem; }
"""

_BODY = Template("""
<p>$headline</p>
$findings
$events
<h2>Curves</h2>
<main>
$charts
</main>
$used
$infinite
$said
$table
$settings
""")
