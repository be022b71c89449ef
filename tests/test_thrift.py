"""Weights that rest in half precision give what float32 gives; light checkpointing changes no gradient and keeps less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neologism.events import Finished, Opened
from neologism.families import open_model, thrift
from neologism.recipe import recipe
from neologism.training import train
from neologism.verifying import verify
from neologism.vocabulary import taught


class Net(nn.Module):
    """A network of every kind of layer that may rest."""

    def __init__(self, half: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.conv, self.linear = nn.Embedding(9, 6), nn.Conv2d(6, 4, 3, 2, 1), nn.Linear(4, 3)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
            if half:
                parameter.copy_(parameter.half().float())

    def forward(self, ids: Tensor, more: Tensor) -> Tensor:
        grid = self.table(ids).view(1, 2, 4, 6).permute(0, 3, 1, 2) + more
        return self.linear(self.conv(grid).mean((2, 3)))  # type: ignore[no-any-return]


def answer(net: nn.Module, more: Tensor) -> tuple[Tensor, Tensor]:
    """A network's answer and the gradient that reaches its input."""
    given = more.clone().requires_grad_()
    told = net(torch.arange(8), given)
    told.square().sum().backward()
    assert given.grad is not None
    return told.detach(), given.grad


def test_weights_of_half_precision_files_rest_in_it_and_answer_bit_for_bit_as_before() -> None:
    more = torch.randn(1, 6, 2, 4)
    before, resting = Net(half=True), Net(half=True)
    assert thrift.rest([resting])
    assert {layer.weight.dtype for layer in (resting.table, resting.conv, resting.linear)} == {torch.float16}
    for one, two in zip(answer(before, more), answer(resting, more), strict=True):
        assert torch.equal(one, two)


def test_weights_of_float32_files_are_rounded_and_it_says_so() -> None:
    more = torch.randn(1, 6, 2, 4)
    before, resting = Net(half=False), Net(half=False)
    assert not thrift.rest([resting])
    for one, two in zip(answer(before, more), answer(resting, more), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("largest", "kind"), [(1.0, torch.float16), (2.0**17, torch.bfloat16)])
def test_weights_too_large_for_float16_rest_in_bfloat16(largest: float, kind: torch.dtype) -> None:
    layer: Any = nn.Linear(2, 1, bias=False).requires_grad_(False)
    layer.weight.fill_(largest)
    assert thrift.halved(layer) and layer.weight.dtype == kind


def test_a_frozen_layer_that_rests_keeps_nothing_large_for_its_backward_pass() -> None:
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.Linear(8, 8)):
        layer.requires_grad_(False)
        thrift.halved(layer)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer(torch.randn(1, 4, 8, 8, requires_grad=True)).sum()
        assert not kept


def gradient(model: Any) -> Tensor:
    """The gradient of a word's row through the whole model."""
    rows = nn.Parameter(torch.full((1, model.encoders[0].width), 0.01))
    chance = torch.Generator().manual_seed(3)
    noisy = torch.randn(2, 4, model.size // model.multiple, model.size // model.multiple, generator=chance)
    with taught(model, {"<x>": {model.encoders[0].key: rows}}):
        told = model.condition(["a photo of a <x>", "a <x>"], ())
        model.predict(noisy, torch.tensor([100, 700]), told).square().mean().backward()
    assert rows.grad is not None
    return rows.grad


def test_light_and_full_checkpointing_give_the_same_gradient(tiny_base: Path) -> None:
    found: dict[str, Tensor] = {}
    for how in ("none", "light", "full"):
        model: Any = open_model(str(tiny_base), precision="fp32")
        if how != "none":
            model.save_memory(lightly=how == "light")
        found[how] = gradient(model)
    assert found["none"].abs().sum() > 0
    torch.testing.assert_close(found["light"], found["none"], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(found["full"], found["none"], rtol=1e-5, atol=1e-9)


def test_light_checkpointing_keeps_what_was_slow_to_make_and_little_else() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False)
    calls = {"conv": 0, "silu": 0}

    def block(given: Tensor) -> Tensor:
        calls["silu"] += 1
        return torch.nn.functional.silu(conv(given))

    from torch.utils._python_dispatch import TorchDispatchMode

    class Counted(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            calls["conv"] += func is torch.ops.aten.convolution.default
            return func(*args, **(kwargs or {}))

    with Counted():
        thrift.light(block, torch.randn(1, 4, 8, 8, requires_grad=True)).sum().backward()
        assert calls == {"conv": 1, "silu": 2}  # the block runs twice, its convolution once
        thrift.light(block, torch.randn(1, 4, 8, 8))
    assert calls == {"conv": 2, "silu": 3}


def learned(base: Path, shown: Path, out: Path, **more: Any) -> tuple[Tensor, list[Any]]:
    """The row of a short run, and its events."""
    made = recipe(
        pictures=str(shown), words="<disc>", base=str(base), like="cat", precision="fp32", steps=4, batch=4,
        preview_prompts=("a {}",), **more,
    )  # fmt: skip
    events = list(train(made, out))
    return next(e for e in events if isinstance(e, Finished)).embedding.vectors["text"], events


def test_a_word_is_learned_on_resting_weights_with_light_checkpointing_and_the_base_is_untouched(
    tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    plain, _ = learned(tiny_base, pictures, tmp_path / "plain")
    light, _ = learned(tiny_base, pictures, tmp_path / "light", light_checkpointing=True)
    half, events = learned(tiny_base, pictures, tmp_path / "half", half_weights=True)
    torch.testing.assert_close(light, plain, rtol=1e-4, atol=1e-6)
    assert torch.nn.functional.cosine_similarity(half, plain).min() > 0.999
    told = next(e for e in events if isinstance(e, Opened)).reason
    assert "weights rounded to half precision, since the base's files hold more" in told
    assert verify(tmp_path / "half").untouched
