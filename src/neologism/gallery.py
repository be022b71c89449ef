"""Generated pictures as files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from neologism.contact import contact_sheet
from neologism.errors import RunError
from neologism.families import open_model
from neologism.formats import load
from neologism.generation import generate, untaught
from neologism.methods import files
from neologism.run import keep_image, slug


def draw_to_files(
    prompt: str,
    words: Sequence[Path],
    base: str,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    negative: str,
    device: str,
    out: Path,
    warn: Callable[[str], None],
    weights: Sequence[Path] = (),
    size: str = "",
) -> list[Path]:
    """Draw a prompt and write the pictures: into the folder `out`, or all into one sheet where `out` ends in .png.

    `size` is WIDTHxHEIGHT in pixels, or "" for the base's own.
    """
    sides = sides_of(size)
    if out.suffix and out.suffix.lower() != ".png":
        raise RunError(
            f"--out {out} ends in {out.suffix}; pictures are written as .png, or into a folder. Give one of these."
        )
    embeddings = [load(word) for word in words]
    spelled = {word.lower() for file in weights for word in spelled_by(file)}
    for missing in untaught(prompt, embeddings):
        if missing.lower() in spelled:
            continue
        warn(
            f"{missing} is in the prompt and in no word's file, so the model reads its letters; give its file by --word."
        )
    model = open_model(base, device, "fp32")
    images = generate(model, prompt, embeddings, seeds, steps, guidance, negative, weights, sides)
    if out.suffix:
        keep_image(images[0] if len(images) == 1 else contact_sheet([(prompt, images)]), out)
        return [out]
    return keep_all(images, [out / f"{slug(prompt)[:60]}-{seed}.png" for seed in seeds])


def sides_of(size: str) -> tuple[int, int] | None:
    """Width and height as typed.

    Raises:
        RunError: it is something else.
    """
    found = re.fullmatch(r"(\d{1,5})\s*[xX×]\s*(\d{1,5})", size.strip())
    if size and not found:
        raise RunError(f"--size: found {size!r}; WIDTHxHEIGHT in pixels is allowed, such as 768x512.")
    return (int(found[1]), int(found[2])) if found else None


def spelled_by(file: Path) -> list[str]:
    """The words that a file of weights brings along."""
    told = files.read(file)[1]
    new: dict[str, list[str]] = json.loads(told.get("new", "{}"))
    return [told.get("word", ""), *(word for words in new.values() for word in words)]


def keep_all(images: Sequence[Image.Image], files: Sequence[Path]) -> list[Path]:
    """Write each image to its file."""
    for image, file in zip(images, files, strict=True):
        keep_image(image, file)
    return list(files)
