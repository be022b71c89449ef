"""Every warning has a run that provokes it and a run that does not; a run is watched from another process."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from rich.console import Console

from neologism import objective, watching
from neologism.diagnosing import DEAF, Diagnosis, difference
from neologism.events import Picture, Step, Warned
from neologism.families import open_model
from neologism.generation import generate
from neologism.many import train_many
from neologism.recipe import recipe
from neologism.training import train

EMOJI = Path("src/neologism/emoji/photos/rabbit")


def told(base: Path | str, shown: Path, out: Path, **more: Any) -> str:
    """All notes of a run."""
    usual: dict[str, Any] = {
        "steps": 24,
        "batch": 2,
        "probe_every": 2,
        "preview_prompts": (),
        "like": "cat",
        "learning_rate": 1.0,
    }
    settings = recipe(**{"pictures": str(shown), "words": "<disc>", "base": str(base)} | usual | more)
    return "\n".join(event.text for event in train(settings, out) if isinstance(event, Warned))


def test_a_usual_run_is_told_nothing(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    assert told(tiny_base, pictures, tmp_path / "run", preview_prompts=("a {}", "a {} on blue")) == ""


def test_a_run_with_no_rate_to_speak_of_is_told_that_it_does_not_learn(
    tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    said = told(tiny_base, pictures, tmp_path / "run", learning_rate=1e-5)
    assert "<disc> is not learning: after 20 steps it still is its start word" in said
    assert "--learning-rate" in said and said.count("not learning") == 1


def test_a_run_without_gradient_is_told_that_it_does_not_learn(
    tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = objective.loss
    monkeypatch.setattr(objective, "loss", lambda *a: real(*a) * 1e-12)
    said = told(tiny_base, pictures, tmp_path / "run")
    assert said.count("<disc> is not learning: its gradient was below 1e-07 for 20 steps. Usual causes:") == 1


def test_a_gradient_that_is_nearly_nothing_is_told_once() -> None:
    watching = Diagnosis("<disc>", 1.0)
    said = [text for number in range(30) for text in watching.step(step(number, gradient=1e-9, cosine=0.5))]
    assert len(said) == 1 and "its gradient was below 1e-07 for 20 steps" in said[0]


def test_a_run_at_far_too_high_a_rate_is_told_that_it_runs_away(
    tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    said = told(tiny_base, pictures, tmp_path / "run", learning_rate=30.0, schedule="constant")
    assert "<disc> runs away: its vectors are" in said and "--norm fixed" in said
    assert "runs away" not in told(tiny_base, pictures, tmp_path / "tame", learning_rate=30.0, norm="fixed")


def test_a_probe_loss_that_rises_is_told_with_the_step_to_go_back_to() -> None:
    watching = Diagnosis("<disc>", 1.0)
    losses = (1.0, 0.8, 0.7, 0.75, 0.76, 0.9)
    said = [watching.step(step(number * 20, probe=loss)) for number, loss in enumerate(losses)]
    assert [len(one) for one in said] == [0, 0, 0, 0, 1, 0]
    assert "its probe loss was lowest at step 40 and has risen since" in said[4][0]
    falling = Diagnosis("<disc>", 1.0)
    assert not any(falling.step(step(n, probe=1 - n / 100 + 0.005 * (n % 2))) for n in range(9))


def test_a_run_that_learns_what_the_base_draws_anyway_is_told_that_it_learns_by_heart(
    tiny_base: Path, tmp_path: Path
) -> None:
    """The base's own drawing as the only picture: what the word draws comes back as it is."""
    (tmp_path / "shown").mkdir()
    generate(open_model(str(tiny_base), "cpu", "fp32"), "a cat", steps=8)[0].save(tmp_path / "shown/0.png")
    said = told(tiny_base, tmp_path / "shown", tmp_path / "run", preview_prompts=("a {}",), steps=4)
    assert "<disc> draws a training picture nearly as it is: it is learning by heart" in said


