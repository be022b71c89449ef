"""Where a base lies on this machine: the one that ships, a folder, a file, and what is named behind a plus sign."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neologism.errors import ModelError
from neologism.families import hub

ADVICE = "neologism.toml"
EMOJI = Path(__file__).parent.parent / "emoji" / "base"


@dataclass(frozen=True)
class Base:
    """A base at hand.

    Attributes:
        name: what it is called in words' files; of the hub's models with the commit.
        place: a diffusers folder, or a single file.
        beside: a folder with what the file lacks (a whole diffusers folder), or with another VAE.
    """

    name: str
    place: Path
    beside: Path | None = None

    @property
    def vae(self) -> Path | None:
        """The folder of the VAE that stands in for the base's own, if any does."""
        if self.beside is None or (self.whole_beside is not None and self.place.is_file()):
            return None
        return self.beside / "vae" if (self.beside / "vae").is_dir() else self.beside

    @property
    def whole_beside(self) -> Path | None:
        """The diffusers folder beside it, if it is one."""
        return self.beside if self.beside and (self.beside / "model_index.json").exists() else None


def located(name: str, at_hand: bool = False) -> Base:
    """The base of a name: "emoji", a diffusers folder, a file or a hub id, with +FOLDER behind it or without.

    What is not on this machine is fetched, unless only what is `at_hand` is wanted.

    Raises:
        ModelError: there is no such base, or it cannot be fetched.
    """
    if name == "emoji":
        return Base(name, EMOJI)
    if Path(name).exists():
        return Base(name, Path(name))
    first, sign, second = name.rpartition("+")
    if sign and first and (beside := located(second, at_hand)).place.is_dir():
        own = located(first, at_hand)
        return Base(f"{own.name}+{beside.name}", own.place, beside.place)
    if hub.is_id(name):
        return Base(*hub.fetched(name, at_hand))
    raise ModelError(
        f"There is no folder {name}. Give --base emoji, a diffusers folder, a .safetensors file, or a hub id such as owner/name."
    )


@functools.cache
def advised(name: str) -> Mapping[str, float]:
    """The learning rates of weights, by method, that a base's folder itself advises in its neologism.toml; mostly none.

    Raises:
        ModelError: the file is there and is no table of positive numbers.
    """
    try:
        file = located(name, at_hand=True).place / ADVICE
        told = tomllib.loads(file.read_text("utf-8")).get("weights_rate", {})
        if any(not isinstance(rate, float) or rate <= 0 for rate in told.values()):
            raise ValueError("every rate must be a positive number such as 2e-4")
        return dict(told)
    except (FileNotFoundError, NotADirectoryError, ModelError):
        return {}
    except (ValueError, AttributeError) as error:  # tomllib's own are of the former
        raise ModelError(
            f"{name}: its {ADVICE} cannot be used: {error}. Mend the file, or take it out of the base's folder."
        ) from None
