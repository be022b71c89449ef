"""Which device and precision a run computes with, and why, in words."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field

import psutil
import torch
from torch import Tensor

from neologism.errors import DeviceError


@dataclass
class Limits:
    """What keeps the memory small; it may be tightened while a run goes on.

    Attributes:
        at_once: how many samples are computed at once; None is all of them.
        vae_away: whether the VAE is on the device only while it works.
        streamed: whether the denoiser's blocks are on the device only while they compute.
        half_weights: whether frozen float32 weights rest in half precision.
        eased: whether they were tightened because memory fell short.
        glanced: how many samples are computed at once where nothing learns, once more were found to be too many.
        told: what was chosen for the memory and why, in words; "" where nothing was.
    """

    at_once: int | None = None
    vae_away: bool = False
    streamed: bool = False
    half_weights: bool = False
    eased: bool = False
    glanced: int | None = None
    told: str = ""

    def pieces(self, count: int, usual: int | None = None) -> Iterator[slice]:
        """The places of so many samples, as many at once as allowed, or as usual where that is fewer."""
        most = min(self.at_once or count, usual or count)
        return (slice(first, first + most) for first in range(0, count, most))


@dataclass(frozen=True)
class Machine:
    """Where and how precisely the frozen model computes, and the reason in words.

    `quantised` is "none", or the kind of numbers that the weights of the largest parts are stored in.
    """

    device: torch.device
    precision: str
    reason: str
    quantised: str = "none"
    limits: Limits = field(default_factory=Limits)

    @property
    def weights(self) -> torch.dtype:
        """The type of the denoiser's frozen weights; rows, text encoders and VAE stay float32."""
        return torch.float32 if self.precision == "fp32" else torch.bfloat16

    @contextlib.contextmanager
    def arithmetic(self) -> Generator[None]:
        """Compute in the chosen precision: matrix products in bfloat16, or all in float32."""
        if self.precision == "fp32":
            yield
        else:
            with torch.autocast(self.device.type, torch.bfloat16):
                yield


LARGE = 2**16  # numbers; what is smaller takes no memory worth a conversion


@contextlib.contextmanager
def halved_activations(weights: Iterable[Tensor]) -> Generator[None]:
    """Until the block ends, float32 tensors that are kept for the backward pass are kept in bfloat16; weights are left alone."""
    frozen = {tensor.untyped_storage().data_ptr() for tensor in weights}

    def pack(tensor: Tensor) -> Tensor:
        large = tensor.dtype == torch.float32 and tensor.numel() >= LARGE
        known = tensor.untyped_storage().data_ptr() in frozen
        return tensor.to(torch.bfloat16) if large and not known else tensor

    def unpack(kept: Tensor) -> Tensor:
        return kept.to(torch.float32) if kept.dtype == torch.bfloat16 else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def machine(device: str = "auto", precision: str = "auto", quantised: str = "none") -> Machine:
    """The machine for these settings; where weights are quantised it multiplies in bf16.

    Raises:
        DeviceError: the named device is not there or has no name.
    """
    chosen, why = chosen_device(device)
    if quantised != "none":
        return Machine(chosen, "bf16", f"{why}; bf16, and weights kept in {quantised}", quantised)
    if precision != "auto":
        return Machine(chosen, precision, f"{why}; {precision} as asked")
    if has_fast_bfloat16(chosen):
        return Machine(chosen, "bf16", f"{why}; bf16, which this processor multiplies natively")
    return Machine(chosen, "fp32", f"{why}; fp32, since this processor has no native bf16")


def chosen_device(name: str) -> tuple[torch.device, str]:
    """The device of a name, or the best there is, and why."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"the GPU {torch.cuda.get_device_name()}"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "the Apple GPU"
        return torch.device("cpu"), "the CPU, since no GPU was found"
    try:
        found = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"There is no device {name!r}. Use auto, cpu, cuda, cuda:1 or mps.") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"The device {name!r} was asked for and PyTorch finds {torch.cuda.device_count()} CUDA GPUs. "
            "Use --device cpu, or install a PyTorch built for your GPU."
        )
    return found, f"{name} as asked"


def free_bytes(device: torch.device) -> int:
    """Bytes of memory that the device has free."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


@contextlib.contextmanager
def enough_memory(device: torch.device) -> Generator[None]:
    """Until the block ends, a lack of memory is told as what it is.

    Raises:
        DeviceError: the device's memory falls short.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise DeviceError(
            f"The memory of {device} is too small for this. Lower --at-once (1 is the least) and --side, and store weights in "
            "less with --quantised int8; or give --memory the size that is free, such as 8gb, and these are chosen for you."
        ) from None


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(
            torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
    return False
