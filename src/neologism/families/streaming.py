"""A denoiser whose blocks rest in main memory, each on the device only while it computes: exact, and slower by the way there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

BLOCKS = (
    "ResnetBlock2D",
    "BasicTransformerBlock",
    "JointTransformerBlock",
    "FluxTransformerBlock",
    "FluxSingleTransformerBlock",
)
"""The blocks of which diffusers' denoisers are made."""


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The blocks of a denoiser, none within another."""
    for child in network.children():
        if type(child).__name__ in BLOCKS:
            yield child
        else:
            yield from blocks(child)


def stream(network: Any, device: torch.device) -> None:
    """Let each block's weights come to the device before it computes and go again after; all else of the network stays there.

    Each block is computed twice: else the backward pass would hold on to the weights of all of them.
    """
    for block in blocks(network):
        Visitor(block, device)
    visiting = {id(parameter) for block in blocks(network) for parameter in block.parameters()}
    for parameter in network.parameters():
        if id(parameter) not in visiting:
            parameter.data = parameter.data.to(device)
    for module in network.modules():
        for name, buffer in [*module.named_buffers(recurse=False)]:
            setattr(module, name, buffer.to(device))


class Visitor:
    """A block's own `forward` with its weights on the device. They are given as tensors of their own, and the block's parameters
    never move: autograd would go on to look into those, wherever they were by then."""

    def __init__(self, block: Any, device: torch.device):
        self.block, self.device, self.real = block, device, block.forward
        for parameter in block.parameters():
            parameter.data = pinned(parameter.data, device)
        self.homes = {name: parameter.data for name, parameter in block.named_parameters()}
        block.forward = self

    def __call__(self, *given: Any, **named: Any) -> Any:
        """What the block answers."""
        if torch.is_grad_enabled():
            return checkpoint(self.visit, *given, use_reentrant=False, **named)
        return self.visit(*given, **named)

    def visit(self, *given: Any, **named: Any) -> Any:
        """Compute with the weights on the device."""
        there = {name: home.to(self.device, non_blocking=True) for name, home in self.homes.items()}
        self.block.forward = self.real
        try:
            return torch.func.functional_call(self.block, there, given, named)
        finally:
            self.block.forward = self


def pinned(weights: Tensor, device: torch.device) -> Tensor:
    """The weights where they travel fastest from."""
    return weights.pin_memory() if device.type == "cuda" else weights
