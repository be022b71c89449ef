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
from neologism.latents import Latents, widened

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
        sizes: (h, w) of each sample where they differ in shape, else none; NaN stands beyond the edges of the smaller ones.
    """

    clean: Tensor
    noise: Tensor
    times: Tensor
    masks: Tensor
    prompts: tuple[str, ...]
    frames: tuple[Frame, ...]
    sizes: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.prompts)


PLANES, TENSORS = ("clean", "noise", "masks"), ("clean", "noise", "times", "masks")


def counted(*purpose: object) -> int:
    """A 63-bit number that is a fixed function of its arguments: every random draw starts from one."""
    return int.from_bytes(hashlib.sha256(repr(purpose).encode()).digest()[:8]) >> 1


def generator(*purpose: object) -> torch.Generator:
    """A CPU generator that is a fixed function of its arguments."""
    return torch.Generator().manual_seed(counted(*purpose))


def picked(seed: int, step: int, count: int, available: int, shapes: Sequence[object] = ()) -> list[int]:
    """Which pictures a step shows: each once, in a new order every round, before any is shown again.

    With `shapes`, one for each picture, pictures of one shape come together where they are enough to fill a batch.
    """
    wanted = range(step * count, (step + 1) * count)
    rounds = {number // available for number in wanted}
    orders = {r: torch.randperm(available, generator=generator(seed, "order", r)).tolist() for r in rounds}
    if len(set(shapes)) > 1:
        orders = {r: in_shapes(order, shapes, count, seed, r) for r, order in orders.items()}
    return [orders[number // available][number % available] for number in wanted]


def in_shapes(order: Sequence[int], shapes: Sequence[object], count: int, seed: int, number: int) -> list[int]:
    """A round's order, its batches of one shape as far as pictures suffice; the first fill the batch that the last round began."""
    begun = -number * len(order) % count
    alike: dict[object, list[int]] = {}
    for row in order[begun:]:
        alike.setdefault(shapes[row], []).append(row)
    full = [rows[i : i + count] for rows in alike.values() for i in range(0, len(rows) - count + 1, count)]
    left = [row for row in order[begun:] if not any(row in rows for rows in full)]
    full += [left[i : i + count] for i in range(0, len(left) - count + 1, count)]
    turns = torch.randperm(len(full), generator=generator(seed, "shapes", number)).tolist()
    return [*order[:begun], *(row for turn in turns for row in full[turn]), *left[len(left) - len(left) % count :]]


def spread(seed: int, step: int, count: int, band: tuple[float, float]) -> Tensor:
    """Shares [count] of the noise scale within the band, one from each of `count` equal strata, in random order."""
    chance = generator(seed, "times", step)
    strata = torch.randperm(count, generator=chance) + torch.rand(count, generator=chance)
    return band[0] + (band[1] - band[0]) * strata / count


def draw(
    model: Model, latents: Latents, said: Said, seed: int, step: int, count: int, band: tuple[float, float]
) -> Batch:
    """The samples of one word at a step: pictures, posterior samples, noise, times and prompts."""
    rows = picked(seed, step, count, len(latents), latents.sizes)
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
        sizes=tuple(latents.sizes[r] for r in rows) if latents.sizes else (),
    )


def joined(batches: Sequence[Batch]) -> Batch:
    """Several words' samples as one batch, in their order."""
    wholes = {(int(b.clean.shape[-2]), int(b.clean.shape[-1])) for b in batches}
    high, wide = (max(whole[side] for whole in wholes) for side in (0, 1))
    tensors = {name: torch.cat([widened(getattr(b, name), high, wide) for b in batches]) for name in PLANES}
    prompts = tuple(prompt for b in batches for prompt in b.prompts)
    frames = tuple(frame for b in batches for frame in b.frames)
    mixed = len(wholes) > 1 or any(b.sizes for b in batches)
    sizes = tuple(size for b in batches for size in (b.sizes or ((b.clean.shape[-2], b.clean.shape[-1]),) * len(b)))
    times = torch.cat([b.times for b in batches])
    return Batch(**tensors, times=times, prompts=prompts, frames=frames, sizes=sizes if mixed else ())


def of_one_shape(batch: Batch) -> list[tuple[list[int], Batch]]:
    """The samples of each shape as a batch without padding, and which they are."""
    if not batch.sizes:
        return [(list(range(len(batch))), batch)]
    groups = {size: [row for row, other in enumerate(batch.sizes) if other == size] for size in batch.sizes}
    return [(rows, cut(batch, rows, size)) for size, rows in groups.items()]


def cut(batch: Batch, rows: list[int], size: tuple[int, int]) -> Batch:
    """Some samples of a batch, all of a size, without padding."""
    planes = {name: getattr(batch, name)[rows, :, : size[0], : size[1]] for name in PLANES}
    prompts = tuple(batch.prompts[row] for row in rows)
    frames = tuple(batch.frames[row] for row in rows) if batch.frames else ()
    return Batch(**planes, times=batch.times[rows], prompts=prompts, frames=frames)


def part_of(batch: Batch, rows: slice) -> Batch:
    """Some samples of a batch."""
    tensors = {name: getattr(batch, name)[rows] for name in TENSORS}
    return Batch(**tensors, prompts=batch.prompts[rows], frames=batch.frames[rows], sizes=batch.sizes[rows])
