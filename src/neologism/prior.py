"""Pictures of a class that the frozen base draws itself, to be kept in mind while its weights learn."""

from __future__ import annotations

import hashlib
from pathlib import Path

from neologism import photos
from neologism.families.model import Model
from neologism.generation import AT_ONCE, generate
from neologism.latents import Latents, cached, fingerprint
from neologism.recipe import Recipe
from neologism.run import keep_image
from neologism.sources import cache_folder


def prior(model: Model, recipe: Recipe) -> tuple[Latents, str] | None:
    """The class's pictures, drawn or found in the cache, and what is said of them; None where none are wanted.

    Prior preservation (Ruiz et al. 2023, section 3.3): drawn by the base before anything is learned.
    """
    if not recipe.prior:
        return None
    said = f"a {recipe.starts[0]}"
    folder = drawn(model, said, recipe.prior)
    side = recipe.side or model.size
    shown = photos.gather(folder, side).photos[: recipe.prior]
    return cached(model, shown, side, False, False), said


def drawn(model: Model, said: str, count: int) -> Path:
    """The folder of the first `count` pictures of a prompt; only those that it lacks are drawn."""
    folder = cache_folder() / "classes" / key(model, said, count)
    files = [folder / f"{seed:05d}.png" for seed in range(count)]
    missing = [(seed, file) for seed, file in enumerate(files) if not file.exists()]
    for first in range(0, len(missing), AT_ONCE):
        some = missing[first : first + AT_ONCE]
        for (_, file), image in zip(some, generate(model, said, seeds=[seed for seed, _ in some]), strict=True):
            keep_image(image, file)
    return folder


def key(model: Model, said: str, count: int) -> str:
    """What decides the pictures: every tensor of the base, the prompt, how many, and where it computes."""
    parts = " ".join(f"{name} {fingerprint(part)}" for name, part in sorted(model.parts().items()))
    where = f"{model.machine.device.type} {model.machine.precision}"
    return hashlib.sha256(f"{parts} {said!r} {count} {where}".encode()).hexdigest()
