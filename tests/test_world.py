"""The emoji world: what is held out stays out, and captions say what is drawn."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from workshop.emoji import drawing, scenes
from workshop.emoji.subjects import CLDR, HELD_OUT, development, general_words, held_out, pool, trained

pytestmark = pytest.mark.skipif(
    not (drawing.FONT.exists() and (CLDR / "annotations/en.xml").exists()),
    reason="the font or the names are not installed",
)
LISTED = json.loads((Path(scenes.__file__).parent / "held_out.json").read_text("utf-8"))


def some_scenes(count: int = 300) -> list[scenes.Scene]:
    chance, subjects = random.Random(5), trained(160)
    words = general_words(subjects)
    return [scenes.imagined(chance, subjects, words, 0.3) for _ in range(count)]


def test_held_out_subjects_are_those_of_the_list() -> None:
    names = [subject.name for subject in held_out()]
    assert [entry["name"] for entry in LISTED["development"] + LISTED["final"]] == names
    assert len(names) == 64 and len(development()) == 24


def test_held_out_subjects_and_style_never_enter_training() -> None:
    taught = {subject.character for subject in trained(len(pool()))}
    assert len(taught) == len(pool()) - HELD_OUT
    assert not taught & {subject.character for subject in held_out()}
    assert LISTED["style"] == drawing.HELD_OUT_STYLE
    styles = {scene.style for scene in some_scenes()} - {None}
    assert drawing.HELD_OUT_STYLE not in styles and drawing.MADE_STYLE not in styles and len(styles) == 5


def test_a_scene_is_a_pure_function_of_its_seed() -> None:
    scene = some_scenes(1)[0]
    one, two = (scenes.drawn(scene, random.Random(1))[0].tobytes() for _ in range(2))
    assert one == two != scenes.drawn(scene, random.Random(2))[0].tobytes()


def test_captions_say_what_is_drawn() -> None:
    for scene in some_scenes():
        if "{}" not in scene.manner:  # the templates of a style say nothing of what is drawn in it
            assert scene.style and scene.style in scene.caption
            continue
        for said in (
            scene.called,
            scene.background,
            scene.colour,
            scene.size,
            scene.place,
            scene.shape,
            scene.style,
            scene.pattern,
        ):
            assert said is None or said in scene.caption
        assert len(scene.caption.split()) <= 20 and "  " not in scene.caption


def test_the_background_has_the_colour_that_is_said() -> None:
    for name, colour in drawing.COLOURS.items():
        scene = scenes.Scene(trained(1)[0], "thing", background=name)
        picture, mask = scenes.drawn(scene, random.Random(0))
        assert np.abs(np.array(picture.getpixel((1, 1)), int) - np.array(colour)).max() <= 20
        assert np.asarray(mask)[1, 1] == 0 and np.asarray(mask).max() == 255


def test_two_subjects_stand_side_by_side_or_are_mixed_into_one() -> None:
    owl, other = trained(2)
    both = scenes.Scene(owl, "owl", background="white", other=other)
    assert f"owl and a {other.name}".replace("and a", "and an" if other.name[0] in "aeiou" else "and a") in both.caption
    mixed = scenes.replace(both, mixed=True)
    assert "owl mixed with a" in mixed.caption
    alone, blend = (np.asarray(scenes.drawn(s, random.Random(3))[0]) for s in (scenes.replace(both, other=None), mixed))
    assert (alone != blend).any()


def test_captions_use_the_right_article() -> None:
    owl = scenes.Scene(trained(1)[0], "owl", background="orange")
    assert owl.caption == "an owl on an orange background"
    assert scenes.replace(owl, colour="red", place="left").caption == "a red owl on an orange background at the left"
