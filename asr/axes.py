"""Drawings in SVG, with two axes, for pages that need nothing else."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 40
"""The margins of a drawing, in its units: for labels, but on the right and at the top."""
CHARACTER = 7
"""Units that a character of a label takes, about."""
FEWEST = 3
"""Ticks that tell a logarithmic axis."""


@dataclass(frozen=True)
class Axis:
    """From the low end, at 0, to the high one, at 1.

    Attributes:
        low, high: its ends.
        logarithmic: equal ratios are equally long.
        integer: nothing is between one number and the next.
        most: about so many ticks fit.
    """

    low: float
    high: float
    logarithmic: bool = False
    integer: bool = False
    most: int = 5

    def place(self, value: float) -> float:
        """How far along the axis a value is."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        return (self._scaled(value) - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values within: powers of ten, with some between them where these are few; else equal steps."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for mantissas in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
                ticks = [mantissa * 10.0**power for power in powers for mantissa in mantissas]
                inside = [tick for tick in ticks if -1e-9 <= self.place(tick) <= 1 + 1e-9]
                if len(inside) >= FEWEST:
                    return inside[:: max(len(inside) // (self.most + 1), 1)]
        least = (self.high - self.low) / self.most
        step = 10 ** math.floor(math.log10(least))
        step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= least * 0.999)
        step = max(step, 1) if self.integer else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [count * step for count in range(first, last + 1)]

    def crowded(self, labels: Sequence[tuple[float, str]], characters: float) -> bool:
        """Whether labels beside each other would touch, where the axis is as long as so many characters."""
        places = [(characters * self.place(value), len(label)) for value, label in labels]
        return any(here + (one + other) / 2 + 1 > there for (here, one), (there, other) in pairwise(places))

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


@dataclass(frozen=True)
class Drawing:
    """A plane of so many units, within margins, between two axes.

    Attributes:
        width, height: all of it.
        across, up: the axes.
        bottom: the margin there.
    """

    width: int
    height: int
    across: Axis
    up: Axis
    bottom: int = BOTTOM

    def x(self, value: float) -> float:
        """Where a value of the axis across is."""
        return LEFT + (self.width - LEFT - RIGHT) * self.across.place(value)

    def y(self, value: float) -> float:
        """Where a value of the axis upwards is."""
        return TOP + (self.height - TOP - self.bottom) * (1 - self.up.place(value))

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        """What a path's attribute `d` has for a line through points."""
        return "M" + "L".join(f"{self.x(across):.1f} {self.y(up):.1f}" for across, up in points)

    def upright(self, value: float, kind: str) -> str:
        """A line, of a class of the page's style, from the bottom to the top."""
        return f'<path class="{kind}" d="M{self.x(value):.1f} {TOP}V{self.height - self.bottom}"/>'

    def rows(self, labels: Iterable[tuple[float, str]]) -> list[str]:
        """Lines of the grid at values of the axis upwards, with their labels."""
        return [
            f'<path class="grid" d="M{LEFT} {self.y(value):.1f}H{self.width - RIGHT}"/>'
            f'<text x="{LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">{html.escape(label)}</text>'
            for value, label in labels
        ]

    def columns(self, labels: Iterable[tuple[float, str]], turned: bool = False) -> list[str]:
        """Labels below values of the axis across, beside each other or turned by a right angle."""
        parts = []
        for value, label in labels:
            x, y = self.x(value), self.height - self.bottom
            place = f'x="{x:.1f}" y="{y + 18}" text-anchor="middle"'
            if turned:
                place = f'transform="translate({x + 4:.1f} {y + 6}) rotate(-90)" text-anchor="end"'
            parts.append(f"<text {place}>{html.escape(label)}</text>")
        return parts

    def svg(self, said: str, parts: Iterable[str]) -> str:
        """The whole, with what it says for who can't see it."""
        inside = "\n".join(parts)
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{html.escape(said)}">\n'
            f"{inside}\n</svg>"
        )
