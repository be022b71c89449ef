"""Textual Inversion (Gal et al. 2022): what is learned is the word's own rows, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from neologism.embedding import Embedding
from neologism.methods import Values


def rows(start: Mapping[str, Tensor], learning: Collection[str]) -> dict[str, nn.Parameter]:
    """The word's rows {encoder key: [n, width]}, float32, from where they start; only those of `learning` encoders learn."""
    return {
        key: nn.Parameter(tensor.detach().to(torch.float32).clone(), requires_grad=key in learning)
        for key, tensor in start.items()
    }


class Inversion:
    """The method of no weights: the word's rows are all that learns."""

    spelled = ""

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """None."""
        return {}

    def opened(self) -> contextlib.AbstractContextManager[None]:
        """The model as it is."""
        return contextlib.nullcontext()

    def save(self, values: Values, word: str, embedding: Embedding | None, folder: Path) -> list[Path]:
        """Nothing: the word's own file is all."""
        return []
