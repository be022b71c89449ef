"""Neologism teaches a frozen text-to-image model a new word from 3 to 5 pictures (Textual Inversion)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neologism.embedding import Embedding
    from neologism.errors import NeologismError
    from neologism.families import open_model
    from neologism.formats import load, save
    from neologism.generation import generate
    from neologism.learned import score
    from neologism.many import train_many
    from neologism.recipe import Recipe
    from neologism.training import train

__version__ = "0.1.0"

__all__ = [
    "Embedding",
    "NeologismError",
    "Recipe",
    "generate",
    "load",
    "open_model",
    "save",
    "score",
    "train",
    "train_many",
]

ROOMS = {
    "Embedding": "embedding",
    "NeologismError": "errors",
    "Recipe": "recipe",
    "generate": "generation",
    "load": "formats",
    "open_model": "families",
    "save": "formats",
    "score": "learned",
    "train": "training",
    "train_many": "many",
}
"""Where each public name lives. They are fetched on first use, so that `import neologism` takes no seconds of torch."""


def __getattr__(name: str) -> Any:
    """Fetch a public name from its room (PEP 562)."""
    if name not in ROOMS:
        raise AttributeError(f"module 'neologism' has no attribute {name!r}")
    return getattr(import_module(f"neologism.{ROOMS[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*globals(), *ROOMS])
