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

VGG_WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)  # 0 halves the side
VGG_SEEN = (3, 8, 15, 22, 29)  # the last ReLU of each width
VGG_MEAN, VGG_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
    if folder.endswith(".safetensors"):
        return vgg_features(pixels, folder)
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


def vgg_features(pixels: Tensor, file: str) -> Features:
    """The layers of VGG-16 (Simonyan and Zisserman 2015, table 1, D) for pixels [b, 3, h, w] in -1..1, at least 16 a side.

    Raises:
        ModelError: the file does not hold its convolutions.
    """
    mean, std = (torch.tensor(numbers, device=pixels.device).view(1, 3, 1, 1) for numbers in (VGG_MEAN, VGG_STD))
    state, found = ((pixels + 1) / 2 - mean) / std, list[Tensor]()
    for number, layer in enumerate(opened_vgg(file, str(pixels.device))):
        state = layer(state)
        if number in VGG_SEEN:
            found.append(state)
    return Features(pixels, tuple(found), found[-1].flatten(2).mean(2))


@functools.lru_cache(maxsize=2)
def opened_vgg(file: str, device: str) -> torch.nn.Sequential:
    """VGG-16's convolutions from a safetensors file with the usual names, features.0.weight to features.28.bias.

    Raises:
        ModelError: the file does not hold them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    layers, channels = list[torch.nn.Module](), 3
    for width in VGG_WIDTHS:
        layers += (
            [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU()] if width else [torch.nn.MaxPool2d(2)]
        )
        channels = width or channels
    network = torch.nn.Sequential(*layers)
    try:
        held = load_file(file)
        network.load_state_dict({name: held[f"features.{name}"] for name in network.state_dict()})
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"features: {file} does not hold VGG-16 ({type(error).__name__}). "
            "Give a safetensors file with features.0.weight to features.28.bias."
        ) from None
    return network.to(device).eval().requires_grad_(False)
