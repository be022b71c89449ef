"""What a loss may have added to denoising: terms on the picture that the model would see in a noisy one (its x0 prediction)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neologism.batches import Batch
from neologism.families import pipelines
from neologism.families.model import Model
from neologism.features import Features, decoder_features, features
from neologism.recipe import Recipe

TEMPERATURE = 0.1  # of InfoNCE


@dataclass(frozen=True)
class Additions:
    """Which terms are added and how much each counts; 0 leaves one out.

    Attributes:
        pixel, perceptual, contrastive: the weights.
        distance: of pixels: "l1", "l2" or "huber".
        network: "vae" for the VAE decoder's own layers, the folder of a vision model, or the file of a VGG.
        low_noise: samples with a larger share of noise power are left out, for what is predicted from noise is a blur.
    """

    pixel: float = 0.0
    perceptual: float = 0.0
    contrastive: float = 0.0
    distance: str = "l2"
    network: str = "vae"
    low_noise: float = 0.6

    @property
    def any(self) -> bool:
        """Whether a term is added at all."""
        return bool(self.pixel or self.perceptual or self.contrastive)


def additions(recipe: Recipe) -> Additions:
    """Those of a recipe."""
    return Additions(
        recipe.pixel, recipe.perceptual, recipe.contrastive, recipe.pixel_distance, recipe.features, recipe.low_noise
    )


def added(model: Model, batch: Batch, guess: Tensor, terms: Additions, others: Tensor | None = None) -> Tensor:
    """The added losses [b], float32, of the denoiser's answers `guess` [b, c, h, w].

    Outside a picture's mask the prediction is replaced by the picture itself before it is decoded, so that nothing there has
    a gradient, whatever the decoder mixes. `others` [n, c, h, w] are scaled latents of the class's other pictures.
    """
    device = guess.device
    clean, noise, times, masks = (t.to(device) for t in (batch.clean, batch.noise, batch.times, batch.masks))
    signal, rough = model.noise.parts(times)
    power = (rough**2 / (signal**2 + rough**2)).flatten()
    low = (power <= terms.low_noise).nonzero().flatten()
    total = torch.zeros(len(batch), device=device)
    if not len(low):
        return total + 0 * guess.sum()  # so that it still has a gradient, of zeros
    foreseen = model.noise.clean(model.noise.add(clean, noise, times), guess, times)
    whole = foreseen * masks + clean * (1 - masks)
    each = compared(model, whole[low], clean[low], masks[low], terms, others)
    return total.index_add(0, low, each.to(total.dtype))


def compared(
    model: Model, foreseen: Tensor, clean: Tensor, masks: Tensor, terms: Additions, others: Tensor | None
) -> Tensor:
    """The weighted terms [b] between predicted and true latents."""
    shares = masks.mean(dim=(1, 2, 3)).clamp_min(1e-3)
    seen = seen_in(model, foreseen, terms)
    with torch.no_grad():
        true = seen_in(model, clean, terms)
    total = terms.pixel * distances(seen.pixels, true.pixels, terms.distance) / shares
    if terms.perceptual:
        total = total + terms.perceptual * perceptual(seen, true) / shares
    if terms.contrastive and others is not None:
        with torch.no_grad():
            strangers = seen_in(model, others.to(clean.device), terms).pooled
        total = total + terms.contrastive * contrast(seen.pooled, true.pooled, strangers)
    return total


def seen_in(model: Model, latents: Tensor, terms: Additions) -> Features:
    """What the network of features sees in decoded latents."""
    if terms.network == "vae" or not (terms.perceptual or terms.contrastive):
        return decoder_features(model, latents)
    return features(pipelines.decoded(model.pipe.vae, latents, model.machine), terms.network)


def distances(one: Tensor, two: Tensor, kind: str) -> Tensor:
    """The mean distance [b] of pixels [b, 3, h, w]: absolute, squared, or Huber's (1964) with delta 0.1."""
    if kind == "l1":
        each = (one - two).abs()
    elif kind == "huber":
        each = torch.nn.functional.huber_loss(one, two, reduction="none", delta=0.1)
    else:
        each = (one - two) ** 2
    return each.mean(dim=(1, 2, 3))


def perceptual(one: Features, two: Features) -> Tensor:
    """The distance [b] of features of length 1 at each place, mean over places and layers (Zhang et al. 2018, eq. 1).

    With the VAE decoder's own layers it is near to Berrada et al. 2025 (arXiv 2411.04873).
    """
    pairs = zip(one.layers, two.layers, strict=True)
    each = [((unit(a) - unit(b)) ** 2).sum(1).flatten(1).mean(1) for a, b in pairs]
    return torch.stack(each).mean(0)


def unit(features: Tensor) -> Tensor:
    """Features [b, c, ...] at length 1 over c; the floor keeps the gradient of dark places finite."""
    return features / (features.pow(2).sum(1, keepdim=True) + 1e-6).sqrt()


def contrast(anchors: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """InfoNCE [b] (van den Oord et al. 2018, eq. 4): nearer to its own picture [b, c] than to others [n, c], by cosine."""
    near = (unit(anchors) * unit(own)).sum(1, keepdim=True)
    far = unit(anchors) @ unit(others).T
    return -torch.log_softmax(torch.cat([near, far], dim=1) / TEMPERATURE, dim=1)[:, 0]
