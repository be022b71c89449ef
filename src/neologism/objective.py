"""What training makes small: a loss for each sample of a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor

from neologism.batches import Batch, of_one_shape, part_of
from neologism.families.model import Model

More = Callable[[Batch, Tensor], Tensor]  # a batch and the denoiser's answers -> more loss [b]


def loss(model: Model, batch: Batch, weighting: str = "even", more: More | None = None) -> Tensor:
    """The denoising losses [b], float32 (Gal et al. 2022, eq. 2): |target - prediction|^2 inside the mask, weighted.

    Each is the mean over the picture's numbers. `weighting` is "even" or "min_snr"; `more` is added. Samples of each shape pass
    the model apart from others.
    """
    groups = of_one_shape(batch)
    losses = torch.cat([of_alike(model, some, weighting, more) for _, some in groups])
    rows = [row for some, _ in groups for row in some]
    return losses[torch.tensor(rows).argsort().to(losses.device)] if len(groups) > 1 else losses


def of_alike(model: Model, batch: Batch, weighting: str, more: More | None) -> Tensor:
    """The losses of samples of one shape. Without gradients they are taken in pieces where memory is limited; with them, what is
    kept for the backward pass would be all of it anyway."""
    if torch.is_grad_enabled():
        return at_once(model, batch, weighting, more)
    limits = model.machine.limits
    while True:
        with contextlib.suppress(torch.OutOfMemoryError):
            pieces = limits.pieces(len(batch), limits.glanced)
            return torch.cat([at_once(model, part_of(batch, rows), weighting, more) for rows in pieces])
        most = min(limits.glanced or len(batch), limits.at_once or len(batch))
        if most == 1:
            raise torch.OutOfMemoryError("for a single sample")
        limits.glanced = most // 2


def at_once(model: Model, batch: Batch, weighting: str, more: More | None = None) -> Tensor:
    """The losses of a batch in one pass."""
    device = model.machine.device
    clean, noise, times, masks = (t.to(device) for t in (batch.clean, batch.noise, batch.times, batch.masks))
    guess = model.predict(model.noise.add(clean, noise, times), times, model.condition(batch.prompts, batch.frames))
    squared = (guess - model.noise.target(clean, noise, times)) ** 2
    each = (squared * masks).mean(dim=(1, 2, 3)) / masks.mean(dim=(1, 2, 3)).clamp_min(1e-3)
    each = each * model.noise.min_snr(times) if weighting == "min_snr" else each
    return each + more(batch, guess) if more else each
