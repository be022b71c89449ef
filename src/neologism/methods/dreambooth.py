"""DreamBooth (Ruiz et al. 2023): weights of the denoiser learn, as differences from the frozen base."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neologism.embedding import Embedding
from neologism.families.model import Model
from neologism.methods import Values, files

CROSS = re.compile(r"(^|\.)attn2\.|(^|\.)attn\.(to|add)_")  # a U-Net's cross-attention; a transformer's joint attention
ATTENTION = re.compile(r"(^|\.)attn\d?\.")


class Differences:
    """Weights shadowed by base + difference; the base's own tensors are never written.

    Attributes:
        weights: "PART.NAME" -> difference from the base's tensor of that name, float32, of its shape.
        spelled: what the word stands for: the identifier and the class word.
    """

    def __init__(self, model: Model, shapes: Mapping[str, Tensor], spelled: str = ""):
        self.model, self.spelled = model, spelled
        self.weights = {name: nn.Parameter(tensor) for name, tensor in shapes.items()}
        self.places = {name: place(model, name) for name in self.weights}

    @contextlib.contextmanager
    def opened(self) -> Generator[None]:
        """Shadow the base's weights until the block ends."""
        hooks = [self.hooked(name) for name in self.weights]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for module, leaf in self.places.values():
                module.__dict__.pop(leaf, None)

    def hooked(self, name: str) -> Any:
        """Have the module compute with base + difference: an attribute of its own hides the registered tensor."""
        (module, leaf), difference = self.places[name], self.weights[name]
        base = dict(module.named_parameters(recurse=False))[leaf]

        def before(*_: Any) -> None:
            module.__dict__[leaf] = summed(base, difference)

        return module.register_forward_pre_hook(before)

    def save(self, values: Values, word: str, embedding: Embedding | None, folder: Path) -> list[Path]:
        """difference.safetensors: the differences by name, the word and what it stands for."""
        told = {"method": "dreambooth", "word": word, "spelled": self.spelled, "base": self.model.name}
        return [files.written(dict(values), told, folder / "difference.safetensors")]


def summed(base: Tensor, difference: Tensor) -> Tensor:
    """Base + difference, added in float32, in the base's type."""
    return (base.detach().float() + difference.to(base.device)).to(base.dtype)


def place(model: Model, name: str) -> tuple[nn.Module, str]:
    """The module and the leaf that "PART.PATH.LEAF" names."""
    part, _, path = name.partition(".")
    at, _, leaf = path.rpartition(".")
    return model.parts()[part].get_submodule(at), leaf


def in_scope(model: Model, scope: str, text: bool) -> Iterator[tuple[str, Tensor]]:
    """The base's tensors that a scope ("cross", "attention" or "denoiser") lets learn, by "PART.NAME"; with `text` the
    text encoders' too, but for their tables of tokens."""
    rule = {"cross": CROSS, "attention": ATTENTION, "denoiser": re.compile("")}[scope]
    for part, network in model.parts().items():
        if part in ("unet", "transformer"):
            yield from ((f"{part}.{name}", tensor) for name, tensor in network.named_parameters() if rule.search(name))
        elif text and part.startswith("text_encoder"):
            table: Any = network.get_input_embeddings()  # type: ignore[operator]
            known = table.weight
            yield from ((f"{part}.{n}", t) for n, t in network.named_parameters() if t is not known)


def begun(model: Model, scope: str, text: bool, spelled: str) -> Differences:
    """DreamBooth at its start: every difference is zero."""
    shapes = {n: torch.zeros(t.shape, device=model.machine.device) for n, t in in_scope(model, scope, text)}
    return Differences(model, shapes, spelled)
