"""Pictures of a search: which keys matter, and how well the trials do over each of them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from asr import axes, pictures
from asr.axes import Axis, Drawing
from asr.files import write_text
from asr.search.report import error_rate, headline, row, short_names
from asr.search.space import Choices, Space, text
from asr.search.study import Plan, Trial, best

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot

_WIDTH, _HEIGHT = 420, 260  # of a drawing, in its units
_CHARACTERS = 34  # as many of a label as there is room for below a plot of the image
_TOO_FEW = "Too few trials to tell."


def draw(
    path: Path, title: str, trials: Sequence[Trial], plan: Plan, importances: Mapping[str, float], command: str
) -> None:
    """Draw importances, and the error rate over each key: as an image (.png), or as a page (.html).

    Args:
        path: of the file, which is replaced.
        title: of the picture.
        trials: at least one with figures.
        plan: of the search.
        importances: of the keys.
        command: to train with the best settings.
    """
    if path.suffix == ".png":
        _draw_image(path, title, trials, plan, importances)
    else:
        write_text(path, page(title, trials, plan, importances, command))


def page(title: str, trials: Sequence[Trial], plan: Plan, importances: Mapping[str, float], command: str) -> str:
    """A page in HTML, complete in itself, without any script, readable in light and dark."""
    ordered = sorted(trials, key=lambda trial: trial.rank(plan.metric))
    body = _BODY.substitute(
        headline=html.escape(headline(trials, plan)),
        metric=plan.metric.upper(),
        command=html.escape(command),
        importances=_bars(importances) or f"<p>{_TOO_FEW}</p>",
        figures="\n".join(_scatter(space, trials, plan) for space in plan.spaces),
        head="".join(
            f'<th scope="col">{html.escape(name)}</th>'
            for name in ("trial", "CER %", "WER %", "epochs", *short_names([s.key for s in plan.spaces]).values())
        ),
        rows="\n".join(_cells(trial, plan) for trial in ordered),
    )
    return pictures.page(title, _STYLE, body)


def _error_axis(trials: Sequence[Trial], plan: Plan) -> Axis:
    """Of the error rates in per cent; in orders of magnitude where there are several."""
    values = [100 * value for trial in trials if (value := error_rate(trial, plan)) is not None] or [100.0]
    low, high = min(values), max(values)
    if 0 < low < high / 10:
        return Axis(low / 1.2, high * 1.2, logarithmic=True)
    return Axis(0.0, high * 1.05 or 1.0)


def _key_axis(space: Space) -> Axis:
    if isinstance(space, Choices):
        return Axis(-0.5, len(space.values) - 0.5)
    return Axis(space.low, space.high, space.logarithmic, space.integer)


def _key_place(space: Space, trial: Trial) -> float:
    value = trial.settings[space.key]
    return float(space.values.index(value)) if isinstance(space, Choices) else float(value)


def _key_ticks(space: Space) -> list[tuple[float, str]]:
    if isinstance(space, Choices):
        return [(place, text(value)) for place, value in enumerate(space.values)]
    return [(tick, f"{tick:g}") for tick in _key_axis(space).ticks()]


def _scatter(space: Space, trials: Sequence[Trial], plan: Plan) -> str:
    first = best(trials, plan.metric)
    across, ticks, bottom = _key_axis(space), _key_ticks(space), axes.BOTTOM
    if turned := across.crowded(ticks, (_WIDTH - axes.LEFT - axes.RIGHT) / axes.CHARACTER):
        bottom = 12 + axes.CHARACTER * max(len(label) for _, label in ticks)
    drawing = Drawing(_WIDTH, _HEIGHT - axes.BOTTOM + bottom, across, _error_axis(trials, plan), bottom)
    parts = drawing.rows((tick, f"{tick:g} %") for tick in drawing.up.ticks())
    parts += drawing.columns(ticks, turned)
    for trial in trials:
        value = error_rate(trial, plan)
        if value is not None:
            kind = "best" if trial is first else trial.state
            x, y = drawing.x(_key_place(space, trial)), drawing.y(100 * value)
            parts.append(
                f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">'
                f"<title>{html.escape(row(trial, plan).strip())}</title></circle>"
            )
    svg = drawing.svg(f"{plan.metric.upper()} over {space.key}", parts)
    return f"<figure><figcaption>{html.escape(space.key)}</figcaption>\n{svg}</figure>"


def _bars(importances: Mapping[str, float]) -> str:
    return "\n".join(
        f'<div class="bar"><span>{html.escape(key)}</span>'
        f'<span class="track"><span style="width: {100 * share:.1f}%"></span></span><span>{share:.0%}</span></div>'
        for key, share in importances.items()
    )


def _cells(trial: Trial, plan: Plan) -> str:
    figures = trial.best(plan.metric)
    rates = ("", "") if figures is None else (f"{100 * figures.cer:.2f}", f"{100 * figures.wer:.2f}")
    values = [text(trial.settings[space.key]) for space in plan.spaces]
    note = "" if trial.state == "finished" else trial.state + (f": {trial.fault}" if trial.fault else "")
    cells = [str(trial.number), *rates, str(len(trial.curve)), *values]
    numbers = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
    return f'<tr>{numbers}<td class="note">{html.escape(note)}</td></tr>'


def _draw_image(
    path: Path, title: str, trials: Sequence[Trial], plan: Plan, importances: Mapping[str, float]
) -> None:
    from matplotlib.figure import Figure

    columns, rows = 3, 1 + len(plan.spaces) // 3
    figure = Figure(figsize=(4 * columns, 3.2 * rows), layout="constrained")
    figure.suptitle(title, parse_math=False)
    bars, *scatters = figure.subplots(rows, columns, squeeze=False).flat
    names = short_names([space.key for space in plan.spaces])
    what = f"importance for the {plan.metric.upper()}"
    if importances:
        bars.barh([names[key] for key in importances], list(importances.values()))
        bars.invert_yaxis()
        bars.set(xlim=(0, 1), xlabel=what)
    else:
        bars.set_axis_off()
        bars.text(0.5, 0.5, f"{what}\n{_TOO_FEW}", ha="center", va="center")
    for space, plot in zip(plan.spaces, scatters, strict=False):
        _draw_scatter(plot, space, trials, plan)
    for plot in scatters[len(plan.spaces) :]:
        plot.remove()
    pictures.save(figure, path)


def _draw_scatter(plot: Plot, space: Space, trials: Sequence[Trial], plan: Plan) -> None:
    across, up, first = _key_axis(space), _error_axis(trials, plan), best(trials, plan.metric)
    for trial in trials:
        value = error_rate(trial, plan)
        if value is not None:
            edge = "C1" if trial is first else "C0"
            face = edge if trial.state == "finished" else "none"
            plot.scatter(_key_place(space, trial), 100 * value, facecolors=face, edgecolors=edge, clip_on=False)
    plot.set_xscale("log" if across.logarithmic else "linear")
    plot.set_yscale("log" if up.logarithmic else "linear")
    places, labels = zip(*(ticks := _key_ticks(space)), strict=True)
    turn = 90 if across.crowded(ticks, _CHARACTERS) else 0
    plot.set_xticks(places, labels, parse_math=False, rotation=turn)
    plot.set_yticks(up.ticks(), [f"{tick:g}" for tick in up.ticks()])
    plot.minorticks_off()
    plot.set(xlim=(across.low, across.high), ylim=(up.low, up.high))
    plot.set_xlabel(space.key, parse_math=False)
    plot.set_ylabel(f"{plan.metric.upper()} %")


_STYLE = """
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1.5rem; }
circle { fill: var(--paper); fill-opacity: 0; stroke: var(--c0); stroke-width: 1.5; }
circle.finished { fill: var(--c0); fill-opacity: 1; }
circle.best { fill: var(--c1); stroke: var(--c1); fill-opacity: 1; }
.bar { display: grid; grid-template-columns: minmax(8rem, 18rem) 1fr 3rem; gap: 0.8rem; align-items: center; }
.bar .track { background: var(--box); }
.bar .track span { display: block; height: 0.9rem; background: var(--c0); }
.table { overflow-x: auto; }
td.note { text-align: left; }
pre { padding: 0.6rem 1rem; background: var(--box); white-space: pre-wrap; }
"""

_BODY = Template("""
<p>$headline.</p>
<h2>Best settings</h2>
<pre>$command</pre>
<h2>Importance</h2>
<p>The share of the variance of the $metric that each key explains by itself (fANOVA).</p>
$importances
<h2>$metric over each key</h2>
<p>A dot is a trial: filled if it ran to its end, hollow if it was stopped, in another colour if it is the best.</p>
<main>
$figures
</main>
<h2>Trials</h2>
<div class="table"><table><thead><tr>$head<th></th></tr></thead><tbody>
$rows
</tbody></table></div>
""")
