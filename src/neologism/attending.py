"""A word's attention as it happens in the denoiser: noted by hooks that change nothing, and held beside a mask."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neologism import joint
from neologism.batches import counted
from neologism.families import Model
from neologism.families.model import Encoder
from neologism.framing import framed, picture
from neologism.photos import Photo
from neologism.saliency import subject

SHARES = (0.4, 0.6, 0.8)
"""Where on the noise scale a photo is looked at: early enough that the word matters, late enough that the photo is still there."""


@dataclass
class Seen:
    """Attention to the word's tokens as it happens: a list of maps for every side, in the order of the steps."""

    positions: list[int]
    maps: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def note(self, layer: Any, queries: Tensor, keys: Tensor) -> None:
        """Add one layer's attention at one step: softmax(q k^T / sqrt(d)) at the word's tokens, the mean of all heads."""
        heads = int(layer.heads)
        q, k = (rows[-1].float().view(rows.shape[1], heads, -1).transpose(0, 1) for rows in (queries, keys))
        share = (q @ k.transpose(1, 2) * float(layer.scale)).softmax(-1)[:, :, self.positions].sum(-1).mean(0)
        self.keep(share)

    def keep(self, share: Tensor) -> None:
        """Add a share [places] as a map, where the places make a square."""
        side = round(len(share) ** 0.5)
        if side * side == len(share):
            self.maps[side].append(share.view(side, side).cpu())


@contextlib.contextmanager
def watched(model: Model, seen: Seen) -> Generator[None]:
    """Note the attention of the denoiser to the prompt until the block ends; nothing of what is drawn changes."""
    if hasattr(model.pipe, "transformer"):
        with joint.watched(model.pipe.transformer, seen.positions, seen.keep):
            yield
        return
    hooks: list[Any] = []
    for name, layer in model.pipe.unet.named_modules():
        if name.endswith("attn2"):
            asked: dict[str, Tensor] = {}
            hooks.append(layer.to_q.register_forward_hook(lambda _, __, out, kept=asked: kept.update(q=out.detach())))
            hooks.append(
                layer.to_k.register_forward_hook(
                    lambda _, __, out, kept=asked, of=layer: seen.note(of, kept["q"], out.detach())
                )
            )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def shares(maps: Sequence[Tensor]) -> Tensor:
    """The mean of maps, as shares of its sum."""
    mean = torch.stack(list(maps)).mean(0)
    return mean / mean.sum()


def thirds(maps: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """The maps in three parts, in their order."""
    cuts = [round(len(maps) * part / 3) for part in range(4)]
    return [maps[a:b] for a, b in pairwise(cuts)]


def places(encoder: Encoder, prompt: str, word: str) -> list[int]:
    """Where the tokens of a word stand in the framed prompt: those of a learned word, or the pieces of a known one."""
    ids, own = encoder.framed(prompt), list(encoder.taught.get(word.lower(), ()) or encoder.pieces(word))
    found = [start for start in range(len(ids) - len(own) + 1) if own and ids[start : start + len(own)] == own]
    return list(range(found[0], found[0] + len(own))) if found else []


def positions(model: Model, prompt: str, word: str) -> list[int]:
    """Where the tokens of a word stand in all that the denoiser is told of a prompt, one encoder's tokens behind another's."""
    found: list[int] = []
    before = 0
    for encoder in model.spoken:
        found += [before + place for place in places(encoder, prompt, word)]
        before += encoder.limit
    return found


def lifted(heat: Tensor, mask: Image.Image) -> float:
    """Mean attention inside a mask over that outside."""
    small = mask.resize((heat.shape[1], heat.shape[0]), Image.Resampling.BOX)
    inside = torch.from_numpy(np.asarray(small, np.float32) / 255)
    return float(((heat * inside).sum() / inside.sum()) / ((heat * (1 - inside)).sum() / (1 - inside).sum()))


@dataclass(frozen=True)
class Pointed:
    """A word's attention on a photo it learned from, under some noise.

    Attributes:
        name: the photo's file. image: its middle square as training saw it.
        heat: attention at the largest feature map, [side, side], float32, sum 1.
        lift: mean attention on the subject over that around it.
        masked: whether the photo has a mask; else the subject is what stands out from a plain ground.
    """

    name: str
    image: Image.Image
    heat: Tensor
    lift: float
    masked: bool


@torch.no_grad()
def pointed(model: Model, photo: Photo, prompt: str, word: str) -> Pointed | None:
    """Where a taught word in a prompt looks in a photo, or None where nothing tells the photo's subject from its ground.

    Each of SHARES once, the same noise every time.

    Raises:
        PhotosError: the photo has changed.
    """
    found = framed(photo, model.size)
    image = picture(found.pixels)
    mask = subject(image) if found.mask is None else Image.fromarray((found.mask[0].numpy() * 255).astype(np.uint8))
    if mask is None:
        return None
    device, seen = model.machine.device, Seen(positions(model, prompt, word))
    clean = model.scale(model.encode(found.pixels.unsqueeze(0).to(device))[0])
    with watched(model, seen):
        for share in SHARES:
            chance = torch.Generator().manual_seed(counted("pointed", share))
            noise = torch.randn(clean.shape, generator=chance).to(device)
            times = model.noise.times(torch.tensor([share])).to(device)
            model.predict(model.noise.add(clean, noise, times), times, model.condition([prompt], [found.frame]))
    heat = shares(seen.maps[max(seen.maps)])
    lift = lifted(heat, mask)
    return Pointed(photo.path.name, image, heat, lift, found.mask is not None) if np.isfinite(lift) else None
