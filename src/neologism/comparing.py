"""Methods, recipes or files on the same pictures, held-out pictures, prompts and seeds, with equal budgets."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from neologism import photos, run
from neologism.cookbook import read
from neologism.errors import RecipeError
from neologism.events import Event, Step
from neologism.families import open_model
from neologism.history import WEIGHTS
from neologism.outcomes import Asked, Course, Figures, figures
from neologism.recipe import recipe
from neologism.scores import Judge
from neologism.training import train

TRIED = 6  # steps, to tell how long one takes
METHODS = ("inversion", "embedding", "dreambooth", "lora")
TOGETHER = {
    "inversion": "any number of words",
    "embedding": "one thing for each class word",
    "dreambooth": "one thing; files do not add up",
    "lora": "a few; their weights add up and disturb one another",
}
"""How many learned things live together in one model."""


@dataclass(frozen=True)
class Task:
    """What the methods are compared on: pictures given, pictures held out, the word and its class, settings.

    `rates` are the top learning rates of methods that learn weights, where they are not the usual ones; `budget` is the seconds
    that each may take instead of a number of steps.
    """

    given: Path
    unseen: Sequence[Image.Image]
    word: str
    like: str
    settings: Mapping[str, Any]
    rates: Mapping[str, float] = field(default_factory=dict[str, float])
    budget: float | None = None


def check_methods(methods: Sequence[str], like: str, others: bool = False) -> None:
    """Refuse methods that there are not, none of anything to compare, and a class that is no word.

    Raises:
        RecipeError: with what there is.
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not (methods or others):
        raise RecipeError(
            f"methods: found {', '.join(unknown) or 'none'}; there are {', '.join(METHODS)}. Name some of these."
        )
    if like in ("", "auto", "normal", "uniform"):
        raise RecipeError(
            f"like: found {like!r}; a comparison needs the word of the pictures' class, such as dog. Give --like."
        )


def budgeted(text: str) -> tuple[dict[str, int], float | None]:
    """A budget such as "500steps" as a setting, or "120s" as seconds.

    Raises:
        RecipeError: it is neither.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(steps|step|s)", text.strip())
    if not found or float(found[1]) < 1:
        raise RecipeError(f"budget: found {text!r}; a number of steps or seconds is allowed, such as 500steps or 120s.")
    return ({}, float(found[1])) if found[2] == "s" else ({"steps": int(float(found[1]))}, None)


def split(source: Path, out: Path) -> tuple[Path, list[Image.Image]]:
    """A folder of the pictures to learn from, and those held out: a quarter of four or more, chosen by their content.

    Of fewer than four none is held out, and the given ones are compared with.
    """
    found = sorted(photos.gather(source).photos, key=lambda photo: photo.sha256)
    apart = len(found) // 4
    given = out / "given"
    shutil.rmtree(given, ignore_errors=True)
    given.mkdir(parents=True)
    for photo in found[apart:]:
        for file in photo.path.parent.glob(f"{photo.path.stem}.*"):
            shutil.copy2(file, given / file.name)
    return given, [run.image_at(photo.path) for photo in (found[:apart] or found)]


def settings(task: Task, method: str, recipe_file: Path | None = None) -> dict[str, Any]:
    """The settings of one run."""
    given = {"pictures": str(task.given), "words": task.word, "like": task.like, "method": method}
    plain = {"preview_prompts": ("a {}",)} | dict(task.settings) | (read(recipe_file) if recipe_file else {})
    plain |= {"weights_rate": task.rates[method]} if method in task.rates else {}
    return plain | (given if not recipe_file else given | {"method": plain.get("method", method)})


def within(task: Task, chosen: dict[str, Any], out: Path) -> dict[str, Any]:
    """The settings with as many steps as fit into the task's seconds, told from a few steps in a folder of their own; kept."""
    if task.budget is None:
        return chosen
    file = out / "steps.txt"
    if not file.exists():
        shutil.rmtree(out / "trial", ignore_errors=True)
        began, times = time.monotonic(), list[float]()
        for event in train(
            recipe(**chosen | {"steps": TRIED, "preview_prompts": (), "probe_every": TRIED}), out / "trial"
        ):
            times += [time.monotonic()] if isinstance(event, Step) else []
        pace = (times[-1] - times[0]) / (len(times) - 1)
        setup = times[0] - began - pace
        run.write_whole(file, str(max(TRIED, round((task.budget - setup) / pace))).encode())
        shutil.rmtree(out / "trial", ignore_errors=True)
    return chosen | {"steps": int(file.read_text("utf-8"))}


def compare(
    task: Task, methods: Sequence[str], judge: Judge, out: Path, others: Sequence[Path] = ()
) -> Iterator[Event | tuple[str, Figures]]:
    """Every event of every method's run, and each method's figures when it is done; then those of other recipes (.toml), run
    folders and files of words or weights. The same call again goes on.

    Raises:
        NeologismError: as for `training.train`.
    """
    check_methods(methods, task.like, bool(others))
    base = str(task.settings.get("base", "emoji"))
    model = open_model(base, str(task.settings.get("device", "auto")), "fp32")
    asked = Asked(task.unseen, task.word, task.like)
    for name, method, file in [
        *((m, m, None) for m in methods),
        *((named(other), "inversion", other) for other in others),
    ]:
        course, began = Course(), time.monotonic()
        if file is not None and file.suffix != ".toml":
            yield name, figures(model, judge, asked, files_of(file), 0.0, course, drawn_in(out, name))
            continue
        chosen = within(task, settings(task, method, file), out / name)
        for event in train(recipe(**chosen), out / name):
            course.note(event)
            yield event
        if course.ended:
            files = [course.ended.file, *course.ended.more]
            seconds = min(course.ended.seconds, time.monotonic() - began)
            yield name, figures(model, judge, asked, files, seconds, course, drawn_in(out, name))


def drawn_in(out: Path, name: str) -> Path:
    """Where the pictures that were judged are kept."""
    return out / "drawn" / name


def named(other: Path) -> str:
    """What a recipe, run or file is called on the page."""
    return other.parent.name if other.name in (*WEIGHTS, "word.safetensors") else other.stem


def files_of(other: Path) -> list[Path]:
    """The files of a run folder, or the file itself.

    Raises:
        RecipeError: there is none.
    """
    found = (
        [f for f in (other / "word.safetensors", *(other / name for name in WEIGHTS)) if f.exists()]
        if other.is_dir()
        else [other]
    )
    if not found or not found[0].exists():
        raise RecipeError(
            f"{other} is no recipe (.toml), finished run or file of a word or weights. Name one of these by --of."
        )
    return found
