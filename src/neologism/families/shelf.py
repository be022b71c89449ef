"""Networks that rest in a file: their weights come into main memory as they are read, and leave it when put back."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FILES: weakref.WeakKeyDictionary[nn.Module, tuple[Path, object]] = weakref.WeakKeyDictionary()
ALIGNED = 64  # bytes


def shelve(network: nn.Module) -> None:
    """Put a frozen network's weights into a file and forget what of them is in memory; computing with them reads them again.

    The file is made once, and anew where the weights are kept in another type since; it goes when the network does.
    """
    parameters = list(network.parameters())
    file, known = FILES.get(network, (None, None))
    if file is None or known != kinds(parameters):
        file = written(parameters)
        FILES[network] = file, kinds(parameters)
        weakref.finalize(network, file.unlink, missing_ok=True)
    whole = torch.UntypedStorage.from_file(str(file), False, places(parameters)[-1])
    for parameter, place in zip(parameters, places(parameters), strict=False):
        view: Any = torch.empty(0, dtype=parameter.dtype)
        parameter.data = view.set_(whole, place // parameter.element_size(), parameter.shape)


def kinds(tensors: list[nn.Parameter]) -> object:
    """What a file holds: types and shapes."""
    return [(tensor.dtype, tensor.shape) for tensor in tensors]


def places(tensors: list[nn.Parameter]) -> list[int]:
    """At which byte each tensor begins, and the whole size."""
    found = [0]
    for tensor in tensors:
        found.append(-(-(found[-1] + tensor.nbytes) // ALIGNED) * ALIGNED)
    return found


def written(tensors: list[nn.Parameter]) -> Path:
    """A new file of the tensors' bytes, each at its place."""
    with tempfile.NamedTemporaryFile(prefix="neologism-", suffix=".weights", delete=False) as file:
        for tensor, place in zip(tensors, places(tensors), strict=False):
            file.seek(place)
            file.write(as_bytes(tensor.detach()))
        file.truncate(places(tensors)[-1])
    return Path(file.name)


def as_bytes(tensor: Tensor) -> memoryview:
    """A tensor's bytes, row by row."""
    numbers: Any = tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return memoryview(numbers)
