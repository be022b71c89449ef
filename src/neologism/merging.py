"""A file of weights merged into a copy of its base: a folder that plain diffusers opens."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from neologism.errors import ModelError
from neologism.families import open_model
from neologism.methods import choosing


def merge(file: Path, base: str, out: Path) -> str:
    """Write the base with the file's weights in it as a diffusers folder; what its word is spelled there, "" for a LoRA.

    The folder appears whole or not at all. It is written in float32.

    Raises:
        EmbeddingError: the file is missing or holds no weights of this package.
        ModelError: they do not fit the base, or the folder is there already or cannot be written.
    """
    if out.exists():
        raise ModelError(f"{out} is there already. Give --out a folder that is not.")
    model = open_model(base, "cpu", "fp32")
    spelled = choosing.merge(model, file)
    partial = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        model.pipe.save_pretrained(partial, safe_serialization=True)
        os.replace(partial, out)
    except OSError as error:
        raise ModelError(
            f"{out} cannot be written: {error.strerror or error}. Free some space or give --out another folder."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return spelled
