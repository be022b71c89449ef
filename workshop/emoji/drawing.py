"""Glyphs of Noto Color Emoji as pictures, and what may be done to them: recolour, stretch, turn, restyle."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
NATIVE = 109  # the only size at which this bitmap font draws
SIDE = 64

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 40),
    "orange": (248, 140, 25),
    "yellow": (245, 215, 55),
    "green": (60, 165, 70),
    "blue": (50, 105, 220),
    "purple": (140, 60, 180),
    "pink": (252, 150, 185),
    "white": (246, 246, 246),
    "gray": (140, 140, 140),
    "black": (22, 22, 22),
}
TINTS = tuple(name for name in COLOURS if name not in ("white", "gray", "black"))


@cache
def glyph(character: str) -> Image.Image:
    """The character cut out of the font: RGBA, trimmed to its visible part."""
    font = ImageFont.truetype(str(FONT), NATIVE)
    canvas = Image.new("RGBA", (180, 180), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((10, 10), character, font=font, embedded_color=True)
    return canvas.crop(canvas.getchannel("A").getbbox())


def recoloured(picture: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """The RGBA picture in shades of one colour: its light and dark kept, its hues lost."""
    alpha = picture.getchannel("A")
    light = np.asarray(picture.convert("L"), dtype=np.float32) / 255.0
    inside = light[np.asarray(alpha) > 128]
    low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 1.0)
    light = np.clip((light - low) / max(high - low, 0.1), 0, 1)[..., None]
    base = np.array(colour, dtype=np.float32)
    shades = np.where(light < 0.5, base * (0.35 + 1.3 * light), base + (255 - base) * (light - 0.5) * 1.1)
    result = Image.fromarray(np.clip(shades, 0, 255).astype(np.uint8), "RGB").convert("RGBA")
    result.putalpha(alpha)
    return result


def stretched(picture: Image.Image, width: float, height: float) -> Image.Image:
    """The picture with its sides multiplied."""
    size = (max(1, round(picture.width * width)), max(1, round(picture.height * height)))
    return picture.resize(size, Image.Resampling.BILINEAR)


def turned(picture: Image.Image, degrees: float) -> Image.Image:
    """The picture turned anticlockwise about its middle, the canvas grown to hold it."""
    return picture.rotate(degrees, Image.Resampling.BICUBIC, expand=True)


def mixed(one: Image.Image, other: Image.Image) -> Image.Image:
    """Halfway between two RGBA pictures: the outline and colours of both, on a canvas that holds both."""
    side = max(*one.size, *other.size)
    canvases = []
    for figure in (one, other):
        scale = side / max(figure.size)
        grown = stretched(figure, scale, scale)
        canvas = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        canvas.paste(grown, ((side - grown.width) // 2, (side - grown.height) // 2))
        canvases.append(canvas.convert("RGBa"))  # premultiplied: what is clear has no colour to give
    return Image.blend(canvases[0], canvases[1], 0.5).convert("RGBA")


def placed(
    background: Image.Image, picture: Image.Image, size: float, middle: tuple[float, float]
) -> tuple[Image.Image, Image.Image]:
    """The picture laid on the background (longer side `size` of the canvas, at `middle` in 0..1), and its mask."""
    canvas = background.width
    scale = size * canvas / max(picture.size)
    small = picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), Image.Resampling.LANCZOS
    )
    corner = (round(middle[0] * canvas - small.width / 2), round(middle[1] * canvas - small.height / 2))
    result, mask = background.copy(), Image.new("L", background.size, 0)
    result.paste(small, corner, small)
    mask.paste(small.getchannel("A"), corner)
    return result, mask


def plain(colour: tuple[int, int, int], side: int = SIDE) -> Image.Image:
    """A canvas of one colour."""
    return Image.new("RGB", (side, side), colour)


def patterned(kind: str, first: tuple[int, int, int], second: tuple[int, int, int], side: int = SIDE) -> Image.Image:
    """A canvas of two colours: "gradient", "stripes", "dots" or "checks"."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    share = {
        "gradient": y,
        "stripes": (np.floor(x * 6) % 2),
        "dots": (((x * 4) % 1 - 0.5) ** 2 + ((y * 4) % 1 - 0.5) ** 2 < 0.07).astype(np.float32),
        "checks": (np.floor(x * 4) + np.floor(y * 4)) % 2,
    }[kind][..., None]
    pixels = np.array(first) * (1 - share) + np.array(second) * share
    return Image.fromarray(pixels.astype(np.uint8), "RGB")


def restyled(picture: Image.Image, style: str) -> Image.Image:
    """The whole picture in one of the styles of `STYLES`, or the made style "neon"."""
    return STYLES[style](picture)


def pixel_art(picture: Image.Image) -> Image.Image:
    """Sixteen large squares a side."""
    small = picture.resize((16, 16), Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.NEAREST)


def pencil_sketch(picture: Image.Image) -> Image.Image:
    """Dark outlines on white paper."""
    edges = picture.convert("L").filter(ImageFilter.FIND_EDGES)
    edges = ImageOps.crop(edges, 1).resize(picture.size)
    return ImageOps.invert(edges.point(lambda value: min(255, value * 2))).convert("RGB")


def neon(picture: Image.Image) -> Image.Image:
    """Glowing coloured outlines on a near-black violet: the made style, which the base is never taught."""
    edges = ImageChops.lighter(picture.filter(ImageFilter.FIND_EDGES), plain((0, 0, 0), picture.width))
    glow = ImageChops.add(edges.point(lambda v: min(255, v * 3)), edges.filter(ImageFilter.GaussianBlur(2)))
    return ImageChops.add(glow, plain((38, 8, 60), picture.width))


STYLES = {
    "black and white": lambda picture: ImageOps.grayscale(picture).convert("RGB"),
    "negative": ImageOps.invert,
    "poster": lambda picture: ImageOps.posterize(picture, 2),
    "pixel art": pixel_art,
    "pencil sketch": pencil_sketch,
    "sepia": lambda picture: ImageOps.colorize(ImageOps.grayscale(picture), (50, 25, 5), (255, 235, 200)),
    "neon": neon,
}
MADE_STYLE = "neon"
HELD_OUT_STYLE = max(
    sorted(set(STYLES) - {MADE_STYLE}),
    key=lambda name: hashlib.sha256(f"neologism emoji style {name}".encode()).hexdigest(),
)  # sepia: kept for the final measurement, taught to nobody
TAUGHT_STYLES = tuple(sorted(set(STYLES) - {MADE_STYLE, HELD_OUT_STYLE}))
