"""The four methods on twelve development subjects and the made style. `python -m benchmarks.methods [--only eagle,rabbit]`

Each learns from the same 4 pictures with the same number of steps; figures are over 6 unseen pictures, the same prompts and seeds.
DreamBooth runs with prior preservation, and on the first four subjects without it as well. What is measured is kept at once, so the
command may be stopped and typed again, and two may run at a time with different subjects.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.asides import folder_of, shown
from neologism.comparing import METHODS, Task, compare
from neologism.scores import Judge, open_judge
from workshop.emoji.drawing import MADE_STYLE
from workshop.emoji.judge import everyone
from workshop.emoji.subjects import development, general_words

WORK = Path(".emoji-base/methods")
FIGURES = ("fidelity", "prompt", "diversity", "forgetting", "class_drift", "bytes", "seconds", "memory")
BARE = "dreambooth without prior preservation"
RATES = {"dreambooth": 2e-4, "lora": 1e-3}
"""Tried on rabbit: DreamBooth at 5e-5 / 2e-4 had fidelity 0.33 / 0.49, the usual 5e-6 0.31 (on eagle): a small base needs more."""
PICTURES = 16  # of the class, drawn by the base for prior preservation
NAMES = [subject.name for subject in development()[::2]]


def class_words() -> dict[str, str]:
    """What each subject is one of, in a word that the base knows."""
    known = general_words(everyone())
    return {s.name: next(iter(known[s]), "object") for s in development()} | {MADE_STYLE: "painting"}


def task(name: str, steps: int, bare: bool) -> Task:
    """A subject's pictures as something to compare on."""
    settings: dict[str, Any] = {"steps": steps, "class_pictures": 0 if bare else PICTURES, "batch": 4}
    if name == MADE_STYLE:
        settings |= {"kind": "style"}
    return Task(folder_of(name, True), shown(name, False), "<thing>", class_words()[name], settings, RATES)


def measured_one(judge: Judge, name: str, method: str, steps: int) -> dict[str, Any]:
    """One method's figures of one subject, kept."""
    place = WORK / f"{name.replace(' ', '-')}-{method.replace(' ', '-')}"
    file = place.with_suffix(".json")
    if not file.exists():
        real = "dreambooth" if method == BARE else method
        shutil.rmtree(place, ignore_errors=True)  # a run that goes on would not tell its whole time
        told = compare(task(name, steps, method == BARE), [real], judge, place)
        found = next(event[1] for event in told if isinstance(event, tuple))
        file.write_text(json.dumps(found.as_dict()), "utf-8")
        print(
            name,
            method,
            {k: round(v, 3) for k, v in found.as_dict().items() if k in FIGURES},
            file=sys.stderr,
            flush=True,
        )
    return json.loads(file.read_text("utf-8"))


def measured(only: list[str], steps: int) -> dict[str, Any]:
    """The mean figures of each method, and every subject's."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    WORK.mkdir(parents=True, exist_ok=True)
    judge, rows = open_judge(), dict[str, dict[str, Any]]()
    for number, name in enumerate([*NAMES, MADE_STYLE]):
        if not only or name in only:
            more = (BARE,) if number < 4 else ()
            rows[name] = {method: measured_one(judge, name, method, steps) for method in (*METHODS, *more)}
    means = {method: mean([row[method] for row in rows.values()]) for method in METHODS}
    four = [row for row in rows.values() if BARE in row]
    prior = {m: mean([row[m] for row in four]) for m in ("dreambooth", BARE)} if four else {}
    return {"subjects": len(rows), "steps": steps, **means, "prior_preservation": prior, "rows": rows}


def mean(found: list[dict[str, Any]]) -> dict[str, float]:
    """The means of the figures."""
    return {key: statistics.mean(row[key] for row in found) for key in FIGURES}


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=100, help="the budget of every method")
    given = parser.parse_args()
    record.told("methods", given, lambda: measured([n for n in given.only.split(",") if n], given.steps))


if __name__ == "__main__":
    main()
