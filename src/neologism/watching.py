"""A run that another process is doing, as a terminal shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from neologism.history import Story, history

BARS = "▁▂▃▄▅▆▇█"
NOTES = 5
"""The newest notes that are shown."""


def panel(folder: Path) -> Group:
    """The words of a run with their numbers, lines over time, and the newest notes.

    Raises:
        RunError: the folder holds no run.
    """
    told = history(folder)
    table = Table(box=None)
    for name in ("word", "step", "loss", "probe", "norm", "like start", "near", "left"):
        table.add_column(name, no_wrap=name in ("step", "loss", "probe"))  # a line of bars says nothing in two halves
    for story in told.stories:
        table.add_row(*map(escape, row(story)))
    notes = [Text.from_markup(f"[yellow]note:[/] {escape(note)}") for note in told.notes[-NOTES:]]
    return Group(table, *notes)


def row(story: Story) -> list[str]:
    """A word in a line."""
    if not story.steps:
        return [story.word, "-", "", "", "", "", "", "waits"]
    last = story.steps[-1]
    probes = [float(s["probe"]) for s in story.steps if s.get("probe") is not None]
    left = story.finished["reason"] if story.finished else f"{last['seconds_left']:.0f} s"
    return [
        story.word,
        f"{last['step']}/{last['steps']}",
        f"{last['loss']:.3f} {line([float(s['loss']) for s in story.steps])}",
        f"{probes[-1]:.4f} {line(probes)}" if probes else "",
        f"{last['norm']:.2f}",
        f"{last['cosine']:+.2f}",
        " ".join(last["nearest"][:2]),
        str(left),
    ]


def line(values: list[float], width: int = 16) -> str:
    """Values as a line of bars, the newest at the right."""
    size = max(1, -(-len(values) // width))
    means = [sum(part) / len(part) for i in range(0, len(values), size) if (part := values[i : i + size])]
    low, high = min(means), max(means)
    return "".join(
        BARS[round((value - low) / (high - low) * (len(BARS) - 1))] if high > low else BARS[0] for value in means
    )


def ended(folder: Path) -> bool:
    """Whether every word of the run is finished or has failed."""
    told: Any = history(folder)
    return all(story.finished for story in told.stories)
