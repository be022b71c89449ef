"""A word's share of joint attention, in which picture and text are one sequence (SD 3, FLUX): noted by hooks that change nothing.

Where a denoiser has cross-attention, a place of the picture divides its attention among the prompt's tokens. Here it divides it among the
prompt's tokens and all other places (Esser et al. 2024, fig. 2), and what falls to the word is its share.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn

Note = Callable[[Tensor], None]


@dataclass
class Watch:
    """What is noted of one transformer.

    Attributes:
        positions: of the word's tokens among the text's. note: is told the share [places], float32, of each layer at each step.
        texts: how many tokens the text has, known from the first layer that takes it apart from the picture.
        prompt: the context of the first pass, so that a pass for a negative prompt is not noted. heard: whether this one is.
    """

    positions: list[int]
    note: Note
    texts: int = 0
    prompt: Tensor | None = None
    heard: bool = True

    def begin(self, _: nn.Module, __: Any, told: dict[str, Any]) -> None:
        """Before a pass: is it the prompt's? The last of a batch is, and alone the first."""
        context: Tensor = told["encoder_hidden_states"][-1]
        first = context if self.prompt is None else self.prompt
        self.prompt, self.heard = first, torch.equal(context, first)

    def layer(self, layer: Any, _: Any, told: dict[str, Any]) -> None:
        """Before a layer's attention: the same product once more, for the places of the picture alone."""
        if not self.heard:
            return
        states, context, turns = (
            told.get(name) for name in ("hidden_states", "encoder_hidden_states", "image_rotary_emb")
        )
        self.texts = self.texts if context is None else context.shape[1]
        queries, keys = rows(layer, states, context, turns)
        # FLUX, which turns by position, puts the text first; SD 3 puts the picture first.
        first = self.texts if turns is not None else 0
        places = queries.shape[0] - self.texts
        tokens = [(0 if first else places) + position for position in self.positions]
        self.note(shares(queries[first : first + places], keys, tokens))


def rows(layer: Any, states: Any, context: Any, turns: Any) -> tuple[Tensor, Tensor]:
    """Queries and keys [sequence, heads, width], float32, of a batch's last sample, as the layer's own processor has them."""

    def of(project: Any, norm: Any, given: Tensor) -> Tensor:
        found = project(given[-1:]).unflatten(-1, (int(layer.heads), -1))
        return found if norm is None else norm(found)

    found = [of(layer.to_q, layer.norm_q, states), of(layer.to_k, layer.norm_k, states)]
    if context is not None:
        added = [
            of(layer.add_q_proj, layer.norm_added_q, context),
            of(layer.add_k_proj, layer.norm_added_k, context),
        ]
        pairs = zip(added, found, strict=True) if turns is not None else zip(found, added, strict=True)
        found = [torch.cat(pair, dim=1) for pair in pairs]
    if turns is not None:
        found = [apply_rotary_emb(part, turns, sequence_dim=1) for part in found]  # type: ignore[misc]
    queries, keys = (part[0].float() for part in found)
    return queries, keys


def shares(queries: Tensor, keys: Tensor, tokens: list[int]) -> Tensor:
    """What each query [n, heads, d] gives to some of the keys [m, heads, d]: [n], the mean of all heads, one head at a time."""
    heads, scale = queries.shape[1], queries.shape[2] ** -0.5
    total = queries.new_zeros(len(queries))
    for head in range(heads):
        total += (queries[:, head] @ keys[:, head].T * scale).softmax(-1)[:, tokens].sum(-1)
    return total / heads


@contextlib.contextmanager
def watched(transformer: nn.Module, positions: list[int], note: Note) -> Generator[None]:
    """Note the share of the tokens at these positions until the block ends."""
    watch = Watch(positions, note)
    hooks = [transformer.register_forward_pre_hook(watch.begin, with_kwargs=True)]
    hooks += [
        layer.register_forward_pre_hook(watch.layer, with_kwargs=True)
        for name, layer in transformer.named_modules()
        if name.endswith(".attn")
    ]
    try:
        with torch.no_grad():
            yield
    finally:
        for hook in hooks:
            hook.remove()
