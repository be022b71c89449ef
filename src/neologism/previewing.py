"""What a word draws on the way: previews from fixed seeds, and the sheet at the end that is put together from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from neologism import run
from neologism.contact import contact_sheet
from neologism.events import Event, Picture, Step
from neologism.families import Model
from neologism.framing import Buckets, framed, picture
from neologism.generation import generate
from neologism.lessons import Lesson
from neologism.photos import Photo
from neologism.recipe import Recipe
from neologism.verifying import PROMPTS

STEPS = 8
"""Sampling steps of a preview: enough to judge a word by, at a third of the usual price."""
UNTOLD = PROMPTS[1]
"""The prompt without any learned word: the same at every step, unless weights learn."""


def due(recipe: Recipe, lesson: Lesson, event: Event) -> bool:
    """Whether this step is one that shows pictures on the way."""
    often = recipe.preview_every and lesson.step % recipe.preview_every == 0
    return bool(often and isinstance(event, Step) and not lesson.done)


def asked(recipe: Recipe, lesson: Lesson) -> list[str]:
    """The prompts to draw now: those of the word, and where the model can have changed since, or nothing was drawn yet, one
    with the start word and one without any. At step 0 the word itself still is its start word.
    """
    own = [prompt.replace("{}", lesson.word) for prompt in recipe.preview_prompts]
    if not own:
        return []
    if lesson.learner.weights and lesson.step:
        begun = recipe.like[0] if recipe.like[0] not in ("auto", "normal", "uniform") else lesson.start.told
        return [*own, recipe.preview_prompts[0].replace("{}", begun), UNTOLD]
    return own if lesson.step else [*own, UNTOLD]


def previews(model: Model, recipe: Recipe, folder: Path, lesson: Lesson) -> Iterator[Picture]:
    """The recipe's preview prompts as the word draws them now, each also written as a file; the same seed every time."""
    prompts, found = asked(recipe, lesson), lesson.embedding()
    if not prompts:
        return
    with lesson.shown():
        images = generate(model, prompts, [found] if found else [], steps=STEPS)
    for prompt, image in zip(prompts, images, strict=True):
        yield run.keep_picture(folder, Picture(lesson.word, lesson.step, prompt, 0, image))


def sheet(
    recipe: Recipe,
    lesson: Lesson,
    shown: Sequence[Photo],
    side: int | Buckets,
    ended: Sequence[Picture],
    folder: Path,
) -> Image.Image:
    """Real pictures above what the start drew and what the word draws, prompt by prompt from the same seed."""
    before = [replace(one, step=0) for one in ended]
    files = [run.picture_file(folder, one) for one in before]
    rows: list[tuple[str, list[Image.Image]]] = [
        ("your pictures", [picture(framed(photo, side).pixels) for photo in shown[: max(4, len(ended))]]),
        (f"before: {lesson.start.told}", [run.image_at(file) for file in files if file.is_file()]),
        ("learned: " + ", ".join(one.prompt for one in ended), [one.image for one in ended]),
    ]
    return contact_sheet([row for row in rows if row[1]])
