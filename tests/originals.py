"""Tiny random models with CLIP's whole vocabulary, saved as model sites have them: one .safetensors in the original names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

Tensors = dict[str, Tensor]
RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet(kind: str) -> UNet2DConditionModel:
    """A U-Net of one block a level, of the make of SD 1, SD 2 or XL."""
    xl = kind == "sdxl"
    more: dict[str, Any] = (
        {"attention_head_dim": 8} if kind == "sd1" else {"attention_head_dim": [1, 1], "use_linear_projection": True}
    )
    if xl:
        more |= {
            "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 64 + 48,
            "transformer_layers_per_block": [1, 2],
        }  # fmt: skip
    first = "DownBlock2D" if xl else "CrossAttnDownBlock2D"
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=(first, "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", first.replace("Down", "Up")),
        cross_attention_dim={"sd1": 32, "sd2": 64, "sdxl": 96}[kind], **more,
    )  # fmt: skip


def vae() -> AutoencoderKL:
    """A VAE of two levels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 32), layers_per_block=1, latent_channels=4,
    )  # fmt: skip


def text(width: int, layers: int, act: str, projected: bool = False) -> Any:
    """A CLIP text encoder."""
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=1,
        hidden_act=act, projection_dim=width,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def parts(kind: str, seed: int = 0) -> dict[str, Any]:
    """The networks of a tiny model."""
    torch.manual_seed(seed)
    texts: dict[str, Any] = {"text_encoder": text(64, 23, "gelu") if kind == "sd2" else text(32, 2, "quick_gelu")}
    if kind == "sdxl":
        texts["text_encoder_2"] = text(64, 2, "gelu", projected=True)
    return texts | {"unet": unet(kind), "vae": vae()}


def swapped(name: str, table: dict[str, str]) -> str:
    """A name with each part that a table knows put in other words."""
    for old, new in table.items():
        name = re.sub(rf"(?<![\w]){re.escape(old)}(?![\w])", new, name)
    return name


def original_unet(module: nn.Module, layers: int) -> Tensors:
    """A U-Net's tensors under the names of the original code; `layers` are a level's blocks."""
    tops = DIFFUSERS_TO_LDM_MAPPING["unet"]["layers"] | DIFFUSERS_TO_LDM_MAPPING["unet"]["addition_embed_type"]
    state, made = module.state_dict(), Tensors()
    for name, tensor in state.items():
        at = [int(number) for number in re.findall(r"\.(\d+)\.", name)[:2]]
        rest = name.split(".", 4)[-1]
        if name in tops:
            new = tops[name]
        elif ".downsamplers." in name:
            new = f"input_blocks.{(at[0] + 1) * (layers + 1)}.0.op.{name.rpartition('.')[2]}"
        elif ".upsamplers." in name:
            behind = 2 if f"up_blocks.{at[0]}.attentions.0.norm.weight" in state else 1
            new = f"output_blocks.{at[0] * (layers + 1) + layers}.{behind}.conv.{name.rpartition('.')[2]}"
        elif name.startswith("mid_block"):
            part, number, rest = name.split(".", 3)[1:]
            new = f"middle_block.{2 * int(number) if part == 'resnets' else 1}.{rest}"
        else:
            way, plus = ("input", 1) if name.startswith("down") else ("output", 0)
            new = f"{way}_blocks.{at[0] * (layers + 1) + at[1] + plus}.{int('.attentions.' in name)}.{rest}"
        made["model.diffusion_model." + (swapped(new, RESNET) if "transformer_blocks" not in new else new)] = tensor
    return made


def original_vae(module: nn.Module, levels: int) -> Tensors:
    """A VAE's tensors under the names of the original code."""
    made = Tensors()
    for name, tensor in module.state_dict().items():
        new = swapped(name, {"conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out"})
        if "attentions" in new:
            new = swapped(new, ATTENTION).replace("mid_block.attentions.0", "mid.attn_1")
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = re.sub(r"down_blocks\.(\d)", r"down.\1", new)
        new = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{levels - 1 - int(m[1])}", new)
        new = re.sub(r"(down|up)samplers\.0", r"\1sample", new).replace(".resnets.", ".block.")
        made["first_stage_model." + new] = tensor
    return made


