"""Seconds until a word is good, ours against the published algorithm. `python -m benchmarks.time_to_quality`

For each development subject and the made style, and each training seed, both learn from the same 4 pictures, from the same start
word; at fixed steps the word's rows are set aside with the seconds spent so far (caching, start search and probes included in
ours; the reference is given its start word for nothing), and measured afterwards on 6 unseen pictures. What was learned and what
was measured is kept at once, so the command may be stopped at any moment and typed again. Figures are over the pairs that are
there.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import record, together
from benchmarks.asides import WORK, Asides, aside, folder_of, kept, load, shown, subjects
from benchmarks.curves import drawn
from benchmarks.held_out import number
from benchmarks.quality import Yardstick, probes_of
from neologism.families import Model, open_model
from neologism.scores import Judge, open_judge
from workshop.emoji.drawing import MADE_STYLE

GRAPH = Path("docs/pictures/time_to_quality.svg")
Point = dict[str, float]
SURE = 0.01  # what the judge's cosine of 8 pictures may differ by and still be the same


@dataclass(frozen=True)
class Curve:
    """What was measured of a word: the quality of its start word, and of its rows at steps, by step."""

    start: Point
    points: list[Point]

    @property
    def end(self) -> Point:
        """The quality at the end."""
        return self.points[-1]


def points_file(name: str, seed: int, method: str) -> Path:
    """Where a word's measured points are kept."""
    return WORK / "points" / f"{method}-{name.replace(' ', '-')}-{seed}.json"


def points_of(file: Path) -> dict[str, Point]:
    """The points measured so far, by step; that of the start word is called "start"."""
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


@functools.cache
def judge() -> Judge:
    """The judge, opened once."""
    return open_judge()


def yardstick(model: Model, name: str) -> Yardstick:
    """What a subject's words are measured against."""
    style = name == MADE_STYLE
    return Yardstick(model, judge(), name, style, shown(name, False), probes_of(model, folder_of(name, False)))


def measure(model: Model, name: str, seed: int, method: str, marks: Sequence[int], late: Callable[[], bool]) -> None:
    """Measure the word's start and its rows at these steps and at the end, as far as that was not done and it is not late."""
    learned, file = load(kept(name, seed, method)), points_file(name, seed, method)
    known, steps = points_of(file), learned.steps.tolist()
    yard = yardstick(model, name)
    for step in [steps[-1], "start", *[s for s in steps[:-1] if s in marks]]:
        if str(step) in known or late():
            continue
        if step == "start":
            known["start"] = yard.of_known(learned.start).as_dict() if method == "reference" else {}
        else:
            place = steps.index(step)
            timed = {"step": float(step), "seconds": float(learned.seconds[place])}
            known[str(step)] = timed | yard.of_word(learned.rows[place]).as_dict()
        keep_point(file, str(step), known[str(step)])
    print(f"{method} {name} {seed}: {told(known.get(str(steps[-1]), {}))}", file=sys.stderr, flush=True)


def told(point: Point) -> dict[str, float]:
    """A point for the eye."""
    return {key: round(value, 3) for key, value in point.items()}


def curve(name: str, seed: int, method: str) -> Curve | None:
    """What was measured of a word, or None where its end is not measured yet."""
    known = points_of(points_file(name, seed, method))
    if not kept(name, seed, method).exists() or str(int(load(kept(name, seed, method)).steps[-1])) not in known:
        return None
    first = known.pop("start", {})
    return Curve(first, sorted(known.values(), key=lambda point: point["step"]))


def seconds_to(points: Sequence[Point], fidelity: float, prompt: float) -> float:
    """The seconds of the first point that is at least so good in both, or infinity."""
    return next((p["seconds"] for p in points if p["fidelity"] >= fidelity and p["prompt"] >= prompt), float("inf"))


