"""What a word sees at a step: a pure function of its seed and the step."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neologism.families.model import Model
from neologism.framing import Frame
from neologism.latents import Latents

Said = Callable[[int, random.Random], str]  # the photo's number and chance -> the prompt


@dataclass(frozen=True)
class Batch:
    """Samples of one or of several words.

    Attributes:
        clean: [b, c, h, w], float32, scaled latents.
        noise: [b, c, h, w], float32, standard normal.
        times: [b], as the model's noise rule has them: int64 timesteps, or float32 in 0..1 for flow matching.
        masks: [b, 1, h, w], float32, 0..1.
        prompts, frames: b of each.
    """

    clean: Tensor
    noise: Tensor
    times: Tensor
    masks: Tensor
    prompts: tuple[str, ...]
    frames: tuple[Frame, ...]

    def __len__(self) -> int:
        return len(self.prompts)


TENSORS = ("clean", "noise", "times", "masks")


def counted(*purpose: object) -> int:
    """A 63-bit number that is a fixed function of its arguments: every random draw starts from one."""
    return int.from_bytes(hashlib.sha256(repr(purpose).encode()).digest()[:8]) >> 1


def generator(*purpose: object) -> torch.Generator:
    """A CPU generator that is a fixed function of its arguments."""
    return torch.Generator().manual_seed(counted(*purpose))


def picked(seed: int, step: int, count: int, available: int) -> list[int]:
    """Which pictures a step shows: each once, in a new order every round, before any is shown again."""
    wanted = range(step * count, (step + 1) * count)
    rounds = {number // available for number in wanted}
    orders = {r: torch.randperm(available, generator=generator(seed, "order", r)).tolist() for r in rounds}
    return [orders[number // available][number % available] for number in wanted]


def spread(seed: int, step: int, count: int, band: tuple[float, float]) -> Tensor:
    """Shares [count] of the noise scale within the band, one from each of `count` equal strata, in random order."""
    chance = generator(seed, "times", step)
    strata = torch.randperm(count, generator=chance) + torch.rand(count, generator=chance)
    return band[0] + (band[1] - band[0]) * strata / count


def draw(
    model: Model, latents: Latents, said: Said, seed: int, step: int, count: int, band: tuple[float, float]
) -> Batch:
    """The samples of one word at a step: pictures, posterior samples, noise, times and prompts."""
    rows = picked(seed, step, count, len(latents))
    chance = generator(seed, "noise", step)
    mean, std = latents.mean[rows], latents.std[rows]
    sample = mean + std * torch.randn(mean.shape, generator=chance)
    return Batch(
        clean=model.scale(sample),
        noise=torch.randn(mean.shape, generator=chance),
        times=model.noise.times(spread(seed, step, count, band)),
        masks=latents.masks[rows],
        prompts=tuple(
            said(latents.photos[r], random.Random(counted(seed, "words", step, i))) for i, r in enumerate(rows)
        ),
        frames=tuple(latents.frames[r] for r in rows),
    )


def joined(batches: Sequence[Batch]) -> Batch:
    """Several words' samples as one batch, in their order."""
    tensors = {name: torch.cat([getattr(b, name) for b in batches]) for name in TENSORS}
    prompts = tuple(prompt for b in batches for prompt in b.prompts)
    return Batch(**tensors, prompts=prompts, frames=tuple(frame for b in batches for frame in b.frames))


def part_of(batch: Batch, rows: slice) -> Batch:
    """Some samples of a batch."""
    tensors = {name: getattr(batch, name)[rows] for name in TENSORS}
    return Batch(**tensors, prompts=batch.prompts[rows], frames=batch.frames[rows])
