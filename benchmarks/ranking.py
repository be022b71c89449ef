"""Whether the score tells better words from worse, and what knowing costs. `python -m benchmarks.ranking [--only "rabbit"]`

Words of 20 development subjects that `benchmarks.time_to_quality` set aside on their way are scored after four steps as a user
scores them: by `neologism score --photos` with 4 pictures the word never saw; and, as `own`, with those it learned from. The
yardstick is the same judge on other drawn pictures (other seeds, the usual 25 sampling steps) and 6 further pictures that nobody
learned from. At every step of a word the seeds are the same, so that the luck of a seed is in all of them; there are 64 for the
score and 48 for the yardstick, for the mean of 8 is off by more than steps differ.
`spearman` is the mean rank correlation over the words of the published algorithm, which are still learning from step to step up to
their last, the 3000th; `spearman_defaults` that over words of our default settings (150 steps), good after 40, where the rest of
the order is close to a tie. Then runs at default settings are timed: `overhead` is the processor time for probes, previews,
diagnosis, sheet and report as a share of all else. Each piece is kept at once; the command typed again goes on, and several may
run side by side with `--only` and names of subjects, or `--only overhead`.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from scipy.stats import spearmanr

from benchmarks import record
from benchmarks.asides import folder_of, kept, load, settings, shown
from neologism import previewing, run, scoring, training
from neologism.diagnosing import Diagnosis
from neologism.embedding import Embedding
from neologism.events import Opened
from neologism.families import Model, open_model
from neologism.generation import generate
from neologism.lessons import Lesson
from neologism.metrics import Network, Shown, networks
from neologism.scores import likeness, open_judge
from neologism.scoring import STEPS, Subject, interval, score
from workshop.emoji.examples import subject_pictures
from workshop.emoji.subjects import development

WORK = Path(".emoji-base/ranking/words")
WORD = "<thing>"
MARKS = {"reference": (10, 60, 200, 3000), "ours": (10, 40, 80, 150)}
"""The steps a word is scored at, of those it was set aside at; the last is its full course."""
KEYS = {"reference": "spearman", "ours": "spearman_defaults"}
SUBJECTS, TIMED, OTHERS = 20, 3, 4
SEEN, JUDGED = range(1000, 1064), range(100, 148)
PROTOCOL = {
    "marks": MARKS,
    "seeds": [SEEN.start, len(SEEN), JUDGED.start, len(JUDGED)],
    "steps": [STEPS, 25],
    "photos": OTHERS,
}
"""What a piece was measured by: one of another protocol is measured anew."""


def names() -> list[str]:
    """The subjects, in the order they are measured: those whose words were set aside."""
    found = [s.name for s in development() if all(kept(s.name, 0, method).exists() for method in MARKS)]
    if not found:
        sys.exit("No word is set aside yet: run `python -m benchmarks.time_to_quality` first.")
    return found[:SUBJECTS]


def piece(name: str) -> Path:
    """Where a piece is kept."""
    return WORK / f"{name.replace(' ', '-')}.json"


def known(name: str) -> dict[str, Any] | None:
    """A piece that was measured by this protocol."""
    file = piece(name)
    found = json.loads(file.read_text("utf-8")) if file.exists() else None
    return found if found and found["protocol"] == json.loads(json.dumps(PROTOCOL)) else None


def keep(name: str, found: dict[str, Any]) -> None:
    """Keep a piece, whole or not at all."""
    WORK.mkdir(parents=True, exist_ok=True)
    run.write_whole(piece(name), json.dumps({"protocol": PROTOCOL} | found).encode())


def ranked(model: Model, judge: Network, name: str, method: str) -> dict[str, Any]:
    """One word: the score and the yardstick at every mark, and how their ranks agree."""
    aside = load(kept(name, 0, method))
    start = aside.start if aside.start in model.encoders[0].word_ids else ""
    given, unseen = ([Shown(image) for image in shown(name, given=which)] for which in (True, False))
    subject = next(one for one in development() if one.name == name)
    others = [Shown(image) for image in subject_pictures(subject, OTHERS, 2)]
    points: list[dict[str, Any]] = []
    for step in MARKS[method]:
        rows = aside.rows[aside.steps.tolist().index(step)]
        word = Embedding(WORD, {model.encoders[0].key: rows}, model.name, {"start": start})
        told, own = (
            score(model, Subject(WORD, [word], None, start, given, photos), [judge], SEEN, prompts=()).metrics[0]
            for photos in (others, [])
        )
        images = generate(model, f"a {WORD}", [word], JUDGED, 25)
        verdict = likeness(open_judge(), images, [one.image for one in unseen])
        points.append({"step": step, "score": told.own, "own": own.own, "unseen": verdict, "anchors": told.anchors})
    scores, owns, verdicts, steps = ([point[key] for point in points] for key in ("score", "own", "unseen", "step"))
    found = {
        "spearman": rho(scores, verdicts),
        "own": rho(owns, verdicts),
        "order": rho(scores, steps),
        "order_of_judge": rho(verdicts, steps),
    }
    return {"subject": name, "method": method, "start": start, "points": points} | found


def remembered() -> Callable[..., list[Image.Image]]:
    """`generate`, which draws nothing twice: the anchors of a word are the same after each of its steps."""
    known: dict[str, list[Image.Image]] = {}

    def drawn(model: Model, prompts: Any, words: Any = (), *more: Any, **named: Any) -> list[Image.Image]:
        rows = [rows.flatten().tolist() for word in words for rows in word.vectors.values()]
        key = repr((prompts, rows, more, named))
        if key not in known:
            known[key] = generate(model, prompts, words, *more, **named)
        return known[key]

    return drawn


def rho(one: list[float], other: list[float]) -> float:
    """Spearman's rank correlation."""
    return float(spearmanr(one, other).statistic)


