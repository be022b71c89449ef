"""How attention is computed where PyTorch's fused kernel is slow: on a CPU in bf16."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor

from neologism.device import Machine

SHORT = 1024 * 1024  # queries times keys; beyond it the weights of attention would take too much memory


class ByLength:
    """Attention written out where it is short, else fused: the same sums in another order.

    On a CPU the fused kernel's backward pass in bf16 takes up to ten times as long for short sequences (docs/measured.md).
    """

    def __init__(self) -> None:
        self.short, self.long = AttnProcessor(), AttnProcessor2_0()

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *more: Any, **named: Any
    ) -> Tensor:
        """What diffusers calls: states [n, queries, width] or [n, width, h, w], and those attended to [n, keys, width]."""
        queries = hidden_states.shape[-2] * (hidden_states.shape[-1] if hidden_states.ndim == 4 else 1)
        keys = queries if encoder_hidden_states is None else encoder_hidden_states.shape[1]
        chosen = self.short if queries * keys <= SHORT else self.long
        return chosen(attn, hidden_states, encoder_hidden_states, *more, **named)


def suit(unet: Any, texts: Iterable[Any], machine: Machine) -> None:
    """Let a U-Net and CLIP text encoders attend as is quickest on the machine."""
    if machine.device.type == "cpu" and machine.weights == torch.bfloat16:
        unet.set_attn_processor(ByLength())
        for text in texts:
            text.set_attn_implementation("eager")
