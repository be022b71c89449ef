"""Many pictures on one sheet, in labelled rows."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GROUND = "#fafafa"
INK = "#222222"
GAP = 8
LETTERS = 14
LINE = 18
"""Height of a label in pixels; its letters take `LETTERS`."""


def contact_sheet(rows: Sequence[tuple[str, Sequence[Image.Image]]], cell: int = 128) -> Image.Image:
    """Rows of pictures, each under its label.

    Small pictures are enlarged by whole numbers so that their pixels stay crisp; large ones are reduced to the cell.
    A label that is wider than the sheet is cut and ends in "...". A row with an empty label gets no line for it.
    """
    columns = max((len(images) for _, images in rows), default=0)
    width = GAP + max(columns, 1) * (cell + GAP)
    sheet = Image.new("RGB", (width, GAP + sum(height(row, cell) for row in rows)), GROUND)
    top = GAP
    for row in rows:
        paste_row(sheet, top, row, cell)
        top += height(row, cell)
    return sheet


def height(row: tuple[str, Sequence[Image.Image]], cell: int) -> int:
    """The pixels that a row takes, with the gap under it."""
    label, images = row
    return (LINE + GAP) * bool(label) + (cell + GAP) * bool(images)


def paste_row(sheet: Image.Image, top: int, row: tuple[str, Sequence[Image.Image]], cell: int) -> None:
    """Put a label and its pictures on the sheet."""
    label, images = row
    if label:
        font = ImageFont.load_default(size=LETTERS)
        draw = ImageDraw.Draw(sheet)
        draw.text((GAP, top), shortened(label, font, sheet.width - 2 * GAP), fill=INK, font=font)
        top += LINE + GAP
    for column, image in enumerate(images):
        shown = fitted(image, cell)
        left = GAP + column * (cell + GAP)
        sheet.paste(shown, (left + (cell - shown.width) // 2, top + (cell - shown.height) // 2))


def shortened(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The label on one line, cut to a width in pixels."""
    text = " ".join(label.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


def fitted(image: Image.Image, cell: int) -> Image.Image:
    """The picture as large as its cell allows, in its own proportions."""
    picture = on_ground(image)
    longer = max(picture.size)
    if longer <= cell:
        times = cell // longer
        return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    size = (max(1, round(picture.width * cell / longer)), max(1, round(picture.height * cell / longer)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def on_ground(image: Image.Image) -> Image.Image:
    """The picture in RGB, what is transparent in it showing the sheet."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", clear.size, GROUND), clear).convert("RGB")
