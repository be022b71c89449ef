"""A base that is one .safetensors file: configs and CLIP's vocabulary are at hand, so it opens without a network."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import safe_open

from neologism.device import Machine
from neologism.errors import ModelError
from neologism.families import checkpoints, pipelines
from neologism.families.bpe import END, TOKENS, tokenizer
from neologism.families.checkpoints import CLIP_1, CLIP_XL, OPEN_2, OPEN_XL, PIPELINES, UNET, Shapes

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
DENOISERS = {
    "StableDiffusionPipeline": ("unet", "UNet2DConditionModel"),
    "StableDiffusionXLPipeline": ("unet", "UNet2DConditionModel"),
    "StableDiffusion3Pipeline": ("transformer", "SD3Transformer2DModel"),
    "FluxPipeline": ("transformer", "FluxTransformer2DModel"),
}
LARGE = {"StableDiffusion3Pipeline": "text_encoder_3", "FluxPipeline": "text_encoder_2"}  # as large as the denoiser
# Where a file keeps each part; what it lacks comes from the folder named behind a plus sign.
PLACES = {
    "StableDiffusionPipeline": {"vae": ("first_stage_model.",), "text_encoder": (CLIP_1, OPEN_2)},
    "StableDiffusionXLPipeline": {"vae": ("first_stage_model.",), "text_encoder": (CLIP_XL,), "text_encoder_2": (OPEN_XL,)},
    "StableDiffusion3Pipeline": {
        "vae": ("first_stage_model.", "vae."),
        "text_encoder": ("text_encoders.clip_l.",),
        "text_encoder_2": ("text_encoders.clip_g.",),
        "text_encoder_3": ("text_encoders.t5xxl.",),
    },
    "FluxPipeline": {"vae": ("vae.",), "text_encoder": (), "text_encoder_2": ()},
}  # fmt: skip


def family_of(file: Path) -> str:
    """The pipeline class of a file, told from its tensors.

    Raises:
        ModelError: it is no model that can be trained.
    """
    return PIPELINES[checkpoints.recognised(checkpoints.shapes_of(file), file)]


def native_side(file: Path) -> int:
    """The side of a file's pictures in pixels."""
    kind = checkpoints.recognised(checkpoints.shapes_of(file), file)
    if kind == "sd2" and prediction(file, kind) == "epsilon":
        return 512
    return {"sd1": 512, "sd2": 768, "sdxl": 1024, "sd3": 1024, "flux": 1024}[kind]


def pipeline(file: Path, machine: Machine, beside: Path | None = None, **parts: Any) -> Any:
    """The diffusers pipeline of a file; `beside` is a diffusers folder that has what the file lacks.

    Raises:
        ModelError: it lacks a part, or its tensors do not fit their configs.
    """
    shapes = checkpoints.shapes_of(file)
    kind = checkpoints.recognised(shapes, file)
    lacking = [name for name, places in PLACES[PIPELINES[kind]].items() if not holds(shapes, places)]
    if beside is not None:
        return assembled(
            file, PIPELINES[kind], machine, beside, rest_of(beside, PIPELINES[kind], lacking, machine) | parts
        )
    if wanted := [part for part in lacking if part not in parts] or kind in ("sd3", "flux"):
        what = " and ".join(wanted) if isinstance(wanted, list) else "the tokenizer of T5"
        raise ModelError(
            f"{file} holds no {what}. Name a diffusers folder of the same family behind a plus sign: --base {file.name}+FOLDER."
        )
    with tempfile.TemporaryDirectory() as folder:
        written(Path(folder), shapes, kind, file, "vae" not in lacking)
        return assembled(file, PIPELINES[kind], machine, Path(folder), parts)


def holds(shapes: Shapes, places: tuple[str, ...]) -> bool:
    """Whether any tensor has its place under one of these names."""
    return any(name.startswith(places) for name in shapes)


def rest_of(folder: Path, family: str, lacking: list[str], machine: Machine) -> dict[str, Any]:
    """From a diffusers folder, what the file lacks, and what no file holds: tokenizers and scheduler."""
    index: dict[str, Any] = json.loads((folder / "model_index.json").read_text("utf-8"))
    absent = {name for name, kind in index.items() if isinstance(kind, list) and not kind[0]}
    spare = ({*PLACES[family]} - set(lacking)) | {DENOISERS[family][0]}
    large = {LARGE[family]} & index.keys() - spare - absent if family in LARGE else set[str]()
    with pipelines.quiet():
        pipe: Any = getattr(diffusers, family).from_pretrained(
            folder, dtype=pipelines.types(machine, *large), use_safetensors=True, **dict.fromkeys(spare | absent)
        )
    return {name: part for name, part in pipe.components.items() if name not in spare}


