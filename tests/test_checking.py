"""What checking.py promises: what a run would use, as words, as JSON and as a sheet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neologism.checking import as_json, check
from neologism.errors import PhotosError


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (80, 40), colour).save(folder / name)
    (folder / "c.jpg").touch()
    return folder


def with_mask(pictures: Path, name: str, box: tuple[int, int, int, int]) -> None:
    mask = Image.new("L", (80, 40))
    mask.paste(255, box)
    mask.save(pictures / f"{name}.mask.png")


def test_a_check_tells_what_fits_what_does_not_and_what_to_mind(pictures: Path) -> None:
    checked = check(pictures, 64, None)
    assert [photo.path.name for photo in checked.photos] == ["a.png", "b.png"]
    assert [(one.path.name, one.reason) for one in checked.unfit] == [("c.jpg", "is empty (0 bytes)")]
    assert checked.warnings == [
        "a.png is small: 80 x 40 pixels, enlarged to 64. Sharper pictures teach more.",
        "b.png is small: 80 x 40 pixels, enlarged to 64. Sharper pictures teach more.",
    ]


def test_the_sheet_shows_the_crops_and_is_written(pictures: Path, tmp_path: Path) -> None:
    checked = check(pictures, 64, tmp_path / "sheet.png")
    array = np.asarray(checked.sheet)
    assert array[40, 10].tolist() == [255, 0, 0] and array[160, 270].tolist() == [0, 0, 255]
    with Image.open(tmp_path / "sheet.png") as written:
        assert written.tobytes() == checked.sheet.tobytes()


def test_what_a_mask_hides_is_greyed_on_the_sheet(pictures: Path) -> None:
    with_mask(pictures, "a", (40, 0, 80, 40))
    array = np.asarray(check(pictures, 64).sheet)
    assert array[40, 130].tolist() == [255, 0, 0] and array[40, 10].min() > 150


def test_seven_pictures_take_two_rows(tmp_path: Path) -> None:
    for number in range(7):
        Image.new("RGB", (64, 64), (number * 30, 0, 0)).save(tmp_path / f"{number}.png")
    assert check(tmp_path, 64).sheet.size == (8 + 6 * 136, 8 + 2 * 162)


def test_a_picture_that_cannot_be_framed_is_unfit(pictures: Path) -> None:
    with_mask(pictures, "a", (0, 0, 5, 40))
    checked = check(pictures, 64)
    assert [photo.path.name for photo in checked.photos] == ["b.png"]
    assert checked.unfit[1].reason == (
        f"cannot be framed: The mask of {pictures / 'a.png'} is empty inside the middle square, which is all that is "
        "used of a picture. Crop the picture around what its mask shows, or leave it out."
    )


def test_where_none_can_be_framed_the_reasons_are_listed(tmp_path: Path) -> None:
    Image.new("RGB", (80, 40), "red").save(tmp_path / "a.png")
    with_mask(tmp_path, "a", (0, 0, 5, 40))
    with pytest.raises(PhotosError) as caught:
        check(tmp_path, 64)
    assert str(caught.value) == (
        f"No picture in {tmp_path} can be used.\n  cannot be framed: The mask of {tmp_path / 'a.png'} is empty inside "
        "the middle square, which is all that is used of a picture. Crop the picture around what its mask shows, "
        "or leave it out."
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [("no/sheet.png", "No such file or directory"), ("sheet.odd", "its ending is not that of a picture")],
)
def test_a_sheet_that_cannot_be_written_is_an_error(pictures: Path, tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(PhotosError) as caught:
        check(pictures, 64, tmp_path / name)
    assert str(caught.value) == (
        f"The sheet cannot be written to {tmp_path / name}: {why}. Give a .png file in a folder that exists."
    )


def test_json_holds_everything_but_the_sheet(pictures: Path) -> None:
    with_mask(pictures, "b", (0, 0, 80, 40))
    (pictures / "a.txt").write_text("a {}")
    checked = check(pictures, 16)
    told = json.loads(json.dumps(as_json(checked)))
    assert set(told) == {"photos", "unfit", "warnings", "faults"}
    assert told["photos"][0] == {
        "path": str(pictures / "a.png"),
        "size": [80, 40],
        "caption": "a {}",
        "mask": None,
        "alpha": False,
        "sha256": checked.photos[0].sha256,
    }
    assert told["photos"][1]["mask"] == str(pictures / "b.mask.png")
    assert told["unfit"] == [{"path": str(pictures / "c.jpg"), "reason": "is empty (0 bytes)"}]
