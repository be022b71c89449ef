"""What a single .safetensors of a model site holds, told from the names and shapes of its tensors: which family, and its configs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from neologism.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP_1, CLIP_XL = "cond_stage_model.transformer.text_model.", "conditioner.embedders.0.transformer.text_model."
OPEN_2, OPEN_XL = "cond_stage_model.model.", "conditioner.embedders.1.model."
PIPELINES = {
    "sd1": "StableDiffusionPipeline",
    "sd2": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "flux": "FluxPipeline",
}
NONE_OF_OURS = (
    ("conditioner.embedders.0.model.", "a refiner: it goes on from another model's picture and has only one text encoder"),
    ("edm_mean", "a Playground 2.5, whose rule of noise (EDM) cannot be trained"),
    ("control_model.", "a ControlNet: it steers another model and draws nothing alone"),
    ("lora_", "a LoRA: it changes another model and draws nothing alone"),
    ("base_model.model.", "a LoRA: it changes another model and draws nothing alone"),
)  # fmt: skip
LAST = 23  # layers of SD 2's text encoder that are used: the one behind them is left out there


def shapes_of(file: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in a safetensors file, by name; nothing else is read.

    Raises:
        ModelError: it is no safetensors file, or damaged.
    """
    if file.suffix in (".ckpt", ".pt", ".bin", ".pth"):
        raise ModelError(
            f"{file} is a pickle, which can run code when it is opened, so it is not. Give the same model as .safetensors."
        )
    try:
        with safe_open(file, "pt") as opened:  # pyright: ignore[reportUnknownVariableType]
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} is no whole .safetensors file: {error}. Download it again.") from None


def recognised(shapes: Shapes, file: Path) -> str:
    """Which of the families' layouts a file has: "sd1", "sd2", "sdxl", "sd3" or "flux".

    Raises:
        ModelError: it is a refiner, an inpainting model, a LoRA, or nothing known.
    """
    for beginning, reason in NONE_OF_OURS:
        if any(name.startswith(beginning) for name in shapes):
            raise unfit(file, reason)
    plain = {name.removeprefix(UNET) for name in shapes}
    signs = {
        "flux": "double_blocks.0.img_attn.norm.key_norm.scale" in plain,
        "sd3": "joint_blocks.0.context_block.adaLN_modulation.1.bias" in plain,
        "sdxl": any(name.startswith(OPEN_XL) for name in shapes) and "input_blocks.0.0.weight" in plain,
        "sd2": OPEN_2 + "token_embedding.weight" in shapes,
        "sd1": CLIP_1 + "embeddings.token_embedding.weight" in shapes,
    }
    found = next((kind for kind, fits in signs.items() if fits), None)
    if found is None:
        raise ModelError(
            f"{file} holds no Stable Diffusion or FLUX that is known: {len(shapes)} tensors, such as "
            f"{', '.join(sorted(shapes)[:3])}. Give a whole checkpoint (U-Net, VAE and text encoder), or a diffusers folder."
        )
    check_channels(shapes, found, file)
    return found


def unfit(file: Path, reason: str) -> ModelError:
    """The complaint about a file of another kind."""
    return ModelError(f"{file} is {reason}. Teach the word to the family's own base model instead.")


def check_channels(shapes: Shapes, kind: str, file: Path) -> None:
    """Refuse denoisers that expect more than noisy latents."""
    names = {"flux": "img_in.weight", "sd3": "x_embedder.proj.weight"}
    found = next((shapes[n] for p in (UNET, "") if (n := p + names.get(kind, "input_blocks.0.0.weight")) in shapes), ())
    takes, usual = (found or (0, 0))[1], {"flux": 64, "sd3": 16}.get(kind, 4)
    if takes == 9:
        raise unfit(
            file,
            "an inpainting model: its U-Net expects a mask and a masked picture, which a word's pictures do not have",
        )
    if takes != usual:
        raise unfit(file, f"made for editing: its input has {takes} channels where the family's own has {usual}")


def numbers(shapes: Shapes, pattern: str) -> set[str]:
    """What stands in the names where the pattern's group is."""
    return {match[1] for name in shapes if (match := re.match(pattern, name))}


def count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers stand where the pattern's group is."""
    return len(numbers(shapes, pattern))


