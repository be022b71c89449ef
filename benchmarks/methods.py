"""The four methods on twelve development subjects and the made style. `python -m benchmarks.methods [--only eagle,rabbit]`

Each learns from the same 4 pictures with the same number of steps; figures are over 6 unseen pictures, the same prompts and seeds.
DreamBooth runs with prior preservation, LoRA without, as is usual; the first four subjects show the other way round as well, and
DreamBooth of the whole denoiser. What is measured is kept at once, so the command may be stopped and typed again, and pieces may run
at a time: `--only SUBJECT --methods METHOD`.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.asides import folder_of, shown
from neologism.comparing import METHODS, Task, compare
from neologism.families import open_model
from neologism.scores import Judge, open_judge
from workshop.emoji.denoiser import SUBJECTS
from workshop.emoji.drawing import MADE_STYLE
from workshop.emoji.judge import everyone
from workshop.emoji.subjects import development, general_words, trained

WORK = Path(".emoji-base/methods")
PICTURES = 16  # of the class, drawn by the base for prior preservation
FIGURES = ("fidelity", "loss", "prompt", "diversity", "forgetting", "class_drift", "bytes", "seconds", "memory")
VARIANTS: dict[str, dict[str, Any]] = {
    "dreambooth without prior preservation": {"class_pictures": 0},
    "dreambooth of the whole denoiser": {"scope": "denoiser", "weights_rate": 1e-4},
    "lora with prior preservation": {"class_pictures": PICTURES},
}
"""What else is measured on the first subjects: the method, its first word, with these settings."""
COMPARED = 4  # subjects on which the variants are measured
SEVERAL = 5  # subjects that a class word fits at least
NAMES = [subject.name for subject in development()[::2]]


@functools.cache
def class_words() -> dict[str, str]:
    """What each subject is one of: the first of its CLDR keywords that is one token and fits several taught subjects, or else that
    ends a taught subject's name (mountain, snowman); those that have none are left out."""
    known, single = general_words(everyone()), open_model("emoji").encoders[0].word_ids
    taught = trained(SUBJECTS)
    counts = Counter(word for subject in taught for word in known.get(subject, ()))
    named = {subject.name.split()[-1] for subject in taught}
    found = {MADE_STYLE: "picture"}
    for subject in development():
        general = [word for word in known[subject] if word in single and counts[word] >= SEVERAL]
        fit = [*general, *(word for word in subject.keywords if word in single and word in named)]
        found |= {subject.name: fit[0]} if fit else {}
    return found


def task(name: str, steps: int, method: str) -> Task:
    """A subject's pictures as something to compare on, for a method or a variant of one."""
    settings: dict[str, Any] = {"steps": steps, "batch": 4}
    settings |= {"class_pictures": PICTURES} if method.startswith("dreambooth") else {}
    settings |= VARIANTS.get(method, {})
    if name == MADE_STYLE:
        settings |= {"kind": "style"}
    return Task(folder_of(name, True), shown(name, False), "<thing>", class_words()[name], settings)


def measured_one(judge: Judge, name: str, method: str, steps: int) -> dict[str, Any]:
    """One method's figures of one subject, kept."""
    stem, like = f"{name}-{method}".replace(" ", "-"), class_words()[name]
    place, file = WORK / f"{stem}-{like}", WORK / f"{stem}.json"
    kept = json.loads(file.read_text("utf-8")) if file.exists() else None
    if kept is None or kept.get("like", like) != like:
        shutil.rmtree(place, ignore_errors=True)  # a run that goes on would not tell its whole time
        told = compare(task(name, steps, method), [method.split()[0]], judge, place)
        found = next(event[1] for event in told if isinstance(event, tuple))
        file.write_text(json.dumps(found.as_dict() | {"like": like}), "utf-8")
        print(
            name,
            method,
            {k: round(v, 3) for k, v in found.as_dict().items() if k in FIGURES},
            file=sys.stderr,
            flush=True,
        )
    return json.loads(file.read_text("utf-8"))


def measured(only: list[str], steps: int, methods: list[str]) -> dict[str, Any]:
    """The mean figures of each method, and every subject's; with `methods` only these are measured, and nothing is summed up."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    WORK.mkdir(parents=True, exist_ok=True)
    judge, rows = open_judge(), dict[str, dict[str, Any]]()
    for number, name in enumerate([*NAMES, MADE_STYLE]):
        if not only or name in only:
            more = tuple(VARIANTS) if number < COMPARED else ()
            wanted = [m for m in (*METHODS, *more) if not methods or m.split()[0] in methods]
            rows[name] = {method: measured_one(judge, name, method, steps) for method in wanted}
    if methods:
        return {"rows": rows}
    means = {method: mean([row[method] for row in rows.values()]) for method in METHODS}
    first = [row for row in rows.values() if all(name in row for name in VARIANTS)]
    both = {name: mean([row[name] for row in first]) for name in ("dreambooth", "lora", *VARIANTS)} if first else {}
    return {"subjects": len(rows), "steps": steps, **means, "variants": both, "rows": rows}


def mean(found: list[dict[str, Any]]) -> dict[str, float]:
    """The means of the figures."""
    return {key: statistics.mean(row[key] for row in found) for key in FIGURES}


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=100, help="the budget of every method")
    parser.add_argument("--methods", default="", help="only these, separated by commas; nothing is recorded then")
    given = parser.parse_args()
    names, methods = record.narrowed(given, "methods")
    record.told("methods", given, lambda: measured(names, given.steps, methods))


if __name__ == "__main__":
    main()
