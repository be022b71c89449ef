"""Networks of the families' exact shapes with random weights, built in memory."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (  # pyright: ignore[reportPrivateImportUsage]
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from neologism.families import EMOJI

TOKENS = 49_408
UNETS: dict[str, dict[str, Any]] = {
    "sd15": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd21": {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
}
TEXTS: dict[str, dict[str, Any]] = {
    "sd15": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "sd21": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16,
        "hidden_act": "gelu",
    },
}  # fmt: skip


def vae() -> AutoencoderKL:
    """The autoencoder of Stable Diffusion 1 and 2, random."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    )


def text_encoder(family: str) -> CLIPTextModel:
    """The family's text encoder, random."""
    return CLIPTextModel(CLIPTextConfig(vocab_size=TOKENS, max_position_embeddings=77, **TEXTS[family]))


@torch.no_grad()
def as_shared(network: Any) -> Any:
    """The network with weights that half precision can hold, as those of most files that are shared."""
    for tensor in network.parameters():
        tensor.copy_(tensor.half())
    return network


def pipeline(family: str, side: int) -> StableDiffusionPipeline:
    """The family's pipeline with random weights. Its tokenizer is that of the emoji base, whose ids any table has."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(EMOJI / "tokenizer")
    tokenizer.model_max_length = 77
    noise = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    unet = UNet2DConditionModel(sample_size=side // 8, **UNETS[family])
    return StableDiffusionPipeline(
        *map(as_shared, (vae(), text_encoder(family))), tokenizer, as_shared(unet), noise,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def alike(family: str, side: int) -> Any:
    """A pipeline of its own with the same random weights, which this side may store its own way."""
    return pipeline(family, side)


def shared(pipe: Any, family: str) -> Any:
    """A pipeline over the same denoiser and autoencoder with a text encoder and tokenizer of its own."""
    tokenizer = CLIPTokenizer.from_pretrained(EMOJI / "tokenizer")
    tokenizer.model_max_length = 77
    return type(pipe)(
        **pipe.components | {"text_encoder": text_encoder(family), "tokenizer": tokenizer},
        requires_safety_checker=False,
    )
