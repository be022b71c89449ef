"""A run folder -> report.html: one page that stands by itself, without script, font or picture from anywhere else."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from neologism import formats, photos, run
from neologism.cookbook import literal
from neologism.errors import NeologismError
from neologism.framing import buckets, framed, picture
from neologism.history import WEIGHTS, Drawn, History, Story, history
from neologism.progress import best_step, curves, near_over_time, probe_facts, spread
from neologism.recipe import FIELDS, Recipe
from neologism.thumbnails import CRISP, address

PAGES = Path(__file__).parent / "pages"
SIDES = (256, 192, 128, 96, 64)
"""Sides of the pictures in the page, in pixels: the largest at which it stays under `MOST` is taken."""
MOST = 4_500_000
FRAMES = 16
"""Pictures in a filmstrip, and columns of a grid, at most: spread over all there are, the first and last among them."""


@dataclass(frozen=True)
class Shown:
    """A picture of the page: its data address, what it shows in words, its caption, and whether its pixels stay crisp."""

    address: str
    alt: str
    label: str
    crisp: bool


def report(folder: Path) -> Path:
    """Write report.html into a run's folder, from what is there: also of a run that is not finished.

    Raises:
        RunError: the folder holds no run, or cannot be written.
    """
    told = history(folder)
    text = rendered(told, SIDES[0])
    for side in SIDES[1:]:
        if len(text) < MOST:
            break
        text = rendered(told, side)
    run.write_whole(folder / "report.html", text)
    return folder / "report.html"


def rendered(told: History, side: int) -> bytes:
    """The page with its pictures at a side, as UTF-8."""
    template = environment().get_template("report.html")
    words = [of_word(told, story, side) for story in told.stories]
    facts = {"words": words, "notes": told.notes, "settings": settings(told.recipe), "base": told.opened}
    return template.render(**facts, proof=proof(told.folder), folder=told.folder.resolve().name).encode()


def environment() -> Any:
    """The templates, whose every value is escaped."""
    from jinja2 import Environment, FileSystemLoader

    return Environment(loader=FileSystemLoader(PAGES), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def of_word(told: History, story: Story, side: int) -> dict[str, Any]:
    """All that the page says of one word."""
    steps = story.steps
    ended = story.finished or {}
    best = best_step(steps)
    return {
        "word": story.word,
        "start": story.start,
        "pictures": story.pictures,
        "done": int(steps[-1]["step"]) if steps else 0,
        "planned": int(steps[-1]["steps"]) if steps else 0,
        "reason": ended.get("reason", ""),
        "seconds": ended.get("seconds"),
        "method": told.recipe.get("method", "inversion"),
        "probe": probe_facts(steps),
        "best": best,
        "real": real(told, story, side),
        "drawn": last_drawn(story, side),
        "strip": strip(story, side),
        "grid": grid(story, side),
        "curves": curves(steps, best),
        "near": near_over_time(steps),
        "scores": kept_json(story.folder / "score.json"),
        "choice": kept_json(story.folder / "steps.json"),
        "looks": looks(story.folder, side),
        "ask": story.folder.resolve().relative_to(told.folder.resolve().parent).as_posix(),
        "files": files(story),
        "uses": uses(story),
    }


# pictures


def shown(image: Image.Image, side: int, alt: str, label: str = "") -> Shown:
    """A picture for the page."""
    return Shown(address(image, side), alt, label, max(image.size) <= CRISP)


def of_drawn(one: Drawn, side: int, label: str) -> Shown:
    """A preview for the page."""
    told = f"{one.prompt}, drawn at step {one.step} from seed {one.seed}"
    place, crisp = addressed(one.path, one.path.stat().st_mtime_ns, side)
    return Shown(place, told, label, crisp)


@functools.lru_cache(maxsize=512)
def addressed(path: Path, changed: int, side: int) -> tuple[str, bool]:
    """A picture file's data address, and whether its pixels stay crisp; once for a file, which may stand in several places."""
    with Image.open(path) as image:
        return address(image, side), max(image.size) <= CRISP


def real(told: History, story: Story, side: int) -> list[Shown]:
    """The first of the word's own pictures as training saw them; none where they have gone since."""
    try:
        hold_out = str(told.recipe.get("hold_out", "none"))
        found = photos.parted(photos.gather(Path(story.source)), hold_out)[0].photos[:4]
        most = min(int(told.recipe.get("side") or 0) or side, side)
        aim = buckets(most, 1) if told.recipe.get("crop") == "bucket" else most
        return [
            shown(picture(framed(one, aim).pixels), side, f"Real picture {n} of {story.word}")
            for n, one in enumerate(found, 1)
        ]
    except NeologismError:
        return []


