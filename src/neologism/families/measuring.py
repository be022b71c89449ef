"""How large a base is, before it is opened: the numbers in each part's files, and what a step keeps for its backward pass."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor, nn

from neologism.families import checkpoints, places, single_file
from neologism.families.places import Base
from neologism.families.streaming import blocks

FLUX_LATENTS = 128  # its config names no side; its pipeline takes this
VARIANTS = (".fp16", ".bf16", ".non_ema")


@dataclass(frozen=True)
class Measured:
    """A base's sizes.

    Attributes:
        parts: how many numbers each network has, by its name in the pipeline.
        denoiser: which of the parts is the denoiser.
        kept: numbers that one sample's step keeps for the backward pass in the denoiser.
        kept_twice: the same when activations are computed twice.
        outside, block: numbers of the denoiser's weights outside its blocks, and in the largest of them.
        kept_of_text: numbers that each text encoder whose rows learn keeps for one prompt.
        decoded: numbers that the VAE has in hand at its largest, for one picture.
        side: of the pictures, in pixels.
    """

    parts: dict[str, int]
    denoiser: str
    kept: int
    kept_twice: int
    outside: int
    block: int
    kept_of_text: dict[str, int]
    decoded: int
    side: int


def measured(name: str, wanted: int | None = None) -> Measured:
    """The sizes of a base for pictures of the wanted side, or its own; its weights are not read, only the lists of them.

    Raises:
        ModelError: the base is not there, or is none that can be trained.
    """
    base = places.located(name)
    parts = parts_of(base)
    denoiser = "unet" if "unet" in parts else "transformer"
    config, vae, texts = configs_of(base, denoiser)
    scale = 2 ** (len(vae.get("block_out_channels", (0,) * 4)) - 1)
    side = wanted or int(config.get("sample_size") or FLUX_LATENTS) * scale
    denoising = kept_by(config, side // scale)
    decoded = 4 * int(vae.get("block_out_channels", (128,))[0]) * side * side
    kept_of_text = {part: kept_by_text(text, prompt_tokens(config)) for part, text in texts.items()}
    return Measured(parts, denoiser, *denoising, kept_of_text, decoded, side)


def parts_of(base: Base) -> dict[str, int]:
    """How many numbers each network has, told from the heads of its files."""
    if base.place.is_dir():
        return numbers_in(base.place)
    shapes = checkpoints.shapes_of(base.place)
    family = single_file.family_of(base.place)
    places_of = single_file.PLACES[family]
    found = {
        part: sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefixes))
        for part, prefixes in places_of.items()
    }
    rest = sum(math.prod(shape) for shape in shapes.values()) - sum(found.values())
    beside = numbers_in(base.beside) if base.beside else {}
    return {part: count or beside.get(part, 0) for part, count in found.items()} | {
        single_file.DENOISERS[family][0]: rest
    }


def numbers_in(folder: Path) -> dict[str, int]:
    """How many numbers each part of a diffusers folder has."""
    found: dict[str, int] = {}
    for part in (path for path in sorted(folder.iterdir()) if path.is_dir() and path.name != "safety_checker"):
        files = [file for file in part.glob("*.safetensors") if not any(v in file.name for v in VARIANTS)]
        if files:
            found[part.name] = sum(math.prod(shape) for file in files for shape in checkpoints.shapes_of(file).values())
    return found


def configs_of(base: Base, denoiser: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, dict[str, Any]]]:
    """The configs of denoiser, VAE and text encoders, of a folder or told from a file's shapes."""
    folder = base.place if base.place.is_dir() else base.whole_beside
    if folder is not None:
        texts = {path.parent.name: read(path) for path in sorted(folder.glob("text_encoder*/config.json"))}
        return read(folder / denoiser / "config.json"), read(folder / "vae" / "config.json"), texts
    shapes = checkpoints.shapes_of(base.place)
    kind = checkpoints.recognised(shapes, base.place)
    vae = checkpoints.vae_config(shapes, kind) if single_file.holds(shapes, (checkpoints.VAE,)) else {}
    return checkpoints.unet_config(shapes, kind, base.place), vae, single_file.texts_of(shapes, kind)


def read(file: Path) -> dict[str, Any]:
    """A config."""
    return json.loads(file.read_text("utf-8"))


def prompt_tokens(config: dict[str, Any]) -> int:
    """How many tokens a denoiser's pipeline gives T5: FLUX.1 dev, which is told its guidance, has the longest prompts."""
    return 512 if config.get("guidance_embeds") else 256


def kept_by_text(config: dict[str, Any], tokens: int) -> int:
    """Numbers that a text encoder keeps for one prompt; T5's has so many tokens. It runs without numbers too."""
    kind: Any = getattr(transformers, (config.get("architectures") or ["CLIPTextModel"])[0])
    told = kind.config_class.from_dict(config)
    tokens = int(config.get("max_position_embeddings") or tokens)
    with torch.device("meta"):
        network: Any = kind(told).requires_grad_(False).eval()
        network.set_input_embeddings(Rows(told.hidden_size))
        tally = Tally({id(parameter) for parameter in network.parameters()})
        with torch.autograd.graph.saved_tensors_hooks(tally.pack, lambda kept: kept), light_attention():
            network(torch.zeros(1, tokens, dtype=torch.long))
    return tally.kept


