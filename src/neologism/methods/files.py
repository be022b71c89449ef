"""The files that weights become: named tensors and a few texts, read without trust."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from neologism.errors import EmbeddingError
from neologism.formats import replace
from neologism.formats.containers import Contents, packed

KEY = "neologism_weights"


def written(
    tensors: Mapping[str, Tensor], told: Mapping[str, str], file: Path, more: Mapping[str, str] | None = None
) -> Path:
    """Write tensors and what is told of them as one safetensors file, whole or not at all.

    Raises:
        EmbeddingError: the folder or disk does not take it.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    content = packed(Contents(plain, {KEY: json.dumps(dict(told), sort_keys=True), **(more or {})}))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace(file, content)
    except OSError as error:
        raise EmbeddingError(
            f"{file} cannot be written: {error.strerror or error}. Give a folder that can be written to, with "
            f"{len(content):,} bytes free."
        ) from None
    return file


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file that `written` made, and what is told of them.

    Raises:
        EmbeddingError: it is missing, damaged, or not of this package's weights.
    """
    try:
        with safe_open(file, "pt") as opened:
            told = json.loads((opened.metadata() or {})[KEY])
            return {name: opened.get_tensor(name) for name in opened.keys()}, told  # noqa: SIM118
    except FileNotFoundError:
        raise EmbeddingError(
            f"There is no file {file}. Give --weights a file that train --method dreambooth or lora wrote."
        ) from None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise EmbeddingError(
            f"{file} holds no weights of this package ({type(error).__name__}). "
            "Give --weights a file that train --method dreambooth or lora wrote."
        ) from None