def last_drawn(story: Story, side: int) -> list[Shown]:
    """The newest preview of each prompt."""
    return [of_drawn(one, side, one.prompt) for one in story.newest[:4]]


def strip(story: Story, side: int) -> list[Shown]:
    """The first prompt over the steps."""
    of_word = [one for one in story.drawn if story.word in one.prompt]
    if not of_word:
        return []
    first = [one for one in of_word if (one.prompt, one.seed) == (of_word[0].prompt, of_word[0].seed)]
    kept = spread([one.step for one in first], FRAMES)
    return [of_drawn(one, side, f"step {one.step}") for one in first if one.step in kept]


def grid(story: Story, side: int) -> dict[str, Any]:
    """Prompts down, steps across, the same seed in every column."""
    steps = spread(sorted({one.step for one in story.drawn}), FRAMES // 2)
    found: dict[tuple[str, int], dict[int, Drawn]] = {}
    for one in story.drawn:
        found.setdefault((one.prompt, one.seed), {})[one.step] = one
    rows = [
        {"prompt": prompt, "seed": seed, "cells": [of_drawn(by[s], side, "") if s in by else None for s in steps]}
        for (prompt, seed), by in found.items()
    ]
    return {"steps": steps, "rows": rows}


def looks(folder: Path, side: int) -> dict[str, Any] | None:
    """Where the word looks, as `neologism explain` found it last for this run."""
    facts = kept_json(folder / "explained.json")
    sheet = folder / "explained.png"
    if not facts or not sheet.is_file():
        return None
    with Image.open(sheet) as image:
        return {"image": shown(image, max(side * 3, 3 * CRISP), f"Where the word looks in {facts['prompt']}")} | facts


# settings


def settings(recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """Every setting of the run: its value, whether it is the default, and what it means."""
    rows: list[dict[str, Any]] = []
    for spelled, name in FIELDS.items():
        about = Recipe.model_fields[name]
        default = about.get_default(call_default_factory=True)
        plain = list(default) if isinstance(default, tuple) else default
        value = recipe.get(spelled, default)
        value = list(value) if isinstance(value, tuple) else value
        if name in ("pictures", "start_from"):  # where they lie is nobody's business who is shown the page
            value = [Path(str(one)).name for one in value]
        told = "" if value is None else literal(value)
        rows.append(
            {
                "name": spelled,
                "value": told,
                "changed": value != plain,
                "about": " ".join((about.description or "").split()),
            }
        )
    return rows


# files and proof


def proof(folder: Path) -> dict[str, Any] | None:
    """Whether the base's tensors hash as before the run, and one number for all of them; None of a run without proof yet."""
    kept = kept_json(folder / "base.json")
    if not kept:
        return None
    before, after = kept["before"], kept["after"]
    digest = hashlib.sha256(json.dumps(after, sort_keys=True).encode()).hexdigest()
    tensors = sum(len(part) for part in after.values())
    parts = [{"name": name, "tensors": len(part), "same": before.get(name) == part} for name, part in after.items()]
    return {"same": before == after, "tensors": tensors, "digest": digest, "parts": parts}


def files(story: Story) -> list[dict[str, Any]]:
    """The files that the run made for use elsewhere."""
    ended = story.finished or {}
    best = (kept_json(story.folder / "steps.json") or {}).get("file")
    named = [ended.get("file"), *ended.get("more", []), best]
    paths = [story.folder / Path(str(name)).name for name in named if name]
    return [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in paths
        if path.is_file()
    ]


def uses(story: Story) -> list[dict[str, str]]:
    """What to do with the word's file in each tool."""
    file = story.folder / "word.safetensors"
    if not file.is_file():
        return []
    told = formats.how_to_use(formats.load(file), file)
    learned = next((name for name in WEIGHTS if (story.folder / name).is_file()), None)
    more = f" --weights {learned}" if learned else ""
    ours = f"Neologism: neologism generate 'a {story.word}' --word {file.name}{more}"
    return [{"tool": tool, "how": how} for tool, _, how in (line.partition(": ") for line in (ours, *told))]


def kept_json(file: Path) -> Any:
    """What a JSON file holds, or None where there is none that is whole."""
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