def compared(ours: Curve, theirs: Curve) -> dict[str, float]:
    """One subject and seed: T95 of ours as a share of the reference's whole time, and what was gained at the end."""
    first, end, own = theirs.start["fidelity"], theirs.end, ours.end
    wanted = first + 0.95 * (end["fidelity"] - first)
    return {
        "t95_ratio": seconds_to(ours.points, wanted, end["prompt"]) / end["seconds"],
        "t95_ratio_of_fidelity_alone": seconds_to(ours.points, wanted, -1.0) / end["seconds"],
        "fidelity_gain": own["fidelity"] - end["fidelity"],
        "prompt_gain": own["prompt"] - end["prompt"],
        "top5": own["top5"],
        "reference_top5": end["top5"],
        "seconds": own["seconds"],
        "reference_seconds": end["seconds"],
    }


def best_step(points: Sequence[Point]) -> float:
    """The first step whose fidelity is the best there is, as far as the judge can tell."""
    best = max(point["fidelity"] for point in points)
    return next(point["step"] for point in points if point["fidelity"] >= best - SURE)


def pairs(names: Sequence[str], seeds: int, method: str) -> Iterator[tuple[str, int, Curve, Curve]]:
    """The subjects and seeds for which both curves are there."""
    for seed in range(seeds):
        for name in names:
            own, theirs = curve(name, seed, method), curve(name, seed, "reference")
            if own and theirs:
                yield name, seed, own, theirs


def measured(given: Any, names: Sequence[str], chosen: dict[str, Any]) -> dict[str, Any]:
    """Learn and measure what there is time for, and compare what is there."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    marks = [int(mark) for mark in given.marks.split(",")] if given.marks else range(10**9)
    (in_company if given.together else one_by_one)(given, names, marks, chosen)
    own = next(method for method in given.methods.split(",") if method != "reference")
    return summary(list(pairs(names, given.seeds, own)), own)


def one_by_one(given: Any, names: Sequence[str], marks: Sequence[int], chosen: dict[str, Any]) -> None:
    """Learn word for word, then measure word for word, until it is late."""
    end, methods = time.monotonic() + given.minutes * 60, given.methods.split(",")
    every = [(name, seed) for seed in range(given.seeds) for name in names]

    def late() -> bool:
        return time.monotonic() > end

    for (name, seed), method in itertools.product(every, methods):
        if not late():
            aside(name, seed, method, chosen)
    model = open_model("emoji")
    for (name, seed), method in itertools.product(every, methods):
        if kept(name, seed, method).exists() and not late():
            measure(model, name, seed, method, marks if method == "reference" else range(10**9), late)


def in_company(given: Any, names: Sequence[str], marks: Sequence[int], chosen: dict[str, Any]) -> None:
    """Learn and measure all words in one batch, each step of them at once; seconds are those of words learned alone."""
    model, starts = open_model("emoji"), together.Starts()
    for method in given.methods.split(","):
        every = [(name, seed) for seed in range(given.seeds) for name in names]
        left = [pair for pair in every if not kept(*pair, method).exists()]
        learn = (
            together.theirs if method == "reference" else functools.partial(together.ours, chosen=chosen, starts=starts)
        )
        for pair, asides in learn(model, left).items() if left else ():
            together.timed(asides, pair[0], method).save(kept(*pair, method))
        learned = {pair: load(kept(*pair, method)) for pair in every}
        steps = next(iter(learned.values())).steps.tolist()
        measure_together(model, "start", learned, method)
        for step in (s for s in steps if s in marks or s == steps[-1]):
            measure_together(model, step, learned, method)


def measure_together(model: Model, step: int | str, learned: dict[tuple[str, int], Asides], method: str) -> None:
    """Measure what is missing at one step, or of the start words, of all words at once."""
    jobs: dict[tuple[str, int], together.Job] = {}
    for pair, asides in learned.items():
        if str(step) in points_of(points_file(*pair, method)) or (step == "start" and method != "reference"):
            continue
        rows = None if step == "start" else asides.rows[asides.steps.tolist().index(step)]
        written = asides.start if rows is None else together.word_of(pair)
        jobs[pair] = together.Job(yardstick(model, pair[0]), rows, written)
    for pair, found in zip(jobs, together.measured(model, list(jobs.values())), strict=True):
        seconds = learned[pair].seconds[learned[pair].steps.tolist().index(step)] if step != "start" else 0.0
        timed = {} if step == "start" else {"step": float(step), "seconds": float(seconds)}
        keep_point(points_file(*pair, method), str(step), timed | found.as_dict())
    print(method, step, len(jobs), file=sys.stderr, flush=True)


def keep_point(file: Path, step: str, point: Point) -> None:
    """Add a point to a word's file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".partial").write_text(json.dumps(points_of(file) | {step: point}), "utf-8")
    os.replace(file.with_suffix(".partial"), file)


