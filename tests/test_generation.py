"""Pictures: the same as plain diffusers draws, each from its own seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from neologism import formats
from neologism.embedding import Embedding
from neologism.errors import WordError
from neologism.families import open_model
from neologism.generation import generate, untaught


def pixels(image: object) -> np.ndarray:
    return np.asarray(image, dtype=np.float32)


@pytest.mark.parametrize("count", [1, 2])
def test_diffusers_draws_the_same_picture_from_our_file(tiny_base: Path, tmp_path: Path, count: int) -> None:
    rows = torch.randn(count, 32, generator=torch.Generator().manual_seed(1)) * 0.3
    file = formats.save(Embedding("<disc>", {"text": rows}), tmp_path / "disc.safetensors")
    ours = generate(open_model(str(tiny_base), "cpu", "fp32"), "a <disc> on the car", [file], [7], steps=5)[0]
    pipe = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_textual_inversion(str(file), token="<disc>")
    made = torch.Generator().manual_seed(7)
    theirs = pipe("a <disc> on the car", generator=made, num_inference_steps=5, guidance_scale=5.0).images[0]
    assert np.abs(pixels(ours) - pixels(theirs)).mean() < 1
    without = pipe(
        "a cat on the car", generator=torch.Generator().manual_seed(7), num_inference_steps=5, guidance_scale=5.0
    )
    assert np.abs(pixels(ours) - pixels(without.images[0])).mean() > 0


def test_a_picture_does_not_depend_on_its_company(tiny_base: Path) -> None:
    model = open_model(str(tiny_base), "cpu", "fp32")
    alone = generate(model, "a red cat", seeds=[3], steps=4)[0]
    among = generate(model, ["a dog", "a red cat"], seeds=[1, 2, 3], steps=4)[5]
    assert np.abs(pixels(alone) - pixels(among)).max() <= 1


def test_two_words_live_in_one_prompt(tiny_base: Path) -> None:
    model = open_model(str(tiny_base), "cpu", "fp32")
    words = [Embedding(name, {"text": torch.randn(1, 32)}) for name in ("<a>", "<b>")]
    both, one = (generate(model, "<a> and <b>", some, steps=3)[0] for some in (words, words[:1]))
    assert both.tobytes() != one.tobytes()


def test_no_steps_make_no_picture() -> None:
    with pytest.raises(
        WordError, match=r"Found 0 steps and guidance 5.0; at least 1 step and a guidance of 0 or more are allowed."
    ):
        generate("emoji", "a cat", steps=0)


def test_a_word_without_its_file_is_noticed() -> None:
    words = [Embedding("<Mug>", {"text": torch.zeros(1, 32)})]
    assert untaught("a <mug> beside a <dog>, 3 < 4", words) == ["<dog>"]
