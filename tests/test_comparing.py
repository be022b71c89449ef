"""A comparison: the same pictures, equal steps, figures and advice that follow from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from neologism import comparing
from neologism.comparing import Figures, Task, check_methods, compare, page, recommended, split
from neologism.errors import RecipeError
from neologism.recipe import Recipe
from neologism.scores import open_judge

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


def test_the_page_has_a_row_and_pictures_for_each_method(tmp_path: Path) -> None:
    text = page({"inversion": ONE, "dreambooth": TWO}, tmp_path).read_text()
    assert "0.9000" in text and "dreambooth/sheet.png" in text and "Take dreambooth" in text


def test_unknown_methods_and_classes_are_refused() -> None:
    with pytest.raises(
        RecipeError, match="^methods: found magic; there are inversion, dreambooth, lora. Name some of these.$"
    ):
        check_methods(["magic"], "dog")
    with pytest.raises(
        RecipeError,
        match="^like: found 'auto'; a comparison needs the word of the pictures' class, such as dog. Give --like.$",
    ):
        check_methods(["lora"], "auto")


def test_a_method_learns_at_the_rate_it_is_given(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Recipe] = []
    monkeypatch.setattr(comparing, "train", lambda chosen, _: seen.append(chosen) or iter(()))
    task = Task(pictures, [], "<disc>", "moon", {"steps": 2}, {"lora": 0.5})
    for method in ("lora", "dreambooth"):
        list(comparing.learned(task, method, tmp_path, [0]))
    assert [one.weights_rate for one in seen] == [0.5, None]
    assert [one.method for one in seen] == ["lora", "dreambooth"] and seen[0].steps == 2


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
    assert found["inversion"].unchanged and found["inversion"].forgetting == pytest.approx(0, abs=1e-5)
    assert found["inversion"].bytes < found["lora"].bytes