def summary(found: list[tuple[str, int, Curve, Curve]], method: str) -> dict[str, Any]:
    """Medians and means over the curves that are there."""
    if not found:
        sys.exit("No subject has both curves yet: give it more time (--minutes).")
    rows: list[dict[str, Any]] = [
        {"subject": name, "seed": seed} | compared(own, theirs) for name, seed, own, theirs in found
    ]
    if method == "ours":
        picture(found)
    means = ("fidelity_gain", "prompt_gain", "top5", "reference_top5", "seconds", "reference_seconds")
    return {
        "curves": len(rows),
        "subjects": len({row["subject"] for row in rows}),
        "t95_ratio": statistics.median(row["t95_ratio"] for row in rows),
        "reached": statistics.mean(row["t95_ratio"] < float("inf") for row in rows),
        "t95_ratio_of_fidelity_alone": statistics.median(row["t95_ratio_of_fidelity_alone"] for row in rows),
        "reached_fidelity": statistics.mean(row["t95_ratio_of_fidelity_alone"] < float("inf") for row in rows),
        **{key: statistics.mean(row[key] for row in rows) for key in means},
        "stop_within": record.figure("when_to_stop", "stop_within"),
        "curve": {which: mean_curve(found, place) for place, which in ((2, method), (3, "reference"))},
        "rows": rows,
    }


def mean_curve(found: Sequence[Any], place: int) -> list[dict[str, float]]:
    """The means over words at every step that all of them have."""
    curves: list[Curve] = [pair[place] for pair in found]
    common = set.intersection(*({p["step"] for p in c.points} for c in curves))
    return [
        {
            key: statistics.mean(p[key] for c in curves for p in c.points if p["step"] == step)
            for key in curves[0].points[0]
        }
        for step in sorted(common)
    ]


def picture(found: Sequence[tuple[str, int, Curve, Curve]]) -> None:
    """Draw the curves of fidelity and of prompt fidelity."""
    for measure, title in (("fidelity", "Cosine to unseen pictures"), ("prompt", "Cosine to prompts")):
        curves = {
            which: [[(p["seconds"], p[measure]) for p in pair[place].points] for pair in found]  # type: ignore[union-attr]
            for place, which in ((2, "ours"), (3, "reference"))
        }
        text = drawn(f"{title}, over seconds of learning ({len(found)} words)", "log scale", curves)
        GRAPH.with_name(f"time_to_quality_{measure}.svg").write_text(text, "utf-8")


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds of every subject")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin nothing after so many minutes")
    parser.add_argument("--methods", default="ours,reference", help="ours, or the name of what is tried, and reference")
    parser.add_argument(
        "--together", action="store_true", help="learn and draw all words in one batch, as a GPU likes it"
    )
    parser.add_argument("--marks", default="", help="steps of the reference to measure beside its end (all)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of ours to try")
    given = parser.parse_args()
    chosen = {name: number(value) for name, value in (pair.split("=", 1) for pair in given.set)}
    tried = "ours" not in given.methods.split(",")
    if bool(chosen) != tried:
        parser.error("give tried settings a name of their own in --methods, and a name only to tried settings")
    names = [n for n in given.only.split(",") if n] or list(subjects())
    given.only = given.only or ("tried" if chosen else "")
    record.told("time_to_quality", given, lambda: measured(given, names, chosen))


if __name__ == "__main__":
    main()
