"""Where the subject of a picture is, by the simplest means: what differs from the picture's own border."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

SIDE = 128
EDGE = 0.04
"""Share of the side that counts as border."""
PLAIN = 24.0
"""How far values of the border may lie from their median (mean of absolute differences, of 255) for it to be one ground."""


def border(values: np.ndarray) -> np.ndarray:
    """The values [n, 3] along the border of [h, w, 3]."""
    width = max(1, round(EDGE * values.shape[0]))
    sides = (values[:width], values[-width:], values[:, :width], values[:, -width:])
    return np.concatenate([side.reshape(-1, 3) for side in sides])


def subject(image: Image.Image) -> Image.Image | None:
    """A mask (mode "L", white is the subject) of the picture's size, or None where its ground is not plain enough to tell.

    The ground is the median colour of the border; the subject is what differs from it, by a threshold between the two (Otsu 1979).
    """
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(1))
    values = np.asarray(small, np.float32)
    edge = border(values)
    ground = np.median(edge, axis=0)
    if float(np.abs(edge - ground).mean()) > PLAIN:
        return None
    apart = np.abs(values - ground).mean(axis=2)
    if float(apart.max()) < PLAIN:
        return None
    mask = (apart > threshold(apart)).astype(np.uint8) * 255
    return Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST)


def threshold(values: np.ndarray) -> float:
    """The value that parts others best into two groups (Otsu 1979)."""
    counts, edges = np.histogram(values, 64)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts).astype(np.float64)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1:][int(np.nan_to_num(between).argmax())])
