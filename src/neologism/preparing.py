"""Pictures as they are -> a new folder of pictures worth learning from: upright, cropped around the subject, with masks and captions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from neologism.errors import PhotosError
from neologism.photos import Photo, gather, opened
from neologism.saliency import subject
from neologism.sources import MASK, Unfit, library

AROUND = ("auto", "mask", "face", "saliency", "middle")
MASKS = ("keep", "rembg", "none")
SEGMENTER = "u2net"  # not rembg's own choice, a network of 1 GB whose licence wants to be paid for commercial use
EXTRA = ("prepare", "leave it out")
"""What brings the libraries, and what to do without."""
MARGIN = 0.12
"""What is left around a subject on each side, as a share of its longer side."""
FOUND = {
    "mask": "around its mask",
    "face": "around the face",
    "saliency": "around what stands out from its ground",
    "middle": "in the middle: no subject was found",
}
Captioner = Callable[[Image.Image], str]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Made:
    """A picture that was written: its file, the file it came from, its side in pixels, and how it was cropped, in words."""

    path: Path
    source: Path
    side: int
    cropped: str


@dataclass(frozen=True)
class Prepared:
    """A new folder of pictures, what could not be used, and what to mind."""

    folder: Path
    made: list[Made]
    unfit: list[Unfit]
    warnings: list[str]


@dataclass(frozen=True)
class Ways:
    """How pictures are made ready: the longest side, what to crop around, which masks to write, and what makes masks, finds faces
    and writes captions."""

    side: int
    around: str
    masks: str
    maker: Callable[[Image.Image], Image.Image] | None
    faces: Callable[[Image.Image], Box | None] | None
    captioner: Captioner | None


def prepare(
    source: Path, out: Path, side: int, around: str = "auto", masks: str = "keep", captioner: Captioner | None = None
) -> Prepared:
    """Write a new folder; the source stays as it is, and the new folder appears only once it is whole.

    Args:
        source: a folder, a .zip archive or a picture file.
        out: a folder that is not there yet.
        side: the longest side of what is written, in pixels; smaller crops are not enlarged.
        around: what to crop around: a mask, a face, what stands out from a plain ground, or nothing ("middle"); "auto" takes the first of
            mask and saliency that is there.
        masks: "keep" writes those there are, "rembg" makes the others by that library, "none" writes none.
        captioner: what to write beside pictures that have no caption.

    Raises:
        PhotosError: there are no pictures, the folder is there already or cannot be written, or a library that is asked for is missing.
    """
    check_place(source, out)
    maker = mask_maker() if masks == "rembg" else None
    ways = Ways(side, around, masks, maker, face_finder() if around == "face" else None, captioner)
    gathered = gather(source)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as partial:
            folder = Path(partial) / "inside"
            folder.mkdir()
            made = [one(photo, folder, ways) for photo in gathered.photos]
            folder.rename(out)
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise PhotosError(f"{out} cannot be written: {why}. Give --out a folder in a place with room.") from None
    moved = [replace(each, path=out / each.path.name) for each in made]
    return Prepared(out, moved, gathered.unfit, gathered.warnings)


def check_place(source: Path, out: Path) -> None:
    """Refuse a folder that is there, and one in the source."""
    if out.exists():
        raise PhotosError(f"{out} is there already; nothing is overwritten. Give --out a folder that is not there.")
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise PhotosError(f"{out} lies in {source}, which stays as it is. Give --out a folder elsewhere.")


def one(photo: Photo, folder: Path, ways: Ways) -> Made:
    """Write one picture, its mask and its caption."""
    image, mask = opened(photo)
    mask = mask or (ways.maker(image) if ways.maker else None)
    box, how = region(image, mask, ways)
    crop = square_around(box, image.size)
    side = min(ways.side, crop[2] - crop[0])
    size = (side, side)
    path = free(folder, photo.path.stem)
    shown = image.resize(size, Image.Resampling.LANCZOS, box=crop)
    shown.save(path)
    if mask is not None and ways.masks != "none":
        mask.resize(size, Image.Resampling.BOX, box=crop).save(path.with_name(path.stem + MASK))
    caption = photo.caption or (ways.captioner(shown) if ways.captioner else None)
    if caption:
        path.with_suffix(".txt").write_text(caption + "\n", "utf-8")
    return Made(path, photo.path, side, FOUND[how])


def free(folder: Path, stem: str) -> Path:
    """A name that no other picture has: 1.jpg and 1.png may both be there."""
    names = (stem, *(f"{stem}-{number}" for number in range(2, 10_000)))
    return next(path for name in names if not (path := folder / f"{name}.png").exists())


def region(image: Image.Image, mask: Image.Image | None, ways: Ways) -> tuple[Box, str]:
    """What to crop around, and how it was found."""
    whole = (0, 0, *image.size)
    if ways.faces and (found := ways.faces(image)):
        return found, "face"
    if ways.around in ("auto", "mask") and mask is not None and (box := sure(mask).getbbox()):
        return box, "mask"
    if ways.around in ("auto", "saliency") and (seen := subject(image)) and (box := seen.getbbox()):
        return box, "saliency"
    return whole, "middle"


def sure(mask: Image.Image) -> Image.Image:
    """A mask without its faintest parts, which would widen its box."""
    return mask.point([255 * (value > 25) for value in range(256)])


def square_around(box: Box, size: tuple[int, int]) -> Box:
    """The square around a box with a margin, moved into the picture; of a box too large for one, the largest around its middle."""
    left, top, right, bottom = box
    wanted = max(right - left, bottom - top) * (1 + 2 * MARGIN) if box != (0, 0, *size) else min(size)
    side = max(1, min(round(wanted), *size))
    corners = [
        min(max(0, round((low + high - side) / 2)), most - side)
        for low, high, most in ((left, right, size[0]), (top, bottom, size[1]))
    ]
    return (corners[0], corners[1], corners[0] + side, corners[1] + side)


def mask_maker() -> Callable[[Image.Image], Image.Image]:
    """The foreground of a picture by rembg's U2-Net (Qin et al. 2020), as a mask of mode "L".

    Raises:
        PhotosError: rembg is not installed, or cannot get the network's file.
    """
    found = library("rembg", "--masks rembg", *EXTRA)
    try:
        session = found.new_session(SEGMENTER)
    except Exception as error:
        raise PhotosError(
            f"--masks rembg: rembg cannot get its model {SEGMENTER} ({str(error)[:200]}). It is fetched once; "
            f"go online, or put {SEGMENTER}.onnx where rembg looks, ~/.rembg/models/{SEGMENTER}."
        ) from None
    return lambda image: found.remove(image, session=session, only_mask=True).convert("L")


def face_finder() -> Callable[[Image.Image], Box | None]:
    """The largest face in a picture, half its size wider on each side, by OpenCV's frontal detector (Viola and Jones 2001).

    Raises:
        PhotosError: OpenCV is not installed, or is one without the detector.
    """
    cv = library("cv2", "--around face", *EXTRA)
    if not hasattr(cv, "CascadeClassifier"):
        raise PhotosError(
            f"--around face needs the detector of OpenCV 4; found OpenCV {cv.__version__}, which has it no more. "
            "Type pip install 'opencv-python-headless<5', or choose --around auto."
        )
    detector = cv.CascadeClassifier(str(Path(cv.data.haarcascades) / "haarcascade_frontalface_default.xml"))

    def find(image: Image.Image) -> Box | None:
        found = detector.detectMultiScale(np.asarray(image.convert("L")), 1.1, 5)
        if not len(found):
            return None
        x, y, wide, high = (int(value) for value in max(found, key=lambda face: face[2] * face[3]))
        return (
            max(0, x - wide // 2), max(0, y - high // 2),
            min(image.width, x + wide + wide // 2), min(image.height, y + high + high // 2),
        )  # fmt: skip

    return find
