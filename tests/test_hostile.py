"""Files made to harm: each ends in an EmbeddingError, quickly, in little memory, and runs nothing."""

from __future__ import annotations

import io
import json
import pickle
import random
import resource
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from PIL import Image

from neologism import formats
from neologism.embedding import Embedding
from neologism.errors import EmbeddingError
from neologism.formats import pictures

CALLS = (
    ("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "Popen"), ("subprocess", "check_output"),
    ("builtins", "eval"), ("builtins", "exec"), ("builtins", "__import__"), ("builtins", "open"), ("__builtin__", "eval"),
    ("builtins", "getattr"), ("operator", "attrgetter"), ("functools", "partial"), ("runpy", "run_path"),
    ("importlib", "import_module"), ("shutil", "rmtree"), ("socket", "socket"), ("webbrowser", "open"),
    ("torch", "load"), ("torch.hub", "load"), ("torch._utils", "_rebuild_wrapper_subclass"), ("numpy", "load"),
    ("torch.serialization", "load"), ("pickle", "loads"), ("torch.jit", "load"), ("ctypes", "CDLL"),
)  # fmt: skip


def words() -> dict[str, bytes]:
    """A good file of each container, to be spoilt."""
    made = Embedding("<mug>", {"clip_l": torch.randn(1, 768, generator=torch.Generator().manual_seed(0))}, "a-base")
    files = {"safetensors": "common", "zip": "a1111", "png": "a1111-png"}
    good = {name: next(iter(formats.written(made, Path("mug"), layout).values())) for name, layout in files.items()}
    stream = io.BytesIO()
    torch.save({"<mug>": made.vectors["clip_l"]}, stream, _use_new_zipfile_serialization=False)
    return good | {"legacy": stream.getvalue()}


def zipped(pickled: bytes, storages: dict[str, bytes] | None = None, packed: int = zipfile.ZIP_STORED) -> bytes:
    """A torch zip file of these parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packed) as archive:
        archive.writestr("a/data.pkl", pickled)
        for name, content in (storages or {}).items():
            archive.writestr(f"a/data/{name}", content)
    return out.getvalue()


def calling(module: str, name: str) -> bytes:
    """A pickle that calls something with one text."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X\x04\x00\x00\x00true\x85R."


def legacy(pickled: bytes) -> bytes:
    """A file of torch before 1.6 whose tensors are this pickle."""
    head = b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    return head + pickled + pickle.dumps([], protocol=2)


def storage(size: tuple[int, ...], stride: tuple[int, ...], count: int, offset: int = 0) -> bytes:
    """The pickle of a tensor of float32 over storage 0, with these claims."""

    class Asks(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if obj == "here" else None

    class Tensor:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, ("here", offset, size, stride, False, {})

    out = io.BytesIO()
    Asks(out, protocol=2).dump({"<a>": Tensor()})
    return out.getvalue()


def header(text: bytes, length: int | None = None, body: bytes = b"") -> bytes:
    """A safetensors file with this header, and a length of it that may lie."""
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def spoilt(good: bytes, chance: random.Random) -> Iterator[bytes]:
    """A good file cut short, and with bytes of its beginning changed to what cannot be right."""
    for _ in range(15):
        yield good[: chance.randrange(9, len(good) - 1)]
    for _ in range(15):
        place = chance.randrange(0, min(len(good), 200))
        yield good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :]


def claims() -> Iterator[tuple[str, bytes]]:
    """Tensors that claim more than there is, and headers that lie."""
    shapes = [((2**20, 768), (0, 1), 768, 0), ((1, 768), (768, 1), 10**12, 0), ((1, 768), (768, 1), 768, 10**9)]
    shapes += [((1,) * 20, (1,) * 20, 768, 0), ((-1, 768), (768, 1), 768, 0), ((1, 768), (-768, 1), 768, 0)]
    for number, (size, stride, count, offset) in enumerate(shapes):
        told = storage(size, stride, count, offset)
        yield f"claim {number} in a zip", zipped(told, {"0": bytes(768 * 4)})
        yield f"claim {number} in a legacy file", legacy(told)
    for number, (shape, ends) in enumerate([([1, 768], [0, 10**15]), ([10**9, 10**9], [0, 8]), ([0, 768], [0, 0])]):
        text = json.dumps({"<a>": {"dtype": "F32", "shape": shape, "data_offsets": ends}}).encode()
        yield f"claim {number} in safetensors", header(text, body=bytes(8))
    for length in (2**40, 2**63, 2**64 - 1, 0, 1, 10**8 + 1):
        yield f"a header of {length} bytes", header(b'{"a":1}', length)
    yield "nested lists", header(b"[" * 10**6)
    yield "nested objects", header(b'{"a":' * 10**5)
    twice = b'{"<a>":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"<a>":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    yield "the same name twice", header(twice + b" " * 5, body=bytes(4))


def bombs() -> Iterator[tuple[str, bytes]]:
    """Little files that would grow."""
    yield "a zip bomb", zipped(storage((1, 768), (768, 1), 768), {"0": bytes(400 * 2**20)}, zipfile.ZIP_DEFLATED)
    yield "a pickle of megabytes", zipped(b"\x80\x02]" + b"N" * (3 * 2**20) + b".")
    for place in (b"r\xff\xff\xff\x7f", b"p2147483647\n", b"p99999999999999\n"):
        yield f"a far place {place!r}", zipped(b"\x80\x02]" + place + b".")
    yield "a long text that is not there", zipped(b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.")
    yield "a frame that is not there", zipped(b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f.")
    yield "lists in lists", zipped(b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".")
    yield "dicts in dicts", zipped(b"\x80\x02" + b"}K\x01" * 5000 + b"N" + b"s" * 5000 + b".")
    for depth in (16, 26):
        lol = b"\x80\x02]q\x00(K\x01K\x01e" + b"".join(
            b"]q" + bytes([n]) + b"(h" + bytes([n - 1]) * 1 + b"h" + bytes([n - 1]) + b"e" for n in range(1, depth)
        )
        yield f"lists that double {depth} times", zipped(lol + b".")
    for depth, end in ((40, b"K\x01s."), (12, b"K\x01s.")):
        keys = b"K\x01\x85q\x01" + b"".join(
            b"0h" + bytes([n]) + b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(1, depth)
        )
        yield f"a key of tuples that double {depth} times", zipped(b"\x80\x02}" + keys + end)
        memoized = b"K\x01\x85\x94" + b"".join(
            b"0h" + bytes([n]) + b"h" + bytes([n]) + b"\x86\x94" for n in range(depth - 1)
        )
        yield f"a later pickle's key of tuples {depth}", zipped(b"\x80\x04}" + memoized + end)
    maps = b"}q\x01" + b"".join(
        b"0}q" + bytes([n + 1]) + b"(K\x01h" + bytes([n]) + b"K\x02h" + bytes([n]) + b"u" for n in range(1, 60)
    )
    yield "dicts that double 60 times", zipped(b"\x80\x02" + maps + b".")
    out = io.BytesIO()
    pictures.with_blocks(Image.new("RGB", (64, 64), "red"), zlib.compress(b"[" * (70 * 2**20), 9)).save(out, "PNG")
    yield "a picture that unpacks to much", out.getvalue()


def without_sense() -> Iterator[tuple[str, bytes]]:
    """Numbers that are none, and words that are not there."""
    for value in (float("nan"), float("inf"), float("-inf")):
        tensors = {"<a>": torch.full((1, 768), value)}
        yield f"{value} in safetensors", safetensors.torch.save(tensors)
        for old in (True, False):
            stream = io.BytesIO()
            torch.save(tensors, stream, _use_new_zipfile_serialization=not old)
            yield f"{value} in torch's {old}", stream.getvalue()
        told = {"string_to_param": {"*": tensors["<a>"]}, "name": "a"}
        yield f"{value} in a picture", pictures.drawn(told, Image.new("RGB", (64, 64), "white"))
    for name, tensor in (
        ("no rows", torch.zeros(0, 768)),
        ("3-D", torch.zeros(1, 1, 768)),
        ("ints", torch.ones(1, 768).int()),
    ):
        yield name, safetensors.torch.save({"<a>": tensor})
    yield "two words", safetensors.torch.save({"<a>": torch.ones(1, 768), "<b>": torch.ones(1, 768)})
    for found in (
        b"[]",
        b"{}",
        b"3",
        b'"text"',
        b'{"string_to_param": {"*": {"TORCHTENSOR": "x"}}}',
        b'{"string_to_param": 1}',
        b"{",
    ):
        out = io.BytesIO()
        pictures.with_blocks(Image.new("RGB", (64, 64), "red"), zlib.compress(found)).save(out, "PNG")
        yield f"a picture of {found!r}", out.getvalue()


def corpus() -> Iterator[tuple[str, bytes]]:
    """All of them, each with what it is."""
    chance = random.Random(0)
    for kind, good in words().items():
        for number, content in enumerate(spoilt(good, chance)):
            yield f"{kind} spoilt {number}", content
    for module, name in CALLS:
        yield f"a zip that calls {module}.{name}", zipped(calling(module, name))
        yield f"a legacy file that calls {module}.{name}", legacy(calling(module, name))
        yield f"a pickle that calls {module}.{name}", calling(module, name)
    makers: tuple[Callable[[], Iterator[tuple[str, bytes]]], ...] = (claims, bombs, without_sense)
    for maker in makers:
        yield from maker()


def test_hostile_files_end_in_an_embedding_error_quickly_and_in_little_memory(tmp_path: Path) -> None:
    file, seen, survivors = tmp_path / "a.pt", 0, list[str]()
    formats.load(Path(formats.save(Embedding("<a>", {"clip_l": torch.ones(1, 768)}), tmp_path / "a")))  # warm up
    cases = list(corpus())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, content in cases:
        file.write_bytes(content)
        began = time.monotonic()
        try:
            formats.load(file)
            survivors.append(name)
        except EmbeddingError:
            seen += 1
        assert time.monotonic() - began < 2, name
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 2**20, f"{grown} KiB"  # 1 GiB
    # A changed byte may leave a good word: in a name, or a text nobody reads.
    assert all("spoilt" in name for name in survivors), survivors
    assert len(cases) >= 200 and seen >= 200


@pytest.mark.parametrize(("module", "name"), CALLS[:4])
def test_what_a_pickle_calls_is_named_and_not_called(module: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(zipped(calling(module, name)))
    with pytest.raises(EmbeddingError, match=f"a.pt asks for {module}.{name}, and only tensors, texts and numbers"):
        formats.load(tmp_path / "a.pt")
