"""Textual Inversion (Gal et al. 2022): what is learned is the word's own rows, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def rows(start: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """The word's rows {encoder key: [n, width]}, float32, that will learn, from where they start."""
    return {key: nn.Parameter(tensor.detach().to(torch.float32).clone()) for key, tensor in start.items()}
