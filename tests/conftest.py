"""Tiny random models built by code, and pictures to teach them with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

WORDS = (
    "cat",
    "dog",
    "red",
    "blue",
    "green",
    "photo",
    "background",
    "small",
    "car",
    "house",
    "flower",
    "the",
    "tree",
    "bird",
)
MARKS = ("<|startoftext|>", "<|endoftext|>")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoded pictures are kept apart from the user's."""
    monkeypatch.setenv("NEOLOGISM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def tokenizer_folder(folder: Path) -> Path:
    """A CLIP tokenizer that knows bytes and a few words."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens, merges = letters + [letter + "</w>" for letter in letters], []
    for word in WORDS:
        left = word[0]
        for letter in [*word[1:-1], word[-1] + "</w>"]:
            if f"{left} {letter}" not in merges:
                merges.append(f"{left} {letter}")
                tokens.append(left + letter)
            left += letter
    tokens = list(dict.fromkeys([*tokens, *MARKS]))
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 24, "bos_token": MARKS[0]}
    config |= dict.fromkeys(("eos_token", "unk_token", "pad_token"), MARKS[1])
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def tiny_pipeline(folder: Path, prediction: str = "epsilon", seed: int = 0) -> StableDiffusionPipeline:
    """A Stable Diffusion of random weights for pictures of 32 pixels."""
    torch.manual_seed(seed)
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder(folder / "tokenizer-made"))
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=24,
            eos_token_id=2,  # the legacy value, which a family must mend
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=prediction,
        clip_sample=False,
        steps_offset=1,
    )
    parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(vae, text, tokenizer, unet, scheduler, **parts)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Stable Diffusion."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_pipeline(folder).save_pretrained(folder / "base")
    return folder / "base"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures of a thing: a yellow disc with a dark stripe on various grounds."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, ground in enumerate(("white", "navy", "green", "pink")):
        image = Image.new("RGB", (48, 48), ground)
        draw = ImageDraw.Draw(image)
        draw.ellipse((8 + number, 8, 38 + number, 38), fill="gold")
        draw.rectangle((12 + number, 20, 34 + number, 26), fill="black")
        image.save(folder / f"{number}.png")
    return folder


def tiny_xl_pipeline(folder: Path, seed: int = 0) -> StableDiffusionXLPipeline:
    """A Stable Diffusion XL of random weights for pictures of 32 pixels: two encoders of different widths."""
    plain = tiny_pipeline(folder, seed=seed)
    torch.manual_seed(seed + 1)
    legacy = {"eos_token_id": 2, "max_position_embeddings": 24, "vocab_size": len(plain.tokenizer)}
    first, second = (
        CLIPTextConfig(
            hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3, num_attention_heads=2,
            projection_dim=width, bos_token_id=plain.tokenizer.bos_token_id, **legacy,
        )
        for width in (32, 48)
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=80,
        attention_head_dim=2,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=48 + 6 * 8,
    )
    return StableDiffusionXLPipeline(
        plain.vae, CLIPTextModel(first), CLIPTextModelWithProjection(second), plain.tokenizer, plain.tokenizer, unet,
        plain.scheduler, add_watermarker=False,
    )  # fmt: skip


def tiny_t5() -> tuple[T5Tokenizer, T5EncoderModel]:
    """A T5 of random weights that knows letters and a few words."""
    letters = [chr(c) for c in range(33, 127)]
    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces = [(letter, -9.0) for letter in letters] + [("\u2581" + word, -1.0) for word in WORDS]
    tokenizer = T5Tokenizer(vocab=marks + pieces, extra_ids=0)
    shape = {"d_model": 96, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    return tokenizer, T5EncoderModel(T5Config(vocab_size=len(tokenizer), **shape))


def tiny_sd3_pipeline(folder: Path) -> StableDiffusion3Pipeline:
    """A Stable Diffusion 3 of random weights for pictures of 32 pixels."""
    xl = tiny_xl_pipeline(folder)
    torch.manual_seed(5)
    tokenizer, t5 = tiny_t5()
    first = CLIPTextModelWithProjection(xl.text_encoder.config)
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=96, caption_projection_dim=32, pooled_projection_dim=80,
        pos_embed_max_size=8,
    )  # fmt: skip
    xl.vae.register_to_config(shift_factor=0.1, scaling_factor=1.3)
    return StableDiffusion3Pipeline(
        transformer, FlowMatchEulerDiscreteScheduler(shift=3.0), xl.vae, first, xl.tokenizer, xl.text_encoder_2,
        xl.tokenizer_2, t5, tokenizer,
    )  # fmt: skip


def tiny_flux_pipeline(folder: Path) -> FluxPipeline:
    """A FLUX of random weights; its pipeline's own side, which no config names, is set where it is opened."""
    plain = tiny_pipeline(folder)
    torch.manual_seed(6)
    tokenizer, t5 = tiny_t5()
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=96, pooled_projection_dim=32, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    plain.vae.register_to_config(shift_factor=0.1, scaling_factor=1.3)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    return FluxPipeline(scheduler, plain.vae, plain.text_encoder, plain.tokenizer, t5, tokenizer, transformer)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> dict[str, Path]:
    """The folder of a tiny random model of every family."""
    folder = tmp_path_factory.mktemp("families")
    tiny_pipeline(folder / "v", "v_prediction", seed=3).save_pretrained(folder / "sd-v")
    tiny_xl_pipeline(folder / "xl").save_pretrained(folder / "sdxl")
    tiny_sd3_pipeline(folder / "3").save_pretrained(folder / "sd3")
    tiny_flux_pipeline(folder / "f").save_pretrained(folder / "flux")
    made = {name: folder / name for name in ("sd-v", "sdxl", "sd3", "flux")}
    return {"sd": tiny_base} | made