def test_scenes_that_no_longer_differ_are_told_as_a_word_that_overpowers() -> None:
    watching = Diagnosis("<a>", 1.0)
    assert watching.pictures(scenes(0, "red", "navy")) == []
    assert watching.pictures(scenes(50, "red", "navy")) == []
    said = watching.pictures(scenes(100, "red", "crimson"))
    assert (
        len(said) == 1
        and said[0].startswith("<a> overpowers its prompts: scenes differ by")
        and watching.pictures(scenes(150, "red", "red")) == []
    )
    assert 0 < DEAF < 1 and difference(Image.new("RGB", (9, 9)), Image.new("RGB", (70, 50))) == 0


def test_a_word_of_many_is_warned_of_by_name_and_its_neighbour_is_not(
    tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    usual: dict[str, Any] = {"pictures": str(pictures), "base": str(tiny_base), "like": "cat", "batch": 2}
    usual |= {"steps": 24, "probe_every": 2, "preview_prompts": ()}
    still = recipe(**usual, words="<still>", learning_rate=1e-5)
    moving = recipe(**usual, words="<moving>", learning_rate=1.0)
    said = [event.text for event in train_many([still, moving], tmp_path) if isinstance(event, Warned)]
    assert len(said) == 1 and said[0].startswith("<still> is not learning: after 20 steps")


@pytest.mark.slow
def test_a_word_that_overpowers_its_prompts_is_told_and_one_that_does_not_is_not(tmp_path: Path) -> None:
    """Weights of denoiser and text encoder learn at thirty times a sensible rate: every scene comes out alike."""
    scenes = ("a {}", "a {} on a blue background", "a small {} on a green background")
    plain = {"preview_prompts": scenes, "steps": 60, "like": "rabbit", "batch": 8, "method": "dreambooth", "seed": 1}
    plain |= {"scope": "denoiser", "text_encoder": True, "prior_weight": 0.0}
    assert "overpowers" not in told("emoji", EMOJI, tmp_path / "usual", weights_rate=1e-4, **plain)
    assert "<disc> overpowers its prompts" in told("emoji", EMOJI, tmp_path / "loud", weights_rate=3e-3, **plain)


@pytest.mark.slow
def test_a_run_whose_probe_loss_rises_is_told_and_one_whose_falls_is_not(tmp_path: Path) -> None:
    """What was learned is driven away from the class's pictures, whatever it then denoises."""
    plain: dict[str, Any] = {"steps": 40, "like": "rabbit", "probe_every": 5, "batch": 8}
    assert "getting worse" not in told("emoji", EMOJI, tmp_path / "usual", learning_rate=0.5, **plain)
    driven = {"learning_rate": 0.1, "schedule": "constant", "contrastive": 100.0, "class_pictures": 4}
    begun = (str(tmp_path / "usual/word.safetensors"),)
    said = told("emoji", EMOJI, tmp_path / "driven", start_from=begun, **plain | driven)
    assert "<disc> is getting worse: its probe loss was lowest at step" in said


def test_a_run_is_watched_from_another_process(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    settings = recipe(
        pictures=str(pictures), words="<disc>", base=str(tiny_base), like="cat", steps=6, batch=2, probe_every=2
    )
    running = train(settings, tmp_path / "run")
    next(event for event in running if isinstance(event, Step) and event.step == 3)
    console = Console(width=160, record=True, file=StringIO())
    console.print(watching.panel(tmp_path / "run"))
    assert "<disc>" in (shown := console.export_text()) and "3/6" in shown and not watching.ended(tmp_path / "run")
    list(running)
    assert watching.ended(tmp_path / "run") and watching.line([0.0, 1.0]) == "▁█" and watching.line([2.0]) == "▁"


def step(number: int, gradient: float = 0.1, cosine: float = 0.9, probe: float | None = None) -> Step:
    return Step("<disc>", number, 100, 0.5, 0.1, gradient, 1.0, cosine, (), probe, 0.0)


def scenes(number: int, *grounds: str) -> list[Picture]:
    found: list[Picture] = []
    for ground in grounds:
        image = Image.new("RGB", (32, 32), ground)
        ImageDraw.Draw(image).ellipse((8, 8, 24, 24), fill="white")
        found.append(Picture("<a>", number, f"a <a> on {ground}", 0, image))
    return found
