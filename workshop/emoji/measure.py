"""How good the emoji base is. `python -m workshop.emoji.measure [--json] [--only NAMES] [--stored]`"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from benchmarks import record
from neologism.contact import contact_sheet
from neologism.scores import Judge, open_judge, ranks
from workshop.emoji import autoencoder, pictures
from workshop.emoji.denoiser import SHIPPED, SUBJECTS
from workshop.emoji.drawing import COLOURS
from workshop.emoji.judge import names
from workshop.emoji.scenes import Scene, with_article
from workshop.emoji.subjects import HELD_OUT, Subject, pool, trained

PROMPTS, STEPS, GUIDANCE = 256, 25, 5.0
GRID = Path("docs/pictures/base.png")


def background_colour(image: Image.Image) -> str:
    """The name of the colour nearest to the median of a picture's outermost pixels."""
    pixels = np.asarray(image.convert("RGB"), np.float32)
    border = np.concatenate(
        [
            pixels[:2].reshape(-1, 3),
            pixels[-2:].reshape(-1, 3),
            pixels[:, :2].reshape(-1, 3),
            pixels[:, -2:].reshape(-1, 3),
        ]
    )
    middle = np.median(border, axis=0)
    return min(COLOURS, key=lambda name: float(((middle - np.array(COLOURS[name])) ** 2).sum()))


def asked(subjects: Sequence[Subject], count: int) -> list[Scene]:
    """What is asked of the base: each subject in turn on a named background."""
    chance = random.Random(0)
    order = [subjects[i % len(subjects)] for i in range(count)]
    return [Scene(subject, subject.name, background=chance.choice(list(COLOURS))) for subject in order]


@torch.no_grad()
def drawn(pipe: Any, prompts: Sequence[str]) -> list[Image.Image]:
    """One picture a prompt, picture k from seed k."""
    images: list[Image.Image] = []
    for first in range(0, len(prompts), 16):
        part = list(prompts[first : first + 16])
        generators = [torch.Generator().manual_seed(first + i) for i in range(len(part))]
        images += pipe(part, generator=generators, num_inference_steps=STEPS, guidance_scale=GUIDANCE).images
    return images


def figures(judge: Judge, pipe: Any, scenes: Sequence[Scene]) -> tuple[dict[str, Any], list[Image.Image]]:
    """Naming and background on the scenes, and the pictures."""
    images = drawn(pipe, [scene.caption for scene in scenes])
    wanted = [with_article(s.called, "a") for s in scenes]
    places = ranks(judge, images, names(), wanted)
    right = [background_colour(image) == scene.background for image, scene in zip(images, scenes, strict=True)]
    shares = {"top1": float((places < 1).float().mean()), "top5": float((places < 5).float().mean())}
    return {"prompts": len(scenes), **shares, "background": sum(right) / len(right)}, images


def measured(only: list[str]) -> dict[str, Any]:
    """All figures, with a grid of the first pictures."""
    pipe = StableDiffusionPipeline.from_pretrained(SHIPPED)
    pipe.set_progress_bar_config(disable=True)
    subjects = [s for s in trained(SUBJECTS) if not only or s.name in only]
    found, images = figures(open_judge(), pipe, asked(subjects, PROMPTS if not only else len(subjects)))
    _, pixels, _ = pictures.many(range(4 * 10**6, 4 * 10**6 + 500), pool()[HELD_OUT:], wide=0.12)
    found["psnr"] = autoencoder.psnr(pipe.vae, pixels)
    GRID.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(
        [("", images[first : first + 12]) for first in range(0, 72, 12) if images[first : first + 12]], 64
    ).save(GRID)
    return found


def main() -> None:
    """Measure and record."""
    given = record.options(__doc__ or "").parse_args()
    record.told("workshop.emoji.measure", given, lambda: measured([n for n in given.only.split(",") if n]))


if __name__ == "__main__":
    main()
