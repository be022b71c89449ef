"""Faults of pictures: each is found where it was made, and none in good pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from neologism.faults import Look, blur_effect, faults, look

SIDE = 128


def scene(seed: int, ground: str | None = None, turn: float = 0.0) -> Image.Image:
    """A sharp thing of several colours on a ground, unlike that of any other seed."""
    chance = np.random.default_rng(seed)
    grounds = ("#7a9a5b", "#b59a7c", "#5b7a9a", "#9a5b7a", "#8a8a5b")
    image = Image.new("RGB", (160, 160), ground or grounds[seed % len(grounds)])
    draw = ImageDraw.Draw(image)
    left, top = (int(n) for n in chance.integers(30, 60, 2))
    draw.rectangle((left, top, left + 60, top + 40), fill="#c03020")
    draw.ellipse((left + 10, top + 20, left + 50, top + 70), fill="#f0d040", outline="#202020")
    draw.line((left, top, left + 60, top + 40), fill="#203080", width=3)
    return image.rotate(turn or float(seed * 37 % 90), fillcolor=ground or grounds[seed % len(grounds)])


def kinds(*images: Image.Image) -> list[str]:
    """The kinds of faults of pictures together."""
    return [fault.kind for fault in faults([look(f"{n}.png", image, None, SIDE) for n, image in enumerate(images)])]


def test_good_pictures_have_none() -> None:
    assert kinds(*(scene(seed) for seed in range(5))) == []


def test_the_example_photos_that_ship_have_none() -> None:
    for folder in sorted((Path(__file__).parents[1] / "src/neologism/emoji/photos").iterdir()):
        looks = [look(f.name, Image.open(f).convert("RGB"), None, 64) for f in sorted(folder.glob("*.png"))]
        assert looks and faults(looks) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_blurred_picture_is_found(seed: int) -> None:
    assert kinds(scene(seed).filter(ImageFilter.GaussianBlur(6))) == ["blurred"]


def test_the_blur_effect_grows_with_blur_and_lies_in_0_to_1() -> None:
    effects = [
        blur_effect(look("x", scene(1).filter(ImageFilter.GaussianBlur(r)), None, SIDE).light) for r in (0, 1, 2, 4)
    ]
    assert effects == sorted(effects) and 0 <= effects[0] < effects[-1] <= 1
    assert blur_effect(np.full((9, 9), 0.5, np.float32)) == 0.0


def test_a_dark_picture_is_found_and_a_dark_thing_on_a_light_ground_is_not() -> None:
    assert kinds(ImageEnhance.Brightness(scene(2)).enhance(0.2)) == ["dark"]
    thing = Image.new("RGB", (160, 160), "#dddddd")
    ImageDraw.Draw(thing).rectangle((40, 40, 120, 120), fill="#101010", outline="#404040")
    assert kinds(thing) == []


def test_an_overexposed_picture_is_found_and_white_paper_is_not() -> None:
    chance = np.random.default_rng(0).integers(90, 256, (16, 16, 3), dtype=np.uint8)
    rough = (
        Image.fromarray(chance)
        .resize((160, 160), Image.Resampling.NEAREST)
        .rotate(20, expand=False)
        .crop((30, 30, 130, 130))
    )
    assert kinds(ImageEnhance.Brightness(rough).enhance(4)) == ["bright"]
    assert kinds(scene(3, "#ffffff")) == []


@pytest.mark.parametrize("colour", ["black", "white"])
def test_a_border_is_found_and_a_plain_ground_is_not(colour: str) -> None:
    framed = ImageOps.expand(scene(4), 16, colour)
    assert "border" in kinds(framed)
    letterbox = Image.new("RGB", (160, 160), colour)
    letterbox.paste(scene(4).crop((0, 20, 160, 140)), (0, 20))
    assert "border" in kinds(letterbox)
    assert "border" not in kinds(scene(4))


def test_a_collage_is_found() -> None:
    two = Image.new("RGB", (160, 160))
    two.paste(scene(0).resize((80, 160)), (0, 0))
    two.paste(scene(1).resize((80, 160)), (80, 0))
    assert "collage" in kinds(two)


def test_a_subject_too_small_or_cut_by_the_square_is_found() -> None:
    tiny = Image.new("RGB", (160, 160), "#5b7a9a")
    ImageDraw.Draw(tiny).rectangle((70, 70, 84, 84), fill="#c03020", outline="#f0d040")
    assert kinds(tiny) == ["little"]
    wide = Image.new("RGB", (320, 160), "#5b7a9a")
    wide.paste(scene(1, "#5b7a9a"), (0, 0))
    (fault,) = [fault for fault in faults([look("w.png", wide, None, SIDE)]) if fault.kind == "cut"]
    assert fault.pictures == ("w.png",) and "of the subject lies outside the middle square" in fault.text
    assert "neologism prepare does" in fault.text


def test_a_mask_says_what_the_subject_is() -> None:
    mask = Image.new("L", (160, 160))
    mask.paste(255, (0, 0, 10, 10))
    assert [fault.kind for fault in faults([look("a.png", scene(0), mask, SIDE)])] == ["little"]


def test_one_ground_for_all_is_found_unless_masks_hide_it() -> None:
    images = [scene(seed, "#5b7a9a") for seed in range(4)]
    assert kinds(*images) == ["ground"]
    masks = [Image.new("L", (160, 160), 255) for _ in images]
    looks = [look(str(n), image, mask, SIDE) for n, (image, mask) in enumerate(zip(images, masks, strict=True))]
    assert faults(looks) == []


def test_one_view_for_all_is_found() -> None:
    same = [ImageEnhance.Brightness(scene(1)).enhance(by) for by in (0.9, 1.0, 1.1)]
    assert "view" in kinds(*same)
    assert "view" not in kinds(*(scene(seed) for seed in range(4)))


def test_two_pictures_are_few() -> None:
    assert kinds(scene(0), scene(1)) == ["few"]


def test_every_fault_says_what_it_costs_and_what_to_do() -> None:
    plain = Look("a.png", np.zeros((64, 64, 3), np.float32), None, False)
    for fault in faults([plain, plain, plain]):
        assert fault.text.count(". ") >= 1 and fault.text.endswith((".", "masks."))
        assert fault.pictures in ((), ("a.png",))
