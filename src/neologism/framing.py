"""A photo -> pixels at the training size, and the frame that says which part of it they show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neologism.errors import PhotosError, RecipeError
from neologism.photos import Photo, opened

FRAMING = "square-lanczos-1"
"""Names how pictures are framed, for the keys of caches; changes whenever pixels would."""
BUCKETED = "bucket-lanczos-1"
"""The same of pictures that keep about their shape."""
LONG, LEAST_AREA = 2.0, 0.7  # a bucket's longer side to its shorter, at most; its area to that of the square, at least


@dataclass(frozen=True)
class Frame:
    """Which part of a photo was taken.

    Attributes:
        crop: (left, top, width, height) in pixels of the photo after its EXIF turn, before mirroring.
        original: (width, height) of the photo.
        side: (width, height) of the pixels made from the crop.
        mirrored: whether left and right were exchanged afterwards.
    """

    crop: tuple[int, int, int, int]
    original: tuple[int, int]
    side: tuple[int, int]
    mirrored: bool


@dataclass(frozen=True)
class Framed:
    """Pixels [3, h, w] in -1..1, the mask [1, h, w] in 0..1 where the photo has one, both float32, and the frame."""

    pixels: Tensor
    mask: Tensor | None
    frame: Frame


@dataclass(frozen=True)
class Buckets:
    """Sizes (width, height) in pixels; a photo is brought to the one nearest to its shape."""

    sizes: tuple[tuple[int, int], ...]

    def nearest(self, original: tuple[int, int]) -> tuple[int, int]:
        """The size whose ratio is nearest to the photo's, in logarithms: that which cuts off the smallest share of it."""
        ratio = math.log(original[0] / original[1])
        return min(self.sizes, key=lambda size: (abs(math.log(size[0] / size[1]) - ratio), -size[0] * size[1]))


def buckets(side: int, grid: int, longest: int | None = None) -> Buckets:
    """The sizes of about side x side pixels, sides being multiples of `grid`, from 1:2 to 2:1 (NovelAI's aspect ratio bucketing;
    Podell et al. 2023, section 2.3). None is larger than the square of `side`, so that none takes more memory.

    Raises:
        RecipeError: not even a square fits.
    """
    most, area = side // grid, side * side // grid**2  # counted in cells of the grid
    limit = longest // grid if longest else area
    if not min(most, limit):
        raise RecipeError(
            f"Found crop = 'bucket' with a side of {side} pixels; pictures of this base have sides that are multiples of {grid}. "
            f"Give a side of at least {grid}, or crop = 'square'."
        )
    found = {(min(most, limit),) * 2}
    for short in range(1, most + 1):
        long = min(area // short, int(short * LONG), limit)
        if long > short and short * long * grid**2 >= LEAST_AREA * side * side:
            found |= {(short, long), (long, short)}
    return Buckets(tuple((width * grid, height * grid) for width, height in sorted(found)))


def framed(photo: Photo, side: int | Buckets, mirror: bool = False) -> Framed:
    """The largest part in the photo's middle that is a square, resized to `side` pixels, or that has the nearest bucket's shape.

    Raises:
        PhotosError: the file has changed since it was gathered, or its mask is empty inside that part.
    """
    image, mask = opened(photo)
    frame = central(image.size, (side, side) if isinstance(side, int) else side.nearest(image.size), mirror)
    area = None if mask is None else values(cut(mask, frame, Image.Resampling.BOX))
    if area is not None and not area.any():
        part = "the middle square" if isinstance(side, int) else "its middle of {} x {} pixels".format(*frame.crop[2:])
        raise PhotosError(
            f"The mask of {photo.path} is empty inside {part}, which is all that is used of a picture. "
            "Crop the picture around what its mask shows, or leave it out."
        )
    return Framed(values(cut(image, frame, Image.Resampling.LANCZOS)) * 2 - 1, area, frame)


def central(original: tuple[int, int], side: tuple[int, int], mirror: bool) -> Frame:
    """The frame of the largest central part that has the shape of `side` (width, height), to a pixel."""
    width, height = original
    scale = min(width / side[0], height / side[1])
    wide, high = (max(1, min(whole, round(part * scale))) for whole, part in zip(original, side, strict=True))
    return Frame(((width - wide) // 2, (height - high) // 2, wide, high), original, side, mirror)


def label(side: int | Buckets, frame: Frame) -> str:
    """What tells a framing from others, for the keys of caches."""
    return f"{FRAMING} {side}" if isinstance(side, int) else "{} {}x{}".format(BUCKETED, *frame.side)


def cut(image: Image.Image, frame: Frame, how: Image.Resampling) -> Image.Image:
    """What a frame shows of a picture."""
    left, top, width, height = frame.crop
    shown = image.resize(frame.side, how, box=(left, top, left + width, top + height))
    return shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if frame.mirrored else shown


def values(image: Image.Image) -> Tensor:
    """A picture of mode "RGB" or "L" as [channels, h, w], float32 in 0..1."""
    array = np.array(image, np.float32).reshape(image.height, image.width, -1)
    return torch.tensor(array / 255).permute(2, 0, 1).contiguous()


def picture(pixels: Tensor) -> Image.Image:
    """Pixels [3, h, w] in -1..1 as a picture; the way back from `framed`."""
    array = pixels.detach().float().cpu().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).contiguous().numpy())
