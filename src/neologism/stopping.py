"""When a word is learned, told from its losses on fixed probes."""

from __future__ import annotations

from collections.abc import Sequence

LEAST_GAIN = 0.02  # less than this share of the start's loss is not progress


def gained(probes: Sequence[float]) -> float:
    """The share of the start's probe loss that is gone by now. The probes are paired: same pictures, times and noise."""
    return 1 - probes[-1] / probes[0] if probes and probes[0] > 0 else 0.0


def converged(probes: Sequence[float], patience: int) -> bool:
    """Whether the best of the last `patience` probes is hardly better than the best before them."""
    if len(probes) <= patience + 1:
        return False
    before, lately = min(probes[:-patience]), min(probes[-patience:])
    return before - lately < LEAST_GAIN * probes[0]


def reason_to_stop(rule: str, probes: Sequence[float], patience: int, gain_wanted: float) -> str | None:
    """Why the word is learned by now, in words, or None where it is not yet."""
    if rule == "converged" and converged(probes, patience):
        return f"converged: the last {patience} probes brought less than {LEAST_GAIN:.1%} of the start's loss"
    if rule == "similar" and gained(probes) >= gain_wanted:
        return f"similar enough: {gained(probes):.0%} of the start word's probe loss is gone"
    return None