class Rows(nn.Module):
    """In the place of an embedding table: rows that learn, without numbers."""

    def __init__(self, width: int):
        super().__init__()
        self.weight, self.width = torch.empty(1, width), width

    def forward(self, ids: Tensor) -> Tensor:
        """Rows [..., width] of ids [...]."""
        return torch.empty(*ids.shape, self.width, device="meta", requires_grad=True)


def kept_by(config: dict[str, Any], latents: int) -> tuple[int, int, int, int]:
    """Numbers that the denoiser keeps for one sample's backward pass: all, and when each block is computed twice; then those of
    its weights outside its blocks, and in the largest of them.

    It runs once without numbers (on PyTorch's meta device), so what is counted is what the network itself asks to keep.
    """
    with torch.device("meta"):
        network: Any = getattr(diffusers, config["_class_name"]).from_config(config).requires_grad_(False).eval()
        given = inputs(config, latents)
    weights = {id(parameter) for parameter in network.parameters()}
    tally = Tally(weights)
    found = [*blocks(network)]
    hooks = [hook for block in found for hook in tally.hooked(block)]
    with torch.autograd.graph.saved_tensors_hooks(tally.pack, lambda kept: kept), light_attention():
        network(**given)
    for hook in hooks:
        hook.remove()
    sizes = [sum(parameter.numel() for parameter in block.parameters()) for block in found]
    rest = sum(parameter.numel() for parameter in network.parameters()) - sum(sizes)
    return tally.kept, tally.outside + tally.answers + tally.largest, rest, max(sizes)


class Tally:
    """What is kept, counted while a network runs."""

    def __init__(self, weights: set[int]):
        self.weights, self.kept, self.inside, self.answers, self.largest = weights, 0, 0, 0, 0
        self.seen: dict[int, Tensor] = {}  # held, so that no other tensor gets the same id

    @property
    def outside(self) -> int:
        """What no block keeps."""
        return self.kept - self.inside

    def pack(self, tensor: Tensor) -> Tensor:
        """Count a tensor that is kept, each once; weights are there anyway."""
        whole: Any = tensor if tensor._base is None else tensor._base
        if id(whole) not in self.weights and id(whole) not in self.seen:
            self.seen[id(whole)] = whole
            self.kept += tensor.numel()
        return tensor

    def hooked(self, block: nn.Module) -> Iterator[Any]:
        """Count what a block keeps and answers."""
        before: list[int] = []

        def begin(*_: Any) -> None:
            before.append(self.kept)

        def end(_: Any, __: Any, answer: Any) -> None:
            own = self.kept - before.pop()
            self.inside += own
            self.largest = max(self.largest, own)
            self.answers += sum(
                t.numel() for t in (answer if isinstance(answer, tuple) else (answer,)) if isinstance(t, Tensor)
            )

        yield block.register_forward_pre_hook(begin)
        yield block.register_forward_hook(end)


class LightAttention(torch.autograd.Function):
    """Attention as fast kernels keep it: queries, keys, values and the answer, never the square matrix."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """An answer of the right shape."""
        answer = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, answer)
        return answer

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        """Never asked."""
        raise NotImplementedError


@contextlib.contextmanager
def light_attention() -> Generator[None]:
    """Count attention as fast kernels do it until the block ends."""
    real = nn.functional.scaled_dot_product_attention

    def light(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        answer: Any = LightAttention.apply(query, key, value)
        return answer

    nn.functional.scaled_dot_product_attention = light
    try:
        yield
    finally:
        nn.functional.scaled_dot_product_attention = real


def inputs(config: dict[str, Any], latents: int) -> dict[str, Any]:
    """One sample for a denoiser, without numbers."""
    kind, get = config["_class_name"], config.get
    if kind == "UNet2DConditionModel":
        context = torch.empty(1, 77, int(get("cross_attention_dim") or 768), requires_grad=True)
        sample = torch.empty(1, int(get("in_channels", 4)), latents, latents)
        told = {"sample": sample, "timestep": torch.ones(1), "encoder_hidden_states": context}
        if get("addition_embed_type") != "text_time":
            return told
        sizes = 6 * int(config["addition_time_embed_dim"])
        pooled = torch.empty(1, int(config["projection_class_embeddings_input_dim"]) - sizes)
        return told | {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": torch.ones(1, 6)}}
    tokens = prompt_tokens(config) + (77 if kind == "SD3Transformer2DModel" else 0)
    told = {
        "encoder_hidden_states": torch.empty(1, tokens, int(config["joint_attention_dim"]), requires_grad=True),
        "pooled_projections": torch.empty(1, int(config["pooled_projection_dim"])),
        "timestep": torch.ones(1),
    }
    if kind == "SD3Transformer2DModel":
        return told | {"hidden_states": torch.empty(1, int(config["in_channels"]), latents, latents)}
    squares = (latents // 2) ** 2
    guided = {"guidance": torch.ones(1)} if get("guidance_embeds") else {}
    places = {"img_ids": torch.ones(squares, 3), "txt_ids": torch.ones(tokens, 3)}
    return told | guided | places | {"hidden_states": torch.empty(1, squares, int(config["in_channels"]))}
