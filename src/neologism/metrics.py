"""Networks that compare pictures: CLIP and SigLIP, which also read, DINO and DINOv2, which do not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from neologism.errors import ModelError
from neologism.families import pipelines
from neologism.scores import EMOJI_JUDGE, MEAN, STD, features, unit

USUAL = ("openai/clip-vit-base-patch32", "facebook/dino-vits16")
"""What the published tables are made with; taken where nobody names networks and the base is not the emoji one."""
READS = ("clip", "siglip", "siglip2")
SEES = ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit")
CALLED = {
    "clip": "CLIP",
    "siglip": "SigLIP",
    "siglip2": "SigLIP 2",
    "vit": "DINO",
    "dinov2": "DINOv2",
    "dinov3_vit": "DINOv3",
}


@dataclass(frozen=True)
class Shown:
    """A picture, and where its subject is: a mask of mode "L" (white is the subject), or None for all of it."""

    image: Image.Image
    mask: Image.Image | None = None


@dataclass(frozen=True)
class Network:
    """A network that turns pictures into unit rows, and where it came from.

    Attributes:
        name: as the user named it. revision: the commit of a hub id, or the start of the sha256 of a folder's weights.
        kind: transformers' model type. reads: whether it turns texts into rows of the same space.
        side: of the pictures it sees, in pixels. mean, std: how it wants their values scaled.
    """

    name: str
    revision: str
    kind: str
    model: Any
    tokenizer: Any
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def reads(self) -> bool:
        """Whether it compares pictures with texts."""
        return self.kind in READS

    @property
    def called(self) -> str:
        """Its name in tables."""
        return "emoji judge" if Path(self.name) == EMOJI_JUDGE else CALLED.get(self.kind, self.kind)

    @property
    def told(self) -> str:
        """Which network it is, with its revision."""
        name = "the emoji judge" if Path(self.name) == EMOJI_JUDGE else self.name
        return f"{name}, {self.revision[:12]}"

    @torch.no_grad()
    def pictures(self, shown: Sequence[Shown]) -> Tensor:
        """Unit rows [n, d], float32, of the pictures; only the subject is seen where there is a mask."""
        pixels = torch.stack([self.pixels(one) for one in shown])
        return unit(torch.cat([self.rows(part) for part in pixels.split(64)]))

    def rows(self, pixels: Tensor) -> Tensor:
        """One row a picture: the projected features, or the class token where the network does not read."""
        if self.reads:
            return features(self.model.get_image_features(pixel_values=pixels))
        return self.model(pixel_values=pixels).last_hidden_state[:, 0]

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Unit rows [n, d], float32, of the prompts."""
        told = self.tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt")
        kept = {name: told[name] for name in ("input_ids", "attention_mask") if name in told}
        return unit(features(self.model.get_text_features(**kept)))

    def pixels(self, one: Shown) -> Tensor:
        """The middle square of a picture [3, side, side] as the network wants it, its mean colour where a mask hides it."""
        image = one.image.convert("RGB")
        if one.mask is not None:
            ground = tuple(round(255 * part) for part in self.mean)
            image = Image.composite(image, Image.new("RGB", image.size, ground), one.mask.convert("L"))
        short, (width, height) = min(image.size), image.size
        left, top = (width - short) // 2, (height - short) // 2
        box = (left, top, left + short, top + short)
        small = image.resize((self.side, self.side), Image.Resampling.BICUBIC, box=box)
        values = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).view(self.side, self.side, 3)
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (self.mean, self.std))
        return (values.permute(2, 0, 1).float() / 255 - mean) / std


def networks(named: str, base: str) -> list[Network]:
    """The networks of a list of paths and hub ids, separated by commas; "auto" is the judge that ships for the emoji base,
    and CLIP ViT-B/32 with DINO ViT-S/16 for any other.

    Raises:
        ModelError: one cannot be opened, or compares no pictures.
    """
    usual = (str(EMOJI_JUDGE),) if base == "emoji" else USUAL
    names = usual if named == "auto" else [name.strip() for name in named.split(",") if name.strip()]
    if not names:
        raise ModelError("metrics: found no network. Name folders or hub ids, separated by commas, or auto.")
    return [opened(name) for name in names]


def opened(name: str) -> Network:
    """The network in a folder, or of a hub id.

    Raises:
        ModelError: it cannot be fetched or opened, or compares no pictures.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    folder, revision = place(name)
    try:
        with pipelines.quiet():
            config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
            kind = str(config.model_type)
            if kind not in READS + SEES:
                raise ValueError(f"it is a {kind} model")
            more: dict[str, Any] = {"add_pooling_layer": False} if kind == "vit" else {}
            model: Any = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, **more)
            reader = AutoTokenizer.from_pretrained(folder, local_files_only=True) if kind in READS else None
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(
            f"metrics: {name} cannot be used: {first[:200]} Give a folder or hub id of CLIP, SigLIP, DINO or DINOv2."
        ) from None
    file = folder / "preprocessor_config.json"
    told = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    seen = getattr(config, "vision_config", config)
    side = told.get("crop_size") or told.get("size") or seen.image_size
    mean, std = tuple(told.get("image_mean", MEAN)), tuple(told.get("image_std", STD))
    return Network(name, revision, kind, model.float().eval().requires_grad_(False), reader, width(side), mean, std)


def width(side: Any) -> int:
    """The side of a square in any of the ways that preprocessor configs write it."""
    if isinstance(side, dict):
        return int(side.get("height") or side.get("shortest_edge") or 224)
    return int(side)


def place(name: str) -> tuple[Path, str]:
    """The folder of a network, and its revision."""
    folder = Path(name)
    if folder.is_dir():
        digest = hashlib.sha256()
        for file in sorted(folder.glob("*.safetensors")):
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return folder, digest.hexdigest()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    repository, _, revision = name.partition("@")
    kinds = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        found = Path(snapshot_download(repository, revision=revision or None, allow_patterns=kinds))
    except (OSError, ValueError, CachedRepoTreeNotFoundError) as error:  # the hub's own errors are of these
        raise ModelError(
            f"metrics: {name} is no folder, and cannot be fetched from the hub ({type(error).__name__}). "
            "Give --metrics the folder of a CLIP, SigLIP, DINO or DINOv2 model, or try again with a network."
        ) from None
    return found, found.name
