"""A word's file: `load` reads the formats its users have, `save` writes those their tools read.

pickles     torch's files, through an allow-list
containers  bytes <-> named tensors and texts
pictures    a word in a picture
layouts     named tensors and texts -> Embedding
dialects    Embedding -> the files of each tool, and what to do with them there
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from neologism.embedding import Embedding
from neologism.errors import EmbeddingError
from neologism.formats import containers, layouts
from neologism.formats.dialects import DIALECTS
from neologism.formats.layouts import Found

__all__ = ["DIALECTS", "Found", "convert", "examined", "how_to_use", "load", "save"]


def load(path: str | os.PathLike[str], encoder: str | None = None) -> Embedding:
    """The word in a file: ours, or one of diffusers, AUTOMATIC1111, kohya, OneTrainer, ComfyUI, InvokeAI.

    What a file is gets decided by its bytes, never by its name, and nothing in it is ever executed. `encoder` ("clip_l",
    "clip_h", "clip_g", "t5", or "text" for any other) is whose the vectors are, where a file of one bare tensor cannot tell.

    Raises:
        EmbeddingError: the file is missing, damaged, holds no word, or none for that encoder.
    """
    return examined(path, encoder).embedding


def examined(path: str | os.PathLike[str], encoder: str | None = None) -> Found:
    """The word in a file, what the file was recognised as, and what to know of it; `encoder` as for `load`.

    Raises:
        EmbeddingError: the file is missing, damaged, or holds no word.
    """
    file = Path(path)
    return layouts.read(containers.read(file), file, encoder)


def save(embedding: Embedding, path: str | os.PathLike[str], layout: str = "common") -> Path:
    """Write the word; the same word gives the same bytes. Returns the path of the (first) file.

    `layout` is one of `DIALECTS`: "common" is one safetensors file that most tools read. A path without an ending gets the
    layout's. Files appear whole or not at all: older ones of their names stay until the new ones are on the disk.

    Raises:
        EmbeddingError: there is no such layout, it cannot hold this word, its files have another ending, or the folder or
            disk does not take them.
    """
    files = written(embedding, Path(path), layout)
    for file, content in files.items():
        try:
            replace(file, content)
        except OSError as error:
            raise EmbeddingError(
                f"{file} cannot be written: {error.strerror or error}. Give a path in a folder that exists, can be "
                f"written to and has {len(content):,} bytes free."
            ) from None
    return next(iter(files))


def written(embedding: Embedding, path: Path, layout: str) -> dict[Path, bytes]:
    """The files of a layout: where they go and what they hold."""
    if layout not in DIALECTS:
        raise EmbeddingError(f"There is no layout {layout!r}. Choose one of {', '.join(DIALECTS)}.")
    known = path.suffix in (".safetensors", ".pt", ".png", ".bin", ".webp")
    stem = path.with_suffix("") if known else path
    files = DIALECTS[layout].write(embedding, stem.name)
    ending = next(iter(files))
    if known and path.suffix != ending:
        raise EmbeddingError(
            f"{path} cannot be written: a word's file of the layout {layout} is named NAME{ending}. Give it such a name."
        )
    return {stem.with_name(stem.name + end): content for end, content in files.items()}


def convert(
    source: str | os.PathLike[str], out: str | os.PathLike[str], layout: str, encoder: str | None = None
) -> Path:
    """Write a word's file again in another layout; the vectors are the same to the bit. `encoder` as for `load`."""
    return save(load(source, encoder), out, layout)


def how_to_use(embedding: Embedding, file: Path, layout: str = "common") -> list[str]:
    """A line for each tool that reads the file: where to put it and what to type."""
    word = embedding.word
    return [use.format(file=file.name, stem=file.stem, word=word) for use in DIALECTS[layout].use]


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
