"""A word's file: `load` reads the formats its users have, `save` writes one that they can all read.

containers  bytes <-> named tensors and texts
layouts     named tensors and texts <-> Embedding
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from neologism.embedding import Embedding
from neologism.errors import EmbeddingError
from neologism.formats import containers, layouts

__all__ = ["load", "save"]


def load(path: str | os.PathLike[str]) -> Embedding:
    """The word in a file: ours, or one of diffusers (.safetensors, .bin) or AUTOMATIC1111 (.pt).

    What a file is gets decided by its bytes, never by its name, and nothing in it is ever executed.

    Raises:
        EmbeddingError: the file is missing, damaged, or holds no word.
    """
    file = Path(path)
    return layouts.read(containers.read(file), file)


def save(embedding: Embedding, path: str | os.PathLike[str]) -> Path:
    """Write the word as safetensors; the same word gives the same bytes. Returns the path.

    The file appears whole or not at all: an older one of that name stays until the new one is on the disk.

    Raises:
        EmbeddingError: the name does not end in .safetensors, or the folder or disk does not take the file.
    """
    file = Path(path)
    if file.suffix != ".safetensors":
        raise EmbeddingError(f"{file} cannot be written: a word's file is named NAME.safetensors. Give it such a name.")
    content = containers.packed(layouts.written(embedding))
    try:
        replace(file, content)
    except OSError as error:
        raise EmbeddingError(
            f"{file} cannot be written: {error.strerror or error}. Give a path in a folder that exists, can be written "
            f"to and has {len(content):,} bytes free."
        ) from None
    return file


def replace(file: Path, content: bytes) -> None:
    """Put the content under the file's name in one step that a crash cannot split."""
    partial = file.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)
    finally:
        if partial.exists():
            partial.unlink()
    keep_name(file.parent)


def keep_name(folder: Path) -> None:
    """Bring the folder's list of names to the disk, where the system can (Windows opens no folders)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