@contextmanager
def timed(spent: list[float]) -> Iterator[None]:
    """Count the processor seconds spent in everything that tells what was learned, until the block ends."""

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def timing(*given: Any, **named: Any) -> Any:
            began = time.process_time()
            made = act(*given, **named)
            made = iter(list(made)) if hasattr(made, "__next__") else made  # an iterator works only when it is asked
            spent[0] += time.process_time() - began
            return made

        return timing

    with ExitStack() as undo:
        for module, act in TOLD_BY:
            undo.enter_context(patch.object(module, act, counted(getattr(module, act))))
        yield


TOLD_BY: list[tuple[Any, str]] = [
    (Lesson, "probe"),
    (previewing, "previews"),
    (previewing, "sheet"),
    (Diagnosis, "step"),
    (Diagnosis, "pictures"),
    (training, "report"),
]
"""What a run does to tell what it learns."""


def overhead(name: str) -> dict[str, Any]:
    """The processor seconds of a run at default settings after opening the model, and those of them that tell what was learned."""
    spent, began, out = [0.0], 0.0, WORK.parent / f"run-{os.getpid()}"
    folder_of(name, given=True)
    with timed(spent):
        for event in training.train(settings(name, 0, {"words": WORD}), out):
            began = time.process_time() if isinstance(event, Opened) else began
    seconds = time.process_time() - began
    shutil.rmtree(out)
    return {"seconds": seconds, "told": spent[0], "share": spent[0] / (seconds - spent[0])}


def measured(only: list[str]) -> dict[str, Any]:
    """Measure the pieces that are not measured yet, and sum up those that are."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK.parent / "cache"))
    torch.set_num_threads(1)  # small networks: more threads take more processor time for the same work
    model: Model | None = None
    for method in MARKS:
        for name in names():
            if (not only or name in only) and known(f"{method}-{name}") is None:
                model = model or open_model("emoji", precision="fp32")
                with patch.object(scoring, "generate", remembered()):
                    result = ranked(model, networks("auto", "emoji")[0], name, method)
                keep(f"{method}-{name}", result)
                print(method, name, {key: result[key] for key in ("spearman", "order")}, file=sys.stderr, flush=True)
    for name in names()[:TIMED] if not only or "overhead" in only else ():
        if known(f"overhead-{name}") is None:
            keep(f"overhead-{name}", overhead(name))
    return summary()


def summary() -> dict[str, Any]:
    """The means over what was measured, with 95 % of the resamples of subjects."""
    found: dict[str, Any] = {}
    rows = [row for name in names() for method in MARKS if (row := known(f"{method}-{name}"))]
    for method, key in KEYS.items():
        own = [row for row in rows if row["method"] == method]
        if own:
            low, high = interval(torch.tensor([row["spearman"] for row in own]))
            found |= {key: statistics.mean(row["spearman"] for row in own), f"{key}_95": [low, high]}
            found |= {
                f"{key}_{order}": statistics.mean(row[order] for row in own)
                for order in ("own", "order", "order_of_judge")
            }
            found |= {f"{key}_subjects": len(own)}
    shares = [row["share"] for name in names()[:TIMED] if (row := known(f"overhead-{name}"))]
    found |= {"overhead": statistics.mean(shares)} if shares else {}
    found["anchors"] = all(len(point["anchors"]) == 3 for row in rows for point in row["points"])
    return found | {"rows": [{key: row[key] for key in row if key != "protocol"} for row in rows]}


def main() -> None:
    """Measure and record."""
    given = record.options(__doc__ or "").parse_args()
    record.told("ranking", given, lambda: measured([n for n in given.only.split(",") if n]))


if __name__ == "__main__":
    main()
