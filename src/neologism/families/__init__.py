"""Models by family: which one a folder holds is decided here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neologism.device import Machine, machine
from neologism.errors import ModelError
from neologism.families import flux, sd3, sdxl, stable_diffusion
from neologism.families.model import Conditioning, Encoder, Model

__all__ = ["Conditioning", "Encoder", "Model", "open_model"]

EMOJI = Path(__file__).parent.parent / "emoji" / "base"
# The class that model_index.json names, and what opens it.
FAMILIES: dict[str, Callable[[str, str, Machine], Model]] = {
    "StableDiffusionPipeline": stable_diffusion.opened,
    "StableDiffusionXLPipeline": sdxl.opened,
    "StableDiffusion3Pipeline": sd3.opened,
    "FluxPipeline": flux.opened,
}

INPAINTING = "an inpainting model: its U-Net expects a mask and a masked picture, which a word's pictures do not have"
REFUSED = {
    "StableDiffusionInpaintPipeline": INPAINTING,
    "StableDiffusionXLInpaintPipeline": INPAINTING,
    "StableDiffusionXLImg2ImgPipeline": "a refiner: it goes on from another model's picture and has only one text encoder",
}


def open_model(base: str = "emoji", device: str = "auto", precision: str = "auto") -> Model:
    """The frozen base model: "emoji", a diffusers folder, or a hub id.

    Raises:
        ModelError: there is no such model, a part of it is missing, or its family is not known.
        DeviceError: the device is not there.
    """
    where = machine(device, precision)
    folder = EMOJI if base == "emoji" else Path(base)
    if folder.is_dir():
        return opened(family_of(folder), str(folder), base, where)
    if looks_like_path(base):
        raise ModelError(
            f"There is no folder {base}. Give --base emoji, a diffusers folder, or a hub id such as owner/name."
        )
    return opened(family_online(base), base, base, where)


def family_online(base: str) -> str:
    """The pipeline class that a hub id names."""
    from diffusers import DiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

    try:
        config: Any = DiffusionPipeline.load_config(base)
    except (OSError, ValueError) as error:
        raise unopened(base, error) from None
    return known_family(str(config.get("_class_name")), base)


def looks_like_path(base: str) -> bool:
    """Whether a name that is no folder was meant as one."""
    return base.count("/") != 1 or base.startswith((".", "/", "~"))


def family_of(folder: Path) -> str:
    """The pipeline class a diffusers folder names, every part of it being there."""
    index = folder / "model_index.json"
    try:
        parts = json.loads(index.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{folder} holds no model_index.json, so it is not a diffusers model folder. Give --base a folder that has one."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{index} is damaged: {error}. Download the model again.") from None
    wanted = [
        name for name, kind in parts.items() if isinstance(kind, list) and kind[0] and not (folder / name).is_dir()
    ]
    missing = [name for name in wanted if name not in ("safety_checker", "feature_extractor")]
    if missing:
        raise ModelError(
            f"{folder} lacks {', '.join(missing)}, which its model_index.json names. Download the model again, whole."
        )
    return known_family(str(parts.get("_class_name")), folder)


def known_family(name: str, folder: Path | str) -> str:
    """The class name, where it can be trained."""
    if name in REFUSED:
        raise ModelError(
            f"{folder} is a {name}, {REFUSED[name]}. Teach the word to the family's own base model instead."
        )
    if name not in FAMILIES:
        raise ModelError(f"{folder} is a {name}; {', '.join(FAMILIES)} can be opened. Choose a base of that family.")
    return name


def native_side(base: str) -> int:
    """The side in pixels of a base's pictures, told from its configs alone; 512 for a hub id not at hand."""
    folder = EMOJI if base == "emoji" else Path(base)
    name = "unet" if (folder / "unet").is_dir() else "transformer"
    try:
        denoiser, vae = (json.loads((folder / part / "config.json").read_text("utf-8")) for part in (name, "vae"))
    except (OSError, ValueError):
        return 512
    latents = denoiser.get("sample_size") or (64 if name == "unet" else 128)  # FLUX names none: its pipeline takes 128
    return int(latents) * 2 ** (len(vae["block_out_channels"]) - 1)


def opened(family: str, source: str, base: str, where: Machine) -> Model:
    """The model of a family at a source; downloads are diffusers' own, safetensors only."""
    try:
        return FAMILIES[family](source, base, where)
    except (OSError, ValueError) as error:
        raise unopened(base, error) from None


def unopened(base: str, error: Exception) -> ModelError:
    """The complaint about a model that could not be opened."""
    first = str(error).strip().splitlines()[0].rstrip(".")
    return ModelError(
        f"The model {base} could not be opened: {first}. Give --base emoji, a whole diffusers folder, or a hub id you can reach."
    )
