"""A comparison: the same pictures, equal steps, figures and advice that follow from them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from neologism import comparing
from neologism.comparing import Task, budgeted, check_methods, compare, drawn_in, split, within
from neologism.errors import RecipeError
from neologism.events import Step
from neologism.outcomes import KEPT, Course, Figures
from neologism.scores import open_judge
from neologism.versus import page, recommended

ONE = Figures(0.8, 0.3, 0.1, 0.0, 0.0, True, 800, 10.0, 1000)
TWO = replace(ONE, fidelity=0.9, forgetting=0.2, unchanged=False, bytes=900_000)


def test_pictures_are_held_out_by_their_content(pictures: Path, tmp_path: Path) -> None:
    (pictures / "0.txt").write_text("a disc")
    given, unseen = split(pictures, tmp_path / "out")
    assert len(unseen) == 1 and len(list(given.glob("*.png"))) == 3
    again = split(pictures, tmp_path / "other")[1]
    assert again[0].tobytes() == unseen[0].tobytes()


def test_advice_follows_from_the_figures() -> None:
    told = recommended({"inversion": ONE, "dreambooth": TWO})
    assert told == (
        "Truest to the pictures: dreambooth (0.900). Truest to prompts: inversion (0.300). Forgets least: inversion. "
        "Smallest: inversion (800 bytes). Take dreambooth for this thing alone, inversion where the rest must stay."
    )


def test_the_page_needs_nothing_beside_it_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    place = drawn_in(tmp_path, "inversion")
    place.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(place / "0-0.png")
    odd = replace(ONE, curve=((0.5, 0.9), (1.0, 0.8)))
    file = page({"inversion": odd, "dreambooth": TWO, "<b>": ONE}, tmp_path, [Image.new("RGB", (4, 4))], "<disc&co>")
    text = file.read_text()
    assert "0.900" in text and "data:image/png;base64," in text and "Take dreambooth" in text
    assert "<b>" not in text and "&lt;b&gt;" in text and 'points="280.0,' in text and "878.9 kB" in text
    assert 'alt="a &lt;disc&amp;co&gt;, by inversion, seed 0"' in text and 'alt="Held-out picture 1"' in text
    assert "http:" not in text and "https:" not in text and text.count("alt=") == text.count("<img") == 2


def test_a_budget_is_steps_or_seconds() -> None:
    assert budgeted("500steps") == ({"steps": 500}, None) and budgeted("120s") == ({}, 120.0)
    with pytest.raises(RecipeError, match="^budget: found '2 hours'; a number of steps or seconds is allowed, such as"):
        budgeted("2 hours")


def test_seconds_become_steps_once(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    plain = {"base": str(tiny_base), "batch": 2, "precision": "fp32", "device": "cpu"}
    task = Task(pictures, [], "<disc>", "cat", plain, budget=60.0)  # of which a busy machine has enough left
    chosen = within(task, comparing.settings(task, "inversion"), tmp_path)
    assert chosen["steps"] > comparing.TRIED and not (tmp_path / "trial").exists()
    assert within(task, comparing.settings(task, "inversion"), tmp_path)["steps"] == chosen["steps"]


def test_methods_a_recipe_a_run_and_a_file_are_compared(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    plain = {"base": str(tiny_base), "batch": 2, "precision": "fp32", "device": "cpu", "steps": 2, "class_pictures": 1}
    task = Task(pictures, [Image.new("RGB", (32, 32))], "<disc>", "cat", plain)
    (tmp_path / "other.toml").write_text("vectors = 2\n")
    told = compare(task, ["inversion", "embedding"], open_judge(), tmp_path / "out", [tmp_path / "other.toml"])
    found = {event[0]: event[1] for event in told if isinstance(event, tuple)}
    assert len(list(drawn_in(tmp_path / "out", "other").glob("*.png"))) == KEPT * 5
    assert list(found) == ["inversion", "embedding", "other"] and found["inversion"].unchanged
    assert found["other"].bytes > found["inversion"].bytes and found["embedding"].class_drift > 0
    shutil.copytree(tmp_path / "out" / "inversion", tmp_path / "run")
    again = compare(task, [], open_judge(), tmp_path / "out", [tmp_path / "run", tmp_path / "run" / "word.safetensors"])
    for name, figures in (event for event in again if isinstance(event, tuple)):
        assert name == "run" and figures.fidelity == found["inversion"].fidelity
    with pytest.raises(RecipeError, match="nothing is no recipe .* Name one of these by --of."):
        list(compare(task, [], open_judge(), tmp_path / "out", [tmp_path / "nothing"]))


def test_unknown_methods_and_classes_are_refused() -> None:
    with pytest.raises(
        RecipeError,
        match="^methods: found magic; there are inversion, embedding, dreambooth, lora. Name some of these.$",
    ):
        check_methods(["magic"], "dog")
    with pytest.raises(
        RecipeError,
        match="^like: found 'auto'; a comparison needs the word of the pictures' class, such as dog. Give --like.$",
    ):
        check_methods(["lora"], "auto")


def test_a_method_learns_at_the_rate_it_is_given(pictures: Path) -> None:
    task = Task(pictures, [], "<disc>", "moon", {"steps": 2}, {"lora": 0.5})
    chosen = [comparing.settings(task, method) for method in ("lora", "dreambooth")]
    assert chosen[0]["weights_rate"] == 0.5 and "weights_rate" not in chosen[1]
    assert [one["method"] for one in chosen] == ["lora", "dreambooth"] and chosen[0]["steps"] == 2


def test_a_course_notes_what_the_curve_needs() -> None:
    course = Course()
    for step, probe in ((1, 2.0), (2, None), (4, 1.0)):
        course.note(Step("<w>", step, 4, 1.0, 0.1, 1.0, 1.0, 1.0, (), probe, 0.0))
    assert course.curve == ((0.25, 1.0), (1.0, 0.5)) and course.memory > 0


@pytest.mark.slow
def test_inversion_changes_nothing_else(pictures: Path, tmp_path: Path) -> None:
    given, unseen = split(pictures, tmp_path / "out")
    task = Task(
        given,
        unseen,
        "<disc>",
        "moon",
        {"steps": 2, "batch": 2, "class_pictures": 2, "precision": "fp32", "device": "cpu"},
    )
    told = compare(task, ["inversion", "lora"], open_judge(), tmp_path / "out")
    found = {event[0]: event[1] for event in told if isinstance(event, tuple)}
    assert found["inversion"].unchanged and found["inversion"].forgetting == 0
    assert found["inversion"].bytes < found["lora"].bytes
