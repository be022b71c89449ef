"""Whether the score tells better words from worse, and what knowing costs. `python -m benchmarks.ranking [--only "rabbit"]`

For each of 20 development subjects a word learns from 4 pictures for `FULL` steps. Its rows after each of `MARKS` are scored as a
user scores them with `--seeds 16` (against the pictures that were given), and judged by 6 unseen pictures (seeds 100 to 131).
`spearman` is the mean over subjects of the rank correlation of the two, `order` that of the score with the steps themselves. Then a
run at default settings is timed: `overhead` is the time for previews, diagnostics, sheet, tracking and report as a share of all else.
Each subject's result is kept at once; the command typed again goes on, and several may run side by side with `--only`.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from scipy.stats import spearmanr
from torch import Tensor

from benchmarks import record
from neologism import previewing, run, training
from neologism.diagnosing import Diagnosis
from neologism.embedding import Embedding
from neologism.events import Checkpoint, Finished, Opened
from neologism.families import Model, open_model
from neologism.generation import generate
from neologism.metrics import Network, Shown, networks
from neologism.recipe import recipe
from neologism.scores import likeness, open_judge
from neologism.scoring import Subject, score
from workshop.emoji.examples import GIVEN, UNSEEN, subject_pictures
from workshop.emoji.subjects import development

WORK = Path(".emoji-base/ranking")
WORD = "<thing>"
MARKS = (10, 50, 200)
FULL = 400
SUBJECTS = 20
SEEN, JUDGED = range(16), range(100, 132)


def names() -> list[str]:
    """The subjects, in the order they are measured."""
    return [subject.name for subject in development()][:SUBJECTS]


def given_folder(name: str) -> Path:
    """The pictures a subject is learned from, written where they are not there yet."""
    subject = next(one for one in development() if one.name == name)
    folder = WORK / subject.code / "pictures"
    if not folder.is_dir():
        partial = folder.with_name(f"pictures-{os.getpid()}")
        partial.mkdir(parents=True)
        for number, image in enumerate(subject_pictures(subject, GIVEN, 0)):
            image.save(partial / f"{number}.png")
        partial.rename(folder)
    return folder


def rows_at_marks(name: str, out: Path) -> tuple[dict[int, dict[str, Tensor]], str]:
    """The word's vectors after each mark and at the end, and its start word."""
    plain: dict[str, Any] = {"steps": FULL, "checkpoint_every": 10, "preview_prompts": ()}
    settings = recipe(pictures=str(given_folder(name)), words=WORD, **plain)
    found: dict[int, dict[str, Tensor]] = {}
    start = ""
    for event in training.train(settings, out):
        if isinstance(event, Checkpoint) and event.step in (*MARKS, FULL):
            state = run.read_back(event.folder)
            assert state is not None
            found[event.step] = {k.removesuffix(".mean"): t for k, t in state["tensors"].items() if k.endswith(".mean")}
        if isinstance(event, Finished):
            start = event.facts["start"]
    return found, start


def ranked(model: Model, judge: Network, name: str, out: Path) -> dict[str, Any]:
    """One subject: the score and the judge's verdict at every mark, and how their ranks agree."""
    rows, start = rows_at_marks(name, out)
    subject = next(one for one in development() if one.name == name)
    given, unseen = ([Shown(i) for i in subject_pictures(subject, n, s)] for n, s in ((GIVEN, 0), (UNSEEN, 1)))
    points: list[dict[str, Any]] = []
    for step in sorted(rows):
        word = Embedding(WORD, rows[step], model.name, {"start": start})
        told = score(model, Subject(WORD, [word], None, start, given, []), [judge], SEEN, prompts=())
        images = generate(model, f"a {WORD}", [word], JUDGED, 25)
        verdict = likeness(open_judge(), images, [one.image for one in unseen])
        points.append(
            {"step": step, "score": told.metrics[0].own, "unseen": verdict, "anchors": told.metrics[0].anchors}
        )
    scores, verdicts, steps = ([point[key] for point in points] for key in ("score", "unseen", "step"))
    return {
        "subject": name,
        "start": start,
        "points": points,
        "spearman": float(spearmanr(scores, verdicts).statistic),
        "order": float(spearmanr(scores, steps).statistic),
        "order_of_judge": float(spearmanr(verdicts, steps).statistic),
    }


@contextmanager
def timed(spent: list[float]) -> Iterator[None]:
    """Count the seconds spent in everything that tells what was learned, until the block ends."""

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def timing(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            made = act(*given, **named)
            made = iter(list(made)) if hasattr(made, "__next__") else made  # an iterator works only when it is asked
            spent[0] += time.perf_counter() - began
            return made

        return timing

    with ExitStack() as undo:
        for module, act in TOLD_BY:
            undo.enter_context(patch.object(module, act, counted(getattr(module, act))))
        yield


TOLD_BY: list[tuple[Any, str]] = [
    (previewing, "previews"),
    (previewing, "sheet"),
    (Diagnosis, "step"),
    (Diagnosis, "pictures"),
    (training, "report"),
]
"""What a run does to tell what it learns."""


def overhead(name: str, out: Path) -> dict[str, float]:
    """The seconds of a run at default settings, and how many of them tell what was learned; opening the model not counted."""
    spent, began = [0.0], 0.0
    settings = recipe(pictures=str(given_folder(name)), words=WORD)
    with timed(spent):
        for event in training.train(settings, out):
            began = time.perf_counter() if isinstance(event, Opened) else began
    return {"seconds": time.perf_counter() - began, "told": spent[0]}


def measured(only: list[str]) -> dict[str, Any]:
    """Measure the subjects that are not measured yet, and sum up those that are."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    model: Model | None = None
    for name in only or names():
        file = WORK / "results" / f"{name.replace(' ', '-')}.json"
        if file.exists():
            continue
        model = model or open_model("emoji", precision="fp32")
        place = WORK / "runs" / f"{name.replace(' ', '-')}-{os.getpid()}"
        result = ranked(model, networks("auto", "emoji")[0], name, place)
        result["timed"] = overhead(name, place.with_name(place.name + "-default"))
        run.write_whole(file, json.dumps(result).encode())
        print(name, {k: result[k] for k in ("spearman", "order", "timed")}, file=sys.stderr, flush=True)
    return summary([json.loads(file.read_text("utf-8")) for file in sorted((WORK / "results").glob("*.json"))])


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The means over the subjects that were measured."""
    shares = [row["timed"]["told"] / (row["timed"]["seconds"] - row["timed"]["told"]) for row in rows]
    return {
        "subjects": len(rows),
        "spearman": statistics.mean(row["spearman"] for row in rows),
        "order": statistics.mean(row["order"] for row in rows),
        "order_of_judge": statistics.mean(row["order_of_judge"] for row in rows),
        "anchors": all(len(point["anchors"]) == 3 for row in rows for point in row["points"]),
        "overhead": statistics.mean(shares),
        "rows": rows,
    }


def main() -> None:
    """Measure and record."""
    given = record.options(__doc__ or "").parse_args()
    record.told("ranking", given, lambda: measured([n for n in given.only.split(",") if n]))


if __name__ == "__main__":
    main()
