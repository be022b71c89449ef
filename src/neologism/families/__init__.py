"""Models by family: which one a folder holds is decided here and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from neologism.device import Limits, Machine, machine
from neologism.errors import ModelError
from neologism.families import flux, pipelines, places, sd3, sdxl, single_file, stable_diffusion, thrift
from neologism.families.model import Conditioning, Encoder, Model
from neologism.families.places import EMOJI, Base

__all__ = ["EMOJI", "Conditioning", "Encoder", "Model", "open_model"]


class Family(Protocol):
    """What a family's file has to have."""

    def opened(self, folder: str, name: str, machine: Machine, **parts: Any) -> Model:
        """The model in a diffusers folder; `parts` stand in for its own."""
        ...

    def assembled(self, pipe: Any, name: str, machine: Machine) -> Model:
        """The model of a diffusers pipeline."""
        ...


# The class that model_index.json names, and the family's file.
FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": stable_diffusion,
    "StableDiffusionXLPipeline": sdxl,
    "StableDiffusion3Pipeline": sd3,
    "FluxPipeline": flux,
}

INPAINTING = "an inpainting model: its U-Net expects a mask and a masked picture, which a word's pictures do not have"
REFUSED = {
    "StableDiffusionInpaintPipeline": INPAINTING,
    "StableDiffusionXLInpaintPipeline": INPAINTING,
    "StableDiffusionXLImg2ImgPipeline": "a refiner: it goes on from another model's picture and has only one text encoder",
}


def open_model(
    base: str = "emoji",
    device: str = "auto",
    precision: str = "auto",
    quantised: str = "none",
    limits: Limits | None = None,
) -> Model:
    """The frozen base model: "emoji", a diffusers folder, a single .safetensors file, or a hub id (OWNER/NAME, OWNER/NAME@REVISION).

    `quantised` ("int8", "fp8", "nf4") is how the weights of the largest parts are stored; `limits` keep the memory small.
    Behind a plus sign (BASE+FOLDER) stands a diffusers folder that has what a file lacks, or a folder with another VAE.

    Raises:
        ModelError: there is no such model, a part of it is missing, or its family is not known.
        DeviceError: the device is not there, or a library that quantises.
    """
    where = replace(machine(device, precision, quantised), limits=limits or Limits())
    if where.device.type == "cpu" and where.limits.half_weights:
        thrift.large_blocks_return()
    found = places.located(base)
    parts = {"vae": pipelines.vae_in(found.vae)} if found.vae else {}
    if found.place.is_file():
        model = from_file(found, where, parts)
    else:
        model = opened(family_of(found.place), str(found.place), found.name, where, **parts)
    if where.limits.half_weights and not thrift.rest(model.parts().values()):
        rounded = "weights rounded to half precision, since the base's files hold more"
        where.limits.told = "; ".join(filter(None, (where.limits.told, rounded)))
    if where.limits.vae_away:
        pipelines.put_away(model.parts()["vae"], where)  # as it is kept now
    return model


def from_file(base: Base, where: Machine, parts: dict[str, Any]) -> Model:
    """The model in a single file."""
    family = single_file.family_of(base.place)
    try:
        pipe = single_file.pipeline(base.place, where, base.whole_beside, **parts)
    except (OSError, ValueError) as error:
        raise unopened(base.name, error) from None
    return FAMILIES[family].assembled(pipe, base.name, where)


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
    """The side in pixels of a base's pictures, told from its configs alone; 512 for one that is not at hand."""
    try:
        folder = places.located(base, at_hand=True).place
    except ModelError:
        return 512
    if folder.is_file():
        return single_file.native_side(folder)
    name = "unet" if (folder / "unet").is_dir() else "transformer"
    try:
        denoiser, vae = (json.loads((folder / part / "config.json").read_text("utf-8")) for part in (name, "vae"))
    except (OSError, ValueError):
        return 512
    latents = denoiser.get("sample_size") or (64 if name == "unet" else 128)  # FLUX names none: its pipeline takes 128
    return int(latents) * 2 ** (len(vae["block_out_channels"]) - 1)


def opened(family: str, source: str, base: str, where: Machine, **parts: Any) -> Model:
    """The model of a family in a folder; safetensors only."""
    try:
        return FAMILIES[family].opened(source, base, where, **parts)
    except (OSError, ValueError) as error:
        raise unopened(base, error) from None


def unopened(base: str, error: Exception) -> ModelError:
    """The complaint about a model that could not be opened."""
    first = str(error).strip().splitlines()[0].rstrip(".")
    return ModelError(
        f"The model {base} could not be opened: {first}. Give --base emoji, a whole diffusers folder, or a .safetensors file."
    )
