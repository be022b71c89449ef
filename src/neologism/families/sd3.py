"""Stable Diffusion 3 and 3.5: two CLIP text encoders and T5, a transformer, flow matching (Esser et al. 2024, arXiv 2403.03206)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn

from neologism.device import Machine
from neologism.families import pipelines, thrift
from neologism.families.model import Conditioning, Encoder
from neologism.framing import Frame
from neologism.noise import FlowNoise, flow_noise

PARTS = ("vae", "text_encoder", "text_encoder_2", "text_encoder_3", "transformer")
T5_TOKENS = 256  # what the pipeline gives T5


@dataclass(frozen=True)
class StableDiffusion3:
    """A Stable Diffusion 3, frozen, with the diffusers pipeline that holds its parts; T5 may be missing."""

    name: str
    pipe: Any
    encoders: tuple[Encoder, ...]
    noise: FlowNoise
    machine: Machine
    family: str = "stable-diffusion-3"

    @property
    def multiple(self) -> int:
        """Pixels that a side must be a multiple of: a latent's, times the transformer's patch."""
        return int(self.pipe.vae_scale_factor) * int(self.pipe.transformer.config.patch_size)

    @property
    def grid(self) -> int:
        """Pixels that a patch stands for, along a side."""
        return self.multiple

    @property
    def longest(self) -> int:
        """The longest side in pixels that the table of position embeddings reaches."""
        return int(self.pipe.transformer.config.pos_embed_max_size) * self.multiple

    @property
    def size(self) -> int:
        """The native side in pixels."""
        return int(self.pipe.transformer.config.sample_size) * int(self.pipe.vae_scale_factor)

    @property
    def spoken(self) -> tuple[Encoder, ...]:
        """The encoders whose tokens the denoiser is told, one after another."""
        return (self.encoders[0], *self.encoders[2:])  # the second CLIP says of the same tokens, side by side

    def parts(self) -> dict[str, nn.Module]:
        """Its frozen networks by name."""
        return {name: part for name in PARTS if (part := getattr(self.pipe, name)) is not None}

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
        """Both CLIPs' last hidden state but one, T5's answer behind them, and both pooled vectors side by side."""
        with self.machine.arithmetic():
            context, pooled = self.told(prompts)
        return Conditioning(context, pooled)

    def told(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The context [n, tokens, width] and the pooled vectors [n, widths] of the prompts (section 4, fig. 2)."""
        answers: list[Any] = [self.answer(encoder, prompts) for encoder in self.encoders]
        clips = torch.cat([answer.hidden_states[-2] for answer in answers[:2]], dim=-1)
        width = int(self.pipe.transformer.config.joint_attention_dim)
        clips = nn.functional.pad(clips, (0, width - clips.shape[-1]))
        t5 = answers[2].last_hidden_state if len(answers) > 2 else clips.new_zeros(len(prompts), T5_TOKENS, width)
        return torch.cat([clips, t5.to(clips.dtype)], dim=1), torch.cat([a.text_embeds for a in answers[:2]], dim=-1)

    def answer(self, encoder: Encoder, prompts: Sequence[str]) -> Any:
        """What a text encoder says of the prompts."""
        return encoder.module(encoder.ids(prompts).to(self.machine.device), output_hidden_states=True)

    def predict(self, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        """The transformer's answer [n, c, h, w], float32; it counts times in thousandths."""
        kind = self.machine.weights
        return self.pipe.transformer(
            hidden_states=noisy.to(kind),
            timestep=times * 1000,
            encoder_hidden_states=conditioning.context.to(kind),
            pooled_projections=conditioning.more.to(kind),
        ).sample.float()

    @torch.no_grad()
    def draw(
        self, prompts: Sequence[str], negatives: Sequence[str], seeds: Sequence[int], steps: int, guidance: float,
        size: tuple[int, int] | None = None,
    ) -> list[Any]:  # fmt: skip
        """One PIL picture a prompt by StableDiffusion3Pipeline; each from its own seed."""
        wide, high = size or (self.size, self.size)
        (context, pooled), (uncontext, unpooled) = (
            [told.to(self.machine.weights) for told in self.told(texts)] for texts in (prompts, negatives)
        )
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

    @functools.cached_property
    def drawer(self) -> Any:
        """The pipeline that draws from contexts."""
        return pipelines.drawer(self.pipe, ["text_encoder", "text_encoder_2", "text_encoder_3"])


def opened(folder: str, name: str, machine: Machine, **parts: Any) -> StableDiffusion3:
    """The Stable Diffusion 3 in a diffusers folder, frozen."""
    with pipelines.quiet():
        told: Any = StableDiffusion3Pipeline.load_config(folder)
        # What a folder was saved without must be named as missing; T5 is the one part that may be.
        missing = {part: None for part in ("text_encoder_3", "tokenizer_3") if not (told.get(part) or [None])[0]}
        kinds = pipelines.types(machine, "transformer", *({"text_encoder_3"} - missing.keys()))
        pipe: Any = StableDiffusion3Pipeline.from_pretrained(
            folder, dtype=kinds, use_safetensors=True, **missing, **parts
        )
    pipe.set_progress_bar_config(disable=True)
    return assembled(pipe, name, machine)


def assembled(pipe: Any, name: str, machine: Machine) -> StableDiffusion3:
    """The model of a pipeline's parts, frozen, on the machine."""
    pipelines.frozen(pipe, machine, pipe.transformer)
    encoders = [
        pipelines.clip_encoder("clip_l", pipe.tokenizer, pipe.text_encoder),
        pipelines.clip_encoder("clip_g", pipe.tokenizer_2, pipe.text_encoder_2),
    ]
    if pipe.text_encoder_3 is not None:
        encoders.append(pipelines.t5_encoder(pipe.tokenizer_3, pipe.text_encoder_3, T5_TOKENS))
    return StableDiffusion3(name, pipe, tuple(encoders), flow_noise(pipe.scheduler), machine)
