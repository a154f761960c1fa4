"""Pictures of a learning-rate range test: in the terminal, as a page, as an image."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from string import Template

from asr import pictures
from asr.files import write_text
from asr.training.range_test import RangeTest

_ROWS_PER_DECADE = 4
_BAR = 40  # characters
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _EDGE = 800, 420, 60, 40, 12  # of the page's drawing, in its units
_HEADROOM = 1.1  # above the highest loss before the least; what diverges is cut off


def text(test: RangeTest) -> Iterator[str]:
    """The curve, line by line: the mean of the smoothed loss for each quarter of a decade of rates."""
    top = _top(test)
    for _, group in groupby(
        test.points, lambda point: math.floor(math.log10(point.rate) * _ROWS_PER_DECADE + 1e-9)
    ):
        points = list(group)
        loss = sum(point.smoothed for point in points) / len(points)
        notes = {"least": test.lowest.rate, "proposed": test.proposed} if test.learnt else {}
        here = [name for name, rate in notes.items() if points[0].rate <= rate <= points[-1].rate]
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
    scale = _Scale(test)
    marks = "\n".join(scale.mark(name, rate, row) for row, (name, rate) in enumerate(_marks(test)))
    body = _BODY.substitute(
        said=html.escape(verdict(test)),
        width=_WIDTH,
        height=_HEIGHT,
        axes=scale.axes(),
        losses=scale.path((point.rate, point.loss) for point in test.points),
        smoothed=scale.path((point.rate, point.smoothed) for point in test.points),
        marks=marks,
    )
    return pictures.page(title, _STYLE, body)


def verdict(test: RangeTest) -> str:
    """What the test says, in a sentence."""
    lowest = test.lowest
    if not test.learnt:
        return "the loss did not fall at any rate"
    said = f"the smoothed loss is least, {lowest.smoothed:.3f}, at the learning rate {lowest.rate:.1e}"
    if not test.diverged:
        return f"{said}; it has not diverged at {test.points[-1].rate:.1e}"
    return f"{said}; proposed is a tenth of that, {test.proposed:g}"


def _marks(test: RangeTest) -> list[tuple[str, float]]:
    return [("least loss", test.lowest.rate), ("proposed", test.proposed)] if test.learnt else []


def _top(test: RangeTest) -> float:
    before = test.points[: test.points.index(test.lowest) + 1]
    return _HEADROOM * max(point.smoothed for point in before)


class _Scale:
    """Rates, in decades, and losses to places on the drawing."""

    def __init__(self, test: RangeTest) -> None:
        self.first, self.last = (math.log10(test.points[place].rate) for place in (0, -1))
        self.span = max(self.last - self.first, 1e-9)
        self.top = _top(test)

    def x(self, rate: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _EDGE) * (math.log10(rate) - self.first) / self.span

    def y(self, loss: float) -> float:
        return _EDGE + (_HEIGHT - _EDGE - _BOTTOM) * (1 - min(loss / self.top, 1.0))

    def path(self, places: Iterable[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{self.x(rate):.1f} {self.y(loss):.1f}" for rate, loss in places)

    def mark(self, name: str, rate: float, row: int) -> str:
        x = self.x(max(rate, 10**self.first))
        return (
            f'<path class="mark" d="M{x:.1f} {_EDGE}V{_HEIGHT - _BOTTOM}"/>'
            f'<text x="{x - 4:.1f}" y="{_EDGE + 14 * (row + 1)}" text-anchor="end">{name} {rate:.1e}</text>'
        )

    def axes(self) -> str:
        decades = range(math.ceil(self.first - 1e-9), math.floor(self.last + 1e-9) + 1)
        columns = [
            f'<path class="grid" d="M{x:.1f} {_EDGE}V{_HEIGHT - _BOTTOM}"/>'
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">1e{decade}</text>'
            for decade, x in ((decade, self.x(10.0**decade)) for decade in decades)
        ]
        rows = [
            f'<path class="grid" d="M{_LEFT} {self.y(loss):.1f}H{_WIDTH - _EDGE}"/>'
            f'<text x="{_LEFT - 6}" y="{self.y(loss) + 4:.1f}" text-anchor="end">{loss:.3g}</text>'
            for loss in (self.top * quarter / 4 for quarter in range(5))
        ]
        return "\n".join([*columns, *rows])


def _draw_image(test: RangeTest, path: Path, title: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    rates = [point.rate for point in test.points]
    axes.semilogx(rates, [point.loss for point in test.points], alpha=0.3, color="C0")
    axes.semilogx(rates, [point.smoothed for point in test.points], color="C0")
    for name, rate in _marks(test):
        axes.axvline(rate, color="C1", linestyle="--")
        axes.annotate(f"{name} {rate:.1e} ", (rate, _top(test)), ha="right", va="top", rotation=90)
    axes.set(ylim=(0, _top(test)), xlabel="learning rate", ylabel="loss")
    axes.set_title(title, parse_math=False)
    pictures.save(figure, path)


_STYLE = """
path { stroke: var(--c0); stroke-width: 2; }
.grid { stroke: var(--grid); stroke-width: 1; }
.loss { opacity: 0.3; stroke-width: 1; }
.mark { stroke: var(--c1); stroke-dasharray: 6 3; }
"""

_BODY = Template("""
<p>$said.</p>
<svg viewBox="0 0 $width $height" role="img" aria-label="$said">
$axes
<path class="loss" d="$losses"/>
<path d="$smoothed"/>
$marks
</svg>
<p>Loss over learning rate; thin: of each batch, thick: smoothed.</p>
""")
