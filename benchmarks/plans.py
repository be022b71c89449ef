"""Which plan each family gets in which memory: `python -m benchmarks.plans`

The networks have the exact shapes of the families and no weights at all, so every figure is the estimate that `--memory` goes by, not
a measurement of a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from benchmarks import record
from neologism.families import measuring
from neologism.families.measuring import Measured
from neologism.memory import GIB, Demand, Plan, fitting

CLIP_L = CLIPTextConfig(
    vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
)
CLIP_H = CLIPTextConfig(
    vocab_size=49408, hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16
)
CLIP_G = CLIPTextConfig(
    vocab_size=49408, hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20
)
T5 = T5Config(
    vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu"
)
VAE = 84_000_000
UNET = {"_class_name": "UNet2DConditionModel"}
FAMILIES: dict[str, tuple[dict[str, Any], list[Any], int]] = {
    "sd15": (UNET | {"cross_attention_dim": 768, "attention_head_dim": 8}, [CLIP_L], 512),
    "sd21": (
        UNET | {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
        [CLIP_H],
        768,
    ),
    "sdxl": (
        UNET
        | {
            "block_out_channels": [320, 640, 1280],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "transformer_layers_per_block": [1, 2, 10], "cross_attention_dim": 2048, "attention_head_dim": [5, 10, 20],
            "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        [CLIP_L, CLIP_G],
        1024,
    ),
    "sd35": (
        {
            "_class_name": "SD3Transformer2DModel", "sample_size": 128, "patch_size": 2, "in_channels": 16, "num_layers": 24,
            "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096, "caption_projection_dim": 1536,
            "pooled_projection_dim": 2048, "out_channels": 16, "pos_embed_max_size": 384, "qk_norm": "rms_norm",
            "dual_attention_layers": list(range(13)),
        },
        [CLIP_L, CLIP_G, T5],
        1024,
    ),
    "flux": (
        {
            "_class_name": "FluxTransformer2DModel", "in_channels": 64, "joint_attention_dim": 4096, "guidance_embeds": True,
            "pooled_projection_dim": 768,
        },
        [CLIP_L, T5],
        1024,
    ),
}  # fmt: skip
MEMORIES = (6, 8, 12, 16, 24, 48)


def sizes(family: str) -> Measured:
    """The sizes of a family's networks."""
    config, texts, side = FAMILIES[family]
    denoiser = "unet" if config is UNET or config["_class_name"].startswith("UNet") else "transformer"
    with torch.device("meta"):
        network = getattr(measuring.diffusers, config["_class_name"]).from_config(config)
        made = [T5EncoderModel(t) if isinstance(t, T5Config) else CLIPTextModelWithProjection(t) for t in texts]
    parts = {f"text_encoder_{n}": sum(p.numel() for p in text.parameters()) for n, text in enumerate(made)}
    parts |= {denoiser: sum(p.numel() for p in network.parameters()), "vae": VAE}
    named = [text.to_dict() | {"architectures": [type(made[n]).__name__]} for n, text in enumerate(texts)]
    tokens = measuring.prompt_tokens(config)
    kept_of_text = {f"text_encoder_{n}": measuring.kept_by_text(text, tokens) for n, text in enumerate(named)}
    return Measured(parts, denoiser, *measuring.kept_by(config, side // 8), kept_of_text, 4 * 128 * side * side, side)


def plans(family: str) -> dict[str, Any]:
    """A family's plan for a batch of four in each memory."""
    known = sizes(family)
    found: dict[str, Any] = {"parameters": known.parts}
    for gigabytes in MEMORIES:
        plan = fitting(Demand(known, 4), Plan("bf16"), gigabytes * GIB, "cuda", ["int8", "nf4"])
        found[f"{gigabytes} GB"] = {
            "checkpointing": plan.gradient_checkpointing, "vae_away": plan.vae_away, "at_once": plan.at_once or 4,
            "quantised": plan.quantised, "streamed": plan.streamed, "estimated_gb": round(plan.needed / GIB, 1),
            "fits": plan.needed <= gigabytes * GIB,
        }  # fmt: skip
    return found


def measured() -> dict[str, Any]:
    """Every family's plans."""
    asked = [name for name in GIVEN.only.split(",") if name] or list(FAMILIES)
    return {family: plans(family) for family in asked}


if __name__ == "__main__":
    GIVEN = record.options("plans for a memory").parse_args()
    record.told("plans", GIVEN, measured)
