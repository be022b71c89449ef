"""LoRA (Hu et al. 2022): low-rank adapters beside frozen linear layers, by peft; the word's rows learn with them.

With the word first and the adapters later this is pivotal tuning (Ryu 2022, after Roich et al. 2021).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neologism.embedding import Embedding
from neologism.errors import RecipeError
from neologism.families.model import Model
from neologism.methods import Values, files
from neologism.methods.dreambooth import ATTENTION, CROSS

TEXT = re.compile(r"self_attn\.(q|k|v|out)_proj$")
SIDES = ("lora_A", "lora_B")
Targets = Mapping[str, Sequence[str]]


class Adapters:
    """Adapters of one rank on linear layers, which can be put in and taken out.

    Attributes:
        weights: "PART.MODULE.lora_A.weight" -> [rank, in] and "...lora_B.weight" -> [out, rank], float32.
        scale: what the product is multiplied by: alpha / rank.
    """

    spelled = ""

    def __init__(self, model: Model, targets: Targets, rank: int, alpha: float, seed: int = 0):
        self.model, self.scale, self.depth = model, alpha / rank, 0
        self.layers = {
            f"{part}.{name}": layer
            for part, names in targets.items()
            for name, layer in injected(model.parts()[part], names, rank, alpha, seed).items()
        }
        self.weights = {f"{name}.{s}.weight": side(layer[1], s) for name, layer in self.layers.items() for s in SIDES}

    @contextlib.contextmanager
    def opened(self) -> Generator[None]:
        """Have the adapters in the model until the block ends; the base's layers themselves are put back."""
        self.depth += 1
        self.put(1)
        try:
            yield
        finally:
            self.depth -= 1
            self.put(1 if self.depth else 0)

    def put(self, which: int) -> None:
        """Put the base's layers (0) or the adapted ones (1) into the networks."""
        for name, layers in self.layers.items():
            part, _, path = name.partition(".")
            place(self.model.parts()[part], path, layers[which])

    def save(self, values: Values, word: str, embedding: Embedding | None, folder: Path) -> list[Path]:
        """lora.safetensors as diffusers reads it, and lora-kohya.safetensors for A1111 and ComfyUI with the word in it.

        The scale goes into lora_B, so that every tool, whatever alpha it supposes, draws the same.
        """
        folded = {n: t.detach() * self.scale if ".lora_B." in n else t.detach() for n, t in values.items()}
        told = {"method": "lora", "word": word, "spelled": "", "base": self.model.name}
        first = files.written(folded, told, folder / "lora.safetensors")
        bundled = kohya(folded, len(self.model.encoders)) | (bundle(embedding) if embedding else {})
        rank = str(len(next(iter(folded.values()))))
        facts = {"ss_network_module": "networks.lora", "ss_network_dim": rank, "ss_network_alpha": rank}
        return [first, files.written(bundled, told, folder / "lora-kohya.safetensors", facts)]


def injected(
    network: nn.Module, names: Sequence[str], rank: int, alpha: float, seed: int
) -> dict[str, tuple[nn.Module, nn.Module]]:
    """For each named layer of a network, itself and peft's adapted one; the network is as it was."""
    from peft import LoraConfig, inject_adapter_in_model

    if not names:
        return {}
    plain = {name: network.get_submodule(name) for name in names}
    rule = "|".join(re.escape(name) for name in names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=f"({rule})"), network)  # type: ignore[arg-type]
    made = {name: (layer, network.get_submodule(name)) for name, layer in plain.items()}
    for name, (layer, adapted) in made.items():
        place(network, name, layer)
        for s in SIDES:
            weight = side(adapted, s)
            weight.data = weight.data.float()
            weight.requires_grad_(True)
    if "peft_config" in network.__dict__:
        del network.peft_config
    return made


def place(network: nn.Module, path: str, layer: nn.Module) -> None:
    """Put a layer at a path of a network."""
    at, _, leaf = path.rpartition(".")
    setattr(network.get_submodule(at), leaf, layer)


