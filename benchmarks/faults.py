"""What `check` finds in pictures made bad on purpose, and in good ones. `python -m benchmarks.faults [--photos FOLDER_OF_SUBJECTS]`

Each good photograph is made bad in graded ways, and each set likewise; the share that is found is counted, and every alarm on the good
ones. Without a folder the example pictures that ship are taken, at 64 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from benchmarks import record
from neologism.faults import faults, look

SHIPPED = Path(__file__).parents[1] / "src/neologism/emoji/photos"
Change = Callable[[Image.Image, Image.Image], Image.Image]  # a picture and another one -> a bad one


def blurred(radius: float) -> Change:
    """Blurred by a Gaussian, its radius in thousandths of the side."""
    return lambda image, _: image.filter(ImageFilter.GaussianBlur(radius * image.width / 1000))


def lit(by: float) -> Change:
    """Darker or brighter."""
    return lambda image, _: ImageEnhance.Brightness(image).enhance(by)


def framed(share: float, colour: str) -> Change:
    """With a frame of a share of the side."""
    return lambda image, _: ImageOps.expand(image, round(share * image.width), colour)


def letterbox(image: Image.Image, _: Image.Image) -> Image.Image:
    """With black bars above and below."""
    shown = image.copy()
    draw, (width, height) = ImageDraw.Draw(shown), image.size
    draw.rectangle((0, 0, width, height * 0.15), fill="black")
    draw.rectangle((0, height * 0.85, width, height), fill="black")
    return shown


def halves(image: Image.Image, other: Image.Image) -> Image.Image:
    """Two pictures side by side."""
    half, height = image.width // 2, image.height
    both = Image.new("RGB", image.size)
    both.paste(image.crop((half // 2, 0, half // 2 + half, height)), (0, 0))
    both.paste(other.resize(image.size).crop((half // 2, 0, half // 2 + half, height)), (half, 0))
    return both


def quarters(image: Image.Image, other: Image.Image) -> Image.Image:
    """Four pictures in a square."""
    half = (image.width // 2, image.height // 2)
    four = Image.new("RGB", image.size)
    for number, one in enumerate((image, other, other.rotate(90), image.rotate(180))):
        four.paste(one.resize(half), (number % 2 * half[0], number // 2 * half[1]))
    return four


BAD: dict[str, dict[str, Change]] = {
    "blurred": {f"{radius} thousandths": blurred(radius) for radius in (2, 4, 6, 10)},
    "dark": {f"{by:.0%} of its light": lit(by) for by in (0.4, 0.3, 0.2)},
    "bright": {f"{by:.0%} of its light": lit(by) for by in (2.0, 3.0, 4.0)},
    "border": {
        "frame of 5 %, black": framed(0.05, "black"),
        "frame of 10 %, white": framed(0.1, "white"),
        "bars": letterbox,
    },
    "collage": {"two": halves, "four": quarters},
}


def kinds(images: list[Image.Image], side: int) -> list[str]:
    """The kinds of faults that are found in pictures together."""
    return [fault.kind for fault in faults([look(str(n), image, None, side) for n, image in enumerate(images)])]


def measured(folder: Path, side: int) -> dict[str, Any]:
    """Shares found by kind and strength, and the false alarms."""
    sets = {place.name: opened(place) for place in sorted(folder.iterdir()) if place.is_dir()}
    good = [image for images in sets.values() for image in images]
    found: dict[str, dict[str, float]] = {}
    for kind, ways in BAD.items():
        bad = {name: [act(image, good[number - 7]) for number, image in enumerate(good)] for name, act in ways.items()}
        found[kind] = {name: share([kind in kinds([one], side) for one in images]) for name, images in bad.items()}
    found["view"] = {
        "one picture, lit in four ways": share(["view" in kinds(same(images[0]), side) for images in sets.values()])
    }
    found["ground"] = {
        "one colour behind all": share(["ground" in kinds(cut_out(images), side) for images in sets.values()])
    }
    alarms = {name: alarm for name, images in sets.items() if (alarm := kinds(images, side))}
    return {"pictures": len(good), "sets": len(sets), "side": side, "found": found, "false_alarms": alarms}


def opened(folder: Path) -> list[Image.Image]:
    """The pictures of a set."""
    return [Image.open(file).convert("RGB") for file in sorted(folder.iterdir()) if file.suffix in (".jpg", ".png")]


def same(image: Image.Image) -> list[Image.Image]:
    """One picture in four lights."""
    return [ImageEnhance.Brightness(image).enhance(by) for by in (0.85, 0.95, 1.0, 1.1)]


def cut_out(images: list[Image.Image]) -> list[Image.Image]:
    """The middle of each picture on one ground."""
    shown: list[Image.Image] = []
    for image in images:
        ground = Image.new("RGB", image.size, "#8fa3b8")
        hole = Image.new("L", image.size)
        width, height = image.size
        ImageDraw.Draw(hole).ellipse((width * 0.2, height * 0.2, width * 0.8, height * 0.8), fill=255)
        shown.append(Image.composite(image, ground, hole))
    return shown


def share(hits: list[bool]) -> float:
    """How many of them, 0..1."""
    return sum(hits) / len(hits)


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument(
        "--photos", type=Path, default=SHIPPED, help="a folder with a folder of good pictures for each subject"
    )
    parser.add_argument("--side", type=int, default=64, help="side of the training pictures, in pixels")
    given = parser.parse_args()
    record.told("faults", given, lambda: measured(given.photos, given.side))


if __name__ == "__main__":
    main()
