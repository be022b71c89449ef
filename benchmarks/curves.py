"""Curves of quality over seconds as a picture that any browser shows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 300, 60, 24, 16, 40
COLOURS = {"ours": "#1f77b4", "reference": "#d62728"}
Points = Sequence[tuple[float, float]]  # seconds, quality


def middle(curves: Sequence[Points]) -> list[tuple[float, float]]:
    """The median curve: at each mark that all curves have, the median seconds and the median quality."""
    marks = min(map(len, curves))
    return [
        (statistics.median(c[i][0] for c in curves), statistics.median(c[i][1] for c in curves)) for i in range(marks)
    ]


def drawn(title: str, unit: str, curves: Mapping[str, Sequence[Points]]) -> str:
    """An SVG of every curve, faint, and of each method's median; seconds on a logarithmic axis from 1."""
    values = [quality for some in curves.values() for curve in some for _, quality in curve]
    low, high = min(values), max(values)
    longest = max(seconds for some in curves.values() for curve in some for seconds, _ in curve)

    def place(seconds: float, quality: float) -> str:
        across = math.log10(max(1.0, seconds)) / math.log10(max(10.0, longest))
        up = (quality - low) / max(1e-9, high - low)
        return f"{LEFT + across * (WIDTH - LEFT - RIGHT):.1f},{HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM):.1f}"

    def line(curve: Points, colour: str, style: str) -> str:
        points = " ".join(place(*point) for point in curve)
        return f'<polyline fill="none" stroke="{colour}" {style} points="{points}"/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    ]
    parts += ['<rect width="100%" height="100%" fill="white"/>', f'<text x="{LEFT}" y="16">{title}</text>']
    for number, (name, some) in enumerate(curves.items()):
        colour = COLOURS.get(name, "#2ca02c")
        parts += [line(curve, colour, 'stroke-opacity="0.15"') for curve in some]
        parts.append(line(middle(some), colour, 'stroke-width="3"'))
        parts.append(f'<text x="{WIDTH - 150}" y="{HEIGHT - 70 + 16 * number}" fill="{colour}">{name} (median)</text>')
    parts += [axis_text(place, seconds) for seconds in (1, 10, 100, 1000) if seconds <= longest]
    ends = [(low, HEIGHT - BOTTOM), (high, TOP + 4)]
    parts += [f'<text x="4" y="{y}">{value:.2f}</text>' for value, y in ends]
    parts.append(f'<text x="{WIDTH - 90}" y="{HEIGHT - 6}">{unit}</text></svg>')
    return "\n".join(parts) + "\n"


def axis_text(place: object, seconds: int) -> str:
    """A mark of the axis of seconds."""
    x = place(seconds, 0.0).split(",")[0]  # type: ignore[operator]
    return f'<text x="{x}" y="{HEIGHT - 22}" text-anchor="middle">{seconds} s</text>'
