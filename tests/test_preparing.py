"""A prepared folder: around the subject, nothing lost, nothing overwritten, the source as it was."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from neologism.errors import PhotosError
from neologism.preparing import prepare, square_around


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A wide picture with a red box at its right end, turned by EXIF; one with a mask and a caption; one without any subject."""
    folder = tmp_path / "source"
    folder.mkdir()
    wide = Image.new("RGB", (200, 100), "#5b7a9a")
    ImageDraw.Draw(wide).rectangle((150, 30, 189, 69), fill="#c03020")
    exif = Image.Exif()
    exif[0x0112] = 3
    wide.rotate(180).save(folder / "wide.jpg", quality=98, exif=exif)
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8))
    rough = coarse.resize((100, 100), Image.Resampling.BICUBIC)
    rough.save(folder / "a.png")
    mask = Image.new("L", (100, 100))
    mask.paste(255, (10, 10, 30, 30))
    mask.save(folder / "a.mask.png")
    (folder / "a.txt").write_text("a {} in noise")
    rough.rotate(180).save(folder / "b.png")
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_pictures_are_cropped_around_their_subject_and_the_source_is_as_it_was(source: Path, tmp_path: Path) -> None:
    before = hashes(source)
    found = prepare(source, tmp_path / "out", 64)
    told = {one.path.name: (one.side, one.cropped) for one in found.made}
    assert told == {
        "a.png": (25, "around its mask"),
        "b.png": (64, "in the middle: no subject was found"),
        "wide.png": (51, "around what stands out from its ground"),
    }
    with Image.open(tmp_path / "out" / "wide.png") as image:
        assert image.size == (51, 51)
        inside, edge = np.array(image.getpixel((25, 25))), np.array(image.getpixel((1, 1)))
    assert np.abs(inside - (192, 48, 32)).max() < 12 and np.abs(edge - (91, 122, 154)).max() < 12
    with Image.open(tmp_path / "out" / "a.mask.png") as mask:
        assert mask.size == (25, 25) and mask.getpixel((12, 12)) == 255 and mask.getpixel((0, 0)) == 0
    assert (tmp_path / "out" / "a.txt").read_text() == "a {} in noise\n"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.mask.png", "a.png", "a.txt", "b.png", "wide.png"]
    assert hashes(source) == before


def test_transparency_becomes_a_mask_and_masks_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    clear.paste((200, 10, 10, 255), (20, 20, 44, 44))
    clear.save(tmp_path / "s" / "a.png")
    assert prepare(tmp_path / "s", tmp_path / "one", 64).made[0].cropped == "around its mask"
    assert (tmp_path / "one" / "a.mask.png").exists()
    prepare(tmp_path / "s", tmp_path / "two", 64, masks="none")
    assert not (tmp_path / "two" / "a.mask.png").exists()


def test_files_of_one_name_do_not_fall_together(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for name, colour in (("a.png", "red"), ("a.jpg", "blue")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / "s" / name)
    assert sorted(one.path.name for one in prepare(tmp_path / "s", tmp_path / "out", 32).made) == ["a-2.png", "a.png"]


def test_nothing_is_overwritten_and_nothing_goes_into_the_source(source: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(
        PhotosError, match="there is there already; nothing is overwritten. Give --out a folder that is"
    ):
        prepare(source, tmp_path / "there", 64)
    with pytest.raises(
        PhotosError, match="inside lies in .*source, which stays as it is. Give --out a folder elsewhere."
    ):
        prepare(source, source / "inside", 64)


def test_a_folder_that_cannot_be_written_leaves_nothing(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PhotosError, match="cannot be written: .* Give --out a folder in a place with room."):
        prepare(source, tmp_path / "file" / "out", 64)


def test_a_crash_on_the_way_leaves_no_folder(source: Path, tmp_path: Path) -> None:
    def broken(_: Image.Image) -> str:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        prepare(source, tmp_path / "out", 64, captioner=broken)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


def test_captions_are_written_where_there_are_none(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", 64, captioner=lambda image: f"{image.width} wide")
    texts = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.txt")}
    assert texts == {"a.txt": "a {} in noise\n", "b.txt": "64 wide\n", "wide.txt": "51 wide\n"}


def test_missing_libraries_say_what_to_type(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rembg", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        PhotosError, match=r"^--masks rembg needs rembg, .* pip install 'neologism\[prepare\]', or leave"
    ):
        prepare(source, tmp_path / "out", 64, masks="rembg")
    with pytest.raises(PhotosError, match="^--around face needs cv2, which is not installed."):
        prepare(source, tmp_path / "out", 64, around="face")
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(__version__="5.0.0"))
    with pytest.raises(
        PhotosError, match="found OpenCV 5.0.0, which has it no more. Type pip install 'opencv-python-headless<5'"
    ):
        prepare(source, tmp_path / "out", 64, around="face")

    def offline(name: str) -> Any:
        raise OSError("Network is unreachable")

    monkeypatch.setitem(sys.modules, "rembg", SimpleNamespace(new_session=offline))
    with pytest.raises(
        PhotosError, match="cannot get its model u2net .Network is unreachable.. It is fetched once; go online"
    ):
        prepare(source, tmp_path / "out", 64, masks="rembg")
    assert not (tmp_path / "out").exists()


def test_masks_and_faces_are_taken_from_libraries_that_are_there(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove(image: Image.Image, session: str, only_mask: bool) -> Image.Image:
        assert only_mask and session == "the network u2net"
        mask = Image.new("L", image.size)
        mask.paste(255, (0, 0, 20, 20))
        return mask

    class Detector:
        def __init__(self, file: str):
            assert file.endswith("haarcascade_frontalface_default.xml")

        def detectMultiScale(self, values: np.ndarray, *_: Any) -> list[tuple[int, ...]]:
            return [(40, 40, 4, 4), (40, 40, 20, 20)] if values.shape == (100, 100) else []

    monkeypatch.setitem(sys.modules, "rembg", SimpleNamespace(remove=remove, new_session="the network {}".format))
    data = SimpleNamespace(haarcascades="/x")
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(CascadeClassifier=Detector, data=data))
    found = prepare(source, tmp_path / "one", 64, masks="rembg")
    assert (tmp_path / "one" / "b.mask.png").exists() and found.made[1].cropped == "around its mask"
    faces = prepare(source, tmp_path / "two", 64, around="face")
    assert [one.cropped for one in faces.made] == [
        "around the face",
        "around the face",
        "in the middle: no subject was found",
    ]


def test_the_square_holds_the_box_and_lies_in_the_picture() -> None:
    for box in ((0, 0, 10, 4), (90, 40, 100, 50), (5, 5, 95, 45), (0, 0, 100, 50)):
        left, top, right, bottom = square_around(box, (100, 50))
        assert right - left == bottom - top and 0 <= left < right <= 100 and 0 <= top < bottom <= 50
        if box[2] - box[0] <= 50:
            assert left <= box[0] and right >= box[2] and top <= box[1] and bottom >= box[3]
