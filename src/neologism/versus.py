"""A comparison as one page that needs nothing beside it: table, curves, pictures, advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from neologism import run
from neologism.comparing import TOGETHER, drawn_in
from neologism.outcomes import ITSELF, KEPT, PROMPTS, Figures
from neologism.report import environment
from neologism.thumbnails import address

COLUMNS = {
    "fidelity": "Fidelity", "loss": "Loss", "prompt": "Prompts", "diversity": "Diversity", "forgetting": "Forgetting",
    "class_drift": "Class drift", "unchanged": "Unchanged", "bytes": "Bytes", "steps": "Steps",
    "seconds": "Seconds", "memory": "Peak memory",
}  # fmt: skip
TINTS = 6
"""Colours of curves that the page's style has."""
SIDE, MOST_REAL = 192, 8
WIDE, HIGH = 560, 200


def page(found: Mapping[str, Figures], out: Path, real: Sequence[Image.Image] = (), word: str = "") -> Path:
    """index.html: the advice, the table, pictures side by side, the curves; `real` are the pictures it was judged by."""
    rows = {name: {key: shown(key, getattr(one, key)) for key in COLUMNS} for name, one in found.items()}
    lowest = min((y for one in found.values() for _, y in one.curve), default=1.0)
    lines = {name: (number % TINTS, points(one.curve, lowest)) for number, (name, one) in enumerate(found.items())}
    facts = {
        "rows": rows,
        "columns": COLUMNS,
        "lines": lines,
        "lowest": lowest,
        "advice": recommended(found),
        "together": TOGETHER,
    }
    grid = [(prompt, beside(found, out, number)) for number, prompt in enumerate((ITSELF, *PROMPTS))]
    pictures = {"grid": grid, "real": [address(image, SIDE) for image in real[:MOST_REAL]], "word": word}
    template = environment().get_template("comparison.html")
    run.write_whole(out / "index.html", template.render(**facts, **pictures, wide=WIDE, high=HIGH).encode())
    return out / "index.html"


def beside(found: Mapping[str, Figures], out: Path, prompt: int) -> dict[str, list[str]]:
    """What each drew for a prompt by its number, from the same seeds, as data addresses."""
    cells: dict[str, list[str]] = {}
    for name in found:
        files = [drawn_in(out, name) / f"{prompt}-{seed}.png" for seed in range(KEPT)]
        cells[name] = [address(run.image_at(file), SIDE) for file in files if file.is_file()]
    return cells


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


def points(curve: Sequence[tuple[float, float]], lowest: float) -> str:
    """A curve as an SVG polyline's points: from 0 to 1 across, from its first loss at the top to the lowest of all at the bottom."""
    span = max(1 - lowest, 1e-6)
    return " ".join(f"{x * WIDE:.1f},{min(1.0, max(0.0, (1 - y) / span)) * HIGH:.1f}" for x, y in curve)


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
