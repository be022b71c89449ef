"""Seconds until a word is good, ours against the published algorithm. `python -m benchmarks.time_to_quality`

For each development subject and the made style, and each training seed, both learn from the same 4 pictures, from the same start
word; at fixed steps the word's rows are set aside with the seconds spent so far (caching, start search and probes included in
ours; the reference is given its start word for nothing), and measured afterwards on 6 unseen pictures. Every curve is kept when
it is whole, so the command may be stopped at any moment and typed again. Figures are over the curves that are there.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]
from PIL import Image
from torch import Tensor

from benchmarks import record, reference
from benchmarks.curves import drawn
from benchmarks.held_out import number
from benchmarks.quality import WORD, Yardstick, probes_of
from neologism import captions, photos
from neologism.families import EMOJI, Model, open_model
from neologism.latents import cached
from neologism.lessons import Lesson
from neologism.loop import loop
from neologism.recipe import Recipe, recipe
from neologism.scores import open_judge
from neologism.training import first_rows, sayer
from workshop.emoji.drawing import MADE_STYLE
from workshop.emoji.examples import GIVEN, UNSEEN, style_pictures, subject_pictures
from workshop.emoji.subjects import development

MARKS = (0, 10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 600, 1000, 2000, 3000)
WORK, GRAPH = Path(".emoji-base/time-to-quality"), Path("docs/pictures/time_to_quality.svg")
Snapshot = tuple[int, float, Tensor]  # step, seconds so far, rows


def subjects() -> dict[str, str]:
    """What is learned, and of which kind."""
    return {subject.name: "object" for subject in development()} | {MADE_STYLE: "style"}


def shown(name: str, given: bool) -> list[Image.Image]:
    """The pictures of a subject to learn from, or those nobody learns from."""
    count, seed = (GIVEN, 0) if given else (UNSEEN, 1)
    if name == MADE_STYLE:
        return style_pictures(count, seed)
    return subject_pictures(next(s for s in development() if s.name == name), count, seed)


def folder_of(name: str, given: bool) -> Path:
    """Those pictures as a folder."""
    folder = WORK / "pictures" / name.replace(" ", "-") / ("given" if given else "unseen")
    if not folder.exists():
        folder.mkdir(parents=True)
        for place, image in enumerate(shown(name, given)):
            image.save(folder / f"{place}.png")
    return folder


def settings(name: str, seed: int, chosen: dict[str, Any]) -> Recipe:
    """The recipe of ours: the defaults, and what is tried."""
    own = {"pictures": str(folder_of(name, True)), "words": WORD, "kind": subjects()[name], "seed": seed}
    return recipe(**own | chosen)


def ours(name: str, seed: int, chosen: dict[str, Any]) -> tuple[str, list[Snapshot]]:
    """Our own learning of a word, from an opened model: its start in words, and what was set aside."""
    made = settings(name, seed, chosen)
    model = open_model("emoji")
    began = time.perf_counter()
    found = photos.gather(Path(made.pictures[0]), model.size).photos
    latents = cached(model, found, model.size, made.mirror, made.masks)
    template = (made.templates or captions.TEMPLATES[made.kind])[0]
    start = first_rows(model, made, 0, latents, template)
    lesson = Lesson(WORD, latents, sayer(WORD, found, made), made, model, start, template)
    aside = [(0, time.perf_counter() - began, rows_of(lesson))]
    for pupil, _ in loop(model, [lesson]):
        if pupil.step in MARKS or pupil.done:
            aside.append((pupil.step, time.perf_counter() - began, rows_of(pupil)))
    return start.told, aside


def rows_of(lesson: Lesson) -> Tensor:
    """The lesson's rows as they are."""
    return next(iter(lesson.vectors().values()))


def theirs(name: str, seed: int, start: str) -> list[Snapshot]:
    """The published algorithm's learning of the word, from the start word it is given."""
    pipe: Any = StableDiffusionPipeline.from_pretrained(EMOJI)
    pipe.text_encoder.float()
    state = reference.Reference(pipe, WORD, start)
    return list(reference.learned(state, shown(name, True), pipe.unet.config.sample_size * pipe.vae_scale_factor,
                                  subjects()[name], seed, MARKS))  # fmt: skip


def curve(model: Model, name: str, aside: Sequence[Snapshot], start: str) -> dict[str, Any]:
    """The quality of all that was set aside, and of the start word."""
    yard = Yardstick(
        model, open_judge(), name, name == MADE_STYLE, shown(name, False), probes_of(model, folder_of(name, False))
    )
    points = [{"step": step, "seconds": spent} | yard.of_word(rows).as_dict() for step, spent, rows in aside]
    return {"start": start, "start_word": yard.of_known(start).as_dict(), "points": points}


def kept(name: str, seed: int, method: str) -> Path:
    """Where a curve is kept."""
    return WORK / f"{method}-{name.replace(' ', '-')}-{seed}.json"


