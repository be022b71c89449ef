"""FLUX.1 dev and schnell: CLIP's pooled vector and T5's answer, a transformer over packed latents, flow matching."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FluxPipeline  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn

from neologism.device import Machine
from neologism.families import pipelines, thrift
from neologism.families.model import Conditioning, Encoder
from neologism.framing import Frame
from neologism.noise import FlowNoise, flow_noise

PARTS = ("vae", "text_encoder", "text_encoder_2", "transformer")
TRAINED_GUIDANCE = (
    1.0  # at 1 the distilled guidance of dev adds nothing, so what is learned is the word and not the guidance
)


@dataclass(frozen=True)
class Flux:
    """A FLUX.1, frozen, with the diffusers pipeline that holds its parts."""

    name: str
    pipe: Any
    encoders: tuple[Encoder, ...]
    noise: FlowNoise
    machine: Machine
    family: str = "flux"

    @property
    def multiple(self) -> int:
        """Pixels that a side must be a multiple of: two latents, which are packed into one token."""
        return 2 * int(self.pipe.vae_scale_factor)

    @property
    def grid(self) -> int:
        """Pixels that a token stands for, along a side."""
        return self.multiple

    @property
    def longest(self) -> None:
        """No limit: rotary position embeddings reach any size."""
        return None

    @property
    def size(self) -> int:
        """The native side in pixels."""
        return int(self.pipe.default_sample_size) * int(self.pipe.vae_scale_factor)

    @property
    def spoken(self) -> tuple[Encoder, ...]:
        """The encoders whose tokens the denoiser is told, one after another."""
        return self.encoders[1:]  # CLIP is heard as a pooled vector alone

    def parts(self) -> dict[str, nn.Module]:
        """Its frozen networks by name."""
        return {name: getattr(self.pipe, name) for name in PARTS}

    def save_memory(self, lightly: bool = False) -> None:
        """Checkpoint the transformer's activations, which are nearly all of them."""
        thrift.checkpointed(self.pipe.transformer, lightly)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and deviation [n, c, h, w], float32, of pixels [n, 3, h, w] in -1..1."""
        return pipelines.posterior(self.pipe.vae, pixels, self.machine)

    def scale(self, sample: Tensor) -> Tensor:
        """A posterior sample, shifted and scaled."""
        return pipelines.scaled(self.pipe.vae, sample)

    def condition(self, prompts: Sequence[str], frames: Sequence[Frame] = ()) -> Conditioning:
        """T5's answer [n, tokens, width] and CLIP's pooled vector [n, width]."""
        with self.machine.arithmetic():
            context, pooled = self.told(prompts)
        return Conditioning(context, pooled)

    def told(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """T5's answer and CLIP's pooled vector of the prompts."""
        clip, t5 = (e.module(e.ids(prompts).to(self.machine.device)) for e in self.encoders)
        return t5.last_hidden_state, clip.pooler_output

    def predict(self, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        """The transformer's answer [n, c, h, w], float32, to latents packed two by two."""
        kind, (high, wide) = self.machine.weights, noisy.shape[-2:]
        guidance = None
        if self.pipe.transformer.config.guidance_embeds:
            guidance = torch.full_like(times, TRAINED_GUIDANCE)
        answer = self.pipe.transformer(
            hidden_states=packed(noisy).to(kind),
            timestep=times,
            guidance=guidance,
            pooled_projections=conditioning.more.to(kind),
            encoder_hidden_states=conditioning.context.to(kind),
            txt_ids=torch.zeros(conditioning.context.shape[1], 3, device=noisy.device),
            img_ids=places(high // 2, wide // 2).to(noisy.device),
        ).sample
        return unpacked(answer.float(), high, wide)

    @torch.no_grad()
    def draw(
        self, prompts: Sequence[str], negatives: Sequence[str], seeds: Sequence[int], steps: int, guidance: float,
        size: tuple[int, int] | None = None,
    ) -> list[Any]:  # fmt: skip
        """One PIL picture a prompt by FluxPipeline; each from its own seed.

        Guidance is the distilled one; negative prompts, where there are any, cost a second pass (true CFG of the same scale).
        """
        wide, high = size or (self.size, self.size)
        context, pooled = (told.to(self.machine.weights) for told in self.told(prompts))
        more: dict[str, Any] = {}
        if any(negatives):
            uncontext, unpooled = (told.to(self.machine.weights) for told in self.told(negatives))
            more = {
                "negative_prompt_embeds": uncontext,
                "negative_pooled_prompt_embeds": unpooled,
                "true_cfg_scale": guidance,
            }
        tokens = self.drawer(
            prompt_embeds=context,
            pooled_prompt_embeds=pooled,
            height=high,
            width=wide,
            generator=pipelines.generators(seeds),
            num_inference_steps=steps,
            guidance_scale=guidance,
            output_type="latent",
            **more,
        ).images
        high, wide = (side // int(self.pipe.vae_scale_factor) for side in (high, wide))
        return pipelines.pictures(self.pipe, unpacked(tokens, high, wide), self.machine)

    @functools.cached_property
    def drawer(self) -> Any:
        """The pipeline that draws from contexts."""
        return pipelines.drawer(self.pipe, ["text_encoder", "text_encoder_2"])


def packed(latents: Tensor) -> Tensor:
    """Latents [n, c, h, w] as tokens [n, h/2 * w/2, 4 c]: squares of two by two."""
    n, c, h, w = latents.shape
    return latents.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, 4 * c)


def unpacked(tokens: Tensor, high: int, wide: int) -> Tensor:
    """Tokens as latents [n, c, high, wide]."""
    n, _, c = tokens.shape
    squares = tokens.view(n, high // 2, wide // 2, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(n, c // 4, high, wide)


def places(high: int, wide: int) -> Tensor:
    """Where each token stands: [high * wide, 3], float32: 0, row, column."""
    rows, columns = torch.meshgrid(torch.arange(high), torch.arange(wide), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3).float()


def opened(folder: str, name: str, machine: Machine, **parts: Any) -> Flux:
    """The FLUX.1 in a diffusers folder, frozen."""
    with pipelines.quiet():
        pipe: Any = FluxPipeline.from_pretrained(
            folder, dtype=pipelines.types(machine, "transformer", "text_encoder_2"), use_safetensors=True, **parts
        )
    pipe.set_progress_bar_config(disable=True)
    return assembled(pipe, name, machine)


def assembled(pipe: Any, name: str, machine: Machine) -> Flux:
    """The model of a pipeline's parts, frozen, on the machine."""
    pipelines.frozen(pipe, machine, pipe.transformer)
    tokens = 512 if pipe.transformer.config.guidance_embeds else 256  # dev's and schnell's own lengths
    encoders = (
        pipelines.clip_encoder("clip_l", pipe.tokenizer, pipe.text_encoder),
        pipelines.t5_encoder(pipe.tokenizer_2, pipe.text_encoder_2, tokens),
    )
    return Flux(name, pipe, encoders, flow_noise(pipe.scheduler), machine)
