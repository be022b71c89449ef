"""Precision that is asked for is what computes, and what it may not touch stays float32."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

from neologism.device import halved_activations, has_fast_bfloat16, machine
from neologism.errors import DeviceError
from neologism.events import Finished
from neologism.families import open_model
from neologism.generation import generate
from neologism.recipe import recipe
from neologism.training import train
from neologism.verifying import verify


def test_bf16_is_the_type_of_the_denoisers_weights_and_of_nothing_else(tiny_base: Path) -> None:
    half, full = (open_model(str(tiny_base), precision=p).parts() for p in ("bf16", "fp32"))
    assert {p.dtype for p in half["unet"].parameters()} == {torch.bfloat16}
    for name in ("vae", "text_encoder"):
        assert {p.dtype for p in half[name].parameters()} == {torch.float32}
    assert {p.dtype for part in full.values() for p in part.parameters()} == {torch.float32}


def test_a_bf16_model_draws_nearly_what_a_float32_model_draws(tiny_base: Path) -> None:
    one, two = (generate(open_model(str(tiny_base), precision=p), "a cat", seeds=(1,))[0] for p in ("fp32", "bf16"))
    apart = torch.tensor([abs(a - b) for a, b in zip(one.tobytes(), two.tobytes(), strict=True)], dtype=torch.float32)
    assert apart.mean() < 8


def test_a_word_learned_in_bf16_has_float32_rows_and_verifies(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    made = recipe(
        pictures=str(pictures), words="<disc>", base=str(tiny_base), like="cat", precision="bf16",
        steps=6, batch=2, preview_prompts=("a {}",),
    )  # fmt: skip
    *_, finished = (event for event in train(made, tmp_path / "run") if isinstance(event, Finished))
    assert finished.embedding.vectors["text"].dtype == torch.float32
    assert verify(tmp_path / "run").untouched


def test_the_reason_for_a_precision_is_told() -> None:
    assert machine("cpu", "fp32").reason == "cpu as asked; fp32 as asked"
    told = machine("cpu").reason
    assert ("bf16, which this processor multiplies natively" in told) == has_fast_bfloat16(torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "told"), [("gpu", "There is no device 'gpu'"), ("cuda:99", "PyTorch finds \\d+ CUDA GPUs")]
)
def test_a_device_that_is_not_there_is_told(name: str, told: str) -> None:
    with pytest.raises(DeviceError, match=told):
        machine(name)


def test_halved_activations_give_nearly_the_same_gradient() -> None:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.GELU()) for _ in range(4)))
    layers.requires_grad_(False)
    start = torch.randn(512, 256, requires_grad=True)
    gradients = []
    for halved in (False, True):
        context = halved_activations(layers.parameters()) if halved else contextlib.nullcontext()
        with context:
            answer = layers(start)
        gradients.append(torch.autograd.grad(answer.square().mean(), start)[0])
    assert torch.nn.functional.cosine_similarity(gradients[0].flatten(), gradients[1].flatten(), dim=0) > 0.9999
    assert not torch.equal(gradients[0], gradients[1])


def test_a_word_is_learned_with_halved_activations(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    rows = []
    for halved in (False, True):
        made = recipe(
            pictures=str(pictures), words="<disc>", base=str(tiny_base), like="cat", precision="fp32", steps=6, batch=4,
            preview_prompts=("a {}",), activations_bf16=halved,
        )  # fmt: skip
        *_, finished = (event for event in train(made, tmp_path / str(halved)) if isinstance(event, Finished))
        rows.append(finished.embedding.vectors["text"])
    assert torch.nn.functional.cosine_similarity(rows[0], rows[1]).min() > 0.999
