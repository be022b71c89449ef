"""Textual Inversion (Gal et al. 2022): what is learned is the word's own rows, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn


def rows(start: Mapping[str, Tensor], learning: Collection[str]) -> dict[str, nn.Parameter]:
    """The word's rows {encoder key: [n, width]}, float32, from where they start; only those of `learning` encoders learn."""
    return {
        key: nn.Parameter(tensor.detach().to(torch.float32).clone(), requires_grad=key in learning)
        for key, tensor in start.items()
    }
