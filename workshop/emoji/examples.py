"""Pictures of held-out subjects as a user would have them, and the examples that ship. `python -m workshop.emoji.examples`"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from PIL import Image

from workshop.emoji import drawing
from workshop.emoji.drawing import COLOURS, MADE_STYLE, restyled
from workshop.emoji.scenes import Scene, drawn
from workshop.emoji.subjects import Subject, development, trained

SHOWN = ("rabbit", "lady beetle", "burrito", "articulated lorry", "hammer", "hot springs")
PHOTOS = Path("src/neologism/emoji/photos")
GIVEN, UNSEEN = 4, 6


def by_name(name: str) -> Subject:
    """A development subject."""
    return next(subject for subject in development() if subject.name == name)


def subject_pictures(subject: Subject, count: int, seed: int) -> list[Image.Image]:
    """Pictures of a subject on various grounds, in various sizes, never recoloured; a pure function of its arguments."""
    return [picture for picture, _ in masked_pictures(subject, count, seed)]


def masked_pictures(subject: Subject, count: int, seed: int) -> list[tuple[Image.Image, Image.Image]]:
    """The same pictures, each with the mask of its subject."""
    chance = random.Random(f"{subject.code} {seed}")
    grounds = chance.sample(list(COLOURS), count)
    sizes = [chance.choice((None, None, "large", "small")) for _ in grounds]
    return [
        drawn(Scene(subject, subject.name, background=ground, size=size), chance)
        for ground, size in zip(grounds, sizes, strict=True)
    ]


def style_pictures(count: int, seed: int) -> list[Image.Image]:
    """Pictures of various known things in the made style."""
    chance = random.Random(f"{MADE_STYLE} {seed}")
    subjects = chance.sample(trained(60), count)
    grounds = chance.sample(list(COLOURS), count)
    plain = [drawn(Scene(s, s.name, background=g), chance)[0] for s, g in zip(subjects, grounds, strict=True)]
    return [restyled(picture, MADE_STYLE) for picture in plain]


def keep(name: str, given: list[Image.Image], unseen: list[Image.Image]) -> None:
    """Write one example's folder."""
    folder = PHOTOS / name
    (folder / "unseen").mkdir(parents=True, exist_ok=True)
    for place, images in ((folder, given), (folder / "unseen", unseen)):
        for number, image in enumerate(images):
            image.save(place / f"{number}.png", optimize=True)


def main() -> None:
    """Make the folders of six held-out development subjects and of the made style."""
    assert drawing.SIDE == 64
    shutil.rmtree(PHOTOS, ignore_errors=True)
    for name in SHOWN:
        subject = by_name(name)
        keep(name.replace(" ", "-"), subject_pictures(subject, GIVEN, 0), subject_pictures(subject, UNSEEN, 1))
    keep(MADE_STYLE, style_pictures(GIVEN, 0), style_pictures(UNSEEN, 1))


if __name__ == "__main__":
    main()
