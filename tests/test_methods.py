"""One contract over the methods: they learn, go on bit for bit, leave the base as it was, and their files are used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from neologism.errors import EmbeddingError, ModelError, RecipeError, WordError
from neologism.events import Event, Finished, Step
from neologism.families import open_model
from neologism.generation import generate
from neologism.latents import tensor_hashes
from neologism.methods import choosing, files, lora
from neologism.methods.identifier import identifier, rarest_first
from neologism.recipe import Recipe, recipe
from neologism.training import train
from neologism.verifying import verify

SHORT = {
    "steps": 8,
    "checkpoint_every": 3,
    "probe_every": 4,
    "batch": 4,
    "precision": "fp32",
    "device": "cpu",
    "preview_prompts": ("a {}",),
    "like": "cat",
}
OWN = {
    "inversion": {},
    "dreambooth": {"weights_rate": 2e-3, "class_pictures": 2},
    "lora": {"weights_rate": 2e-2, "word_first": 0.25, "text_encoder": True, "alpha": 4},
}
METHODS = pytest.mark.parametrize("method", OWN)
WEIGHTS = pytest.mark.parametrize("method", ["dreambooth", "lora"])


def settings(base: Path, shown: Path, method: str, **more: Any) -> Recipe:
    """A short run on the tiny base."""
    given = {"pictures": str(shown), "words": "<disc>", "base": str(base), "method": method}
    return recipe(**given | SHORT | OWN[method] | more)


def finished(events: list[Event]) -> Finished:
    """The end of a run."""
    return next(event for event in events if isinstance(event, Finished))


def weights_file(folder: Path) -> Path | None:
    """What `generate` takes."""
    found = [folder / name for name in ("lora.safetensors", "difference.safetensors")]
    return next((file for file in found if file.exists()), None)


def word_file(folder: Path) -> list[Path]:
    """The word's file, if it has one."""
    file = folder / "word.safetensors"
    return [file] if file.exists() else []


@METHODS
def test_resumed_run_equals_an_uninterrupted_one(method: str, tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_base, pictures, method)
    whole = finished(list(train(chosen, tmp_path / "whole")))
    events = train(chosen, tmp_path / "cut")
    for event in events:
        if isinstance(event, Step) and event.step == 5:
            events.close()  # type: ignore[attr-defined]
    again = list(train(chosen, tmp_path / "cut"))
    assert next(event.step for event in again if isinstance(event, Step)) == 6
    for file in (whole.file, *whole.more):
        assert (tmp_path / "cut" / file.name).read_bytes() == file.read_bytes()
    assert whole.sheet and whole.sheet.read_bytes() == (tmp_path / "cut" / "sheet.png").read_bytes()


@METHODS
def test_the_loss_falls_and_the_base_is_restored(method: str, tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    more = {"learning_rate": 2.0} if method == "inversion" else {"class_pictures": 0}
    events = list(train(settings(tiny_base, pictures, method, steps=24, probe_every=8, **more), tmp_path / "run"))
    lines = [json.loads(line) for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    probes = [line["probe"] for line in lines if line["event"] == "Step" and line["probe"]]
    assert probes[-1] < probes[0]
    assert finished(events).file.exists()
    assert verify(tmp_path / "run").untouched


@WEIGHTS
def test_the_file_draws_what_the_run_drew_and_leaves_the_model_alone(
    method: str, tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    list(train(settings(tiny_base, pictures, method), tmp_path / "run"))
    model = open_model(str(tiny_base), "cpu", "fp32")
    before = {name: (tensor_hashes(part), list(part.state_dict())) for name, part in model.parts().items()}
    plain = generate(model, "a cat", steps=3)[0]
    file, words = weights_file(tmp_path / "run"), word_file(tmp_path / "run")
    drawn = generate(model, "a <disc>", words, weights=file)[0]
    run_drew = sorted((tmp_path / "run/pictures").glob("000008-*.png"))[0]
    from PIL import Image

    with Image.open(run_drew) as shown:
        assert difference(shown, drawn) <= 1
    assert {name: (tensor_hashes(part), list(part.state_dict())) for name, part in model.parts().items()} == before
    assert generate(model, "a cat", steps=3)[0].tobytes() == plain.tobytes()


def difference(one: Any, two: Any) -> int:
    """The largest difference of two pictures, in 0..255."""
    from PIL import ImageChops

    return max(high for _, high in ImageChops.difference(one.convert("RGB"), two.convert("RGB")).getextrema())
