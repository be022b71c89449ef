"""What is set aside while a word is learned: its rows at fixed steps, with the seconds spent so far. Measured afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from benchmarks import reference
from benchmarks.quality import WORD
from neologism import captions, photos
from neologism.families import EMOJI, open_model
from neologism.initial import best_word
from neologism.latents import cached
from neologism.lessons import Lesson, probe_batch
from neologism.loop import loop
from neologism.recipe import Recipe, recipe
from neologism.training import first_rows, sayer
from workshop.emoji.drawing import MADE_STYLE
from workshop.emoji.examples import GIVEN, UNSEEN, style_pictures, subject_pictures
from workshop.emoji.subjects import development

MARKS = (0, 10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 600, 1000, 2000, 3000)
WORK = Path(".emoji-base/time-to-quality")


@dataclass(frozen=True)
class Asides:
    """A word on its way.

    Attributes:
        start: the word that its rows began as, or what they were made from, in words.
        steps: [m], int64. seconds: [m], float64, everything counted. rows: [m, vectors, width], float32.
        probes: [k, 2], float64: the steps at which the word's own paired probe was taken, and the losses (k may be 0).
    """

    start: str
    steps: Tensor
    seconds: Tensor
    rows: Tensor
    probes: Tensor

    def save(self, file: Path) -> None:
        """Keep in a file, whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"steps": self.steps, "seconds": self.seconds, "rows": self.rows, "probes": self.probes}
        save_file(tensors, file.with_suffix(".partial"), {"start": self.start})
        os.replace(file.with_suffix(".partial"), file)


def load(file: Path) -> Asides:
    """What a file keeps."""
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        return Asides(opened.metadata()["start"], **tensors)


def subjects() -> dict[str, str]:
    """What is learned, and of which kind."""
    return {subject.name: "object" for subject in development()} | {MADE_STYLE: "style"}


def shown(name: str, given: bool) -> list[Image.Image]:
    """The pictures of a subject to learn from, or those nobody learns from; from disk where they were drawn before."""
    files = sorted((WORK / "pictures" / name.replace(" ", "-") / ("given" if given else "unseen")).glob("*.png"))
    if files:
        return [Image.open(file).convert("RGB") for file in files]
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


def start_word(name: str) -> str:
    """The vocabulary's word that the reference begins with: that which explains the pictures best. Kept in a file."""
    file = WORK / "starts" / f"{name.replace(' ', '-')}.txt"
    if not file.exists():
        model, made = open_model("emoji"), settings(name, 0, {})
        found = photos.gather(Path(made.pictures[0]), model.size).photos
        latents = cached(model, found, model.size, made.mirror, made.masks)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(best_word(model, probe_batch(model, latents, captions.TEMPLATES[made.kind][0], made)), "utf-8")
    return file.read_text("utf-8")


def ours(name: str, seed: int, chosen: dict[str, Any]) -> Asides:
    """Our own learning of a word, from an opened model."""
    made = settings(name, seed, chosen)
    model = open_model("emoji")
    began = time.perf_counter()
    found = photos.gather(Path(made.pictures[0]), model.size).photos
    latents = cached(model, found, model.size, made.mirror, made.masks)
    template = (made.templates or captions.TEMPLATES[made.kind])[0]
    start = first_rows(model, made, 0, latents, template)
    lesson = Lesson(WORD, latents, sayer(WORD, found, made), made, model, start, template)
    lesson.probe()
    aside = [(0, time.perf_counter() - began, rows_of(lesson))]
    for pupil, _ in loop(model, [lesson]):
        if pupil.step in MARKS or pupil.done:
            aside.append((pupil.step, time.perf_counter() - began, rows_of(pupil)))
    probes = [(min(n * made.probe_every, lesson.step), value) for n, value in enumerate(lesson.probes)]
    return gathered(start.told, aside, probes)


def rows_of(lesson: Lesson) -> Tensor:
    """The lesson's rows as they are."""
    return next(iter(lesson.vectors().values()))


def theirs(name: str, seed: int) -> Asides:
    """The published algorithm's learning of the word, from the start word it is given."""
    pipe: Any = StableDiffusionPipeline.from_pretrained(EMOJI)
    pipe.text_encoder.float()
    start = start_word(name)
    state = reference.Reference(pipe, WORD, start)
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    return gathered(start, list(reference.learned(state, shown(name, True), side, subjects()[name], seed, MARKS)), [])


def gathered(start: str, aside: Sequence[tuple[int, float, Tensor]], probes: Sequence[tuple[int, float]]) -> Asides:
    """Steps, seconds and rows as tensors."""
    return Asides(
        start,
        torch.tensor([step for step, _, _ in aside]),
        torch.tensor([spent for _, spent, _ in aside], dtype=torch.float64),
        torch.stack([rows for _, _, rows in aside]),
        torch.tensor(probes, dtype=torch.float64).reshape(-1, 2),
    )


def kept(name: str, seed: int, method: str) -> Path:
    """Where a word's asides are kept."""
    return WORK / "asides" / f"{method}-{name.replace(' ', '-')}-{seed}.safetensors"


def aside(name: str, seed: int, method: str, chosen: dict[str, Any]) -> Asides:
    """What was set aside, from disk where the word was learned before."""
    file = kept(name, seed, method)
    if not file.exists():
        (theirs(name, seed) if method == "reference" else ours(name, seed, chosen)).save(file)
    return load(file)
