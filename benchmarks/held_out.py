"""Words for things the base never saw: how near they come. `python -m benchmarks.held_out --subjects development`

For each subject, 4 pictures are learned from; what the word draws is compared by the judge with 6 unseen pictures, between
three anchors measured the same way: the start word, the nearest known word, and the real pictures themselves.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import record
from neologism.contact import contact_sheet
from neologism.embedding import Embedding
from neologism.events import Finished
from neologism.families import Model, open_model
from neologism.generation import generate
from neologism.recipe import recipe
from neologism.scores import Judge, likeness, open_judge, ranks
from neologism.training import train
from neologism.verifying import verify
from workshop.emoji.denoiser import SUBJECTS
from workshop.emoji.examples import GIVEN, UNSEEN, subject_pictures
from workshop.emoji.judge import names
from workshop.emoji.measure import background_colour
from workshop.emoji.scenes import with_article
from workshop.emoji.subjects import Subject, development, trained

WORK = Path(".emoji-base/held-out")
WORD = "<thing>"
GRID = Path("docs/pictures/held_out.png")


def learned(subject: Subject, settings: dict[str, Any]) -> tuple[Finished, Path]:
    """Learn a word for a subject from its pictures, in a fresh run folder."""
    folder, out = WORK / subject.code / "pictures", WORK / subject.code / "run"
    shutil.rmtree(WORK / subject.code, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, image in enumerate(subject_pictures(subject, GIVEN, 0)):
        image.save(folder / f"{number}.png")
    plain = {"pictures": str(folder), "words": WORD, "preview_prompts": ()}
    events = list(train(recipe(**plain | settings), out))
    return next(event for event in events if isinstance(event, Finished)), out


def nearest_known(judge: Judge, unseen: list[Image.Image]) -> str:
    """The taught name that the judge finds most like the unseen pictures."""
    names = [subject.name for subject in trained(SUBJECTS)]
    cosines = judge.pictures(unseen).mean(0) @ judge.texts([with_article(name, "a") for name in names]).T
    return names[int(cosines.argmax())]


def row(
    model: Model, judge: Judge, subject: Subject, settings: dict[str, Any]
) -> tuple[dict[str, Any], list[Image.Image]]:
    """One subject's figures, and pictures to look at."""
    finished, out = learned(subject, settings)
    given, unseen = subject_pictures(subject, GIVEN, 0), subject_pictures(subject, UNSEEN, 1)
    start, near = finished.facts["start"], nearest_known(judge, unseen)
    seeds = range(8)
    drawn = {name: generate(model, f"a {name}", seeds=seeds) for name in dict.fromkeys((start, near))}
    word: list[Embedding] = [finished.embedding]
    ours = generate(model, f"a {WORD}", word, seeds)
    blue = generate(model, f"a {WORD} on a blue background", word, range(4))
    places = ranks(judge, ours, names(), [with_article(subject.name, "a")] * len(ours))
    figures = {
        "subject": subject.name,
        "start": start,
        "near": near,
        "learned": likeness(judge, ours, unseen),
        "start_word": likeness(judge, drawn[start], unseen),
        "nearest_word": likeness(judge, drawn[near], unseen),
        "real": likeness(judge, given, unseen),
        "top1": float((places < 1).float().mean()),
        "top5": float((places < 5).float().mean()),
        "background": statistics.mean(background_colour(image) == "blue" for image in blue),
        "seconds": round(finished.seconds, 1),
        "verified": verify(out).untouched,
    }
    return figures, [*given[:3], *drawn[start][:2], *ours[:4], *blue[:3]]


def gap_closed(figures: dict[str, Any]) -> float:
    """The share of the way from the start word to the real pictures that the learned word has gone."""
    return (figures["learned"] - figures["start_word"]) / max(1e-6, figures["real"] - figures["start_word"])


def measured(only: list[str], settings: dict[str, Any]) -> dict[str, Any]:
    """All figures over the development subjects, with a picture of every one."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    model, judge = open_model("emoji", precision="fp32"), open_judge()
    rows, shown = [], []
    for subject in [s for s in development() if not only or s.name in only]:
        figures, images = row(model, judge, subject, settings)
        figures["gap_closed"] = gap_closed(figures)
        rows.append(figures)
        shown.append(
            (f"{subject.name}: given (3), start word {figures['start']!r} (2), learned (4), on blue (3)", images)
        )
        print({k: round(v, 2) if isinstance(v, float) else v for k, v in figures.items()}, file=sys.stderr, flush=True)
    GRID.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(shown, 64).save(GRID)
    return summary(rows)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The means over all subjects, and the rows."""
    keys = ("gap_closed", "top1", "top5", "background")
    means = {key: statistics.mean(row[key] for row in rows) for key in keys}
    seconds = statistics.mean(row["seconds"] for row in rows)
    return {
        "words": len(rows),
        **means,
        "seconds_per_word": seconds,
        "verified": all(r["verified"] for r in rows),
        "rows": rows,
    }


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--subjects", choices=["development"], default="development", help="which held-out subjects")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the recipe to try; nothing is recorded",
    )
    given = parser.parse_args()
    settings = {name: number(value) for name, value in (pair.split("=", 1) for pair in given.set)}
    given.only = given.only or ("" if not settings else ",".join(s.name for s in development()))
    record.told("held_out", given, lambda: measured([n for n in given.only.split(",") if n], settings))


def number(text: str) -> Any:
    """A setting's value as TOML would read it, or as text."""
    import tomllib

    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


if __name__ == "__main__":
    main()
