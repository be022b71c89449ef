"""Networks of the families' exact shapes with random weights, built in memory."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (  # pyright: ignore[reportPrivateImportUsage]
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from neologism.families import EMOJI

TOKENS = 49_408
UNETS: dict[str, dict[str, Any]] = {
    "sd15": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd21": {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 2, 10], "cross_attention_dim": 2048, "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}  # fmt: skip
TEXTS: dict[str, dict[str, Any]] = {
    "sd15": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "sd21": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16,
        "hidden_act": "gelu",
    },
    "sdxl": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
}  # fmt: skip
SECOND = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20, "hidden_act": "gelu",
    "projection_dim": 1280,
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


def second_encoder() -> CLIPTextModelWithProjection:
    """SDXL's second text encoder, random."""
    return CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=TOKENS, max_position_embeddings=77, **SECOND))


def words() -> CLIPTokenizer:
    """The tokenizer of the emoji base, whose ids any table has."""
    tokenizer = CLIPTokenizer.from_pretrained(EMOJI / "tokenizer")
    tokenizer.model_max_length = 77
    return tokenizer


@torch.no_grad()
def as_shared(network: Any) -> Any:
    """The network with weights that half precision can hold, as those of most files that are shared."""
    for tensor in network.parameters():
        tensor.copy_(tensor.half())
    return network


def pipeline(family: str, side: int, device: str = "cpu") -> Any:
    """The family's pipeline with random weights, made on the device. Its tokenizer is that of the emoji base."""
    torch.manual_seed(0)
    with torch.device(device):
        return made(family, side)


def made(family: str, side: int) -> Any:
    """The pipeline."""
    noise = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    unet = as_shared(UNet2DConditionModel(sample_size=side // 8, **UNETS[family]))
    parts = {"vae": as_shared(vae()), "unet": unet, "scheduler": noise} | texts(family)
    if family == "sdxl":
        return StableDiffusionXLPipeline(**parts, add_watermarker=False)
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def texts(family: str) -> dict[str, Any]:
    """The family's text encoders and tokenizers."""
    first = {"text_encoder": as_shared(text_encoder(family)), "tokenizer": words()}
    second = {"text_encoder_2": as_shared(second_encoder()), "tokenizer_2": words()} if family == "sdxl" else {}
    return first | second


def alike(family: str, side: int) -> Any:
    """A pipeline of its own with the same random weights, which this side may store its own way."""
    return pipeline(family, side)


def shared(pipe: Any, family: str) -> Any:
    """A pipeline over the same denoiser and autoencoder with text encoders and tokenizers of its own."""
    plain = {"add_watermarker": False} if family == "sdxl" else {"requires_safety_checker": False}
    return type(pipe)(**pipe.components | texts(family), **plain)
