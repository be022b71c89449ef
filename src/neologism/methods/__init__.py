"""What is learned: one file per method, all of them answering one contract.

inversion   the word's own rows, and nothing else
dreambooth  the denoiser's weights, by their differences from the base
lora        low-rank adapters beside the attention's weights, and the word's rows with them
text_side   rows of tokens, position embeddings or all of the text encoders (embedding fine-tuning)
learner     weights that learn: optimizer, moving average, state
identifier  a rare token that is no word
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from neologism.embedding import Embedding

Values = Mapping[str, Tensor]


class Method(Protocol):
    """What learns, how it is put into a frozen model and taken out exactly, and the file it becomes."""

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """What learns beside the word's rows, by name, float32; it never is one of the base's own tensors."""
        ...

    @property
    def spelled(self) -> str:
        """The known words that the word stands for in prompts, such as "sks dog"; "" where it has rows of its own."""
        ...

    def opened(self) -> AbstractContextManager[None]:
        """Have the weights in the model until the block ends, and then the base as it was; blocks may stand within blocks."""
        ...

    def save(self, values: Values, word: str, embedding: Embedding | None, folder: Path) -> list[Path]:
        """Write these values of the weights, the word's rows with them; the files, the one to draw with first."""
        ...