def side(layer: Any, name: str) -> nn.Parameter:
    """A matrix of an adapted layer."""
    return getattr(layer, name)["default"].weight


def targets(model: Model, scope: str, only: Sequence[str], text: bool) -> dict[str, list[str]]:
    """The linear layers that get adapters, by part: those of the scope, of the names in `only` where some are given.

    Raises:
        RecipeError: there are none.
    """
    rule = {"cross": CROSS, "attention": ATTENTION, "denoiser": re.compile("")}[scope]
    found: dict[str, list[str]] = {}
    names: set[str] = set()
    for part, network in model.parts().items():
        kind = rule if part in ("unet", "transformer") else TEXT if text and part.startswith("text_encoder") else None
        layers = [n for n, m in network.named_modules() if kind and isinstance(m, nn.Linear) and kind.search(n)]
        names |= {last(layer) for layer in layers}
        found[part] = [layer for layer in layers if not only or last(layer) in only]
    if not any(found.values()):
        raise RecipeError(
            f"targets: found {', '.join(only) or scope!r}; the model has {', '.join(sorted(names)) or 'none'}. Name some."
        )
    return {part: layers for part, layers in found.items() if layers}


def last(path: str) -> str:
    """The name of a layer: to_q, or to_out of to_out.0."""
    pieces = path.split(".")
    return pieces[-2] if pieces[-1].isdecimal() and len(pieces) > 1 else pieces[-1]


def kohya(weights: Values, encoders: int) -> dict[str, Tensor]:
    """Adapters under kohya's names: lora_unet_PATH.lora_down.weight, lora_te_PATH (te1, te2 where there are several), alpha.

    A transformer's paths are diffusers' own, which ComfyUI looks up under OneTrainer's name, lora_transformer_PATH.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        path, which = name.removesuffix(".weight").rsplit(".", 1)
        part, _, inside = path.partition(".")
        stem = f"{kohya_part(part, encoders)}_{inside_text(part, inside).replace('.', '_')}"
        found[f"{stem}.{'lora_down' if which == 'lora_A' else 'lora_up'}.weight"] = tensor
        if which == "lora_A":
            found[f"{stem}.alpha"] = torch.tensor(float(len(tensor)))
    return found


def kohya_part(part: str, encoders: int) -> str:
    """kohya's name of a network."""
    if not part.startswith("text_encoder"):
        return f"lora_{part}"
    number = part.removeprefix("text_encoder").strip("_") or "1"
    return "lora_te" if encoders == 1 else f"lora_te{number}"


def inside_text(part: str, path: str) -> str:
    """A path with the text_model that newer versions of transformers leave out and other tools expect."""
    bare = part.startswith("text_encoder") and not path.startswith("text_model.")
    return f"text_model.{path}" if bare else path


def bundle(embedding: Embedding) -> dict[str, Tensor]:
    """A word inside a LoRA's file, as A1111 reads it: bundle_emb.NAME.string_to_param.*, or a key for each encoder."""
    name = re.sub(r"[^\w-]+", "-", embedding.word.strip("<>")).strip("-") or "word"
    if len(embedding.vectors) == 1:
        return {f"bundle_emb.{name}.string_to_param.*": next(iter(embedding.vectors.values()))}
    return {f"bundle_emb.{name}.{key}": rows for key, rows in embedding.vectors.items()}


def loaded(model: Model, weights: Mapping[str, Tensor]) -> Adapters:
    """The adapters of a file whose lora_B carry the scale."""
    found: dict[str, list[str]] = {}
    for name in weights:
        if name.endswith(".lora_A.weight"):
            part, _, path = name.removesuffix(".lora_A.weight").partition(".")
            found.setdefault(part, []).append(path)
    rank = len(next(t for n, t in weights.items() if n.endswith(".lora_A.weight")))
    made = Adapters(model, found, rank, rank)
    with torch.no_grad():
        for name, weight in made.weights.items():
            weight.copy_(weights[name])
    return made
