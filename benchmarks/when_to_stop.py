"""Whether `converged` stops where a word is best. `python -m benchmarks.when_to_stop [--words 12]`

Words are learned at the constant rate that `converged` learns with, past the point where it would stop; every twenty steps the
rows are judged on unseen pictures, and the rule is played back over the probes. The best step is the first whose score is the
highest there is, as far as the judge can tell; the stop is within if neither is more than 1.5 times the other.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import record, together
from benchmarks.asides import WORK, Asides, kept, load, shown, subjects
from benchmarks.quality import THINGS, Asked
from benchmarks.time_to_quality import best_step, judge, keep_point, points_file, points_of
from neologism.families import Model, open_model
from neologism.recipe import recipe
from neologism.scores import likeness
from neologism.stopping import converged
from neologism.vocabulary import taught
from workshop.emoji.scenes import with_article

STEPS, EVERY = 300, 20
MARKS = range(0, STEPS + 1, EVERY)
SETTINGS: dict[str, Any] = {"schedule": "constant", "steps": STEPS, "probe_every": EVERY}
METHOD = "converged"
PICTURES = 32


def stop_of(asides: Asides) -> int:
    """The step at which the rule would have stopped."""
    probes, patience = asides.probes[:, 1].tolist(), recipe(pictures="none", words="<w>").patience
    ends = (count for count in range(1, len(probes) + 1) if converged(probes[:count], patience))
    return int(asides.probes[next(ends, len(probes)) - 1, 0])


def measure(model: Model, names: Sequence[str]) -> None:
    """Learn and judge what is missing, a step of all words at a time."""
    left = [(name, 0) for name in names if not kept(name, 0, METHOD).exists()]
    for pair, asides in together.ours(model, left, SETTINGS, {}, MARKS).items() if left else ():
        asides.save(kept(*pair, METHOD))
    for step in MARKS[1:]:
        missing = [name for name in names if str(step) not in points_of(points_file(name, 0, METHOD))]
        for name, found in scored(model, missing, step).items():
            keep_point(points_file(name, 0, METHOD), str(step), {"step": float(step), "fidelity": found})
        print(f"step {step}: {len(missing)} words", file=sys.stderr, flush=True)


def scored(model: Model, names: Sequence[str], step: int) -> dict[str, float]:
    """The judge's mean cosine of what each word draws at a step to its unseen pictures, over many pictures: a word's curve is
    so flat behind its bend that the mean of a few would find its best step anywhere."""
    words = {together.word_of((name, 0)): name for name in names}
    rows = {w: {model.encoders[0].key: load(kept(name, 0, METHOD)).rows[step // EVERY]} for w, name in words.items()}
    styled = {name for name, kind in subjects().items() if kind == "style"}
    wanted = [(w, asked(seed, name in styled)) for w, name in words.items() for seed in range(PICTURES)]
    with taught(model, rows):
        images = list(together.drawn(model, wanted))
    parts = {name: images[n * PICTURES : (n + 1) * PICTURES] for n, name in enumerate(words.values())}
    return {name: likeness(judge(), shots, shown(name, False)) for name, shots in parts.items()}


def asked(seed: int, style: bool) -> Asked:
    """One picture of a word itself, or of a known thing in its style."""
    prompt = f"{with_article(THINGS[seed % len(THINGS)], 'a')} in the style of {{}}" if style else "a {}"
    return Asked(prompt, seed, "", "")


def compared() -> dict[str, Any]:
    """Stop and best step of every word that is wholly judged."""
    rows: list[dict[str, Any]] = []
    for name in subjects():
        points = points_of(points_file(name, 0, METHOD))
        if len(points) == len(MARKS) - 1:
            stop, best = stop_of(load(kept(name, 0, METHOD))), best_step([points[str(step)] for step in MARKS[1:]])
            given_up = max(p["fidelity"] for p in points.values()) - points[str(stop)]["fidelity"]
            rows.append(
                {
                    "subject": name,
                    "stop": stop,
                    "best": best,
                    "within": 1 / 1.5 <= stop / best <= 1.5,
                    "given_up": given_up,
                }
            )
    if not rows:
        return {}
    return {
        "words": len(rows),
        "stop_within": statistics.mean(row["within"] for row in rows),
        "stop": statistics.median(row["stop"] for row in rows),
        "best": statistics.median(row["best"] for row in rows),
        "given_up": statistics.mean(row["given_up"] for row in rows),
        "rows": rows,
    }


def overhead(model: Model, name: str) -> float:
    """What the probes add to the time of learning: a word with them over the same without, interleaved, the median of three."""

    def seconds(every: int) -> float:
        pupil = together.lesson(model, (name, 0), {"steps": 100, "like": "animal", "probe_every": every}, {})
        began = time.perf_counter()
        for _ in together.loop(model, [pupil]):
            pass
        return time.perf_counter() - began

    seconds(100)
    return statistics.median(seconds(EVERY) / seconds(10**6) - 1 for _ in range(3))


def measured(words: int) -> dict[str, Any]:
    """Learn, judge, play back."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    model, names = open_model("emoji"), list(subjects())
    measure(model, names[:: max(1, len(names) // words)][:words])
    return compared() | {"overhead": overhead(model, names[0])}


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--words", type=int, default=12)
    given = parser.parse_args()
    record.told("when_to_stop", given, lambda: measured(given.words))


if __name__ == "__main__":
    main()
