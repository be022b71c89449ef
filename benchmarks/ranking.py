"""Whether `score` ranks a word's checkpoints as unseen pictures do. `python -m benchmarks.ranking`

For twenty development subjects the words set aside by benchmarks.time_to_quality after 10, 40, 100 and 150 (all) steps are scored on
the pictures they learned from, drawn from seeds of its own; the yardstick is the judge's cosine to pictures nobody learned from.
Overhead is what previews' pages and probes cost, as a share of a word's training.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import record
from benchmarks.asides import WORK, folder_of, kept, load, shown
from benchmarks.quality import WORD
from benchmarks.time_to_quality import judge, points_file, points_of
from neologism.embedding import Embedding
from neologism.events import Finished
from neologism.families import Model, open_model
from neologism.generation import generate
from neologism.recipe import recipe
from neologism.report import report
from neologism.scoring import interval
from neologism.training import train
from workshop.emoji.subjects import development

STEPS = (10, 40, 100, 150)
SEEDS = range(100, 112)


def scores_of(model: Model, name: str) -> list[float]:
    """The score's subject fidelity of a word at each step, against the pictures it learned from."""
    learned, real = load(kept(name, 0, "ours")), judge().pictures(shown(name, True))
    found: list[float] = []
    for step in STEPS:
        rows = learned.rows[learned.steps.tolist().index(step)]
        word = Embedding(WORD, {model.encoders[0].key: rows}, model.name, {})
        own = judge().pictures(generate(model, f"a {WORD}", [word], SEEDS))
        found.append(interval("subject", "", own @ real.T).value)
    return found


def spearman(one: list[float], two: list[float]) -> float:
    """The rank correlation of two lists without ties."""
    ranks = [torch.tensor(values).argsort().argsort().double() for values in (one, two)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def overhead(name: str) -> float:
    """What the report takes, and the probes (by their record), as a share of a run."""
    with tempfile.TemporaryDirectory() as folder:
        made = recipe(pictures=str(folder_of(name, True)), words=WORD)
        end = next(event for event in train(made, Path(folder) / "run") if isinstance(event, Finished))
        began = time.perf_counter()
        report(Path(folder) / "run")
        page = (time.perf_counter() - began) / end.seconds
    return page + float(record.figure("when_to_stop", "overhead") or 0.0)


def measured() -> dict[str, Any]:
    """The rank correlation of every subject, and the cost."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    model, rows = open_model("emoji"), list[dict[str, Any]]()
    for subject in development()[:20]:
        points = points_of(points_file(subject.name, 0, "ours"))
        unseen, own = [points[str(step)]["fidelity"] for step in STEPS], scores_of(model, subject.name)
        in_order = spearman(own, list(range(len(STEPS))))  # type: ignore[arg-type]
        rows.append(
            {
                "subject": subject.name,
                "spearman": spearman(own, unseen),
                "in_order": in_order,
                "scores": own,
                "unseen": unseen,
            }
        )
    return {
        "subjects": len(rows),
        "spearman": statistics.mean(row["spearman"] for row in rows),
        "in_order": statistics.mean(row["in_order"] for row in rows),
        "overhead": overhead(development()[0].name),
        "rows": rows,
    }


if __name__ == "__main__":
    record.told("ranking", record.options(__doc__ or "").parse_args(), measured)
