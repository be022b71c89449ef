"""What is wrong with pictures as teachers, measured on what training sees of them: found, what it costs, what to do."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from neologism.saliency import border, subject

MOST_SIDE = 512
"""Pictures are measured at no more than this side, in pixels."""
BLURRED = 0.48
"""The blur effect (Crete et al. 2007; 0 sharp, 1 none of it left) above which a picture counts as blurred."""
DARK = 0.3
"""Luminance that all but a twentieth of a dark picture stays below."""
BURNT, WHITE = 0.12, 252
"""Share of the subject in which all three colours are at their end (values of 255), above which a picture is overexposed."""
PAPER = 0.55  # the same before white paper, in the middle half of the square
LITTLE = 0.025  # share of the square that a subject takes, below which little of it is learned
LOST = 0.15  # share of a subject that may lie outside the square
EVEN = 3.0  # of 255: how far the colours of a bar may vary
STRAIGHT = 0.9  # share of a line along which colours jump, for it to be a cut
JUMP = 12.0  # of 255
SEAM = 2.0  # times the picture's usual jump, for a line across it to be a seam
SAME_GROUND = 12.0  # of 255: mean distance of ground colours over all pairs, below which it is one ground
SAME_VIEW = 0.93  # cosine of outlines over all pairs, above which it is one view


@dataclass(frozen=True)
class Fault:
    """One thing to mind: its kind in a word, the pictures it is about (none: the whole set), and all of it in sentences."""

    kind: str
    pictures: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Look:
    """A picture as it is measured: RGB [h, w, 3], float32, 0..255, of the square that is learned from, and its subject's mask there.

    `shown` is the share of the subject that lies inside the square, 1 where that cannot be told.
    """

    name: str
    values: np.ndarray
    mask: np.ndarray | None
    masked: bool
    shown: float = 1.0

    @property
    def light(self) -> np.ndarray:
        """Luminance [h, w], 0..1 (Rec. 709)."""
        return self.values @ np.array([0.2126, 0.7152, 0.0722], np.float32) / 255


def look(name: str, image: Image.Image, mask: Image.Image | None, side: int) -> Look:
    """A picture as training at `side` pixels sees it: its middle square; its subject by its mask, or where its ground is plain."""
    found = mask or subject(image)
    short, (width, height) = min(image.size), image.size
    box = ((width - short) // 2, (height - short) // 2, (width + short) // 2, (height + short) // 2)
    size = (min(side, MOST_SIDE), min(side, MOST_SIDE))
    values = np.asarray(image.convert("RGB").crop(box).resize(size, Image.Resampling.LANCZOS), np.float32)
    if found is None:
        return Look(name, values, None, False)
    inside = np.asarray(found.crop(box).resize(size, Image.Resampling.BOX), np.float32) / 255
    whole = np.asarray(found, np.float32).sum()
    shown = float(np.asarray(found.crop(box), np.float32).sum() / whole) if whole else 1.0
    return Look(name, values, inside, mask is not None, shown)


def faults(looks: Sequence[Look]) -> list[Fault]:
    """What is wrong with each picture, then with all of them together."""
    each = (blurred, dark, bright, framed_in, collage, little, cut_off)
    found = [fault for one in looks for measure in each if (fault := measure(one))]
    return [*found, *(fault for measure in (too_few, one_ground, one_view) if (fault := measure(looks)))]


# of one picture


def blur_effect(light: np.ndarray) -> float:
    """How little a further blur takes away, 0..1 (Crete, Dolmiere, Ladret and Nicolas 2007): the larger of both directions."""
    shares: list[float] = []
    for axis in (0, 1):
        padded = np.pad(light, [(4, 4) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        soft = np.lib.stride_tricks.sliding_window_view(padded, 9, axis=axis).mean(axis=-1)
        sharp, dull = np.abs(np.diff(light, axis=axis)), np.abs(np.diff(soft, axis=axis))
        lost = np.maximum(0, sharp - dull).sum()
        total = float(sharp.sum())
        shares.append((total - float(lost)) / total if total else 0.0)
    return max(shares)


def blurred(one: Look) -> Fault | None:
    """Out of focus or shaken."""
    effect = blur_effect(one.light)
    if effect <= BLURRED:
        return None
    text = f"{one.name} is blurred (blur effect {effect:.2f}; up to {BLURRED:.2f} is sharp). A word learns blur as part of the thing. "
    return Fault("blurred", (one.name,), text + "Take another picture, or a larger original.")


def dark(one: Look) -> Fault | None:
    """Too little light."""
    own = one.light if one.mask is None else one.light[one.mask > 0.5]
    high = max(float(np.percentile(part, 95)) for part in (one.light, own) if part.size)
    if high >= DARK:
        return None
    text = f"{one.name} is dark: nearly all of it is below {high:.0%} of white. What cannot be seen is not learned, and the word may "
    return Fault("dark", (one.name,), text + "learn the dark. Take it in more light, or raise its exposure.")


def bright(one: Look) -> Fault | None:
    """Too much light."""
    values = Image.fromarray(one.values.min(axis=2).clip(0, 255).astype(np.uint8))
    wide = 3 if len(one.values) < 256 else 5
    burnt = np.asarray(values.filter(ImageFilter.MinFilter(wide))) >= WHITE  # of areas: thin white lines are no mistake
    where, most = where_to_look(one)
    share = float(burnt[where].mean())
    if share <= most:
        return None
    text = f"{one.name} is overexposed: {share:.0%} of the subject is pure white. Burnt-out parts have no detail to learn. "
    return Fault("bright", (one.name,), text + "Take it in less light.")


def where_to_look(one: Look) -> tuple[np.ndarray, float]:
    """Where burnt-out parts count [h, w], and how many may be: few on the subject; before a white ground, which may be paper, half of
    the middle."""
    white = bool((ground_of(one) >= WHITE).all())
    if one.mask is not None and (one.mask > 0.5).any() and (one.masked or not white):
        return one.mask > 0.5, BURNT
    where = np.ones(one.values.shape[:2], bool)
    if white:
        quarter = len(where) // 4
        where[:quarter], where[-quarter:], where[:, :quarter], where[:, -quarter:] = False, False, False, False
    return where, PAPER if white else BURNT


def bars(values: np.ndarray) -> int:
    """How many rows at the top are one colour that ends in a straight cut across the whole width; 0 where there is no such bar."""
    rows = values.astype(np.float32)
    same = (rows.std(axis=1).max(axis=1) < EVEN) & (np.abs(rows.mean(axis=1) - rows[0].mean(axis=0)).max(axis=1) < EVEN)
    height = 0 if same.all() else int(np.argmin(same))
    if not 0.02 * len(rows) < height < 0.45 * len(rows):
        return 0
    sure = rows[: max(1, height - 2)]  # resizing softens the last of them
    inner = slice(round(0.2 * rows.shape[1]), round(0.8 * rows.shape[1]))  # there may be bars at the sides as well
    jumps = np.abs(rows[min(height + 2, len(rows) - 1), inner] - sure[-1, inner]).max(axis=1) > JUMP
    return height if jumps.mean() > STRAIGHT else 0


def framed_in(one: Look) -> Fault | None:
    """Bars or a frame around the picture."""
    v, turned = one.values, one.values.transpose(1, 0, 2)
    found = {"top": bars(v), "bottom": bars(v[::-1]), "left": bars(turned), "right": bars(turned[::-1])}
    both = [pair for pair in (("top", "bottom"), ("left", "right")) if all(found[side] for side in pair)]
    if not both:
        return None
    text = f"{one.name} has a border ({' and '.join(side for pair in both for side in pair)}). The word will draw borders. "
    return Fault("border", (one.name,), text + "Crop it away.")


def seam(values: np.ndarray) -> float:
    """How much more colours jump across the strongest row line that goes straight across, than across the others; 0 without."""
    jumps = np.abs(np.diff(values.astype(np.float32), axis=0)).max(axis=2)
    count = len(jumps)
    inner = jumps[round(count * 0.2) : round(count * 0.8)]
    straight = np.where((inner > JUMP).mean(axis=1) > STRAIGHT, np.median(inner, axis=1), 0.0)
    usual = float(np.median(jumps.mean(axis=1))) + 1.0
    return float(straight.max(initial=0.0)) / usual


def collage(one: Look) -> Fault | None:
    """Several pictures in one."""
    if max(seam(one.values), seam(one.values.transpose(1, 0, 2))) < SEAM:
        return None
    text = (
        f"{one.name} looks like several pictures in one: a straight cut goes across it. The word will draw collages. "
    )
    return Fault("collage", (one.name,), text + "Cut it into its pictures.")


def little(one: Look) -> Fault | None:
    """A subject that takes little of the square."""
    share = 1.0 if one.mask is None else float(one.mask.mean())
    if share >= LITTLE:
        return None
    text = f"{one.name}: the subject takes {share:.0%} of the square. Most of what is learned is its surroundings. "
    return Fault("little", (one.name,), text + "Crop closer: neologism prepare does.")


def cut_off(one: Look) -> Fault | None:
    """A subject that the square crop cuts."""
    if 1 - one.shown <= LOST:
        return None
    text = f"{one.name}: {1 - one.shown:.0%} of the subject lies outside the middle square, and is not learned. "
    return Fault("cut", (one.name,), text + "Crop around it, as neologism prepare does, or train with --crop bucket.")


# of all together


def too_few(looks: Sequence[Look]) -> Fault | None:
    """Two pictures; of a single one it is told wherever pictures are gathered."""
    if len(looks) != 2:
        return None
    text = "2 pictures are few; 3 to 10 is usual. What both share by chance becomes part of the word. Add others, on other grounds."
    return Fault("few", (), text)


def ground_of(one: Look) -> np.ndarray:
    """The median colour [3] around the subject: outside its mask, or along the border."""
    outside = border(one.values) if one.mask is None else one.values[one.mask < 0.2]
    return np.median(outside if len(outside) else one.values.reshape(-1, 3), axis=0)


def one_ground(looks: Sequence[Look]) -> Fault | None:
    """The same ground everywhere, which nothing tells apart from the subject."""
    if len(looks) < 3 or all(one.masked for one in looks):
        return None
    grounds = [ground_of(one) for one in looks]
    apart = float(np.mean([np.abs(a - b).mean() for a, b in itertools.combinations(grounds, 2)]))
    if apart >= SAME_GROUND:
        return None
    text = "All pictures have the same ground. The word learns it with the thing, and draws it everywhere. "
    return Fault("ground", (), text + "Take some elsewhere, or add masks (NAME.mask.png): neologism prepare --masks.")


def outline(one: Look) -> np.ndarray:
    """Directions of edges by place: histograms of 8 directions in 6 x 6 cells of the subject's box, as a unit vector."""
    light = one.light
    if one.mask is not None and (one.mask > 0.5).any():
        rows, columns = np.nonzero(one.mask > 0.5)
        light = light[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    small = np.asarray(
        Image.fromarray((light * 255).astype(np.uint8)).resize((48, 48), Image.Resampling.BOX), np.float32
    )
    down, right = np.gradient(small)
    length, turn = np.hypot(down, right), ((np.arctan2(down, right) % np.pi) / np.pi * 8).astype(int) % 8
    cells = (np.arange(48) // 8)[:, None] * 6 + np.arange(48) // 8
    found = np.bincount((cells * 8 + turn).ravel(), length.ravel(), 36 * 8)
    return found / max(1e-9, float(np.linalg.norm(found)))


def one_view(looks: Sequence[Look]) -> Fault | None:
    """The same view everywhere."""
    if len(looks) < 3:
        return None
    lines = [outline(one) for one in looks]
    least = min(float(a @ b) for a, b in itertools.combinations(lines, 2))
    if least < SAME_VIEW:
        return None
    text = "All pictures show the thing from one side and in one pose. The word will draw no other. "
    return Fault("view", (), text + "Take some from elsewhere, if it is to be drawn so.")
