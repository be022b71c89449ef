"""Bytes <-> named tensors and texts: safetensors both ways, torch's files (.pt, .bin) for reading only."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
from torch import Tensor

from neologism.errors import EmbeddingError
from neologism.formats import pickles, pictures
from neologism.formats.pickles import Held

LARGEST = 256 * 2**20
"""Most bytes a word's file may have, packed or unpacked: thousands of times what a word needs."""

MANY, DEEPEST = 10_000, 6
"""Most things a file may hold, and within how many mappings: a few dozen, within two, are usual."""

READABLE = "a .safetensors, .bin or .pt file"


@dataclass(frozen=True)
class Contents:
    """What a file holds, whatever its container."""

    tensors: Mapping[str, Tensor]
    texts: Mapping[str, str] = field(default_factory=dict[str, str])


def read(path: Path) -> Contents:
    """The tensors and texts in a file, told apart by its first bytes.

    Raises:
        EmbeddingError: the file is missing, too large, damaged, or of another kind.
    """
    content = content_of(path)
    if content.startswith(b"PK\x03\x04"):
        return unzipped(content, path)
    if content[8:9] == b"{":
        return unpacked(content, path)
    if content.startswith(b"\x80"):
        return unpickled(lambda: pickles.from_legacy(content), path)
    if is_picture(content):
        return in_picture(content, path)
    raise EmbeddingError(f"{path} is {kind(content)}, not a word's file. Give {READABLE}.")


def content_of(path: Path) -> bytes:
    """The file's bytes, when there are not too many."""
    try:
        if path.is_dir():
            raise EmbeddingError(f"{path} is a folder. Give a word's file in it, such as word.safetensors.")
        if path.stat().st_size > LARGEST:
            raise too_large(path, path.stat().st_size)
        return path.read_bytes()
    except FileNotFoundError:
        raise EmbeddingError(f"There is no file {path}. Give the path of a word's file: {READABLE}.") from None
    except OSError as error:
        raise EmbeddingError(f"{path} cannot be read: {error.strerror or error}. Give a file you may read.") from None


def too_large(path: Path, size: int) -> EmbeddingError:
    """The complaint about a file that holds more than a word can need."""
    return EmbeddingError(
        f"{path} holds {size:,} bytes; a word's file has at most {LARGEST:,}. Is it a whole model? Give a word's file."
    )


def kind(content: bytes) -> str:
    """What bytes that no reader takes seem to be."""
    if not content:
        return "empty (0 bytes)"
    if content.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer (run `git lfs pull` to get the file itself)"
    return "of a kind unknown here"


def damaged(path: Path, error: Exception) -> EmbeddingError:
    """The complaint about a file that begins well and then breaks down."""
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return EmbeddingError(f"{path} is damaged: {reason}. It must be a whole file; copy or download it again.")


def unpacked(content: bytes, path: Path) -> Contents:
    """The tensors and metadata of a safetensors file, in the order of their names."""
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")], object_pairs_hook=once)
    except Exception as error:  # the reader and the dtype table fail in many ways on bad bytes; all mean the same
        raise damaged(path, error) from None
    return Contents(dict(sorted(tensors.items())), header.get("__metadata__") or {})


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object none of whose names stands in it twice: which of the two is meant nobody can tell."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands in its header twice")
    return found


def packed(contents: Contents) -> bytes:
    """A safetensors file. Metadata is put in order, for the library writes it in a different one each time.

    Raises:
        EmbeddingError: a name or text cannot be written as UTF-8.
    """
    tensors = {name: tensor.contiguous() for name, tensor in contents.tensors.items()}
    try:
        content = safetensors.torch.save(tensors, dict(contents.texts))
    except UnicodeError as error:
        raise EmbeddingError(f"A text cannot be written: {error}. Use characters that UTF-8 has.") from None
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def unzipped(content: bytes, path: Path) -> Contents:
    """The tensors and texts of a torch zip file, through a reader that builds tensors and runs nothing."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(part.file_size for part in archive.infolist())
    except Exception as error:  # a broken list of parts raises more than BadZipFile, such as UnicodeDecodeError
        raise damaged(path, error) from None
    if size > LARGEST:
        raise too_large(path, size)
    return unpickled(lambda: pickles.from_zip(content), path)


def is_picture(content: bytes) -> bool:
    """Whether these are a PNG, WebP or JPEG."""
    return content.startswith((b"\x89PNG", b"\xff\xd8\xff")) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def in_picture(content: bytes, path: Path) -> Contents:
    """The word that AUTOMATIC1111 hides in a picture."""
    try:
        return flat(pictures.read(content), path)
    except EmbeddingError:
        raise
    except pictures.NoWord as error:
        raise EmbeddingError(
            f"{path} is a picture, and {error}. Give the picture as it was first saved, or {READABLE}."
        ) from None
    except Exception as error:  # what Pillow raises on broken pictures
        raise damaged(path, error) from None


def unpickled(build: Callable[[], Any], path: Path) -> Contents:
    """What a file of torch builds from the allow-list."""
    try:
        return flat(build(), path)
    except (pickles.NotAllowed, EmbeddingError) as error:
        raise refused(path, error) from None
    except Exception as error:  # a broken pickle may end in almost any exception; none of them is our bug
        raise damaged(path, error) from None


def refused(path: Path, error: Exception) -> EmbeddingError:
    """The complaint about a pickle that asks for more than numbers."""
    if isinstance(error, EmbeddingError):
        return error
    return EmbeddingError(
        f"{path} {error}, and only tensors, texts and numbers are allowed: nothing in it was run. "
        f"Give a .safetensors file of the same word."
    )


def flat(found: Any, path: Path) -> Contents:
    """Nested mappings as one level, names joined by dots: {"a": {"b": tensor}} has the tensor "a.b".

    Texts and numbers are kept as texts; lists are passed over, for no tool keeps a word in one.
    """
    tensors: dict[str, Tensor] = {}
    texts: dict[str, str] = {}
    for count, (name, value) in enumerate(leaves(found, "", 0)):
        if count > MANY:
            raise EmbeddingError(f"{path} holds more than {MANY:,} things: a word has few. Give a word's file.")
        if isinstance(value, str | int | float | None):
            texts[name] = str(value)
        elif isinstance(value, Tensor):
            tensors[name] = value.detach()
    return Contents(tensors, texts)


def leaves(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Every value that is not a mapping, with the names that lead to it; what lies deeper than any word is left alone."""
    value = value.items() if isinstance(value, Held) else value
    if not isinstance(value, Mapping):
        yield name, value
    elif depth < DEEPEST:
        for key, inner in cast("Mapping[object, Any]", value).items():
            if isinstance(key, str | int):
                yield from leaves(inner, f"{name}.{key}" if name else str(key), depth + 1)
