"""What frozen networks see in pictures: the VAE decoder's own layers, or a vision model's."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neologism.errors import ModelError
from neologism.families import pipelines
from neologism.families.model import Model


@dataclass(frozen=True)
class Features:
    """What is seen in pictures.

    Attributes:
        pixels: [b, 3, h, w], in -1..1 but not clipped.
        layers: [b, c, ...] of several depths.
        pooled: [b, c], one vector for a whole picture.
    """

    pixels: Tensor
    layers: tuple[Tensor, ...]
    pooled: Tensor


def decoder_features(model: Model, latents: Tensor) -> Features:
    """The layers of the VAE's decoder on the way to the pixels of scaled latents [b, c, h, w]: after each of its up blocks."""
    found: list[Tensor] = []
    blocks: Any = model.pipe.vae.decoder.up_blocks
    hooks = [block.register_forward_hook(lambda _, __, out: found.append(out)) for block in blocks]
    try:
        pixels = pipelines.decoded(model.pipe.vae, latents, model.machine)
    finally:
        for hook in hooks:
            hook.remove()
    return Features(pixels, tuple(found), found[0].flatten(2).mean(2))


@dataclass(frozen=True)
class Eye:
    """A vision model, frozen, and the pictures it expects."""

    network: Any
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def features(pixels: Tensor, folder: str) -> Features:
    """The hidden states of a vision model (CLIP's or DINOv2's) for pixels [b, 3, h, w] in -1..1, at four depths.

    Raises:
        ModelError: the folder holds no such model.
    """
    eye = opened(folder, str(pixels.device))
    size = (eye.side, eye.side)
    shown = torch.nn.functional.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False)
    mean, std = (torch.tensor(numbers, device=pixels.device).view(1, 3, 1, 1) for numbers in (eye.mean, eye.std))
    states = eye.network(pixel_values=((shown + 1) / 2 - mean) / std, output_hidden_states=True).hidden_states
    picked = [states[round(len(states) * part) - 1] for part in (0.25, 0.5, 0.75, 1.0)]
    return Features(pixels, tuple(state.transpose(1, 2) for state in picked), states[-1][:, 0])


@functools.lru_cache(maxsize=2)
def opened(folder: str, device: str) -> Eye:
    """The vision model in a folder, through transformers.

    Raises:
        ModelError: the folder holds none whose hidden states are those of patches.
    """
    from transformers import AutoConfig, AutoModel, CLIPVisionModel

    try:
        with pipelines.quiet():
            config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
            kind: Any = CLIPVisionModel if config.model_type.startswith("clip") else AutoModel
            network = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True).to(device)
        told = json.loads((Path(folder) / "preprocessor_config.json").read_text("utf-8"))
        seen = getattr(config, "vision_config", config)
        eye = Eye(
            network.eval().requires_grad_(False), seen.image_size, tuple(told["image_mean"]), tuple(told["image_std"])
        )
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            f"features: {folder} holds no vision model that can be used ({type(error).__name__}). "
            "Give the folder of a CLIP or DINOv2 model with its preprocessor_config.json, or vae."
        ) from None
    return eye
