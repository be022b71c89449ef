"""What the steps of a run tell: curves, the best step, and the words it was near."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neologism.plotting import curve

CURVES = (
    ("probe", "Loss on fixed probes", "The same pictures, times and noise every time, so this line can be trusted."),
    ("loss", "Training loss", "Faint: every step. It jumps with the noise that was drawn; look at the average."),
    (
        "norm",
        "Length of the vectors",
        "Known words lie near where it starts. Very long words drown the rest of a prompt.",
    ),
    ("cosine", "Likeness to the start", "1 is the start word, 0 has nothing in common with it."),
    ("gradient", "Gradient", "How hard the pictures pull. Near zero throughout: nothing is learned."),
    ("rate", "Learning rate", "As a share of the vocabulary's typical number."),
)
"""The curves of the page: the name in a Step, what it is called, and how to read it."""
AVERAGED = ("loss", "gradient")


def curves(steps: Sequence[dict[str, Any]], best: int | None) -> list[dict[str, str]]:
    """The curves there are values for."""
    found: list[dict[str, str]] = []
    for name, label, about in CURVES:
        points = [(float(s["step"]), float(s[name])) for s in steps if s.get(name) is not None]
        drawn = curve(label, points, name in AVERAGED, best if name == "probe" else None)
        if drawn:
            found.append({"label": label, "about": about, "svg": drawn})
    return found


def probes(steps: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
    """Steps and losses of the probes."""
    return [(int(s["step"]), float(s["probe"])) for s in steps if s.get("probe") is not None]


def best_step(steps: Sequence[dict[str, Any]]) -> int | None:
    """The step of the lowest probe loss, or None where nothing was probed."""
    found = probes(steps)
    return min(found, key=lambda pair: pair[1])[0] if found else None


def probe_facts(steps: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """The first, the lowest and the last loss on the probes."""
    losses = [loss for _, loss in probes(steps)]
    return {"first": losses[0], "lowest": min(losses), "last": losses[-1]} if losses else None


def near_over_time(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The nearest known words at a few steps."""
    told = [s for s in steps if s.get("nearest")]
    kept = spread([int(s["step"]) for s in told], 6)
    return [{"step": int(s["step"]), "words": s["nearest"]} for s in told if int(s["step"]) in kept]


def spread(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of the steps, evenly apart, the first and last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]
