"""What framing.py promises: the middle square, at the side asked for, in -1..1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neologism.contact import GROUND, contact_sheet
from neologism.errors import PhotosError
from neologism.framing import FRAMING, Frame, framed, picture
from neologism.photos import Photo, gather


def photo(path: Path, image: Image.Image, mask: Image.Image | None = None) -> Photo:
    image.save(path)
    if mask is not None:
        mask.save(path.with_name(path.stem + ".mask.png"))
    return gather(path).photos[0]


def halves(size: tuple[int, int]) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    return image


def test_the_middle_square_is_taken_and_its_frame_told(tmp_path: Path) -> None:
    part = framed(photo(tmp_path / "a.png", halves((100, 40))), 16)
    assert part.frame == Frame((30, 0, 40, 40), (100, 40), (16, 16), False)
    assert part.pixels.shape == (3, 16, 16) and part.pixels.dtype == torch.float32 and part.mask is None
    assert torch.equal(part.pixels[:, 8, 1], torch.tensor([1.0, -1, -1]))
    assert torch.equal(part.pixels[:, 8, 14], torch.tensor([-1.0, -1, 1]))


def test_a_tall_picture_is_cropped_above_and_below(tmp_path: Path) -> None:
    assert framed(photo(tmp_path / "a.png", halves((40, 101))), 16).frame.crop == (0, 30, 40, 40)


def test_mirrored_pixels_are_the_mirror_image_of_the_plain_ones(tmp_path: Path) -> None:
    mask = Image.new("L", (50, 50))
    mask.paste(255, (0, 0, 10, 50))
    one = photo(tmp_path / "a.png", halves((50, 50)), mask)
    plain, mirrored = framed(one, 32), framed(one, 32, mirror=True)
    assert mirrored.frame.mirrored and plain.mask is not None and mirrored.mask is not None
    assert torch.equal(plain.pixels.flip(2), mirrored.pixels) and torch.equal(plain.mask.flip(2), mirrored.mask)


def test_the_mask_is_averaged_over_each_pixel(tmp_path: Path) -> None:
    mask = Image.new("L", (4, 4))
    mask.paste(255, (0, 0, 1, 4))
    part = framed(photo(tmp_path / "a.png", halves((4, 4)), mask), 2)
    assert part.mask is not None and part.mask.dtype == torch.float32
    assert torch.allclose(part.mask[0], torch.tensor([[0.5, 0], [0.5, 0]]), atol=0.01)


def test_a_picture_of_the_right_size_comes_back_exactly(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    back = picture(framed(photo(tmp_path / "a.png", image), 32).pixels)
    assert back.tobytes() == image.tobytes()


def test_a_mask_empty_inside_the_square_is_an_error(tmp_path: Path) -> None:
    mask = Image.new("L", (100, 40))
    mask.paste(255, (0, 0, 10, 40))
    one = photo(tmp_path / "a.png", halves((100, 40)), mask)
    with pytest.raises(PhotosError) as caught:
        framed(one, 16)
    assert str(caught.value) == (
        f"The mask of {one.path} is empty inside the middle square, which is all that is used of a picture. "
        "Crop the picture around what its mask shows, or leave it out."
    )


def test_the_framing_has_a_name_for_cache_keys() -> None:
    assert FRAMING == "square-lanczos-1"


def test_a_contact_sheet_has_a_labelled_row_for_each_row(tmp_path: Path) -> None:
    sheet = contact_sheet([("one", [Image.new("RGB", (64, 64), "red")] * 3), ("two", [halves((500, 250))])])
    assert sheet.size == (8 + 3 * 136, 8 + 2 * (18 + 8 + 128 + 8))
    array = np.asarray(sheet)
    assert array[0, 0].tolist() == [0xFA] * 3
    assert array[8:26].min() < 100, "the label is drawn, dark"
    assert array[34, 8].tolist() == [255, 0, 0] and array[161, 135].tolist() == [255, 0, 0]


def test_small_pictures_keep_their_pixels_crisp_on_a_sheet() -> None:
    checks = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8).repeat(8, 0).repeat(8, 1))
    array = np.asarray(contact_sheet([("", [checks])], cell=40))
    assert set(np.unique(array)) == {0, 0xFA, 255}
    assert (array[:, :, 0] == 0).sum() == 2 * 16 * 16


def test_a_long_label_is_cut_to_the_sheet() -> None:
    array = np.asarray(contact_sheet([("a name\nthat is long " * 9, [Image.new("L", (64, 64))])]))
    assert array.shape[1] == 144 and (array[:26, 136:] == 0xFA).all()


def test_transparent_parts_show_the_sheet_and_no_rows_make_an_empty_sheet() -> None:
    assert len(np.unique(np.asarray(contact_sheet([("", [Image.new("RGBA", (8, 8))])])))) == 1
    assert contact_sheet([]).getpixel((0, 0)) == (0xFA,) * 3 and GROUND == "#fafafa"  # pyright: ignore[reportUnknownMemberType]
