"""A folder, an archive or a file of pictures -> photos that can be learned from, and why the others cannot."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from neologism.decoding import contents, decoded, flat
from neologism.errors import PhotosError
from neologism.sources import MASK, Unfit, allowed, find


@dataclass(frozen=True)
class Photo:
    """A picture that can be learned from; `size` is (width, height) after the EXIF turn."""

    path: Path
    size: tuple[int, int]
    caption: str | None
    mask: Path | None
    alpha: bool
    sha256: str


@dataclass(frozen=True)
class Gathered:
    """What a source holds. There is always at least one photo."""

    photos: list[Photo]
    unfit: list[Unfit]
    warnings: list[str]


@dataclass(frozen=True)
class Examined:
    """A photo, a 32 x 32 thumbnail of it to find near duplicates by, and what to say about it."""

    photo: Photo
    thumbnail: Image.Image
    warnings: list[str]


def gather(source: Path, side: int | None = None) -> Gathered:
    """The photos in a folder (not its subfolders), a .zip archive, or one picture file.

    Args:
        source: where the pictures are.
        side: the side they will be trained at; smaller pictures are warned about.

    Raises:
        PhotosError: the source is missing or unreadable, or holds no picture that can be used.
    """
    found = allowed(source, lambda: find(source))
    seen = [examined(path, side) for path in found.pictures]
    fit = [one for one in seen if isinstance(one, Examined)]
    unfit = found.unfit + [one for one in seen if isinstance(one, Unfit)]
    if not fit:
        raise PhotosError(none_fit(source, unfit))
    said = found.warnings + [text for one in fit for text in one.warnings]
    return Gathered([one.photo for one in fit], unfit, said + how_many(source, len(fit)) + near_duplicates(fit))


def opened(photo: Photo) -> tuple[Image.Image, Image.Image | None]:
    """The photo as an RGB picture, turned as EXIF says, and its mask (mode "L", white is learned) if it has one.

    A mask file comes before transparency; transparent parts are shown on white.

    Raises:
        PhotosError: the file has gone or changed since it was gathered.
    """
    try:
        image, alpha = flat(decoded(contents(photo.path)), "white")
        return image, mask_of(photo.mask, image.size) if photo.mask else alpha
    except PhotosError as error:
        raise PhotosError(f"{photo.path} {error}. It was well when the pictures were gathered; put it back.") from None


def parted(found: Gathered, hold_out: str) -> tuple[Gathered, list[Photo]]:
    """What is learned from, and what is held out: with "auto" a quarter of four or more photos, chosen by content; else none."""
    apart = len(found.photos) // 4 if hold_out == "auto" else 0
    unseen = sorted(found.photos, key=lambda photo: photo.sha256)[:apart]
    kept = [photo for photo in found.photos if photo not in unseen]
    said = (
        [f"{', '.join(photo.path.name for photo in unseen)} held out: not learned from, for scoring."] if unseen else []
    )
    return Gathered(kept, found.unfit, found.warnings + said), unseen


# judging one picture


def examined(path: Path, side: int | None) -> Examined | Unfit:
    """The photo at a path, decoded once in full, or why it is unfit."""
    try:
        data = contents(path)
        raw = decoded(data)
        image, alpha = flat(raw, "white")
        mask = beside if (beside := path.with_name(path.stem + MASK)).is_file() else None
        area = mask_of(mask, image.size) if mask else alpha
        if area is not None and area.getbbox() is None:
            raise PhotosError("has an empty mask, or is transparent all over: nothing of it would be learned")
        digest = hashlib.sha256(data + (contents(mask) if mask else b"")).hexdigest()
        photo = Photo(path, image.size, caption_of(path), mask, alpha is not None, digest)
    except PhotosError as error:
        return Unfit(path, str(error))
    return Examined(photo, image.resize((32, 32), Image.Resampling.LANCZOS), remarks(photo, raw, side))


def mask_of(path: Path, size: tuple[int, int]) -> Image.Image:
    """The mask in a file, mode "L"."""
    try:
        mask, _ = flat(decoded(contents(path)), "black")
    except PhotosError as error:
        raise PhotosError(f"has a mask, {path.name}, that {error}") from None
    if mask.size != size:
        found, due = (f"{w} x {h}" for w, h in (mask.size, size))
        raise PhotosError(f"has a mask, {path.name}, of {found} pixels; it must be {due} like the picture")
    return mask.convert("L")


def caption_of(path: Path) -> str | None:
    """The text beside a picture, on one line."""
    beside = path.with_suffix(".txt")
    try:
        return " ".join(beside.read_text("utf-8-sig").split()) or None if beside.is_file() else None
    except (OSError, UnicodeDecodeError):
        raise PhotosError(f"has a caption, {beside.name}, that cannot be read as UTF-8 text") from None


# what to say


def remarks(photo: Photo, raw: Image.Image, side: int | None) -> list[str]:
    """What the user should know of one photo."""
    name, (width, height) = photo.path.name, photo.size
    said = [f"{name} is animated; only its first frame is used."] if raw.info["animated"] else []
    if raw.mode == "CMYK":
        said.append(f"{name} is CMYK; it was converted to RGB, and its colours may look a little different.")
    if side is not None and min(photo.size) < side:
        said.append(f"{name} is small: {width} x {height} pixels, enlarged to {side}. Sharper pictures teach more.")
    return said


def how_many(source: Path, count: int) -> list[str]:
    """What to say of the number of pictures."""
    if count == 1:
        return [f"{source} gives one picture; 3 to 10 is usual, one alone does not tell a thing from its surroundings."]
    text = f"{source} gives {count} pictures; 3 to 10 is usual. So many seldom make a better word."
    return [text] if count > 30 else []


def near_duplicates(seen: Sequence[Examined]) -> list[str]:
    """Pairs that show nearly the same; not looked for among more than 200, where a few do no harm."""
    if not 2 <= len(seen) <= 200:
        return []
    from imagehash import phash  # here, for it loads scipy

    marks = [(one.photo.path.name, phash(one.thumbnail), np.asarray(one.thumbnail, np.float32)) for one in seen]
    return [
        f"{a[0]} and {b[0]} are nearly the same picture; keep one, or the word will learn it by heart."
        for a, b in combinations(marks, 2)
        if a[1] - b[1] <= 4 and float(np.abs(a[2] - b[2]).mean()) <= 8  # small flat pictures collide by hash alone
    ]


def none_fit(source: Path, unfit: Sequence[Unfit]) -> str:
    """What is said where no picture can be used."""
    lines = "".join(f"\n  {one.path.name} {one.reason}" for one in unfit)
    return f"No picture in {source} can be used. Mend or replace these:{lines}"
