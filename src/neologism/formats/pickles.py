"""torch's own files (.pt, .bin, .ckpt) without torch's own loader: an allow-list that builds tensors, dicts, lists and numbers.

Nothing a file names is imported or called. What is asked for is looked up in one table of inert stand-ins; anything that is not in
it ends the reading. Both containers are read: the zip of torch 1.6 and later, and the row of pickles before it.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # what a file of torch before 1.6 begins with
LARGEST_PICKLE = 2 * 2**20  # a word's pickle has a few hundred bytes

DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class NotAllowed(Exception):
    """A pickle asks for something that is no tensor, dict, list, text or number."""


class Held:
    """Stands in for objects of torch that only hold others, such as a ParameterDict; what they hold is read from `items`."""

    def __init__(self, *_: object) -> None:
        self.state: Mapping[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        """Keep what the file says of it, whatever torch wrote it."""
        if isinstance(state, Mapping):
            self.state = cast("Mapping[str, Any]", state)

    def items(self) -> dict[str, Any]:
        """What it holds: torch before 1.12 kept it in `_parameters`, later ones beside a list of `_keys`."""
        inner: Any = self.state.get("_parameters") or {}
        named = {key: self.state[key] for key in self.state.get("_keys") or () if key in self.state}
        return dict(inner) | named


def numbers(storage: object, offset: object, size: object, stride: object, *_: object) -> Tensor:
    """A tensor over a storage, when it asks for no more than the storage holds.

    Raises:
        NotAllowed: it reaches past the storage's end, or shows one number many times.
    """
    if not (isinstance(storage, Tensor) and isinstance(offset, int) and offset >= 0):
        raise NotAllowed("holds a tensor without a storage")
    sides, steps = whole(size), whole(stride)
    if len(sides) != len(steps):
        raise NotAllowed("holds a tensor whose shape and strides differ in length")
    count = 1
    for side in sides:
        count *= side
    last = offset + sum((side - 1) * step for side, step in zip(sides, steps, strict=True))
    if count and (last >= len(storage) or count > len(storage)):
        raise NotAllowed(f"holds a tensor of shape {sides} in a storage of {len(storage)} numbers")
    return storage.as_strided(sides, steps, offset).clone()


def whole(sizes: object) -> list[int]:
    """Sizes or strides, when they are whole numbers of 0 and more, and few."""
    found = list(cast("tuple[object, ...]", sizes)) if isinstance(sizes, tuple) else [-1]
    if len(found) > 8 or not all(isinstance(n, int) and n >= 0 for n in found):
        raise NotAllowed("holds a shape that is none")
    return cast("list[int]", found)


def first(value: object, *_: object) -> object:
    """The first argument: a Parameter is its tensor."""
    return value


ALLOWED: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": numbers,
    "torch._utils._rebuild_tensor": numbers,
    "torch._utils._rebuild_parameter": first,
    "torch._utils._rebuild_parameter_with_state": first,
    "torch.nn.parameter.Parameter": first,
    "torch.nn.modules.container.ParameterDict": Held,
    "torch.nn.modules.container.ParameterList": Held,
    "torch.serialization._get_layout": first,
    "torch.device": first,
    "torch.Size": tuple,
    "__builtin__.set": set,
    "builtins.set": set,
    "builtins.dict": dict,
}


class Reader(pickle.Unpickler):
    """An unpickler that knows nothing but what is allowed; storages come from `stored(key, dtype, count)`."""

    def __init__(self, stream: io.BytesIO, stored: Callable[[str, torch.dtype, int], Tensor]):
        super().__init__(stream, encoding="utf-8", errors="replace")
        self.stored = stored

    def find_class(self, module: str, name: str) -> Any:  # noqa: D102  (the base class says it)
        asked = f"{module}.{name}"
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if asked not in ALLOWED:
            raise NotAllowed(f"asks for {asked}")
        return ALLOWED[asked]

    def persistent_load(self, pid: Any) -> Any:  # noqa: D102
        if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module" and pid[1] is Held:  # pyright: ignore[reportUnknownArgumentType]
            return Held  # torch before 1.6 put the source text of a module's class beside it
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], torch.dtype)):  # pyright: ignore[reportUnknownArgumentType]
            raise NotAllowed("holds a storage that is none")
        count = pid[4]
        if not isinstance(count, int) or count < 0:
            raise NotAllowed("holds a storage without a size")
        return self.stored(str(pid[2]), pid[1], count)


def built(stream: io.BytesIO, reader: type[Reader], stored: Callable[[str, torch.dtype, int], Tensor]) -> Any:
    """What the pickle at the stream's place builds, its places of memory being checked before anything is built.

    Raises:
        NotAllowed: it is too large, or remembers things at places far beyond what it has.
    """
    place, tuples, last, again = stream.tell(), set[object](), "", 0
    for count, (code, argument, _) in enumerate(pickletools.genops(stream)):
        if stream.tell() - place > LARGEST_PICKLE:
            raise NotAllowed("holds a pickle of many megabytes")
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            # One such instruction of five bytes would make the interpreter reserve gigabytes.
            if isinstance(argument, int) and argument > count:
                raise NotAllowed("holds a place of memory that is none")
            tuples |= {argument} if last.startswith("TUPLE") else set()
        # Tuples of tuples of the same tuples: as the key of a dict, thirty of them take minutes to hash.
        again += code.name.endswith("GET") and (argument in tuples or None in tuples)
        if again > 16 or code.name == "DUP":
            raise NotAllowed("holds tuples within tuples")
        last = code.name
    stream.seek(place)
    return reader(stream, stored).load()


def from_zip(content: bytes) -> Any:
    """What a zip of torch 1.6 or later holds. Any exception means a damaged file, but for `NotAllowed`."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        inside = {name.partition("/")[2] or name: name for name in archive.namelist()}
        if archive.getinfo(inside["data.pkl"]).file_size > LARGEST_PICKLE:
            raise NotAllowed("holds a pickle of many megabytes")

        def stored(key: str, dtype: torch.dtype, count: int) -> Tensor:
            return as_numbers(archive.read(inside[f"data/{key}"]), dtype, count)

        return built(io.BytesIO(archive.read(inside["data.pkl"])), Reader, stored)


