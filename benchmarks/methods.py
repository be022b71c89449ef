"""The methods on the development subjects and the style. `python -m benchmarks.methods [--steps 150]`"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import record
from neologism.comparing import METHODS, Task, compare
from neologism.scores import open_judge
from workshop.emoji.examples import GIVEN, UNSEEN, subject_pictures
from workshop.emoji.subjects import Subject, development

WORK = Path(".emoji-base/methods")
MEANS = ("fidelity", "prompt", "diversity", "forgetting", "class_drift", "bytes", "seconds", "memory")


def task(subject: Subject, like: str, steps: int) -> Task:
    """A subject's pictures as something to compare on."""
    folder = WORK / subject.code / "pictures"
    shutil.rmtree(WORK / subject.code, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, image in enumerate(subject_pictures(subject, GIVEN, 0)):
        image.save(folder / f"{number}.png")
    return Task(folder, subject_pictures(subject, UNSEEN, 1), "<thing>", like, {"steps": steps})


def measured(only: list[str], steps: int, like: str) -> dict[str, Any]:
    """The mean figures of each method, and every subject's."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    judge, rows = open_judge(), dict[str, dict[str, Any]]()
    for subject in [s for s in development() if not only or s.name in only]:
        told = compare(task(subject, like, steps), METHODS, judge, WORK / subject.code)
        found = {event[0]: event[1].as_dict() for event in told if isinstance(event, tuple)}
        rows[subject.name] = found
        print(subject.name, found, file=sys.stderr, flush=True)
    means = {m: {k: statistics.mean(row[m][k] for row in rows.values()) for k in MEANS} for m in METHODS}
    return {"subjects": len(rows), **means, "rows": rows}


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=150, help="the budget of every method")
    parser.add_argument("--like", default="thing", help="the class word of all subjects")
    given = parser.parse_args()
    record.told("methods", given, lambda: measured([n for n in given.only.split(",") if n], given.steps, given.like))


if __name__ == "__main__":
    main()
