"""Known colours come out of every kind of file."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neologism.errors import PhotosError
from neologism.photos import gather, opened

HALVES = ((200, 60, 30), (20, 90, 180))


def picture() -> Image.Image:
    """A left and a right half of known colours."""
    image = Image.new("RGB", (64, 64), HALVES[0])
    image.paste(HALVES[1], (32, 0, 64, 64))
    return image


def halves(path: Path) -> list[tuple[int, ...]]:
    """The colours in the middle of the halves as they are learned from."""
    image, _ = opened(gather(path).photos[0])
    return [image.getpixel((x, 32)) for x in (16, 48)]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "how", "within"),
    [
        ("a.webp", {"lossless": True}, 0),
        ("a.webp", {"quality": 95}, 6),
        ("a.tiff", {}, 0),
        ("a.tif", {"compression": "tiff_lzw"}, 0),
        ("a.avif", {"quality": 95}, 6),
        ("a.bmp", {}, 0),
        ("a.jpg", {"quality": 98, "subsampling": 0}, 3),
    ],
)
def test_known_colours_come_out(name: str, how: dict[str, object], within: int, tmp_path: Path) -> None:
    picture().save(tmp_path / name, **how)  # type: ignore[arg-type]
    assert np.abs(np.array(halves(tmp_path / name)) - HALVES).max() <= within


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF"])
def test_heic_is_read_with_its_colours(name: str, tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    picture().save(tmp_path / name, format="HEIF", quality=95)
    assert np.abs(np.array(halves(tmp_path / name)) - HALVES).max() <= 8


def test_heic_without_its_library_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    with pytest.raises(
        PhotosError, match=r"is HEIC, which needs a library; type pip install 'neologism\[heic\]', or save"
    ):
        gather(tmp_path)


def test_sixteen_bits_of_three_colours_keep_their_upper_eight(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + struct.pack(">HHH", 0x8040, 0x00FF, 0xFFFF) * 16 for _ in range(16))
    head = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    whole = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + whole)
    image, _ = opened(gather(tmp_path / "a.png").photos[0])
    assert image.getpixel((8, 8)) == (0x80, 0x00, 0xFF)


def test_cmyk_tiff_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    image, _ = opened(gather(tmp_path / "a.tif").photos[0])
    assert np.abs(np.array(image.getpixel((16, 16))) - (255, 0, 0)).max() <= 3
