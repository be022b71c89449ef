"""What aspect buckets buy where a square crop cuts the subject. `python -m benchmarks.buckets [--only eagle,rabbit]`

Four pictures of a subject, twice as wide as high, with the subject at the left or the right end; a word learns from them by its
vectors, with the same steps, seed and start each time. Fidelity is the judge's cosine between eight drawn squares and unseen square
pictures. "By hand" learns from squares cut out around the subject, as a careful user would. What is measured is kept at once, so the
command may be stopped and typed again, and pieces may run at a time: `--only SUBJECT --ways bucket`.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import record
from benchmarks.asides import shown
from benchmarks.methods import NAMES, class_words
from benchmarks.quality import WORD, asked_of_thing
from neologism import captions, photos
from neologism.families import Model, open_model
from neologism.framing import Buckets, buckets
from neologism.generation import generate
from neologism.latents import cached
from neologism.lessons import Lesson
from neologism.loop import loop
from neologism.recipe import recipe
from neologism.scores import Judge, likeness, open_judge
from neologism.training import first_rows, sayer
from workshop.emoji.drawing import COLOURS, glyph, placed, plain
from workshop.emoji.subjects import development

WORK = Path(".emoji-base/buckets")
SUBJECTS, HIGH, PICTURES = NAMES[:4], 192, 4
WAYS: dict[str, tuple[str, int, int]] = {
    "square": ("wide", 64, 0),
    "square at 96": ("wide", 96, 0),
    "bucket": ("wide", 96, 32),
    "bucket off the grid": ("wide", 64, 8),
    "by hand": ("cut", 64, 0),
}
"""Which pictures, the side, and the grid of the sizes (0 is a square): 32 is the base's own, by which 64 pixels know only squares."""


def drawn(name: str) -> tuple[list[Image.Image], list[Image.Image]]:
    """The wide pictures of a subject, and the squares cut around it."""
    subject = next(one for one in development() if one.name == name)
    chance, wide, around = random.Random(f"{subject.code} wide"), list[Image.Image](), list[Image.Image]()
    for number, ground in enumerate(chance.sample(list(COLOURS), PICTURES)):
        plane = plain(COLOURS[ground], HIGH)
        square, _ = placed(plane, glyph(subject.character), chance.uniform(0.7, 0.85), (0.5, 0.5))
        image = Image.new("RGB", (2 * HIGH, HIGH), COLOURS[ground])
        image.paste(square, ((number % 2) * HIGH, 0))
        wide.append(image)
        around.append(square)
    return wide, around


def folder_of(name: str, kind: str) -> Path:
    """The pictures of a kind, "wide" or "cut", as a folder."""
    folder = WORK / "pictures" / f"{name.replace(' ', '-')}-{kind}"
    if not folder.exists():
        folder.mkdir(parents=True)
        for number, image in enumerate(drawn(name)[kind == "cut"]):
            image.save(folder / f"{number}.png")
    return folder


def learned(model: Model, name: str, way: str, steps: int) -> Lesson:
    """A word learned in a way."""
    kind, side, grid = WAYS[way]
    aim: int | Buckets = buckets(side, grid) if grid else side
    source = folder_of(name, kind)
    made = recipe(pictures=str(source), words=WORD, like=class_words()[name], steps=steps, batch=4, side=side)
    found = photos.gather(source).photos
    latents, template = cached(model, found, aim, False, True), captions.TEMPLATES["object"][0]
    start = first_rows(model, made, 0, latents, template)
    lesson = Lesson(WORD, latents, sayer(WORD, found, made), made, model, start, template)
    for _ in loop(model, [lesson]):
        pass
    return lesson


def measured_one(model: Model, judge: Judge, name: str, way: str, steps: int) -> float:
    """The fidelity of a word learned in a way, or of the class word ("start"); kept."""
    file = WORK / f"{name}-{way}-{steps}.json".replace(" ", "-")
    if not file.exists():
        embedding = None if way == "start" else learned(model, name, way, steps).embedding()
        words, written = ([embedding], WORD) if embedding else ([], class_words()[name])
        own, _ = asked_of_thing(name)
        images = [generate(model, [a.prompt.replace("{}", written)], words, (a.seed,))[0] for a in own]
        file.write_text(json.dumps(likeness(judge, images, shown(name, False))), "utf-8")
        print(name, way, file.read_text("utf-8"), file=sys.stderr, flush=True)
    return float(json.loads(file.read_text("utf-8")))


def measured(only: list[str], ways: list[str], steps: int) -> dict[str, Any]:
    """The fidelity of every subject in every way, and the means."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    WORK.mkdir(parents=True, exist_ok=True)
    model, judge, names = open_model("emoji"), open_judge(), only or SUBJECTS
    rows = {name: {way: measured_one(model, judge, name, way, steps) for way in ways} for name in names}
    means = {way: round(statistics.mean(row[way] for row in rows.values()), 4) for way in ways}
    return {"subjects": len(rows), "steps": steps, "grid": model.grid, "fidelity": means, "rows": rows}


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=100, help="steps of every word")
    parser.add_argument("--ways", default="", help="only these, separated by commas; nothing is recorded then")
    given = parser.parse_args()
    names, ways = record.narrowed(given, "ways")
    record.told("buckets", given, lambda: measured(names, ways or ["start", *WAYS], given.steps))


if __name__ == "__main__":
    main()
