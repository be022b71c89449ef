"""How a frozen network takes less memory in training: weights that rest in half precision, and light checkpointing."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

HALVES = (torch.float16, torch.bfloat16)


class Widened(torch.autograd.Function):
    """A linear layer or convolution whose frozen weight is widened to its input's type when used, there and back.

    Nothing but the weight as it rests is kept for the backward pass: a frozen layer's gradient does not need its input.
    """

    @staticmethod
    def forward(ctx: Any, given: Tensor, layer: Any) -> Tensor:
        """The layer's answer in the input's type."""
        ctx.layer, ctx.shape = layer, given.shape
        bias = None if layer.bias is None else layer.bias.to(given.dtype)
        weight = layer.weight.to(given.dtype)
        return F.conv2d(given, weight, bias, *shape(layer)) if is_convolution(layer) else F.linear(given, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The gradient of the input."""
        layer, grad = ctx.layer, grads[0]
        weight = layer.weight.to(grad.dtype)
        if not is_convolution(layer):
            return grad @ weight, None
        return conv2d_input(ctx.shape, weight, grad, *shape(layer)), None  # pyright: ignore[reportArgumentType]


def is_convolution(layer: nn.Module) -> bool:
    """Whether a layer is a convolution of zeros around the picture, the only kind there is in the families' networks."""
    return isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros"


def shape(layer: Any) -> tuple[Any, ...]:
    """A convolution's stride, padding, dilation and groups."""
    return layer.stride, layer.padding, layer.dilation, layer.groups


class RestingLinear(nn.Linear):
    """A linear layer that rests in half precision."""

    def forward(self, input: Tensor) -> Tensor:
        """As nn.Linear, in the input's type."""
        return Widened.apply(input, self)  # type: ignore[no-any-return]


class RestingConv2d(nn.Conv2d):
    """A convolution that rests in half precision."""

    def forward(self, input: Tensor) -> Tensor:
        """As nn.Conv2d, in the input's type."""
        return Widened.apply(input, self)  # type: ignore[no-any-return]


class RestingEmbedding(nn.Embedding):
    """A table that rests in half precision and answers in float32."""

    def forward(self, input: Tensor) -> Tensor:
        """As nn.Embedding."""
        return super().forward(input).float()


RESTING: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: RestingLinear,
    nn.Conv2d: RestingConv2d,
    nn.Embedding: RestingEmbedding,
}


def rest(networks: Iterable[nn.Module]) -> bool:
    """Let the frozen float32 layers of these networks rest in half precision, computing in float32 as before.

    Whether every weight is what it was: so it is where the files were in half precision, as most that are shared are.
    Otherwise weights are rounded, to bfloat16 where float16 has not the range.
    """
    exact = True
    for network in networks:
        network.computes_in = torch.float32  # type: ignore[assignment]  # its own .dtype tells how it rests
        for layer in network.modules():
            weight = getattr(layer, "weight", None)
            plain = is_convolution(layer) if isinstance(layer, nn.Conv2d) else type(layer) in RESTING
            if plain and weight is not None and weight.dtype == torch.float32:
                exact &= halved(layer)
    return exact


def halved(layer: Any) -> bool:
    """Make one layer rest; whether its weight is what it was."""
    before = layer.weight.detach()
    rounded = [before.to(kind) for kind in HALVES]
    same = [bool((half.float() == before).all()) for half in rounded]
    fits = bool(torch.isfinite(rounded[0]).all())
    chosen = same.index(True) if any(same) else (0 if fits else 1)
    layer.weight = nn.Parameter(rounded[chosen], requires_grad=False)
    layer.__class__ = RESTING[type(layer)]
    return any(same)


def computing(network: Any) -> torch.dtype:
    """The type in which a network computes, however its weights rest."""
    return getattr(network, "computes_in", network.dtype)


SLOW = {
    torch.ops.aten.convolution.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
}
"""What takes most of a denoiser's time: its results are kept by light checkpointing, everything else is computed twice."""


def policy(_: Any, operation: Any, *arguments: Any, **more: Any) -> CheckpointPolicy:
    """Keep what was slow to make."""
    return CheckpointPolicy.MUST_SAVE if operation in SLOW else CheckpointPolicy.PREFER_RECOMPUTE


def light(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a block keeping only what was slow to make for its backward pass (selective activation checkpointing)."""
    if not any(isinstance(given, Tensor) and given.requires_grad for given in arguments):
        return function(*arguments)  # nothing of it will be asked again
    contexts = functools.partial(create_selective_checkpoint_contexts, policy)
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


MMAP_THRESHOLD, LARGE_BLOCK = -3, 2**20  # mallopt's number in <malloc.h>; bytes


def large_blocks_return() -> None:
    """From now on large blocks of main memory go back to the system when they are freed, where the C library is glibc.

    Left to itself it keeps freed blocks of up to 32 MB for later, and gaps between them: a tenth of a step's memory. Gaps from before
    this call stay, so it is best made before a model is opened.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(MMAP_THRESHOLD, LARGE_BLOCK)


def checkpointed(denoiser: Any, lightly: bool) -> None:
    """From now on a diffusers denoiser computes activations twice: all of them, or those that are quick to make."""
    if denoiser.device.type == "cpu":
        large_blocks_return()
    denoiser.enable_gradient_checkpointing(*([light] if lightly else []))
