"""Numbers over steps as SVG that stands inside a page: no script, no font, colours by the page's own style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 340, 150
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 22
SMOOTH = 0.9
"""How much of itself the smoothed line keeps at each point."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """The ranges of a plot: of steps and of values."""

    first: float
    last: float
    low: float
    high: float

    def place(self, point: tuple[float, float]) -> tuple[float, float]:
        """Where a point lies in the drawing."""
        x = LEFT + (point[0] - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT)
        y = TOP + (self.high - point[1]) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)


def curve(label: str, points: Points, smooth: bool = False, marked: float | None = None) -> str:
    """A line over steps as an <svg>; with `smooth` the points are faint behind their moving average, `marked` is a step to
    point at. Values that are not finite are left out; without two points there is nothing to draw, and "" comes back.
    """
    shown = [point for point in points if math.isfinite(point[1])]
    if len(shown) < 2:
        return ""
    scale = scaled(shown)
    lines = (
        [line(shown, scale, "faint"), line(averaged(shown), scale, "line")] if smooth else [line(shown, scale, "line")]
    )
    end = (averaged(shown) if smooth else shown)[-1]
    x, y = scale.place(end)
    told = f"{label}: from {number(shown[0][1])} to {number(end[1])} over {shown[-1][0]:g} steps"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(told)}">'
        + axes(scale)
        + mark(scale, marked)
        + "".join(lines)
        + f'<circle class="end" cx="{x}" cy="{y}" r="3.5"/></svg>'
    )


def scaled(points: Points) -> Scale:
    """Ranges that hold the points with a little air; never of no width."""
    steps, values = [p[0] for p in points], [p[1] for p in points]
    low, high = min(values), max(values)
    air = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    bottom = max(low - air, 0.0) if low >= 0 else low - air  # what is never negative has no axis below zero
    return Scale(steps[0], max(steps[-1], steps[0] + 1), bottom, high + air)


def averaged(points: Points) -> list[tuple[float, float]]:
    """The moving average of the points, without the start's bias."""
    mean, weight, found = 0.0, 0.0, list[tuple[float, float]]()
    for step, value in points:
        mean, weight = SMOOTH * mean + (1 - SMOOTH) * value, SMOOTH * weight + 1 - SMOOTH
        found.append((step, mean / weight))
    return found


def line(points: Points, scale: Scale, kind: str) -> str:
    """The points joined."""
    places = " ".join(f"{x},{y}" for x, y in map(scale.place, points))
    return f'<polyline class="{kind}" points="{places}"/>'


def axes(scale: Scale) -> str:
    """Three lines across with their values, and the first and last step."""
    parts: list[str] = []
    for share in (0.0, 0.5, 1.0):
        value = scale.low + share * (scale.high - scale.low)
        y = scale.place((scale.first, value))[1]
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 3}" text-anchor="end">{number(value)}</text>')
    for step, anchor in ((scale.first, "start"), (scale.last, "end")):
        x = scale.place((step, scale.low))[0]
        parts.append(f'<text class="tick" x="{x}" y="{HEIGHT - 6}" text-anchor="{anchor}">{step:g}</text>')
    return "".join(parts)


def mark(scale: Scale, step: float | None) -> str:
    """An upright line at a step, where there is one to point at."""
    if step is None or not scale.first <= step <= scale.last:
        return ""
    x = scale.place((step, scale.low))[0]
    return f'<line class="mark" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'


def number(value: float) -> str:
    """A value in three digits, and no more than fit left of a plot."""
    short = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return short if len(short) <= 6 else f"{value:.1e}"