def made_curve(model: Model, name: str, seed: int, method: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """A curve, from disk where it was made before."""
    file = kept(name, seed, method)
    if file.exists():
        return json.loads(file.read_text("utf-8"))
    if method == "reference":
        start = made_curve(model, name, seed, "ours", {})["start"]
        found = curve(model, name, theirs(name, seed, start), start)
    else:
        start, aside = ours(name, seed, chosen)
        found = curve(model, name, aside, start)
    file.with_suffix(".partial").write_text(json.dumps(found), "utf-8")
    os.replace(file.with_suffix(".partial"), file)
    last = {key: round(value, 3) for key, value in found["points"][-1].items()}
    print(f"{method} {name} {seed}: {last}", file=sys.stderr, flush=True)
    return found


def seconds_to(points: Sequence[dict[str, float]], fidelity: float, prompt: float) -> float:
    """The seconds of the first point that is at least so good in both, or infinity."""
    return next((p["seconds"] for p in points if p["fidelity"] >= fidelity and p["prompt"] >= prompt), float("inf"))


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """One subject and seed: T95 of ours as a share of the reference's whole time, and what was gained at the end."""
    first, end, own = theirs["start_word"], theirs["points"][-1], ours["points"][-1]
    wanted = first["fidelity"] + 0.95 * (end["fidelity"] - first["fidelity"])
    best = max(point["fidelity"] for point in ours["points"])
    good = next(p["step"] for p in ours["points"] if p["fidelity"] == best)
    return {
        "t95_ratio": seconds_to(ours["points"], wanted, end["prompt"]) / end["seconds"],
        "fidelity_gain": own["fidelity"] - end["fidelity"],
        "prompt_gain": own["prompt"] - end["prompt"],
        "seconds": own["seconds"],
        "reference_seconds": end["seconds"],
        "best_step": float(good),
    }


def pairs(names: Sequence[str], seeds: int, methods: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The subjects and seeds for which every method's curve is there."""
    for seed in range(seeds):
        for name in names:
            if all(kept(name, seed, method).exists() for method in methods):
                yield name, seed


def measured(names: Sequence[str], seeds: int, chosen: dict[str, Any], method: str, limit: float) -> dict[str, Any]:
    """Make what curves there is time for, and compare those that are there."""
    WORK.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    model, end = open_model("emoji", precision="fp32"), time.monotonic() + limit * 60
    for seed in range(seeds):
        for name in names:
            for which in (method, "reference"):
                if time.monotonic() < end:
                    made_curve(model, name, seed, which, chosen)
    found = summary(model, list(pairs(names, seeds, (method, "reference"))), method, chosen)
    if method == "ours":
        picture(names, seeds, method)
    return found


def picture(names: Sequence[str], seeds: int, method: str) -> None:
    """Draw the curves of fidelity and of prompt fidelity that are there."""
    found = list(pairs(names, seeds, (method, "reference")))
    for measure, title in (("fidelity", "Cosine to unseen pictures"), ("prompt", "Cosine to prompts")):
        curves = {
            which: [
                [(p["seconds"], p[measure]) for p in json.loads(kept(n, s, which).read_text("utf-8"))["points"]]
                for n, s in found
            ]
            for which in (method, "reference")
        }
        GRAPH.with_name(f"time_to_quality_{measure}.svg").write_text(
            drawn(f"{title}, over seconds of learning ({len(found)} words)", "log scale", curves), "utf-8"
        )


def summary(model: Model, found: list[tuple[str, int]], method: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """Medians and means over the curves that are there."""
    if not found:
        sys.exit("No subject has both curves yet: give it more time (--minutes).")
    rows: list[dict[str, Any]] = [
        {"subject": name, "seed": seed}
        | compared(*(made_curve(model, name, seed, which, chosen) for which in (method, "reference")))
        for name, seed in found
    ]
    return {
        "curves": len(rows),
        "subjects": len({row["subject"] for row in rows}),
        "t95_ratio": statistics.median(row["t95_ratio"] for row in rows),
        "reached": statistics.mean(row["t95_ratio"] < float("inf") for row in rows),
        "fidelity_gain": statistics.mean(row["fidelity_gain"] for row in rows),
        "prompt_gain": statistics.mean(row["prompt_gain"] for row in rows),
        "rows": rows,
    }


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds of every subject")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no curve after so many minutes")
    parser.add_argument(
        "--name", default="ours", help="what the tried settings are called; their curves are kept apart"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of ours to try")
    given = parser.parse_args()
    chosen = {name: number(value) for name, value in (pair.split("=", 1) for pair in given.set)}
    if bool(chosen) != (given.name != "ours"):
        parser.error("give tried settings a --name of their own, and a name only to tried settings")
    names = [n for n in given.only.split(",") if n] or list(subjects())
    given.only = given.only or ("tried" if chosen else "")
    record.told("time_to_quality", given, lambda: measured(names, given.seeds, chosen, given.name, given.minutes))


if __name__ == "__main__":
    main()
