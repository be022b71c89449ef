"""What training makes small: a loss for each sample of a batch."""

from __future__ import annotations

from torch import Tensor

from neologism.batches import Batch
from neologism.families.model import Model


def loss(model: Model, batch: Batch, weighting: str = "even") -> Tensor:
    """The denoising losses [b], float32 (Gal et al. 2022, eq. 2): |target - prediction|^2 inside the mask, weighted.

    Each is the mean over the picture's numbers. `weighting` is "even" or "min_snr".
    """
    device = model.machine.device
    clean, noise, times, masks = (t.to(device) for t in (batch.clean, batch.noise, batch.times, batch.masks))
    guess = model.predict(model.noise.add(clean, noise, times), times, model.condition(batch.prompts, batch.frames))
    squared = (guess - model.noise.target(clean, noise, times)) ** 2
    each = (squared * masks).mean(dim=(1, 2, 3)) / masks.mean(dim=(1, 2, 3)).clamp_min(1e-3)
    return each * model.noise.min_snr(times) if weighting == "min_snr" else each
