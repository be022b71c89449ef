"""Weights that learn where memory is short: whole, with the same gradient; and their names in other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from neologism.errors import RecipeError
from neologism.families import Model, open_model
from neologism.families.measuring import Measured
from neologism.framing import Frame
from neologism.memory import Demand, Plan, fitting
from neologism.methods import choosing, lora
from neologism.recipe import recipe

WEIGHTS = pytest.mark.parametrize("method", ["dreambooth", "lora"])


def gradients(model: Model, method: str, **more: Any) -> dict[str, torch.Tensor]:
    """The gradient of every weight of a method, after one sample; a LoRA's second matrices are made to count."""
    given = {"words": "<disc>", "pictures": "x", "like": "cat", "text_encoder": True, "method": method}
    made = choosing.method(model, recipe(**given | more), "cat", [])
    torch.manual_seed(0)
    for name, weight in made.weights.items():
        if ".lora_B." in name:
            torch.nn.init.normal_(weight, std=0.1)
    frame = [Frame((0, 0, 32, 32), (32, 32), (32, 32), False)]
    noisy, times = torch.randn(1, 4, 8, 8), model.noise.times(torch.tensor([0.5]))
    with made.opened():
        model.predict(noisy, times, model.condition(["a cat"], frame)).pow(2).mean().backward()
    return {name: weight.grad for name, weight in made.weights.items() if weight.grad is not None}


@WEIGHTS
@pytest.mark.parametrize("lightly", [True, False])
def test_activations_computed_twice_change_no_gradient(method: str, lightly: bool, tiny_base: Path) -> None:
    plain = gradients(open_model(str(tiny_base), "cpu", "fp32"), method, scope="denoiser")
    model = open_model(str(tiny_base), "cpu", "fp32")
    model.save_memory(lightly=lightly)
    again = gradients(model, method, scope="denoiser")
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        assert torch.allclose(gradient, again[name], atol=1e-6), name


def test_every_weight_of_the_whole_denoiser_and_of_the_text_encoder_learns(tiny_base: Path) -> None:
    model = open_model(str(tiny_base), "cpu", "fp32")
    learning = gradients(model, "dreambooth", scope="denoiser")
    networks = {name: part for name, part in model.parts().items() if name in ("unet", "text_encoder")}
    table: Any = model.parts()["text_encoder"].get_input_embeddings()  # type: ignore[operator]
    every = {
        f"{part}.{n}" for part, net in networks.items() for n, t in net.named_parameters() if t is not table.weight
    }
    assert learning.keys() == every


def test_weights_that_are_rounded_cannot_learn() -> None:
    text = "method 'dreambooth' learns weights, which must not be rounded; leave out half_weights."
    with pytest.raises(RecipeError, match=text):
        recipe(words="<a>", pictures="a", method="dreambooth", like="dog", half_weights=True)


def test_no_plan_for_a_memory_quantises_or_streams_weights_that_learn() -> None:
    parts = {"unet": 10**9, "text_encoder": 10**8, "vae": 10**8}
    sizes = Measured(parts, "unet", 10**9, 10**8, 10**7, 10**7, {}, 10**8, 64)
    frozen = fitting(Demand(sizes, 4), Plan("bf16"), 1.0, "cuda", ["int8"])
    learning = fitting(Demand(sizes, 4, whole=True), Plan("bf16"), 1.0, "cuda", ["int8"])
    assert frozen.streamed and not learning.streamed
    assert learning.quantised == "none" and learning.at_once == 1 and learning.gradient_checkpointing


def test_layers_have_the_names_that_other_tools_look_up() -> None:
    low, high = torch.zeros(4, 8), torch.zeros(8, 4)
    for part, encoders, stem in (
        ("unet", 1, "lora_unet_a_b"),
        ("transformer", 2, "lora_transformer_a_b"),
        ("text_encoder", 1, "lora_te_text_model_a_b"),
        ("text_encoder_2", 2, "lora_te2_text_model_a_b"),
    ):
        found = lora.kohya({f"{part}.a.b.lora_A.weight": low, f"{part}.a.b.lora_B.weight": high}, encoders)
        assert set(found) == {f"{stem}.lora_down.weight", f"{stem}.lora_up.weight", f"{stem}.alpha"}
        assert found[f"{stem}.alpha"] == 4
