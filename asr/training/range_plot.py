"""Pictures of a learning-rate range test: in the terminal, as a page, as an image."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from string import Template

from asr import axes, pictures
from asr.axes import Axis, Drawing
from asr.files import write_text
from asr.training.range_test import RangeTest

_ROWS_PER_DECADE = 4
_BAR = 40  # characters
_WIDTH, _HEIGHT = 800, 420  # of the page's drawing, in its units
_LABEL = 130  # units, which the longest name of a mark needs
_HEADROOM = 1.1  # above the highest loss before the least; what diverges is cut off


def text(test: RangeTest) -> Iterator[str]:
    """The curve, line by line: the mean of the smoothed loss for each quarter of a decade of rates."""
    top = _top(test)
    for _, group in groupby(
        test.points, lambda point: math.floor(math.log10(point.rate) * _ROWS_PER_DECADE + 1e-9)
    ):
        points = list(group)
        loss = sum(point.smoothed for point in points) / len(points)
        marks = ((name.removesuffix(" loss"), rate) for name, rate in _marks(test))
        here = [name for name, rate in marks if points[0].rate <= rate <= points[-1].rate]
        bar = "#" * min(round(_BAR * loss / top), _BAR)
        yield f"{points[0].rate:.1e}  {loss:8.3f}  {bar:{_BAR}}  {', '.join(here)}".rstrip()


def draw(test: RangeTest, path: Path, title: str) -> None:
    """Draw the curve as an image (.png), or as a page that needs nothing else (.html)."""
    if path.suffix == ".png":
        _draw_image(test, path, title)
    else:
        write_text(path, page(test, title))


def page(test: RangeTest, title: str) -> str:
    """A page in HTML, complete in itself, without any script, readable in light and dark."""
    said = verdict(test)
    body = _BODY.substitute(said=html.escape(said), drawing=_drawn(test, said))
    return pictures.page(title, _STYLE, body)


def _drawn(test: RangeTest, said: str) -> str:
    first, last, top = _first(test), test.points[-1].rate, _top(test)
    drawing = Drawing(_WIDTH, _HEIGHT, Axis(first, max(last, 1.001 * first), logarithmic=True), Axis(0.0, top))

    def curve(kind: str, losses: Iterable[float]) -> str:
        points = ((point.rate, min(loss, top)) for point, loss in zip(test.points, losses, strict=True))
        return f'<path class="{kind}" d="{drawing.path(points)}"/>'

    rates = [(tick, f"{tick:g}") for tick in drawing.across.ticks()]
    parts = [*drawing.columns(rates), *(drawing.upright(rate, "grid") for rate, _ in rates)]
    parts += drawing.rows((tick, f"{tick:.3g}") for tick in drawing.up.ticks())
    parts.append(curve("loss", (point.loss for point in test.points)))
    parts.append(curve("smoothed", (point.smoothed for point in test.points)))
    for row, (name, rate) in enumerate(_marks(test), start=1):
        parts.append(drawing.upright(rate, "mark"))
        x, y = drawing.x(rate), axes.TOP + 14 * row
        place = f'x="{x - 4:.1f}" y="{y}" text-anchor="end"'
        if x - axes.LEFT < _LABEL:  # no room on the left
            place = f'x="{x + 4:.1f}" y="{y}" text-anchor="start"'
        parts.append(f"<text {place}>{name} {rate:.1e}</text>")
    return drawing.svg(said, parts)


def verdict(test: RangeTest) -> str:
    """What the test says, in a sentence."""
    lowest = test.lowest
    if not test.learnt:
        return "the loss did not fall at any rate"
    first = "" if lowest.smoothed == min(point.smoothed for point in test.points) else "after the first steps, "
    said = f"{first}the smoothed loss is least, {lowest.smoothed:.3f}, at the learning rate {lowest.rate:.1e}"
    if test.proposed is None:
        return f"{said}; it has not diverged at {test.points[-1].rate:.1e}, so none is proposed"
    return f"{said}; proposed is a tenth of that, {test.proposed:g}"


def _marks(test: RangeTest) -> list[tuple[str, float]]:
    marks = [("least loss", test.lowest.rate)] if test.learnt else []
    return marks if test.proposed is None else [*marks, ("proposed", test.proposed)]


def _first(test: RangeTest) -> float:
    """Where the axis of rates begins: the proposed one may be below all that were tried."""
    return min([test.points[0].rate, *(rate for _, rate in _marks(test))])


def _top(test: RangeTest) -> float:
    before = test.points[: test.points.index(test.lowest) + 1]
    return _HEADROOM * max(point.smoothed for point in before)


def _draw_image(test: RangeTest, path: Path, title: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    plot = figure.subplots()
    rates = [point.rate for point in test.points]
    plot.semilogx(rates, [point.loss for point in test.points], alpha=0.3, color="C0")
    plot.semilogx(rates, [point.smoothed for point in test.points], color="C0")
    for name, rate in _marks(test):
        plot.axvline(rate, color="C1", linestyle="--")
        plot.annotate(f"{name} {rate:.1e} ", (rate, _top(test)), ha="right", va="top", rotation=90)
    plot.set(ylim=(0, _top(test)), xlabel="learning rate", ylabel="loss")
    plot.set_title(title, parse_math=False)
    pictures.save(figure, path)


_STYLE = """
path { stroke: var(--c0); stroke-width: 2; }
.grid { stroke: var(--grid); stroke-width: 1; }
.loss { opacity: 0.3; stroke-width: 1; }
.mark { stroke: var(--c1); stroke-dasharray: 6 3; }
"""

_BODY = Template("""
<p>$said.</p>
$drawing
<p>Loss over learning rate; thin: of each batch, thick: smoothed.</p>
""")
