"""What the families have in common: their autoencoder, their CLIP text encoders, and how diffusers opens them."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_log
from torch import Tensor, nn
from transformers.utils import logging as transformers_log

from neologism.device import Machine
from neologism.errors import ModelError
from neologism.families import quantising, shelf, streaming, thrift
from neologism.families.model import Encoder

# What a text encoder of this width is called in the field's files; any other is the "text" encoder.
KEYS = {768: "clip_l", 1024: "clip_h", 1280: "clip_g"}


PIXELS = 2**18  # that are decoded at once: of one picture at 512 x 512, for a decoder has most in hand at full size


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Keep the libraries' own progress bars off the terminal: they would break into ours."""
    chatty = [log for log in (diffusers_log, transformers_log) if log.is_progress_bar_enabled()]
    for log in chatty:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in chatty:
            log.enable_progress_bar()


def scaled(vae: Any, sample: Tensor) -> Tensor:
    """A posterior sample as the latents that denoisers work on: shifted where the VAE says so, and scaled."""
    return (sample - (vae.config.get("shift_factor") or 0.0)) * vae.config.scaling_factor


def shrinking(unet: Any) -> int:
    """How many places of a U-Net's input one of its deepest level stands for, along a side."""
    return 2 ** sum(bool(getattr(block, "downsamplers", None)) for block in unet.down_blocks)


def types(machine: Machine, *halved: str) -> dict[str, torch.dtype]:
    """Which part is loaded in which type: the denoiser and what is as large in the machine's, all else in float32."""
    return dict.fromkeys(halved, machine.weights) | {"default": torch.float32}


def vae_in(folder: Path) -> Any:
    """The VAE of a diffusers folder, in float32.

    Raises:
        ModelError: there is none.
    """
    from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]

    try:
        with quiet():
            return AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{folder} holds no VAE: {reason}. Name a folder of one (config.json and .safetensors) behind the plus sign."
        ) from None


def check_inputs(pipe: Any, name: str) -> None:
    """Refuse a U-Net that expects more than noisy latents, as those of inpainting do under an ordinary name.

    Raises:
        ModelError: its input has more channels than the VAE's latents.
    """
    wants, has = int(pipe.unet.config.in_channels), int(pipe.vae.config.latent_channels)
    if wants != has:
        raise ModelError(
            f"The U-Net of {name} takes {wants} channels and its VAE makes {has}: it is made for inpainting or editing. "
            "Teach the word to the family's own base model instead."
        )


def frozen(pipe: Any, machine: Machine, denoiser: nn.Module) -> None:
    """Put a pipeline's networks on the machine, frozen, the denoiser in its type; quantised ones are packed before they move."""
    networks = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    for part in networks:
        part.requires_grad_(False).eval()
    if next(denoiser.parameters()).dtype != machine.weights:
        denoiser.to(dtype=machine.weights)
    for part in networks:
        streamed = part is denoiser and machine.limits.streamed
        # What is as large as the denoiser (T5) is in its type already; the VAE and CLIP are not, and stay float32.
        if machine.quantised != "none" and not streamed and next(part.parameters()).dtype == machine.weights:
            quantising.quantise(part, machine.quantised, machine.device)
        if streamed:
            streaming.stream(part, machine.device)
        elif part is not pipe.vae or not machine.limits.vae_away:
            part.to(machine.device)
        else:
            put_away(part, machine)


@contextlib.contextmanager
def at_hand(vae: Any, machine: Machine) -> Generator[None]:
    """Have the VAE on the device until the block ends, and longer where memory allows."""
    if vae.device.type != machine.device.type:
        vae.to(machine.device)
    try:
        yield
    finally:
        if machine.limits.vae_away:
            put_away(vae, machine)


def put_away(vae: Any, machine: Machine) -> None:
    """Keep the VAE off the device: in main memory, or where that is the device, in a file."""
    if machine.device.type == "cpu":
        shelf.shelve(vae)
    else:
        vae.to("cpu")


def clip_encoder(key: str, tokenizer: Any, module: Any) -> Encoder:
    """A CLIP text encoder, its end token known to it.

    A legacy value of 2 makes transformers pool at the highest id, which would be the new word.
    """
    end = tokenizer.eos_token_id
    module.config.eos_token_id = end
    for part in module.modules():
        if hasattr(part, "eos_token_id"):
            part.eos_token_id = end
    return Encoder(key, tokenizer, module, int(module.config.hidden_size))


def t5_encoder(tokenizer: Any, module: Any, most: int) -> Encoder:
    """A T5 text encoder, which takes prompts of `most` tokens."""
    return Encoder("t5", tokenizer, module, int(module.config.d_model), most=most)


def drawer(pipe: Any, without: Sequence[str], **more: Any) -> Any:
    """The pipeline without its text encoders, whose float32 it would otherwise hand to a denoiser of bf16."""
    made: Any = type(pipe)(**pipe.components | dict.fromkeys(without), **more)
    made.set_progress_bar_config(disable=True)
    return made


@torch.no_grad()
def posterior(vae: Any, pixels: Tensor, machine: Machine) -> tuple[Tensor, Tensor]:
    """Posterior mean and deviation [n, c, h, w], float32, of pixels [n, 3, h, w] in -1..1."""
    with at_hand(vae, machine):
        found = vae.encode(pixels.to(vae.device, thrift.computing(vae))).latent_dist
    return found.mean.float(), found.std.float()


def decoded(vae: Any, latents: Tensor, machine: Machine) -> Tensor:
    """Pixels [n, 3, h, w], float, about -1..1, of scaled latents [n, c, h, w]; gradients reach the latents."""
    shift = vae.config.get("shift_factor") or 0.0
    if latents.requires_grad:
        vae.to(machine.device)  # and stays: the backward pass needs its weights as well
    with contextlib.nullcontext() if latents.requires_grad else at_hand(vae, machine):
        return vae.decode(latents.to(thrift.computing(vae)) / vae.config.scaling_factor + shift).sample


@torch.no_grad()
def pictures(pipe: Any, latents: Tensor, machine: Machine) -> list[Any]:
    """PIL pictures of scaled latents [n, c, h, w], decoded in the VAE's own type.

    The pipeline would hand the denoiser's bf16 to the VAE, which stays in float32.
    """
    most = max(1, PIXELS // (latents.shape[-2] * latents.shape[-1] * int(pipe.vae_scale_factor) ** 2))
    with at_hand(pipe.vae, machine):
        pixels = torch.cat([decoded(pipe.vae, some, machine) for some in latents.split(most)])
    return pipe.image_processor.postprocess(pixels, output_type="pil")


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """A CPU generator for each picture, so that it is the same on every device and in every company."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]
