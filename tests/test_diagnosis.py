"""Warnings while a word is learned: each has a run that provokes it, and an ordinary run provokes none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neologism.diagnosis import watched
from neologism.events import Step, Warned
from neologism.recipe import recipe
from neologism.training import train

STEP = Step("<w>", 1, 100, 0.5, 0.1, 1.0, 1.0, 0.9, ("cat",), None, 0.0)


def warned(base: Path, shown: Path, out: Path, **more: Any) -> list[str]:
    """The warnings of a short run."""
    plain: dict[str, Any] = {"steps": 30, "batch": 2, "precision": "fp32", "like": "cat", "preview_prompts": ()}
    made = recipe(pictures=str(shown), words="<disc>", base=str(base), **plain | more)
    return [event.text for event in train(made, out) if isinstance(event, Warned)]


def told(*steps: Step) -> list[str]:
    return [event.text for event in watched(iter(steps), 1.0) if isinstance(event, Warned)]


def test_an_ordinary_run_is_left_in_peace(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    assert warned(tiny_base, pictures, tmp_path / "run") == []


def test_a_run_that_does_not_learn_is_told_why_once(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    texts = warned(tiny_base, pictures, tmp_path / "run", learning_rate=1e-7)
    assert len(texts) == 1 and "has hardly moved in 25 steps" in texts[0] and "--learning-rate is too low" in texts[0]


def test_vectors_that_run_away_are_told(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    texts = warned(tiny_base, pictures, tmp_path / "run", learning_rate=5.0)
    assert any("times as long as other words'" in text and "--norm fixed" in text for text in texts)


def test_a_fixed_length_cannot_run_away(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    texts = warned(tiny_base, pictures, tmp_path / "run", learning_rate=5.0, norm="fixed")
    assert not any("times as long" in text for text in texts)


@pytest.mark.parametrize(
    ("probes", "count"),
    [
        ((0.4, 0.3, 0.31, 0.32, 0.33, 0.34), 1),
        ((0.4, 0.3, 0.31, 0.3, 0.31, 0.3), 0),
        ((0.3, 0.3001, 0.3002, 0.3003), 0),
    ],
)
def test_probes_are_told_when_they_rise_steadily_and_far(probes: tuple[float, ...], count: int) -> None:
    texts = told(*(replace(STEP, step=20 * n, probe=probe) for n, probe in enumerate(probes, 1)))
    assert sum("has risen 3 times in a row" in text for text in texts) == count


def test_a_warning_follows_its_step_and_words_are_watched_apart() -> None:
    far = replace(STEP, norm=20.0)
    events = list(watched(iter([far, replace(far, word="<v>"), far]), 1.0))
    assert [type(event) for event in events] == [Step, Warned, Step, Warned, Step]
