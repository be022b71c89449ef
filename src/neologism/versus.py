"""A comparison as one page that needs nothing beside it: table, curves, pictures, advice."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from neologism import run
from neologism.comparing import TOGETHER, Figures

COLUMNS = {
    "fidelity": "Fidelity", "prompt": "Prompts", "diversity": "Diversity", "forgetting": "Forgetting", "class_drift": "Class drift",
    "unchanged": "Unchanged", "bytes": "Bytes", "steps": "Steps", "seconds": "Seconds", "memory": "Peak memory",
}  # fmt: skip
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#4a5568")
WIDE, HIGH = 560, 200


def page(found: Mapping[str, Figures], out: Path) -> Path:
    """index.html: the table, the curves, each one's pictures, and the advice."""
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(PAGE)
    rows = {name: {key: shown(key, getattr(one, key)) for key in COLUMNS} for name, one in found.items()}
    sheets = {name: encoded(out / name / "sheet.png") for name in found}
    lines = {name: (COLOURS[i % len(COLOURS)], points(one.curve)) for i, (name, one) in enumerate(found.items())}
    text = template.render(
        rows=rows,
        columns=COLUMNS,
        sheets=sheets,
        lines=lines,
        advice=recommended(found),
        together=TOGETHER,
        wide=WIDE,
        high=HIGH,
    )
    run.write_whole(out / "index.html", text.encode())
    return out / "index.html"


def shown(key: str, value: object) -> str:
    """A figure as it is read."""
    if isinstance(value, bool):
        return "bit for bit" if value else "no"
    if key in ("bytes", "memory"):
        return sized(float(str(value)))
    whole = not isinstance(value, float) or key == "seconds"
    return f"{value:,.0f}" if whole else f"{value:.3f}"


def sized(count: float) -> str:
    """Bytes in the unit that suits them."""
    units = ((2**30, "GB"), (2**20, "MB"), (2**10, "kB"), (1, "bytes"))
    return next(f"{count / size:,.1f} {unit}" for size, unit in units if count >= size or size == 1)


def encoded(file: Path) -> str:
    """A picture as text that stands in a page, or "" where there is none."""
    return base64.b64encode(file.read_bytes()).decode() if file.exists() else ""


def points(curve: Sequence[tuple[float, float]]) -> str:
    """A curve as an SVG polyline's points: from 0 to 1 across, from the start's loss at the top to half of it."""
    return " ".join(f"{x * WIDE:.1f},{min(1.0, max(0.0, (1.02 - y) / 0.52)) * HIGH:.1f}" for x, y in curve)


def recommended(found: Mapping[str, Figures]) -> str:
    """Advice that follows from the figures alone."""
    truest = max(found, key=lambda name: found[name].fidelity)
    obedient = max(found, key=lambda name: found[name].prompt)
    smallest = min(found, key=lambda name: found[name].bytes)
    gentle = min(found, key=lambda name: (not found[name].unchanged, found[name].forgetting + found[name].class_drift))
    return (
        f"Truest to the pictures: {truest} ({found[truest].fidelity:.3f}). Truest to prompts: {obedient} "
        f"({found[obedient].prompt:.3f}). Forgets least: {gentle}. Smallest: {smallest} ({found[smallest].bytes:,} bytes). "
        + (
            f"Take {truest}."
            if truest == gentle
            else f"Take {truest} for this thing alone, {gentle} where the rest must stay."
        )
    )


PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Compared</title><style>
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}
.scroll{overflow-x:auto}table{border-collapse:collapse}td,th{padding:.35rem .8rem;text-align:right;border-bottom:1px solid #8884}
th:first-child{text-align:left}img,svg{max-width:100%;height:auto}.advice{padding:1rem;border-left:4px solid #2b6cb0;background:#8881}
figure{margin:2rem 0}figcaption{font-weight:600}small{opacity:.75}</style></head><body>
<h1>Compared on your pictures</h1><p class="advice">{{ advice }}</p>
<div class="scroll"><table><tr><th></th>{% for title in columns.values() %}<th>{{ title }}</th>{% endfor %}<th>Live together</th></tr>
{% for name, row in rows.items() %}<tr><th>{{ name }}</th>{% for key in columns %}<td>{{ row[key] }}</td>{% endfor %}
<td>{{ together.get(name, "") }}</td></tr>{% endfor %}</table></div>
<p><small>Fidelity: mean cosine of what the word draws to the held-out pictures, by the judge. Prompts: of the word in other scenes to the
prompts, its class in its place. Diversity: mean distance between the word's pictures. Forgetting and class drift: how far pictures of
other prompts, and of the class word, have moved. Unchanged: whether other prompts draw the same pictures to the bit.</small></p>
<h2>While they learned</h2>
<svg viewBox="0 -4 {{ wide }} {{ high + 8 }}" width="{{ wide }}" role="img" aria-label="Loss on fixed probes over the run">
{% for colour, line in lines.values() %}<polyline fill="none" stroke="{{ colour }}" stroke-width="2" points="{{ line }}"/>{% endfor %}</svg>
<p><small>Loss on fixed probes, as a share of its first, over each run.{% for name, pair in lines.items() %}
<span style="color:{{ pair[0] }}">&#9632;</span> {{ name }}{% endfor %}</small></p>
{% for name, sheet in sheets.items() %}{% if sheet %}<figure><figcaption>{{ name }}</figcaption>
<img alt="Pictures given, before and after learning by {{ name }}" src="data:image/png;base64,{{ sheet }}"></figure>{% endif %}{% endfor %}
</body></html>
"""
