"""Pictures looked over before a run: which can be used, what to mind, and how they will be cropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from neologism.contact import contact_sheet
from neologism.errors import PhotosError
from neologism.faults import Fault, faults, look
from neologism.framing import Framed, framed, picture
from neologism.photos import Photo, gather, opened
from neologism.sources import Unfit

ACROSS = 6
"""Pictures in a row of the sheet."""


@dataclass(frozen=True)
class Checked:
    """What a check found. The sheet shows every photo as it will be cropped, greyed where its mask hides it.

    `warnings` are what every run tells of the pictures as well, `faults` what was measured for this check alone.
    """

    photos: list[Photo]
    unfit: list[Unfit]
    warnings: list[str]
    faults: list[Fault]
    sheet: Image.Image


def check(source: Path, side: int, out: Path | None = None) -> Checked:
    """Look over the pictures of a source as a run at `side` pixels would use them.

    Args:
        source: a folder, a .zip archive or a picture file.
        side: the side of the training pictures.
        out: where to write the sheet, its kind by its ending (.png, .jpg ...); None writes nothing.

    Raises:
        PhotosError: no picture can be used, or the sheet cannot be written.
    """
    gathered = gather(source, side)
    shown: list[tuple[Photo, Image.Image]] = []
    unfit = list(gathered.unfit)
    for photo in gathered.photos:
        try:
            shown.append((photo, seen(framed(photo, side))))
        except PhotosError as error:
            unfit.append(Unfit(photo.path, f"cannot be framed: {error}"))
    if not shown:
        raise PhotosError(f"No picture in {source} can be used.\n" + "\n".join(f"  {one.reason}" for one in unfit))
    fit = [photo for photo, _ in shown]
    looks = [look(photo.path.name, *opened(photo), side) for photo in fit]
    checked = Checked(fit, unfit, gathered.warnings, faults(looks), contact_sheet(in_rows(shown)))
    if out is not None:
        write(checked.sheet, out)
    return checked


def seen(part: Framed) -> Image.Image:
    """What training sees of a photo: the crop, mostly greyed outside its mask."""
    if part.mask is None:
        return picture(part.pixels)
    return picture(part.pixels * part.mask + (1 - part.mask) * (part.pixels * 0.2 + 0.5))


def in_rows(shown: Sequence[tuple[Photo, Image.Image]]) -> list[tuple[str, list[Image.Image]]]:
    """Rows for the sheet, each labelled with its photos' names."""
    rows = [shown[start : start + ACROSS] for start in range(0, len(shown), ACROSS)]
    return [(",  ".join(photo.path.name for photo, _ in row), [image for _, image in row]) for row in rows]


def write(sheet: Image.Image, out: Path) -> None:
    """The sheet as a file."""
    try:
        sheet.save(out)
    except (OSError, ValueError) as error:  # ValueError: Pillow knows no such ending
        why = getattr(error, "strerror", None) or "its ending is not that of a picture"
        text = f"The sheet cannot be written to {out}: {why}. Give a .png file in a folder that exists."
        raise PhotosError(text) from None


def as_json(checked: Checked) -> dict[str, Any]:
    """What was found, as values that JSON can hold; the sheet is left out."""
    return {
        "photos": [
            {
                "path": str(photo.path),
                "size": list(photo.size),
                "caption": photo.caption,
                "mask": str(photo.mask) if photo.mask else None,
                "alpha": photo.alpha,
                "sha256": photo.sha256,
            }
            for photo in checked.photos
        ],
        "unfit": [{"path": str(one.path), "reason": one.reason} for one in checked.unfit],
        "warnings": list(checked.warnings),
        "faults": [asdict(fault) for fault in checked.faults],
    }
