"""Stable Diffusion 1.x and 2.x, and any model of the same parts: one CLIP text encoder, a U-Net, epsilon or v."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn

from neologism.device import Machine
from neologism.families import attention, pipelines, thrift
from neologism.families.model import Conditioning, Encoder
from neologism.framing import Frame
from neologism.noise import DiscreteNoise, discrete_noise


@dataclass(frozen=True)
class StableDiffusion:
    """A Stable Diffusion, frozen, with the diffusers pipeline that holds its parts."""

    name: str
    pipe: Any
    encoders: tuple[Encoder, ...]
    noise: DiscreteNoise
    machine: Machine
    family: str = "stable-diffusion"

    @property
    def multiple(self) -> int:
        """Pixels a latent stands for, along a side."""
        return int(self.pipe.vae_scale_factor)

    @property
    def grid(self) -> int:
        """Pixels that a place of the U-Net's deepest level stands for, along a side."""
        return self.multiple * pipelines.shrinking(self.pipe.unet)

    @property
    def longest(self) -> None:
        """No limit: a U-Net takes any size."""
        return None

    @property
    def size(self) -> int:
        """The native side in pixels."""
        return int(self.pipe.unet.config.sample_size) * self.multiple

    @property
    def spoken(self) -> tuple[Encoder, ...]:
        """The encoders whose tokens the denoiser is told, one after another."""
        return self.encoders

    def parts(self) -> dict[str, nn.Module]:
        """Its frozen networks by name."""
        return {"vae": self.pipe.vae, "text_encoder": self.pipe.text_encoder, "unet": self.pipe.unet}

    def save_memory(self, lightly: bool = False) -> None:
        """Checkpoint the U-Net's activations, which are nearly all of them."""
        thrift.checkpointed(self.pipe.unet, lightly)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and deviation [n, c, h, w], float32, of pixels [n, 3, h, w] in -1..1."""
        return pipelines.posterior(self.pipe.vae, pixels, self.machine)

    def scale(self, sample: Tensor) -> Tensor:
        """A posterior sample times the VAE's scaling factor."""
        return pipelines.scaled(self.pipe.vae, sample)

    def condition(self, prompts: Sequence[str], frames: Sequence[Frame] = ()) -> Conditioning:
        """The last hidden state [n, tokens, width] of the text encoder."""
        ids = self.encoders[0].ids(prompts).to(self.machine.device)
        with self.machine.arithmetic():
            return Conditioning(self.encoders[0].module(ids).last_hidden_state)

    def predict(self, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        """The U-Net's answer [n, c, h, w], float32."""
        kind = self.machine.weights
        return self.pipe.unet(noisy.to(kind), times, conditioning.context.to(kind)).sample.float()

    @torch.no_grad()
    def draw(
        self, prompts: Sequence[str], negatives: Sequence[str], seeds: Sequence[int], steps: int, guidance: float,
        size: tuple[int, int] | None = None,
    ) -> list[Any]:  # fmt: skip
        """One PIL picture a prompt by StableDiffusionPipeline; each from its own seed."""
        wide, high = size or (self.size, self.size)
        told, untold = (self.full_context(texts) for texts in (prompts, negatives))
        latents = self.drawer(
            prompt_embeds=told,
            negative_prompt_embeds=untold,
            height=high,
            width=wide,
            generator=pipelines.generators(seeds),
            num_inference_steps=steps,
            guidance_scale=guidance,
            output_type="latent",
        ).images
        return pipelines.pictures(self.pipe, latents, self.machine)

    @functools.cached_property
    def drawer(self) -> Any:
        """The pipeline that draws from contexts."""
        return pipelines.drawer(self.pipe, ["text_encoder"], requires_safety_checker=False)

    def full_context(self, prompts: Sequence[str]) -> Tensor:
        """The text encoder's answer, computed in float32, in the U-Net's type."""
        ids = self.encoders[0].ids(prompts).to(self.machine.device)
        return self.encoders[0].module(ids).last_hidden_state.to(self.machine.weights)


def opened(folder: str, name: str, machine: Machine, **parts: Any) -> StableDiffusion:
    """The Stable Diffusion in a diffusers folder, frozen."""
    with pipelines.quiet():
        pipe: Any = StableDiffusionPipeline.from_pretrained(
            folder,
            # Named for each, else the text encoder alone would come in the file's own precision.
            dtype=pipelines.types(machine, "unet"),
            use_safetensors=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            **parts,
        )
    pipe.set_progress_bar_config(disable=True)
    return assembled(pipe, name, machine)


def assembled(pipe: Any, name: str, machine: Machine) -> StableDiffusion:
    """The model of a pipeline's parts, frozen, on the machine."""
    pipelines.check_inputs(pipe, name)
    pipelines.frozen(pipe, machine, pipe.unet)
    attention.suit(pipe.unet, [pipe.text_encoder], machine)
    key = pipelines.KEYS.get(int(pipe.text_encoder.config.hidden_size), "text")
    encoder = pipelines.clip_encoder(key, pipe.tokenizer, pipe.text_encoder)
    return StableDiffusion(name, pipe, (encoder,), discrete_noise(pipe.scheduler), machine)
