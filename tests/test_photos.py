"""What photos.py promises: the pictures that can be used, and in words why others cannot."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image, ImageCms

from neologism.errors import PhotosError
from neologism.photos import Gathered, gather, opened


def noise(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A picture unlike that of any other seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def save(path: Path, image: Image.Image | None = None, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or noise(zlib.crc32(path.name.encode()))).save(path, **how)
    return path


def refused(source: Path) -> str:
    with pytest.raises(PhotosError) as caught:
        gather(source)
    return str(caught.value)


def reason(folder: Path, name: str) -> str:
    """Why `name` is unfit, beside pictures that are well."""
    save(folder / "well-1.png")
    save(folder / "well-2.png")
    gathered = gather(folder)
    assert [photo.path.name for photo in gathered.photos] == ["well-1.png", "well-2.png"]
    assert [one.path for one in gathered.unfit] == [folder / name]
    return gathered.unfit[0].reason


def only(path: Path) -> tuple[Image.Image, Image.Image | None]:
    return opened(gather(path).photos[0])


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_folder_gives_its_pictures_in_order_of_name_with_captions_and_masks(tmp_path: Path) -> None:
    save(tmp_path / "b.JPG")
    save(tmp_path / "a.png")
    save(tmp_path / "a.mask.png", Image.new("L", (64, 64), 255))
    save(tmp_path / ".hidden.png")
    save(tmp_path / "deeper" / "c.png")
    (tmp_path / "a.txt").write_text("a {} on\n grass \n", "utf-8")
    (tmp_path / "b.txt").write_text(" ")
    first, second = gather(tmp_path).photos
    assert (first.path, first.caption, first.mask) == (tmp_path / "a.png", "a {} on grass", tmp_path / "a.mask.png")
    assert (second.path, second.caption, second.mask, second.size) == (tmp_path / "b.JPG", None, None, (64, 64))


def test_every_extension_is_read(tmp_path: Path) -> None:
    names = [f"{i}.{kind}" for i, kind in enumerate(["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"])]
    for name in names:
        save(tmp_path / name)
    gathered = gather(tmp_path)
    assert ([photo.path.name for photo in gathered.photos], gathered.unfit, gathered.warnings) == (names, [], [])


def test_the_hash_changes_with_the_picture_and_with_its_mask(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    plain = gather(path).photos[0].sha256
    assert plain == gather(path).photos[0].sha256
    save(tmp_path / "a.mask.png", Image.new("L", (64, 64), 255))
    assert gather(path).photos[0].sha256 != plain


def test_a_zip_archive_gives_the_pictures_of_its_outermost_folder_that_has_some(tmp_path: Path) -> None:
    picture = save(tmp_path / "x.png")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for name in ("cat/1.png", "cat/2.png", "cat/old/3.png", "__MACOSX/._1.png"):
            archive.write(picture, name)
        archive.writestr("cat/1.txt", "a cat")
    first, second = gather(tmp_path / "p.zip").photos
    assert (first.path.name, first.caption, second.path.name) == ("1.png", "a cat", "2.png")
    assert gather(tmp_path / "p.zip").photos == [first, second]


def test_a_name_that_leads_out_of_the_archive_is_unfit_and_nothing_is_written_there(tmp_path: Path) -> None:
    picture = save(tmp_path / "x.png")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.write(picture, "1.png")
        archive.writestr("../../evil.png", b"evil")
        archive.writestr("..\\worse.png", b"evil")
    gathered = gather(tmp_path / "p.zip")
    assert [photo.path.name for photo in gathered.photos] == ["1.png"]
    assert [one.reason for one in gathered.unfit] == ["has a name that leads out of the archive"] * 2
    assert not [path for path in tmp_path.rglob("*") if path.name in ("evil.png", "worse.png")]


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.bmp", bytes(5000))
    monkeypatch.setattr("neologism.sources.MOST_BYTES", 4999)
    assert refused(tmp_path / "p.zip") == (
        f"{tmp_path / 'p.zip'} unpacks to more than 2 GiB or 10000 files. Pack only the pictures."
    )


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.zip").write_bytes(b"PK nothing")
    text = f"{tmp_path / 'p.zip'} is damaged, has a password, or is no .zip archive. Pack it again."
    assert refused(tmp_path / "p.zip") == text


def test_an_archive_without_pictures_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("notes.md", "hello")
    assert refused(tmp_path / "p.zip") == (
        f"{tmp_path / 'p.zip'} has no picture right in it: jpg, jpeg, png, webp, bmp, gif, tif, tiff, avif, heic and heif are read, "
        "subfolders are not. Put 3 to 10 pictures there."
    )


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    picture = save(tmp_path / "x.png")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.write(picture, "1.png")
    (tmp_path / "cache").write_text("in the way")
    assert refused(tmp_path / "p.zip") == (
        f"Nothing can be unpacked to {tmp_path / 'cache/neologism/archives'}: not a directory. "
        "Set NEOLOGISM_CACHE to a folder with room."
    )


def test_an_empty_file_is_unfit_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert reason(tmp_path, "a.jpg") == "is empty (0 bytes)"


def test_a_file_absurdly_large_is_unfit_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    os.truncate(tmp_path / "a.jpg", 2 * 1024**3 + 1)
    assert reason(tmp_path, "a.jpg") == "is larger than 2 GiB"


def test_a_truncated_jpeg_is_unfit_and_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", noise(1, (300, 300)))
    path.write_bytes(path.read_bytes()[:-900])
    assert reason(tmp_path, "a.jpg") == "is damaged or cut short"


def test_a_text_file_named_jpg_is_unfit_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("not a picture")
    assert reason(tmp_path, "a.jpg") == "is no JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC inside, whatever its name"


@pytest.mark.parametrize("side", [10_001, 40_000])
def test_a_decompression_bomb_is_unfit_by_its_header(tmp_path: Path, side: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    (tmp_path / "a.png").write_bytes(png_header(side, side))
    assert reason(tmp_path, "a.png") == "has more than 100 megapixels; make it smaller"
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_picture_that_may_not_be_read_is_unfit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.png")
    read = Path.read_bytes

    def guarded(path: Path) -> bytes:
        if path.name == "a.png":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", guarded)
    assert reason(tmp_path, "a.png") == "cannot be read: permission denied"


def test_a_mask_of_another_size_is_unfit(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "a.mask.png", Image.new("L", (32, 64), 255))
    assert reason(tmp_path, "a.png") == (
        "has a mask, a.mask.png, of 32 x 64 pixels; it must be 64 x 64 like the picture"
    )


def test_a_damaged_mask_is_unfit(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "a.mask.png").touch()
    assert reason(tmp_path, "a.png") == "has a mask, a.mask.png, that is empty (0 bytes)"


def test_a_mask_that_hides_everything_is_unfit(tmp_path: Path) -> None:
    save(tmp_path / "a.png", Image.new("RGBA", (64, 64), (255, 0, 0, 0)))
    assert reason(tmp_path, "a.png") == (
        "has an empty mask, or is transparent all over: nothing of it would be learned"
    )


def test_a_caption_that_is_not_utf_8_is_unfit(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xfa")
    assert reason(tmp_path, "a.png") == "has a caption, a.txt, that cannot be read as UTF-8 text"


def test_a_missing_source_is_an_error(tmp_path: Path) -> None:
    assert refused(tmp_path / "no") == (
        f"There is nothing at {tmp_path / 'no'}. Give a folder of pictures, a .zip archive or a picture file."
    )


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    assert refused(tmp_path / "pics") == (
        f"{tmp_path / 'pics'} is empty: jpg, jpeg, png, webp, bmp, gif, tif, tiff, avif, heic and heif are read, "
        "subfolders are not. Put 3 to 10 pictures there."
    )


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert refused(tmp_path) == (
        f"{tmp_path} has no picture right in it: jpg, jpeg, png, webp, bmp, gif, tif, tiff, avif, heic and heif are read, "
        "subfolders are not. Put 3 to 10 pictures there."
    )


def test_a_file_of_another_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    assert refused(tmp_path / "a.pdf") == (
        f"{tmp_path / 'a.pdf'} is no picture: jpg, jpeg, png, webp, bmp, gif, tif, tiff, avif, heic and heif are read, "
        "a folder of them or a .zip archive. Give such."
    )


def test_where_all_are_unfit_each_reason_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.png").write_text("text")
    assert refused(tmp_path) == (
        f"No picture in {tmp_path} can be used. Mend or replace these:\n"
        "  a.jpg is empty (0 bytes)\n"
        "  b.png is no JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC inside, whatever its name"
    )


def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    assert refused(tmp_path) == f"{tmp_path} may not be read: permission denied. Give yourself the right to read it."


def said(folder: Path, side: int | None = None) -> list[str]:
    gathered: Gathered = gather(folder, side)
    assert gathered.unfit == []
    return gathered.warnings


def test_an_animation_is_warned_about_and_its_first_frame_used(tmp_path: Path) -> None:
    save(tmp_path / "a.gif", Image.new("RGB", (64, 64), "red"), save_all=True, append_images=[noise(1)])
    save(tmp_path / "b.png")
    assert said(tmp_path) == ["a.gif is animated; only its first frame is used."]
    assert only(tmp_path / "a.gif")[0].getpixel((5, 5)) == (255, 0, 0)  # pyright: ignore[reportUnknownMemberType]


def test_a_small_picture_is_warned_about_by_its_shorter_side(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(1, (600, 300)))
    save(tmp_path / "b.png", noise(2, (600, 512)))
    assert said(tmp_path, 512) == ["a.png is small: 600 x 300 pixels, enlarged to 512. Sharper pictures teach more."]
    assert said(tmp_path) == []


def test_near_duplicates_are_named_in_pairs(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(1, (256, 256)))
    save(tmp_path / "b.png")
    save(tmp_path / "c.jpg", noise(1, (256, 256)), quality=60)
    text = "a.png and c.jpg are nearly the same picture; keep one, or the word will learn it by heart."
    assert said(tmp_path) == [text]


def test_flat_pictures_of_different_colours_are_no_duplicates(tmp_path: Path) -> None:
    for colour in ("red", "green", "blue"):
        save(tmp_path / f"{colour}.png", Image.new("RGB", (16, 16), colour))
    assert said(tmp_path) == []


def test_more_than_200_pictures_are_not_searched_for_duplicates(tmp_path: Path) -> None:
    for number in range(201):
        save(tmp_path / f"{number:03}.png", Image.new("RGB", (4, 4), "red"))
    assert said(tmp_path) == [f"{tmp_path} gives 201 pictures; 3 to 10 is usual. So many seldom make a better word."]


def test_one_picture_alone_is_warned_about(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    assert said(path) == [
        f"{path} gives one picture; 3 to 10 is usual, one alone does not tell a thing from its surroundings."
    ]


def test_pictures_of_kinds_not_read_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    (tmp_path / "c.JXL").touch()
    assert said(tmp_path) == [
        f"c.JXL in {tmp_path} cannot be read: jpg, jpeg, png, webp, bmp, gif, tif, tiff, avif, heic and heif are. "
        "Convert to one of these to use it."
    ]


def test_cmyk_is_converted_and_warned_about(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", Image.new("CMYK", (64, 64), (0, 255, 255, 0)), quality=100)
    save(tmp_path / "b.png")
    assert said(tmp_path) == ["a.jpg is CMYK; it was converted to RGB, and its colours may look a little different."]
    assert near(only(tmp_path / "a.jpg")[0], (255, 0, 0))


def near(image: Image.Image, colour: tuple[int, int, int], within: int = 3) -> bool:
    assert image.mode == "RGB"
    return bool((np.abs(np.asarray(image, np.int32).mean((0, 1)) - colour) <= within).all())


def test_the_exif_turn_is_made(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.jpg", noise(1, (80, 40)), exif=exif)
    assert gather(path).photos[0].size == (40, 80)
    assert only(path)[0].size == (40, 80)


def test_broken_exif_is_ignored(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f\x12\x01broken")
    assert only(path)[0].size == (64, 64)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, mode: str) -> None:
    kind = ">u2" if mode == "I;16B" else "<u2"
    image = Image.frombytes(mode, (8, 8), np.full((8, 8), 257 * 100).astype(kind).tobytes())
    assert near(only(save(tmp_path / "a.tif", image))[0], (100, 100, 100), 0)


def test_floats_are_scaled_to_eight_bits(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((8, 8), 0.4, np.float32))
    assert near(only(save(tmp_path / "a.tif", image))[0], (102, 102, 102), 0)


def test_sixteen_bit_png_is_scaled_to_eight(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((8, 8), 257 * 200, np.uint16))
    assert near(only(save(tmp_path / "a.png", image))[0], (200, 200, 200), 0)


@pytest.mark.parametrize(("mode", "colour"), [("LA", (0, 0)), ("RGBA", (0, 0, 0, 0))])
def test_transparency_is_shown_on_white_and_becomes_the_mask(
    tmp_path: Path, mode: str, colour: tuple[int, ...]
) -> None:
    image = Image.new(mode, (64, 64), colour)
    image.paste((10,) * (len(colour) - 1) + (255,), (0, 0, 32, 64))
    path = save(tmp_path / "a.png", image)
    rgb, mask = only(path)
    assert gather(path).photos[0].alpha and mask is not None and mask.mode == "L"
    assert near(rgb.crop((0, 0, 32, 64)), (10, 10, 10), 0) and near(rgb.crop((32, 0, 64, 64)), (255, 255, 255), 0)
    assert mask.getbbox() == (0, 0, 32, 64)


def test_a_palette_with_transparency_is_read(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.paste(0, (0, 0, 4, 8))
    rgb, mask = only(save(tmp_path / "a.png", image, transparency=0))
    assert mask is not None and mask.getbbox() == (4, 0, 8, 8)
    assert near(rgb.crop((4, 0, 8, 8)), (10, 200, 30), 0) and near(rgb.crop((0, 0, 4, 8)), (255, 255, 255), 0)


def test_alpha_that_is_opaque_all_over_is_no_mask(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("RGBA", (8, 8), (1, 2, 3, 255)))
    assert not gather(path).photos[0].alpha
    assert only(path)[1] is None


def test_a_mask_file_comes_before_transparency(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (1, 2, 3, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    save(tmp_path / "a.mask.png", Image.new("1", (8, 8), 1))
    mask = only(save(tmp_path / "a.png", image))[1]
    assert mask is not None and mask.getextrema() == (255, 255)


def built_profile(space: Literal["XYZ", "sRGB"]) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


@pytest.mark.parametrize("profile", [b"nonsense", built_profile("XYZ"), b""])
def test_a_profile_that_is_broken_or_of_another_kind_is_ignored(tmp_path: Path, profile: bytes) -> None:
    path = save(tmp_path / "a.jpg", Image.new("RGB", (8, 8), (200, 100, 50)), icc_profile=profile, quality=100)
    assert near(only(path)[0], (200, 100, 50))


def test_a_colour_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    profile = bytearray(built_profile("sRGB"))
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red + 4 : red + 8], profile[blue + 4 : blue + 8] = profile[blue + 4 : blue + 8], profile[red + 4 : red + 8]
    swapped = bytes(profile).replace("sRGB".encode("utf-16-be"), "odd!".encode("utf-16-be"))
    path = save(tmp_path / "a.png", Image.new("RGB", (8, 8), (200, 100, 50)), icc_profile=swapped)
    assert near(only(path)[0], (50, 100, 200))


def test_a_picture_that_has_gone_since_is_an_error(tmp_path: Path) -> None:
    photo = gather(save(tmp_path / "a.png")).photos[0]
    photo.path.unlink()
    with pytest.raises(PhotosError) as caught:
        opened(photo)
    assert str(caught.value) == (
        f"{photo.path} cannot be read: no such file or directory. "
        "It was well when the pictures were gathered; put it back."
    )


def test_bytes_cut_anywhere_never_break_gathering(tmp_path: Path) -> None:
    for kind in ("jpeg", "png", "webp", "gif", "tiff", "bmp"):
        buffer = io.BytesIO()
        noise(3, (24, 24)).save(buffer, kind)
        data = buffer.getvalue()
        for part in range(1, 20):
            (tmp_path / f"{kind}-{part:02}.png").write_bytes(data[: len(data) * part // 20])
    save(tmp_path / "well.png")
    assert "well.png" in [photo.path.name for photo in gather(tmp_path).photos]
