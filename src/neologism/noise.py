"""How a model adds noise, what it is asked to predict, and how samples at different noise count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neologism.errors import ModelError

GAMMA = 5.0  # Hang et al. 2023, section 3.4


@dataclass(frozen=True)
class DiscreteNoise:
    """The noise of a model with numbered timesteps.

    Attributes:
        signal: [t], float32, 0..1: the share of signal power left at each timestep (alpha-bar, Ho et al. 2020, eq. 4).
        prediction: what the model predicts: the noise, or v (Salimans and Ho 2022, appendix D).
    """

    signal: Tensor
    prediction: Literal["epsilon", "v_prediction"]

    def times(self, shares: Tensor) -> Tensor:
        """Timesteps [b], int64, at these shares [b] in 0..1 of the noise scale."""
        return (shares * len(self.signal)).long().clamp(max=len(self.signal) - 1)

    def parts(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """The factors [b, 1, 1, 1] of signal and noise at the timesteps [b]."""
        signal = self.signal.to(times.device)[times].view(-1, 1, 1, 1)
        return signal.sqrt(), (1 - signal).sqrt()

    def add(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Noisy latents [b, c, h, w] at the timesteps [b] (Ho et al. 2020, eq. 4)."""
        clean, rough = self.parts(times)
        return clean * latents + rough * noise

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the model should predict, [b, c, h, w]."""
        if self.prediction == "epsilon":
            return noise
        clean, rough = self.parts(times)
        return clean * noise - rough * latents

    def clean(self, noisy: Tensor, guess: Tensor, times: Tensor) -> Tensor:
        """The clean latents [b, c, h, w] that the model's answer supposes in noisy ones (Ho et al. 2020, eq. 15)."""
        clean, rough = self.parts(times)
        if self.prediction == "epsilon":
            return (noisy - rough * guess) / clean.clamp_min(1e-4)
        return clean * noisy - rough * guess

    def min_snr(self, times: Tensor) -> Tensor:
        """Weights [b] by min-SNR (Hang et al. 2023): min(SNR, 5) over SNR, or over SNR + 1 for v."""
        signal = self.signal.to(times.device)[times]
        ratio = signal / (1 - signal).clamp_min(1e-8)
        least = ratio.clamp(max=GAMMA)
        # Where nothing of the signal is left the quotient is 0/0; its limit is 1.
        return least / ratio.clamp_min(1e-8) if self.prediction == "epsilon" else least / (ratio + 1)


@dataclass(frozen=True)
class FlowNoise:
    """The noise of a model of straight paths between pictures and noise (rectified flow; Esser et al. 2024, section 2).

    Attributes:
        shift: how far times are moved towards noise, as large pictures need (section 5.3.2, eq. 23).
    """

    shift: float = 1.0

    def times(self, shares: Tensor) -> Tensor:
        """Times [b], float32, 0..1 (how much is noise), at these shares [b] in 0..1 of the noise scale."""
        moved = self.shift * shares / (1 + (self.shift - 1) * shares)
        return moved.to(torch.float32).clamp(1e-3, 1.0)

    def parts(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """The factors [b, 1, 1, 1] of signal and noise at the times [b]."""
        rough = times.view(-1, 1, 1, 1)
        return 1 - rough, rough

    def add(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Noisy latents [b, c, h, w] at the times [b]."""
        clean, rough = self.parts(times)
        return clean * latents + rough * noise

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the model should predict, [b, c, h, w]: the path's direction, from the picture to the noise."""
        return noise - latents

    def clean(self, noisy: Tensor, guess: Tensor, times: Tensor) -> Tensor:
        """The clean latents [b, c, h, w] that the model's answer supposes in noisy ones: back along the path."""
        return noisy - self.parts(times)[1] * guess

    def min_snr(self, times: Tensor) -> Tensor:
        """Weights [b] by min-SNR (Hang et al. 2023) for a target of which signal and noise are parts, as for v."""
        ratio = ((1 - times) / times).square()
        return ratio.clamp(max=GAMMA) / (ratio + 1)


Noise = DiscreteNoise | FlowNoise


def flow_noise(scheduler: object) -> FlowNoise:
    """The noise rule of a diffusers flow matching scheduler; one that shifts by the picture's size is left unshifted."""
    config = getattr(scheduler, "config", {})
    return FlowNoise(1.0 if config.get("use_dynamic_shifting") else float(config.get("shift", 1.0)))


def discrete_noise(scheduler: object) -> DiscreteNoise:
    """The noise rule of a diffusers scheduler.

    Raises:
        ModelError: it predicts neither noise nor v.
    """
    config = getattr(scheduler, "config", {})
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction"):
        raise ModelError(
            f"The model's scheduler predicts {prediction!r}; epsilon and v_prediction can be trained. "
            "Choose a base whose scheduler_config.json names one of them."
        )
    signal: Tensor = scheduler.alphas_cumprod  # type: ignore[attr-defined]
    return DiscreteNoise(signal.detach().to("cpu", torch.float32).clone(), prediction)
