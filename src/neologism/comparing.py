"""The methods on the same pictures, held-out pictures, prompts and seeds, with the same number of steps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image

from neologism import formats, photos, run
from neologism.embedding import Embedding
from neologism.errors import RecipeError
from neologism.events import Event, Finished, Step
from neologism.families import Model, open_model
from neologism.generation import generate
from neologism.recipe import recipe
from neologism.scores import Judge, score
from neologism.training import train

PROMPTS = ("a {} on a blue background", "a small {} on a green background", "a red {}", "a {}, black and white")
GENERAL = ("a cat", "a house on a blue background", "a small red car", "a photo of a flower")
SEEDS = (0, 1, 2, 3)
METHODS = ("inversion", "dreambooth", "lora")


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

    def as_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


@dataclass(frozen=True)
class Task:
    """What the methods are compared on: pictures given, pictures held out, the word and its class, settings.

    `rates` are the top learning rates of methods that learn weights, where they are not the usual ones.
    """

    given: Path
    unseen: Sequence[Image.Image]
    word: str
    like: str
    settings: Mapping[str, Any]
    rates: Mapping[str, float] = field(default_factory=dict[str, float])


def check_methods(methods: Sequence[str], like: str) -> None:
    """Refuse methods that there are not, and a class that is no word.

    Raises:
        RecipeError: with what there is.
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise RecipeError(
            f"methods: found {', '.join(unknown) or 'none'}; there are {', '.join(METHODS)}. Name some of these."
        )
    if like in ("", "auto", "normal", "uniform"):
        raise RecipeError(
            f"like: found {like!r}; a comparison needs the word of the pictures' class, such as dog. Give --like."
        )


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


def learned(task: Task, method: str, out: Path, peak: list[int]) -> Iterator[Event]:
    """The method's run; `peak` gets the most bytes in use."""
    given = {"pictures": str(task.given), "words": task.word, "like": task.like, "method": method}
    plain = {"preview_prompts": ("a {}",)} | dict(task.settings)
    plain |= {"weights_rate": task.rates[method]} if method in task.rates else {}
    for event in train(recipe(**plain | given), out):
        if isinstance(event, Step):
            peak[0] = max(peak[0], in_use())
        yield event


def in_use() -> int:
    """Bytes in use: the GPU's most, or the process's own now."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)


def figures(model: Model, judge: Judge, task: Task, ended: Finished, memory: int) -> Figures:
    """What a finished run came to."""
    files = [ended.file, *ended.more]
    weights = next((file for file in files if file.name in ("lora.safetensors", "difference.safetensors")), None)
    words: list[Embedding] = [formats.load(ended.file)] if ended.embedding else []

    def drawn(prompts: Sequence[str], with_it: bool = True) -> list[Image.Image]:
        return generate(model, prompts, words if with_it else [], SEEDS, weights=weights if with_it else None)

    own = score(drawn([f"a {task.word}"]), task.unseen, judge=judge)
    scenes = drawn([prompt.replace("{}", task.word) for prompt in PROMPTS])
    asked = [prompt.replace("{}", task.like) for prompt in PROMPTS for _ in SEEDS]
    obeyed = score(scenes, task.unseen, asked, judge).prompt or 0.0
    general = [drawn(GENERAL, with_it) for with_it in (False, True)]
    classes = [drawn([f"a {task.like}"], with_it) for with_it in (False, True)]
    same = all(a.tobytes() == b.tobytes() for a, b in zip(*general, strict=True))
    kept = sum(file.stat().st_size for file in files if file.name != "lora-kohya.safetensors")
    moved, drift = moved_by(judge, *general), moved_by(judge, *classes)
    return Figures(own.subject, obeyed, own.diversity, moved, drift, same, kept, ended.seconds, memory)


def moved_by(judge: Judge, before: Sequence[Image.Image], after: Sequence[Image.Image]) -> float:
    """How far pictures of the same prompts and seeds have moved: the mean of 1 - cosine."""
    return float((1 - (judge.pictures(before) * judge.pictures(after)).sum(1)).mean().clamp_min(0))


def compare(task: Task, methods: Sequence[str], judge: Judge, out: Path) -> Iterator[Event | tuple[str, Figures]]:
    """Every event of every method's run, and each method's figures when it is done. The same call again goes on.

    Raises:
        NeologismError: as for `training.train`.
    """
    check_methods(methods, task.like)
    for method in methods:
        peak = [0]
        ended: Finished | None = None
        for event in learned(task, method, out / method, peak):
            ended = event if isinstance(event, Finished) else ended
            yield event
        if ended:
            model = open_model(
                str(task.settings.get("base", "emoji")), str(task.settings.get("device", "auto")), "fp32"
            )
            yield method, figures(model, judge, task, ended, peak[0])


def recommended(found: Mapping[str, Figures]) -> str:
    """Advice that follows from the figures alone."""
    truest = max(found, key=lambda name: found[name].fidelity)
    obedient = max(found, key=lambda name: found[name].prompt)
    smallest = min(found, key=lambda name: found[name].bytes)
    gentle = min(found, key=lambda name: (not found[name].unchanged, found[name].forgetting + found[name].class_drift))
    return (
        f"Truest to the pictures: {truest} ({found[truest].fidelity:.3f}). Truest to prompts: {obedient} "
        f"({found[obedient].prompt:.3f}). Forgets least: {gentle}. Smallest: {smallest} ({found[smallest].bytes:,} bytes). "
        + (
            f"Take {truest}."
            if truest == gentle
            else f"Take {truest} for this thing alone, {gentle} where the rest must stay."
        )
    )


def page(found: Mapping[str, Figures], out: Path) -> Path:
    """index.html: the table, each method's pictures, and the advice."""
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(PAGE)
    rows = {name: one.as_dict() for name, one in found.items()}
    text = template.render(rows=rows, names=list(Figures.__dataclass_fields__), advice=recommended(found))
    run.write_whole(out / "index.html", text.encode())
    return out / "index.html"


PAGE = """<!doctype html><meta charset="utf-8"><title>Methods compared</title>
<style>body{font-family:sans-serif;margin:2em}td,th{padding:.3em .8em;text-align:right}img{max-width:100%}</style>
<h1>Methods compared</h1><p>{{ advice }}</p>
<table><tr><th></th>{% for name in names %}<th>{{ name }}</th>{% endfor %}</tr>
{% for method, row in rows.items() %}<tr><th>{{ method }}</th>{% for name in names %}
<td>{{ "%.4f"|format(row[name]) if row[name] is float else row[name] }}</td>{% endfor %}</tr>{% endfor %}</table>
{% for method in rows %}<h2>{{ method }}</h2><img alt="{{ method }}" src="{{ method }}/sheet.png">{% endfor %}
"""