def unet_config(shapes: Shapes, kind: str, file: Path) -> dict[str, Any]:
    """The diffusers config of a U-Net of SD 1, 2 or XL, as its tensors' shapes have it.

    Raises:
        ModelError: its levels are not alike, as diffusers' converter wants them.
    """
    levels = levels_of(shapes)
    counts = {len(level) for level in levels}
    depths = [{depth for _, depth in level} for level in levels]
    if len(counts) > 1 or any(len(depth) > 1 for depth in depths):
        raise ModelError(
            f"The U-Net of {file} has levels of different makes (a pruned or distilled one), which diffusers cannot convert. "
            "Give its diffusers folder."
        )
    channels, deep = [level[0][0] for level in levels], [depth.pop() for depth in depths]
    cross = next(
        shape[1] for name, shape in shapes.items() if name.startswith(UNET) and name.endswith("attn2.to_k.weight")
    )
    linear = any(n.startswith(UNET) and n.endswith(".1.proj_in.weight") and len(s) == 2 for n, s in shapes.items())
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": {"sd1": 64, "sd2": 96, "sdxl": 128}[kind],
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": channels,
        "layers_per_block": counts.pop(),
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in deep],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(deep)],
        "transformer_layers_per_block": [depth or 1 for depth in deep],
        "cross_attention_dim": cross,
        # SD 1 has 8 heads at every level, the later ones heads of 64 numbers.
        "attention_head_dim": [max(1, c // 64) for c in channels] if linear else 8,
        "use_linear_projection": linear,
    }
    return config | (sizes_told(shapes) if kind == "sdxl" else {})


def levels_of(shapes: Shapes) -> list[list[tuple[int, int]]]:
    """For each level of a U-Net its blocks: channels, and how many transformer layers stand behind."""
    levels: list[list[tuple[int, int]]] = [[]]
    for number in sorted(int(n) for n in numbers(shapes, re.escape(UNET) + r"input_blocks\.(\d+)\.") - {"0"}):
        block = f"{UNET}input_blocks.{number}."
        if block + "0.op.weight" in shapes:
            levels.append([])
        else:
            depth = count(shapes, re.escape(block) + r"1\.transformer_blocks\.(\d+)\.")
            levels[-1].append((shapes[block + "0.out_layers.3.weight"][0], depth))
    return levels


def sizes_told(shapes: Shapes) -> dict[str, Any]:
    """What SDXL's U-Net is told besides the context: a pooled vector and six sizes of equal width."""
    told, pooled = shapes[UNET + "label_emb.0.0.weight"][1], shapes[OPEN_XL + "text_projection"][1]
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": (told - pooled) // 6,
        "projection_class_embeddings_input_dim": told,
    }


def vae_config(shapes: Shapes, kind: str) -> dict[str, Any]:
    """The diffusers config of the VAE, as its tensors' shapes have it."""
    levels = count(shapes, re.escape(VAE) + r"encoder\.down\.(\d+)\.")
    down = f"{VAE}encoder.down."
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [shapes[f"{down}{level}.block.0.conv1.weight"][0] for level in range(levels)],
        "layers_per_block": count(shapes, re.escape(down) + r"0\.block\.(\d+)\."),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "latent_channels": shapes[VAE + "decoder.conv_in.weight"][1],
        "scaling_factor": 0.13025 if kind == "sdxl" else 0.18215,
        "sample_size": {"sd1": 512, "sd2": 768, "sdxl": 1024}[kind],
    }


def clip_config(shapes: Shapes, prefix: str) -> dict[str, Any]:
    """The transformers config of a CLIP text encoder in OpenAI's names."""
    vocabulary, width = shapes[prefix + "embeddings.token_embedding.weight"]
    return {
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes[prefix + "encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": count(shapes, re.escape(prefix) + r"encoder\.layers\.(\d+)\."),
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": shapes[prefix + "embeddings.position_embedding.weight"][0],
        "hidden_act": "quick_gelu",
        "projection_dim": width,
    }


def open_clip_config(shapes: Shapes, prefix: str) -> dict[str, Any]:
    """The transformers config of a CLIP text encoder in OpenCLIP's names."""
    vocabulary, width = shapes[prefix + "token_embedding.weight"]
    layers = count(shapes, re.escape(prefix) + r"transformer\.resblocks\.(\d+)\.")
    projection = shapes.get(prefix + "text_projection", (width, width))
    return {
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes[prefix + "transformer.resblocks.0.mlp.c_fc.weight"][0],
        "num_hidden_layers": min(layers, LAST) if prefix == OPEN_2 else layers,
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": shapes[prefix + "positional_embedding"][0],
        "hidden_act": "gelu",
        "projection_dim": projection[1],
    }