def assembled(file: Path, family: str, machine: Machine, configs: Path, parts: dict[str, Any]) -> Any:
    """The pipeline of a file by diffusers' own converter: the denoiser in the machine's type, all else in float32."""
    name, kind = DENOISERS[family]
    more = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    more = more if family == "StableDiffusionPipeline" else {}
    more |= {"add_watermarker": False} if family == "StableDiffusionXLPipeline" else {}
    local = {"config": str(configs), "local_files_only": True}
    try:
        with pipelines.quiet():
            made = getattr(diffusers, kind).from_single_file(
                str(file), subfolder=name, torch_dtype=machine.weights, **local
            )
            given = {name: made} | more | parts
            pipe: Any = getattr(diffusers, family).from_single_file(
                str(file), torch_dtype=torch.float32, **local, **given
            )
    except (KeyError, RuntimeError, ValueError, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise unconverted(file, "some of its tensors are missing" if "meta tensor" in first else first) from None
    pipe.set_progress_bar_config(disable=True)
    return pipe


def unconverted(file: Path, reason: str) -> ModelError:
    """The complaint about a file whose tensors do not make its family's model."""
    return ModelError(
        f"{file} cannot be converted: {reason}. Give a whole checkpoint, or the same model as a diffusers folder."
    )


def written(folder: Path, shapes: Shapes, kind: str, file: Path, has_vae: bool) -> None:
    """Write a diffusers folder of the file's configs and CLIP's tokenizers."""
    texts = texts_of(shapes, kind)
    guess, unet = prediction(file, kind), checkpoints.unet_config(shapes, kind, file)
    if kind == "sd2" and guess == "epsilon":
        unet["sample_size"] = 64
    configs = texts | {"unet": unet} | ({"vae": checkpoints.vae_config(shapes, kind)} if has_vae else {})
    for name, config in configs.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    for name, config in texts.items():
        check_vocabulary(config, file)
        # OpenCLIP pads with its token 0, an exclamation mark.
        tokenizer(
            folder / name.replace("text_encoder", "tokenizer"), END if config["hidden_act"] == "quick_gelu" else "!"
        )
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler(shapes, guess)))
    (folder / "model_index.json").write_text(json.dumps(index(kind, list(texts))))


def texts_of(shapes: Shapes, kind: str) -> dict[str, dict[str, Any]]:
    """The configs of a file's CLIP text encoders."""
    if kind == "sd2":
        return {"text_encoder": checkpoints.open_clip_config(shapes, OPEN_2)}
    if kind == "sd1":
        return {"text_encoder": checkpoints.clip_config(shapes, CLIP_1)}
    second = checkpoints.open_clip_config(shapes, OPEN_XL)
    return {"text_encoder": checkpoints.clip_config(shapes, CLIP_XL), "text_encoder_2": second}


def index(kind: str, texts: list[str]) -> dict[str, Any]:
    """A model_index.json."""
    clips = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}
    parts = {name: ["transformers", clips[name]] for name in texts}
    parts |= {name.replace("text_encoder", "tokenizer"): ["transformers", "CLIPTokenizer"] for name in texts}
    parts |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    parts["scheduler"] = ["diffusers", "DDIMScheduler"]
    more = {"force_zeros_for_empty_prompt": True} if kind == "sdxl" else {"requires_safety_checker": False}
    return {"_class_name": PIPELINES[kind], **more, **parts}


def scheduler(shapes: Shapes, guess: str) -> dict[str, Any]:
    """The scheduler's config: Stable Diffusion's own rule of noise, down to zero signal where the file says so."""
    rule = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "prediction_type": guess}
    return BETAS | rule | {"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": "ztsnr" in shapes}


def prediction(file: Path, kind: str) -> str:
    """What the U-Net predicts. No shape tells it: a .yaml beside the file does, its metadata, or a mark among its tensors."""
    config = file.with_suffix(".yaml")
    if config.exists():
        found = re.search(r"parameterization:\s*[\"']?(\w+)", config.read_text("utf-8", errors="replace"))
        return "v_prediction" if found and found[1] == "v" else "epsilon"
    with safe_open(file, "pt") as opened:  # pyright: ignore[reportUnknownVariableType]
        said: Mapping[str, str] = opened.metadata() or {}
        told = said.get("modelspec.prediction_type") or said.get("modelspec.architecture", "")
        if "epsilon" in told or "v2-512" in told:
            return "epsilon"
        if told == "v" or "768-v" in told or "v_pred" in opened.keys():  # noqa: SIM118
            return "v_prediction"
        # ComfyUI's rule: in those that predict v this bias spreads more.
        bias = f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"
        if kind == "sd2" and bias in opened.keys():  # noqa: SIM118
            return "v_prediction" if float(opened.get_tensor(bias).float().std(correction=0)) > 0.09 else "epsilon"
    return "epsilon"


def check_vocabulary(config: Mapping[str, Any], file: Path) -> None:
    """Refuse a text encoder whose tokens are not CLIP's.

    Raises:
        ModelError: it has more or fewer.
    """
    if config["vocab_size"] != TOKENS:
        raise ModelError(
            f"A text encoder of {file} has {config['vocab_size']:,} tokens and CLIP's vocabulary {TOKENS:,}. "
            f"Name a diffusers folder with its own tokenizer behind a plus sign: --base {file.name}+FOLDER."
        )