def from_legacy(content: bytes) -> Any:
    """What a file of torch before 1.6 holds: five pickles, then the storages in the order that the fifth lists."""
    stream, waiting = io.BytesIO(content), dict[str, Tensor]()

    def stored(key: str, dtype: torch.dtype, count: int) -> Tensor:
        if count * dtype.itemsize > len(content):
            raise NotAllowed(f"holds a storage of {count} numbers in a file of {len(content)} bytes")
        return waiting.setdefault(key, torch.zeros(count, dtype=dtype))

    def none(key: str, dtype: torch.dtype, count: int) -> Tensor:
        raise NotAllowed("holds a storage before the tensors")

    if built(stream, Reader, none) != MAGIC or built(stream, Reader, none) != PROTOCOL:
        raise NotAllowed("is a bare pickle, not a file of torch")
    built(stream, Reader, none)  # what machine it was written on
    # The tensors come before their numbers, so they are views of zeros that are filled in below.
    found = built(stream, LateReader, stored)
    keys = built(stream, Reader, none)
    for key in keys if isinstance(keys, list) else []:  # pyright: ignore[reportUnknownVariableType]
        storage = waiting[str(key)]  # pyright: ignore[reportUnknownArgumentType]
        count = int.from_bytes(stream.read(8), "little")
        if count != len(storage):
            raise NotAllowed(f"holds a storage of {count} numbers where {len(storage)} were told")
        storage.copy_(as_numbers(stream.read(count * storage.element_size()), storage.dtype, count))
    return found


class LateReader(Reader):
    """A reader whose tensors stay views of their storages, since the numbers come later."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: D102
        found = super().find_class(module, name)
        return views if found is numbers else found


def views(*told: object) -> Tensor:
    """The tensor that `numbers` would build, checked alike, but not yet copied."""
    numbers(*told)  # type: ignore[arg-type]
    storage, offset, size, stride = told[:4]
    return cast("Tensor", storage).as_strided(whole(size), whole(stride), cast("int", offset))


def as_numbers(content: bytes, dtype: torch.dtype, count: int) -> Tensor:
    """Little-endian numbers as a tensor [count].

    Raises:
        NotAllowed: there are fewer bytes than that.
    """
    if len(content) < count * dtype.itemsize:
        raise NotAllowed(f"holds {count} numbers in {len(content)} bytes")
    if not count:
        return torch.zeros(0, dtype=dtype)
    return torch.frombuffer(bytearray(content), dtype=dtype, count=count)
