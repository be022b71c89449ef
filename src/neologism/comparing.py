"""Methods, recipes or files on the same pictures, held-out pictures, prompts and seeds, with equal budgets."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image

from neologism import formats, photos, run
from neologism.cookbook import read
from neologism.embedding import Embedding
from neologism.errors import EmbeddingError, RecipeError
from neologism.events import Event, Finished, Step
from neologism.families import Model, open_model
from neologism.generation import generate
from neologism.methods import choosing
from neologism.recipe import recipe
from neologism.scores import Judge, score
from neologism.training import train

PROMPTS = ("a {} on a blue background", "a small {} on a green background", "a red {}", "a {}, black and white")
GENERAL = ("a cat", "a house on a blue background", "a small red car", "a photo of a flower")
SEEDS = (0, 1, 2, 3)
TRIED = 6  # steps, to tell how long one takes
METHODS = ("inversion", "embedding", "dreambooth", "lora")
WEIGHTS = ("lora.safetensors", "difference.safetensors", "tuned.safetensors")
TOGETHER = {
    "inversion": "any number of words",
    "embedding": "one thing for each class word",
    "dreambooth": "one thing; files do not add up",
    "lora": "a few; their weights add up and disturb one another",
}
"""How many learned things live together in one model."""


@dataclass(frozen=True)
class Figures:
    """What a method came to.

    Attributes:
        fidelity: mean cosine of what "a WORD" draws to the held-out pictures.
        prompt: mean cosine of the word in scenes to the prompts, the class word in its place.
        diversity: mean distance between the pictures of "a WORD".
        forgetting: mean distance that pictures of unrelated prompts have moved; class_drift: those of the class word.
        unchanged: whether pictures of unrelated prompts are the same bit for bit.
        bytes: what has to be kept. seconds: of the run. memory: the most bytes in use that were seen at a step.
        steps: how many it took. curve: the probe's loss on the way, as a share of its first, by share of the steps.
    """

    fidelity: float
    prompt: float
    diversity: float
    forgetting: float
    class_drift: float
    unchanged: bool
    bytes: int
    seconds: float
    memory: int
    steps: int = 0
    curve: tuple[tuple[float, float], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


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


@dataclass
class Course:
    """What is noted while a method learns: the most bytes in use, the probes, and the end."""

    memory: int = 0
    probes: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    ended: Finished | None = None

    def note(self, event: Event) -> None:
        """Take notice of an event."""
        if isinstance(event, Step):
            self.memory = max(self.memory, in_use())
            self.probes += [(event.step, event.probe)] if event.probe is not None else []
        self.ended = event if isinstance(event, Finished) else self.ended

    @property
    def curve(self) -> tuple[tuple[float, float], ...]:
        """The probes as shares."""
        steps, first = max((s for s, _ in self.probes), default=1), self.probes[0][1] if self.probes else 1.0
        return tuple((step / steps, loss / first) for step, loss in self.probes)


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
    return given, [opened(photo.path) for photo in (found[:apart] or found)]


def opened(file: Path) -> Image.Image:
    """A picture in memory."""
    with Image.open(file) as image:
        return image.convert("RGB")


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


def in_use() -> int:
    """Bytes in use: the GPU's most, or the process's own now."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)


def figures(model: Model, judge: Judge, task: Task, files: Sequence[Path], seconds: float, course: Course) -> Figures:
    """What these files draw, and what they came to."""
    own_use = [file for file in files if file.name != "lora-kohya.safetensors"]  # which is for other tools
    weights = [file for file in own_use if file.name in WEIGHTS or is_weights(file)]
    others = [file for file in own_use if file not in weights]
    words: list[Embedding] = [formats.load(file) for file in others]

    def drawn(prompts: Sequence[str], with_it: bool = True) -> list[Image.Image]:
        return generate(model, prompts, words if with_it else [], SEEDS, weights=weights if with_it else None)

    own = score(drawn([f"a {task.word}"]), task.unseen, judge=judge)
    scenes = drawn([prompt.replace("{}", task.word) for prompt in PROMPTS])
    asked = [prompt.replace("{}", task.like) for prompt in PROMPTS for _ in SEEDS]
    obeyed = score(scenes, task.unseen, asked, judge).prompt or 0.0
    general = [drawn(GENERAL, with_it) for with_it in (False, True)]
    classes = [drawn([f"a {task.like}"], with_it) for with_it in (False, True)]
    same = all(a.tobytes() == b.tobytes() for a, b in zip(*general, strict=True))
    kept = sum(file.stat().st_size for file in [*weights, *others])
    moved, drift = moved_by(judge, *general), moved_by(judge, *classes)
    steps = course.ended.step if course.ended else 0
    return Figures(
        own.subject, obeyed, own.diversity, moved, drift, same, kept, seconds, course.memory, steps, course.curve
    )


def is_weights(file: Path) -> bool:
    """Whether a file holds weights rather than a word."""
    try:
        choosing.files.read(file)
    except EmbeddingError:
        return False
    return True


def moved_by(judge: Judge, before: Sequence[Image.Image], after: Sequence[Image.Image]) -> float:
    """How far pictures of the same prompts and seeds have moved: the mean of 1 - cosine."""
    return float((1 - (judge.pictures(before) * judge.pictures(after)).sum(1)).mean().clamp_min(0))


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
    for name, method, file in [
        *((m, m, None) for m in methods),
        *((named(other), "inversion", other) for other in others),
    ]:
        course, began = Course(), time.monotonic()
        if file is not None and file.suffix != ".toml":
            yield name, figures(model, judge, task, files_of(file), 0.0, course)
            continue
        chosen = within(task, settings(task, method, file), out / name)
        for event in train(recipe(**chosen), out / name):
            course.note(event)
            yield event
        if course.ended:
            files = [course.ended.file, *course.ended.more]
            yield name, figures(model, judge, task, files, min(course.ended.seconds, time.monotonic() - began), course)


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
