"""What frozen networks see in pictures: the VAE decoder's own layers, or a vision model's."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from neologism.errors import ModelError
from neologism.families import pipelines
from neologism.families.model import Model

WEIGHT = re.compile(r"features\.\d+\.weight$")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


def features(pixels: Tensor, path: str) -> Features:
    """What a network sees in pixels [b, 3, h, w] in -1..1: a .safetensors file's VGG, or a folder's CLIP or DINOv2.

    Of VGG the layers before each pooling, at the pictures' own size (as Zhang et al. 2018 do); of the others the hidden states
    at four depths.

    Raises:
        ModelError: there is no such network.
    """
    if path.endswith(".safetensors"):
        return convolved(pixels, vgg(path, str(pixels.device)))
    eye = opened(path, str(pixels.device))
    size = (eye.side, eye.side)
    shown = torch.nn.functional.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False)
    mean, std = (torch.tensor(numbers, device=pixels.device).view(1, 3, 1, 1) for numbers in (eye.mean, eye.std))
    states = eye.network(pixel_values=((shown + 1) / 2 - mean) / std, output_hidden_states=True).hidden_states
    picked = [states[round(len(states) * part) - 1] for part in (0.25, 0.5, 0.75, 1.0)]
    return Features(pixels, tuple(state.transpose(1, 2) for state in picked), states[-1][:, 0])


def convolved(pixels: Tensor, stages: Sequence[nn.Module]) -> Features:
    """What the stages of a VGG see, one after the other."""
    mean, std = (
        torch.tensor(numbers, device=pixels.device).view(1, 3, 1, 1) for numbers in (IMAGENET_MEAN, IMAGENET_STD)
    )
    found: list[Tensor] = []
    seen = ((pixels + 1) / 2 - mean) / std
    for stage in stages:
        seen = stage(seen)
        found.append(seen)
    return Features(pixels, tuple(found), found[-1].flatten(2).mean(2))


@functools.lru_cache(maxsize=2)
def vgg(file: str, device: str) -> tuple[nn.Module, ...]:
    """The stages of a VGG (Simonyan and Zisserman 2015, VGG-16 being the usual one), frozen, from its usual state dict.

    The layers are told from the names: "features.N.weight" is a convolution, N + 1 its ReLU, and N + 2 a pooling where the
    next convolution is N + 3. A stage begins with its pooling and ends before the next.

    Raises:
        ModelError: the file holds no VGG, or one with batch normalisation.
    """
    try:
        state = load_file(file)
        places = sorted(int(name.split(".")[1]) for name in state if WEIGHT.match(name))
        apart = [after - before for before, after in pairwise(places)]
        if not places or any(gap not in (2, 3) for gap in apart):
            raise ValueError("no VGG")
        stages: list[list[nn.Module]] = [[]]
        for place, gap in zip(places, [0, *apart], strict=True):
            if gap == 3:
                stages.append([nn.MaxPool2d(2)])
            stages[-1] += [convolution(state[f"features.{place}.weight"], state[f"features.{place}.bias"]), nn.ReLU()]
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"features: {file} holds no VGG that can be used ({type(error).__name__}). Give the weights of one without batch "
            "normalisation, such as VGG-16, under their usual names (features.0.weight, ...), a CLIP's or DINOv2's folder, or vae."
        ) from None
    return tuple(nn.Sequential(*layers).to(device).eval().requires_grad_(False) for layers in stages)


def convolution(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution of 3 x 3 with these numbers, float32."""
    made = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    made.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return made


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
            "Give the folder of a CLIP or DINOv2 model with its preprocessor_config.json, a .safetensors file of VGG-16, or vae."
        ) from None
    return eye
