"""Attention written out is the attention that is fused, and is chosen where it is quicker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from neologism.families import attention, open_model
from neologism.families.attention import ByLength


@pytest.mark.parametrize("shape", [(2, 16, 32), (2, 32, 4, 4)])
@pytest.mark.parametrize("told", [None, (2, 5, 24)])
def test_attention_by_length_is_the_fused_attention(
    shape: tuple[int, ...], told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Attention(32, None if told is None else 24, heads=4, dim_head=8, residual_connection=True)
    states, context = torch.randn(shape), None if told is None else torch.randn(told)
    answers: list[torch.Tensor] = []
    for short in (attention.SHORT, 0):
        monkeypatch.setattr(attention, "SHORT", short)
        layer.set_processor(ByLength())
        answers.append(layer(states, encoder_hidden_states=context))
    layer.set_processor(AttnProcessor2_0())
    expected = layer(states, encoder_hidden_states=context)
    assert torch.equal(answers[1], expected) and torch.allclose(answers[0], expected, atol=1e-5)


def test_long_sequences_stay_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ByLength()
    called: list[str] = []
    monkeypatch.setattr(both, "short", lambda *_, **__: called.append("short"))
    monkeypatch.setattr(both, "long", lambda *_, **__: called.append("long"))
    layer: Any = None
    both(layer, torch.zeros(1, 4096, 8))
    both(layer, torch.zeros(1, 4096, 8), torch.zeros(1, 77, 8))
    both(layer, torch.zeros(1, 8, 64, 64))
    assert called == ["long", "short", "long"]


def test_it_is_chosen_on_a_cpu_in_bf16_alone(tiny_base: Path) -> None:
    kinds = [
        {type(p) for p in open_model(str(tiny_base), "cpu", precision).pipe.unet.attn_processors.values()}  # type: ignore[attr-defined]
        for precision in ("fp32", "bf16")
    ]
    assert kinds == [{AttnProcessor2_0}, {ByLength}]
