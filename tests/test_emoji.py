"""The base that ships: whole, small, opened by plain diffusers, and able to learn a thing it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

from neologism import demonstration, formats
from neologism.events import Finished, Step
from neologism.families import EMOJI, native_side, open_model
from neologism.generation import generate
from neologism.recipe import recipe
from neologism.training import train
from neologism.verifying import verify

pytestmark = pytest.mark.skipif(not (EMOJI / "model_index.json").exists(), reason="the base has not been made yet")


def test_the_base_is_at_most_40_mb_of_half_precision_safetensors() -> None:
    files = [path for path in EMOJI.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40_000_000
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".ckpt")]
    assert (EMOJI / "README.md").exists()


def test_every_example_subject_has_pictures_to_learn_from_and_to_score() -> None:
    names = demonstration.subjects()
    assert len(names) == 6
    for name in [*names, "neon"]:
        assert len(list((demonstration.EXAMPLES / name).glob("*.png"))) == 4
        assert len(list((demonstration.EXAMPLES / name / "unseen").glob("*.png"))) == 6


def test_the_native_side_is_told_without_opening_the_model() -> None:
    assert native_side("emoji") == 64 == open_model("emoji", "cpu", "fp32").size


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Step], Finished]:
    """A short run on an example subject."""
    out = tmp_path_factory.mktemp("emoji") / "run"
    chosen = recipe(
        pictures=str(demonstration.EXAMPLES / demonstration.subjects()[0]),
        words="<thing>",
        steps=60,
        preview_prompts=("a {}",),
    )
    events = list(train(chosen, out))
    return out, [e for e in events if isinstance(e, Step)], next(e for e in events if isinstance(e, Finished))


def test_the_base_learns_a_thing_it_never_saw(learned: tuple[Path, list[Step], Finished]) -> None:
    _, steps, finished = learned
    probes = [step.probe for step in steps if step.probe is not None]
    assert probes[-1] < probes[0]
    assert finished.step == 60


def test_the_base_is_untouched_by_it(learned: tuple[Path, list[Step], Finished]) -> None:
    assert verify(learned[0]).untouched


def test_plain_diffusers_opens_the_base_and_draws_the_same_picture(learned: tuple[Path, list[Step], Finished]) -> None:
    file = learned[2].file
    pipe = StableDiffusionPipeline.from_pretrained(EMOJI)
    assert isinstance(pipe.scheduler, DDIMScheduler)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_textual_inversion(str(file), token="<thing>")
    prompt = "a <thing> on a blue background"
    made = torch.Generator().manual_seed(5)
    theirs = pipe(prompt, generator=made, num_inference_steps=25, guidance_scale=5.0).images[0]
    ours = generate(open_model("emoji", "cpu"), prompt, [formats.load(file)], [5])[0]
    difference = np.abs(np.asarray(ours, np.float32) - np.asarray(theirs, np.float32)).mean()
    assert isinstance(theirs, Image.Image) and difference < 1
