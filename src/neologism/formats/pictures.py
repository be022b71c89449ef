"""A word in a picture, as AUTOMATIC1111 shares them: once as text in the PNG, once in the low bits of its pixels.

Both hold the same JSON. The text is lost when a picture is sent through a site that strips it, the pixels when it is scaled or
saved with loss; one of the two is enough.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor

CHUNK = "sd-ti-embedding"
LARGEST_JSON = 64 * 2**20
"""Most characters of JSON a picture may unpack to: about 3,000 vectors of 768 numbers."""
Bytes = NDArray[np.uint8]


class NoWord(Exception):
    """The picture holds no word, or one that is damaged."""


def drawn(told: dict[str, Any], picture: Image.Image) -> bytes:
    """A PNG of the picture between two blocks of pixels that hold `told` (texts, numbers and tensors), with the same as text."""
    text = json.dumps(told, default=as_lists)
    info = PngImagePlugin.PngInfo()
    info.add_text(CHUNK, base64.b64encode(text.encode()).decode())
    out = io.BytesIO()
    with_blocks(picture.convert("RGB"), zlib.compress(text.encode(), 9)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def as_lists(value: object) -> dict[str, Any]:
    """A tensor as JSON holds it."""
    if isinstance(value, Tensor):
        return {"TORCHTENSOR": value.detach().cpu().float().tolist()}
    raise TypeError(f"{type(value).__name__} cannot be written into a picture")


def as_tensors(found: dict[str, Any]) -> Any:
    """An object of JSON, its tensors made."""
    return torch.tensor(found["TORCHTENSOR"], dtype=torch.float32) if "TORCHTENSOR" in found else found


def read(content: bytes) -> dict[str, Any]:
    """What a picture holds.

    Raises:
        NoWord: nothing, or something damaged.
    """
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        text = cast("dict[str, Any]", getattr(image, "text", {})).get(CHUNK)
        pixels = np.asarray(image.convert("RGB"), np.uint8)
    try:
        said = base64.b64decode(text) if text else unpacked(payload(pixels))
        found: Any = json.loads(said, object_hook=as_tensors)
    except NoWord:
        raise
    except Exception as error:  # bad base64, JSON, zlib or numbers all mean the same
        raise NoWord(f"what it holds is damaged ({str(error).partition(chr(10))[0]})") from None
    if not isinstance(found, dict):
        raise NoWord("what it holds is no word")
    return cast("dict[str, Any]", found)


def unpacked(content: bytes) -> bytes:
    """zlib's data, with whatever stands behind its end left alone."""
    reader = zlib.decompressobj()
    found = reader.decompress(content, LARGEST_JSON)
    if reader.unconsumed_tail:
        raise NoWord("it unpacks to more than a word has")
    return found


def keystream(count: int) -> Bytes:
    """The first `count` half-bytes that a block is mixed with."""
    state, found = 0, np.empty(count, np.uint8)
    for place in range(count):
        state = (1664525 * state + 1013904223) % 2**32
        found[place] = (state % 255) & 15
    return found


def block(half_bytes: Bytes, height: int) -> Bytes:
    """Half-bytes as a block [height, w, 3] of pixels, filled up by repeating them; its high bits make it visibly not black."""
    width = -(-len(half_bytes) // (height * 3))
    whole = np.resize(half_bytes, height * width * 3)
    return ((whole ^ keystream(len(whole))) | 0x60).astype(np.uint8).reshape(height, width, 3)


def with_blocks(picture: Image.Image, content: bytes) -> Image.Image:
    """The picture with the low halves of the bytes at its left, the high halves at its right, black columns between."""
    data = np.frombuffer(content, np.uint8)
    middle = np.maximum(np.asarray(picture, np.uint8), 1)  # a black rim would be cropped away in reading
    line = np.zeros((middle.shape[0], 1, 3), np.uint8)
    sides = [block(half, middle.shape[0]) for half in (data & np.uint8(15), data >> np.uint8(4))]
    return Image.fromarray(np.concatenate([sides[0], line, middle, line, sides[1]], 1))


def payload(pixels: Bytes) -> bytes:
    """The bytes in the blocks at both sides of a picture [h, w, 3].

    Raises:
        NoWord: there are no two black columns.
    """
    shown: Any = (pixels > 0).all(2)
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    half = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] & 15 if len(rows) else pixels[:0]
    lines = np.flatnonzero(half.sum((0, 2)) == 0) if len(half) else rows
    if len(lines) < 2:
        raise NoWord("it has no word in its text nor in its pixels")
    sides = [np.ascontiguousarray(side).ravel() for side in (half[:, : lines[0]], half[:, lines[-1] + 1 :])]
    length = min(map(len, sides))
    low, high = (side[:length] ^ keystream(length) for side in sides)
    return (low | (high << 4)).astype(np.uint8).tobytes()
