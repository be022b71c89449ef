"""Stable Diffusion XL: two CLIP text encoders, a pooled vector, and the sizes of the picture told to the U-Net."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn

from neologism.device import Machine
from neologism.families import attention, pipelines, thrift
from neologism.families.model import Conditioning, Encoder
from neologism.framing import Frame
from neologism.noise import DiscreteNoise, discrete_noise

PARTS = ("vae", "text_encoder", "text_encoder_2", "unet")


@dataclass(frozen=True)
class Pooled:
    """What SDXL's U-Net is told besides the context: the pooled vector [n, width] and six sizes [n, 6] in pixels."""

    vector: Tensor
    sizes: Tensor


@dataclass(frozen=True)
class StableDiffusionXL:
    """A Stable Diffusion XL, frozen, with the diffusers pipeline that holds its parts."""

    name: str
    pipe: Any
    encoders: tuple[Encoder, ...]
    noise: DiscreteNoise
    machine: Machine
    family: str = "stable-diffusion-xl"

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
        return self.encoders[:1]  # the second says of the same tokens, side by side

    def parts(self) -> dict[str, nn.Module]:
        """Its frozen networks by name."""
        return {name: getattr(self.pipe, name) for name in PARTS}

    def save_memory(self, lightly: bool = False) -> None:
        """Checkpoint the U-Net's activations, which are nearly all of them."""
        thrift.checkpointed(self.pipe.unet, lightly)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and deviation [n, c, h, w], float32: the VAE stays in float32, for in fp16 it answers NaN."""
        return pipelines.posterior(self.pipe.vae, pixels, self.machine)

    def scale(self, sample: Tensor) -> Tensor:
        """A posterior sample times the VAE's scaling factor."""
        return pipelines.scaled(self.pipe.vae, sample)

    def condition(self, prompts: Sequence[str], frames: Sequence[Frame] = ()) -> Conditioning:
        """Both encoders' last hidden state but one, side by side, the second's pooled vector, and what the frames show."""
        with self.machine.arithmetic():
            contexts, pooled = self.told(prompts)
        sizes = self.sizes(frames) if frames else self.native_sizes(len(prompts))
        return Conditioning(contexts, Pooled(pooled, sizes))

    def told(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The context [n, tokens, widths] and the pooled vector [n, width] of the prompts (Podell et al. 2023, section 2.1)."""
        contexts: list[Tensor] = []
        answer: Any = None
        for encoder in self.encoders:
            answer = encoder.module(encoder.ids(prompts).to(self.machine.device), output_hidden_states=True)
            contexts.append(answer.hidden_states[-2])
        return torch.cat(contexts, dim=-1), answer.text_embeds

    def sizes(self, frames: Sequence[Frame]) -> Tensor:
        """[n, 6], float32: original (h, w), crop's (top, left) in pixels of the resized picture, target (h, w)."""
        return torch.tensor([six_sizes(frame) for frame in frames], dtype=torch.float32, device=self.machine.device)

    def native_sizes(self, count: int) -> Tensor:
        """The sizes of whole pictures of the native side."""
        six = [self.size, self.size, 0, 0, self.size, self.size]
        return torch.tensor([six] * count, dtype=torch.float32, device=self.machine.device)

    def predict(self, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        """The U-Net's answer [n, c, h, w], float32."""
        kind, more = self.machine.weights, conditioning.more
        added = {"text_embeds": more.vector.to(kind), "time_ids": more.sizes.to(kind)}
        context = conditioning.context.to(kind)
        return self.pipe.unet(noisy.to(kind), times, context, added_cond_kwargs=added).sample.float()

    @torch.no_grad()
    def draw(
        self, prompts: Sequence[str], negatives: Sequence[str], seeds: Sequence[int], steps: int, guidance: float,
        size: tuple[int, int] | None = None,
    ) -> list[Any]:  # fmt: skip
        """One PIL picture a prompt by StableDiffusionXLPipeline; each from its own seed."""
        wide, high = size or (self.size, self.size)
        context, pooled = (t.to(self.machine.weights) for t in self.told(prompts))
        uncontext, unpooled = (t.to(self.machine.weights) for t in self.untold(negatives))
        latents = self.drawer(
            prompt_embeds=context,
            pooled_prompt_embeds=pooled,
            negative_prompt_embeds=uncontext,
            negative_pooled_prompt_embeds=unpooled,
            height=high,
            width=wide,
            generator=pipelines.generators(seeds),
            num_inference_steps=steps,
            guidance_scale=guidance,
            output_type="latent",
        ).images
        return pipelines.pictures(self.pipe, latents, self.machine)

    def untold(self, negatives: Sequence[str]) -> tuple[Tensor, Tensor]:
        """What stands for no prompt: the negative prompts' contexts, or zeros for empty ones where the model was trained so."""
        context, pooled = self.told(negatives)
        if self.pipe.config.force_zeros_for_empty_prompt:
            said = torch.tensor([bool(n) for n in negatives], device=context.device)
            context, pooled = context * said[:, None, None], pooled * said[:, None]
        return context, pooled

    @functools.cached_property
    def drawer(self) -> Any:
        """The pipeline that draws from contexts."""
        return pipelines.drawer(self.pipe, ["text_encoder", "text_encoder_2"], add_watermarker=False)


def six_sizes(frame: Frame) -> tuple[float, ...]:
    """What SDXL was told of a picture in training (Podell et al. 2023, section 2.2)."""
    left, top, width, height = frame.crop
    across, down = frame.side[0] / width, frame.side[1] / height
    if frame.mirrored:
        left = frame.original[0] - left - width
    return (frame.original[1], frame.original[0], round(top * down), round(left * across), frame.side[1], frame.side[0])


def opened(folder: str, name: str, machine: Machine, **parts: Any) -> StableDiffusionXL:
    """The Stable Diffusion XL in a diffusers folder, frozen."""
    with pipelines.quiet():
        pipe: Any = StableDiffusionXLPipeline.from_pretrained(
            folder,
            dtype=pipelines.types(machine, "unet"),
            use_safetensors=True,
            add_watermarker=False,
            **parts,
        )
    pipe.set_progress_bar_config(disable=True)
    return assembled(pipe, name, machine)


def assembled(pipe: Any, name: str, machine: Machine) -> StableDiffusionXL:
    """The model of a pipeline's parts, frozen, on the machine."""
    pipelines.check_inputs(pipe, name)
    pipelines.frozen(pipe, machine, pipe.unet)
    attention.suit(pipe.unet, [pipe.text_encoder, pipe.text_encoder_2], machine)
    encoders = (
        pipelines.clip_encoder("clip_l", pipe.tokenizer, pipe.text_encoder),
        pipelines.clip_encoder("clip_g", pipe.tokenizer_2, pipe.text_encoder_2),
    )
    return StableDiffusionXL(name, pipe, encoders, discrete_noise(pipe.scheduler), machine)
