"""Trackers hold what a run told: TensorBoard by its own reader, others as accelerate tells them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

import accelerate.tracking
import pytest
from accelerate.tracking import GeneralTracker
from PIL import Image

from neologism.errors import RecipeError
from neologism.events import Warned
from neologism.finetuning import NAME, finetune
from neologism.history import history
from neologism.recipe import recipe
from neologism.training import train


def told(base: Path, shown: Path, out: Path, **more: Any) -> str:
    """All notes of a short run."""
    usual: dict[str, Any] = {"batch": 2, "probe_every": 2, "preview_prompts": (), "like": "cat", "steps": 4}
    settings = recipe(**{"pictures": str(shown), "words": "<disc>", "base": str(base)} | usual | more)
    return "\n".join(event.text for event in train(settings, out) if isinstance(event, Warned))


def test_tensorboards_own_reader_finds_the_numbers_and_previews(
    tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    told(tiny_base, pictures, tmp_path / "run", steps=4, tracker="tensorboard", preview_prompts=("a {}",))
    found = reader.EventAccumulator(str(tmp_path / "run/tracking"))
    found.Reload()
    kept = history(tmp_path / "run").stories[0]
    assert [(s.step, pytest.approx(s.value, rel=1e-5)) for s in found.Scalars("<disc>/loss")] == [
        (line["step"], line["loss"]) for line in kept.steps
    ]
    assert [s.step for s in found.Scalars("<disc>/probe")] == [2, 4]
    images = found.Images("<disc>/a <disc>")
    assert [image.step for image in images] == [0, 4] and images[0].width == 32


def test_a_tracker_that_is_not_installed_is_told(
    tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(
        RecipeError, match="tensorboard, which is not installed. Type pip install 'neologism.tracking.'"
    ):
        told(tiny_base, pictures, tmp_path / "run", tracker="tensorboard")


class Kept(GeneralTracker):
    """A tracker as accelerate has them, which keeps what it is told; it fails where it is told to."""

    name, requires_logging_directory, fails_at = "wandb", False, 99
    told: ClassVar[list[Any]] = []

    def __init__(self, project: str):
        super().__init__()
        self.told[:] = [project]

    @property
    def tracker(self) -> list[Any]:
        return self.told

    def start(self) -> None:
        self.told.append("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.told.append(values)

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        if step == self.fails_at:
            raise OSError("the network is gone")
        self.told.append((step, values))

    def log_images(self, values: dict[str, Any], step: int | None = None) -> None:
        self.told.append((step, {name: images[0].shape for name, images in values.items()}))

    def finish(self) -> None:
        self.told.append("finish")


def test_any_tracker_that_accelerate_knows_is_told_the_settings_numbers_and_previews(
    tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "wandb", Kept)
    told(tiny_base, pictures, tmp_path / "run", steps=4, tracker="wandb", preview_prompts=("a {}",))
    project, start, settings, *more, finish = Kept.told
    assert (project, start, finish) == ("neologism", "start", "finish")
    assert (
        settings["pictures"] == str([pictures.name]) and str(tmp_path) not in str(settings) and settings["steps"] == 4
    )
    losses = [values["disc/loss"] for _, values in more if "disc/loss" in values]
    assert losses == [line["loss"] for line in history(tmp_path / "run").stories[0].steps]
    assert [step for step, values in more if values.get("disc/a-disc") == (32, 32, 3)] == [0, 4]


def test_a_tracker_that_fails_on_the_way_is_told_once_and_costs_the_run_nothing(
    tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "wandb", Kept)
    monkeypatch.setattr(Kept, "fails_at", 2)
    said = told(tiny_base, pictures, tmp_path / "run", steps=4, tracker="wandb")
    assert said.count("The tracker wandb failed and is told nothing more: the network is gone") == 1
    assert (tmp_path / "run/word.safetensors").exists() and Kept.told[-1] == "finish"


def test_fine_tuning_is_tracked_like_any_run(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "wandb", Kept)
    folder = tmp_path / "pairs"
    folder.mkdir()
    for number, colour in enumerate(("red", "blue", "green", "gold", "navy", "pink", "teal", "grey", "black", "white")):
        Image.new("RGB", (32, 32), colour).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a {colour} cat")
    made = recipe(
        pictures=str(folder),
        words=NAME,
        method="embedding",
        tuned=("cat",),
        base=str(tiny_base),
        steps=2,
        tracker="wandb",
    )
    list(finetune(made, tmp_path / "run"))
    assert {step for step, *_ in (entry for entry in Kept.told if isinstance(entry, tuple))} >= {1, 2}


@pytest.mark.parametrize("kind", ["wandb", "comet_ml"])
def test_a_tracker_of_accelerates_that_is_not_installed_is_told(
    kind: str, tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(
        RecipeError, match=f"found {kind}, which is not installed. Type pip install {kind.replace('_', '-')}"
    ):
        told(tiny_base, pictures, tmp_path / "run", tracker=kind)