def original_clip(module: nn.Module, prefix: str) -> Tensors:
    """A text encoder's tensors under OpenAI's names."""
    return {prefix + "text_model." + name.removeprefix("text_model."): t for name, t in module.state_dict().items()}


def original_open_clip(module: nn.Module, prefix: str) -> Tensors:
    """A text encoder's tensors under OpenCLIP's names; query, key and value are one there."""
    plain = {name.removeprefix("text_model."): t for name, t in module.state_dict().items()}
    table = {
        "encoder.layers": "transformer.resblocks", "self_attn": "attn", "layer_norm1": "ln_1", "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "final_layer_norm": "ln_final",
        "embeddings.token_embedding": "token_embedding", "embeddings.position_embedding.weight": "positional_embedding",
        "text_projection.weight": "text_projection",
    }  # fmt: skip
    made = Tensors()
    for name, tensor in plain.items():
        if ".q_proj." in name:
            whole = torch.cat([plain[name.replace(".q_proj.", f".{which}_proj.")] for which in "qkv"])
            made[prefix + swapped(name, table).replace("q_proj.", "in_proj_")] = whole
        elif ".k_proj." not in name and ".v_proj." not in name:
            made[prefix + swapped(name, table)] = tensor.T if name.startswith("text_projection") else tensor
    return made


def original(kind: str, made: dict[str, Any]) -> Tensors:
    """Every tensor of a model, as its family's original code names them."""
    tensors = original_unet(made["unet"], 1) | original_vae(made["vae"], 2)
    if kind == "sd1":
        return tensors | original_clip(made["text_encoder"], "cond_stage_model.transformer.")
    if kind == "sd2":
        return tensors | original_open_clip(made["text_encoder"], "cond_stage_model.model.")
    tensors |= original_clip(made["text_encoder"], "conditioner.embedders.0.transformer.")
    return tensors | original_open_clip(made["text_encoder_2"], "conditioner.embedders.1.model.")


def saved(tensors: Tensors, file: Path, metadata: dict[str, str] | None = None) -> Path:
    """Written as one file."""
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, file, metadata)
    return file


SD3 = {
    "pos_embed.pos_embed": "pos_embed", "pos_embed.proj": "x_embedder.proj", "linear_1": "mlp.0", "linear_2": "mlp.2",
    "time_text_embed.timestep_embedder": "t_embedder", "time_text_embed.text_embedder": "y_embedder",
    "proj_out": "final_layer.linear", "norm_out.linear": "final_layer.adaLN_modulation.1",
    "transformer_blocks": "joint_blocks", "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1", "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj", "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1", "ff_context.net.2": "context_block.mlp.fc2",
    "attn.to_q": "x_block.attn.qkv", "attn.add_q_proj": "context_block.attn.qkv",
}  # fmt: skip


def original_sd3(module: nn.Module) -> Tensors:
    """The tensors of SD 3's transformer under the names of the original code; shift and scale change places at its end."""
    state, made = module.state_dict(), Tensors()
    last = max(int(name.split(".")[1]) for name in state if name.startswith("transformer_blocks."))
    for name, tensor in state.items():
        if re.search(r"to_[kv]\.|add_[kv]_proj\.", name):
            continue
        if match := re.search(r"(to_|add_)q", name):
            tensor = torch.cat([state[name.replace(match[0], match[1] + which)] for which in "qkv"])
        if name.startswith(("norm_out", f"transformer_blocks.{last}.norm1_context")):
            tensor = torch.cat(tensor.chunk(2)[::-1])
        made["model.diffusion_model." + swapped(name, SD3)] = tensor
    return made
