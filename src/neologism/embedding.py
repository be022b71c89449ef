"""A word and its vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neologism.errors import EmbeddingError


@dataclass(frozen=True)
class Embedding:
    """A word, and per text encoder the rows that stand for it.

    Attributes:
        word: the placeholder as written in prompts, such as "<my-mug>".
        vectors: per encoder key ("clip_l", ...) a tensor [n, width], float32, unscaled rows of the token embedding table.
        base: the name or path of the model it was learned on; "" where unknown.
        facts: what else is known, as text (fingerprint of the base, recipe, scores, step): goes into the file's metadata.

    Raises:
        EmbeddingError: a tensor is not [n, width] with n and width at least 1, or holds NaN or infinity.
    """

    word: str
    vectors: Mapping[str, Tensor]
    base: str = ""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if not self.vectors:
            raise EmbeddingError(f"The word {self.word!r} has no vectors: at least one text encoder must have some.")
        rows = {key: checked(self.word, key, tensor) for key, tensor in self.vectors.items()}
        object.__setattr__(self, "vectors", rows)

    @property
    def count(self) -> int:
        """How many vectors the word takes in a prompt: the most that any encoder has."""
        return max(len(rows) for rows in self.vectors.values())


def checked(word: str, key: str, tensor: Tensor) -> Tensor:
    """The tensor as finite float32 rows [n, width] of their own memory on the CPU."""
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise EmbeddingError(
            f"The word {word!r} has a tensor of shape {list(tensor.shape)} for {key}: it must be [vectors, width], both at least 1."
        )
    rows = tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
    if not torch.isfinite(rows).all():
        raise EmbeddingError(
            f"The word {word!r} holds NaN or infinity for {key}: the file is damaged or its training broke down."
        )
    return rows
