"""Pictures through the VAE, once: posterior mean and deviation, kept by content."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neologism.errors import ModelError
from neologism.families.model import Model
from neologism.framing import Buckets, Frame, buckets, framed, label
from neologism.photos import Photo
from neologism.recipe import Recipe
from neologism.sources import cache_folder


@dataclass(frozen=True)
class Latents:
    """What training knows of the pictures of a word.

    Attributes:
        mean, std: [n, c, h, w], float32, unscaled: the posterior of each picture, mirrored ones behind the others. Where pictures
            differ in shape, NaN stands beyond the right and lower edges of the smaller ones, so that nothing uses it unnoticed.
        masks: [n, 1, h, w], float32, 0..1: where to learn; all ones without masks.
        frames: how each was cropped.
        photos: which photo each row shows.
        found: how many photos were encoded already.
        sizes: (h, w) of each row where they differ in shape, else none.
    """

    mean: Tensor
    std: Tensor
    masks: Tensor
    frames: tuple[Frame, ...]
    photos: tuple[int, ...]
    found: int
    sizes: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.mean)


def fingerprint(module: nn.Module) -> str:
    """The sha256 of a network's tensors, names included."""
    whole = hashlib.sha256()
    for name, digest in tensor_hashes(module).items():
        whole.update(f"{name} {digest}\n".encode())
    return whole.hexdigest()


def tensor_hashes(module: nn.Module) -> dict[str, str]:
    """The sha256 of each of a network's tensors, by name, over its raw bytes."""
    return {name: hashlib.sha256(raw(tensor)).hexdigest() for name, tensor in sorted(module.state_dict().items())}


def raw(tensor: Tensor) -> memoryview:
    """A tensor's bytes; of one that is packed, those of its parts."""
    if hasattr(tensor, "__tensor_flatten__"):
        names: list[str] = tensor.__tensor_flatten__()[0]  # type: ignore[attr-defined]
        parts: list[Tensor] = [getattr(tensor, name) for name in names]
        return memoryview(b"".join(raw(part) for part in parts))
    return memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())  # type: ignore[arg-type]


def aim(model: Model, recipe: Recipe) -> int | Buckets:
    """What the recipe's pictures are brought to: the side of a square, or the sizes that the model takes.

    Raises:
        RecipeError: the side is too small for buckets.
    """
    side = recipe.side or model.size
    return side if recipe.crop == "square" else buckets(side, model.grid, model.longest)


def squares_only(model: Model, recipe: Recipe) -> str | None:
    """What to say where buckets were asked for and the side leaves none but the square."""
    sizes, side, grid = aim(model, recipe), recipe.side or model.size, model.grid
    if isinstance(sizes, int) or len(sizes.sizes) > 1:
        return None
    wider = next((s for s in range(side, 5 * grid, grid) if len(buckets(s, grid, model.longest).sizes) > 1), 4 * grid)
    return (
        f"crop = 'bucket' finds no shape but the square at a side of {side} pixels, for sides must be multiples of {grid} here: "
        f"pictures are cropped to squares. A side of {wider} or more has other shapes."
    )


def cached(model: Model, photos: Sequence[Photo], side: int | Buckets, mirror: bool, masks: bool) -> Latents:
    """The photos' posteriors, from the cache or from the VAE.

    Raises:
        ModelError: the VAE answers NaN or infinity.
    """
    vae = fingerprint(model.parts()["vae"])
    rows, frames, origin, found = [], [], [], 0
    for mirrored in (False, True) if mirror else (False,):
        for number, photo in enumerate(photos):
            row, frame, known = one(model, photo, side, mirrored, masks, vae)
            rows.append(row)
            frames.append(frame)
            origin.append(number)
            found += known and not mirrored
    mean, std, mask = (padded([row[key] for row in rows]) for key in ("mean", "std", "mask"))
    sizes = tuple((int(row["mean"].shape[1]), int(row["mean"].shape[2])) for row in rows)
    return Latents(mean, std, mask, tuple(frames), tuple(origin), found, sizes if len(set(sizes)) > 1 else ())


def padded(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors [..., h, w] as one [n, ..., h, w] of the largest sides, with NaN beyond the edges of those that are smaller."""
    high, wide = (max(tensor.shape[side] for tensor in tensors) for side in (-2, -1))
    return torch.stack([widened(tensor, high, wide) for tensor in tensors])


def widened(tensor: Tensor, high: int, wide: int) -> Tensor:
    """A tensor [..., h, w] as [..., high, wide], with NaN beyond its edges."""
    more = (0, wide - tensor.shape[-1], 0, high - tensor.shape[-2])
    return torch.nn.functional.pad(tensor, more, value=math.nan) if any(more) else tensor


def one(
    model: Model, photo: Photo, side: int | Buckets, mirrored: bool, masks: bool, vae: str
) -> tuple[dict[str, Tensor], Frame, bool]:
    """One photo's mean, std and mask, how it was framed, and whether it was in the cache."""
    shown = framed(photo, side, mirrored)
    key = hashlib.sha256(
        f"{photo.sha256} {label(side, shown.frame)} {mirrored} {vae} {model.machine.device.type}".encode()
    ).hexdigest()
    file = cache_folder() / "latents" / f"{key}.safetensors"
    row = kept(file)
    known = row is not None
    if row is None:
        row = encoded(model, photo, shown.pixels)
        keep(row, file)
    size = row["mean"].shape[1:]
    whole = torch.ones(1, *size)
    mask = (
        whole
        if shown.mask is None or not masks
        else torch.nn.functional.adaptive_avg_pool2d(shown.mask, (size[0], size[1]))
    )
    return row | {"mask": mask}, shown.frame, known


def encoded(model: Model, photo: Photo, pixels: Tensor) -> dict[str, Tensor]:
    """The posterior of one picture, checked."""
    mean, std = model.encode(pixels.unsqueeze(0))
    if not (torch.isfinite(mean).all() and torch.isfinite(std).all()):
        raise ModelError(
            f"The VAE of {model.name} answers NaN or infinity for {photo.path}. Its VAE computes in float32 already, so its "
            "weights are broken: give --base BASE+FOLDER with the folder of another VAE."
        )
    return {"mean": mean[0].cpu(), "std": std[0].cpu()}


def kept(file: Path) -> dict[str, Tensor] | None:
    """What the cache holds, or None where it holds nothing that can be read."""
    try:
        row = load_file(file)
    except (OSError, SafetensorError):
        return None
    return row if set(row) == {"mean", "std"} else None


def keep(row: dict[str, Tensor], file: Path) -> None:
    """Put into the cache; a cache that cannot be written only costs time."""
    partial = file.with_suffix(f".{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(row, partial)
        os.replace(partial, file)
    except (OSError, SafetensorError):
        partial.unlink(missing_ok=True)
