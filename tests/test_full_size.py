"""Networks of the full size of SD 1.5 and SDXL learn a word in 24 GB. Their weights are random: nothing is said of real ones."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from neologism import captions
from neologism.device import Limits, Machine
from neologism.events import Step
from neologism.families import bpe, sdxl, stable_diffusion
from neologism.framing import Frame
from neologism.initial import Start
from neologism.latents import Latents
from neologism.lessons import Lesson
from neologism.loop import loop
from neologism.recipe import recipe

MOST = 24 * 2**20  # KiB
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
}  # fmt: skip
CLIP_L = CLIPTextConfig(
    vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
)
CLIP_G = CLIPTextConfig(
    vocab_size=49408, hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20,
    hidden_act="gelu", projection_dim=1280,
)  # fmt: skip
SD15 = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SDXL = {
    "sample_size": 128, "block_out_channels": (320, 640, 1280), "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 2, 10], "cross_attention_dim": 2048, "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip


def filled(make: Any, kind: torch.dtype) -> Any:
    """A network of random weights of a type, never held in another: so that making it does not need more than using it."""
    with torch.device("meta"):
        network: nn.Module = make()
    network = network.to(kind).to_empty(device="cpu")
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            tensor.normal_(std=tensor[0].numel() ** -0.5)
        else:
            tensor.fill_(float(name.endswith("weight")))
    return network


def opened(kind: str, folder: Path) -> Any:
    """The model, its denoiser in bf16 and its activations computed twice."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    torch.manual_seed(0)
    bpe.tokenizer(folder / "words", bpe.END)
    words = CLIPTokenizer.from_pretrained(folder / "words")
    noise = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1
    )
    unet = filled(lambda: UNet2DConditionModel(**(SDXL if kind == "sdxl" else SD15)), torch.bfloat16)
    vae, first = filled(lambda: AutoencoderKL(**VAE), torch.float32), CLIPTextModel(CLIP_L)
    where = Machine(torch.device("cpu"), "bf16", "as asked", limits=Limits(vae_away=True))
    if kind == "sd15":
        plain = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        return stable_diffusion.assembled(StableDiffusionPipeline(vae, first, words, unet, noise, **plain), kind, where)
    second = CLIPTextModelWithProjection(CLIP_G)
    pipe = StableDiffusionXLPipeline(vae, first, second, words, words, unet, noise, add_watermarker=False)
    return sdxl.assembled(pipe, kind, where)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_a_word_takes_three_steps_at_full_size_in_24_gb(kind: str, tmp_path: Path) -> None:
    model = opened(kind, tmp_path)
    model.save_memory()
    side = model.size
    mean = torch.randn(4, 4, side // 8, side // 8)
    frames = (Frame((0, 0, side, side), (side, side), (side, side), False),) * 4
    latents = Latents(mean, torch.full_like(mean, 0.1), torch.ones_like(mean[:, :1]), frames, (0, 1, 2, 3), 0)
    settings = recipe(pictures="none", words="<thing>", batch=1, steps=3, probe_every=10**6)
    start = Start({encoder.key: torch.randn(1, encoder.width) * 0.02 for encoder in model.encoders}, "random")
    told = captions.OBJECT_TEMPLATES[0]
    lesson = Lesson("<thing>", latents, lambda *_: told.replace("{}", "<thing>"), settings, model, start, told)
    lesson.probe = lambda: 0.0  # type: ignore[method-assign]  # the end's probe would be sixteen samples more
    events = [event for _, event in loop(model, [lesson]) if isinstance(event, Step)]
    assert [event.step for event in events] == [1, 2, 3] and all(event.gradient > 0 for event in events)
    assert all(not torch.equal(rows, start.vectors[key]) for key, rows in lesson.vectors().items())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MOST
