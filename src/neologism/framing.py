"""A photo -> pixels at the training size, and the frame that says which part of it they show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neologism.errors import PhotosError
from neologism.photos import Photo, opened

FRAMING = "square-lanczos-1"
"""Names how pictures are framed, for the keys of caches; changes whenever pixels would."""


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


def framed(photo: Photo, side: int, mirror: bool = False) -> Framed:
    """The largest square in the photo's middle, resized to `side` pixels.

    Raises:
        PhotosError: the file has changed since it was gathered, or its mask is empty inside that square.
    """
    image, mask = opened(photo)
    frame = square(image.size, side, mirror)
    area = None if mask is None else values(cut(mask, frame, Image.Resampling.BOX))
    if area is not None and not area.any():
        raise PhotosError(
            f"The mask of {photo.path} is empty inside the middle square, which is all that is used of a picture. "
            "Crop the picture around what its mask shows, or leave it out."
        )
    return Framed(values(cut(image, frame, Image.Resampling.LANCZOS)) * 2 - 1, area, frame)


def square(original: tuple[int, int], side: int, mirror: bool) -> Frame:
    """The frame of the largest central square."""
    width, height = original
    short = min(width, height)
    return Frame(((width - short) // 2, (height - short) // 2, short, short), original, (side, side), mirror)


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
