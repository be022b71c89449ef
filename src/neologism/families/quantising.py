"""Frozen weights stored in fewer bits, by libraries that know how: unpacked as they are multiplied, and rows learn through them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from neologism.errors import DeviceError

BYTES = {"none": 2.0, "int8": 1.0, "fp8": 1.0, "nf4": 0.55}
"""About how many bytes a weight takes; in bf16 where it is not quantised."""


def at_hand(device: torch.device) -> list[str]:
    """Which kinds a plan may choose: their libraries are installed, and the device can; the largest first."""
    found = ["int8"] if find_spec("torchao") else []
    return found + (["nf4"] if device.type == "cuda" and find_spec("bitsandbytes") else [])


def quantise(network: nn.Module, kind: str, device: torch.device) -> None:
    """Store the matrices of a network, which is on the CPU, as "int8", "fp8" (torchao) or "nf4" (bitsandbytes).

    Raises:
        DeviceError: the library is missing.
    """
    {"int8": by_torchao, "fp8": by_torchao, "nf4": by_bitsandbytes}[kind](network, kind, device)


def library(name: str, kind: str) -> Any:
    """A library that not everybody needs.

    Raises:
        DeviceError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DeviceError(
            f"Weights in {kind} need {name.partition('.')[0]}, which is not installed. Type pip install 'neologism[quantised]', "
            "or choose --quantised none."
        ) from None


def by_torchao(network: nn.Module, kind: str, device: torch.device) -> None:
    """Int8 or fp8, a scale for each row of a matrix."""
    ao = library("torchao.quantization", kind)
    config: Callable[[], Any] = {"int8": ao.Int8WeightOnlyConfig, "fp8": ao.Float8WeightOnlyConfig}[kind]
    ao.quantize_(network, config())


def by_bitsandbytes(network: nn.Module, kind: str, device: torch.device) -> None:
    """Four bits a weight (Dettmers et al. 2023, arXiv 2305.14314); they are packed on the way to the device."""
    if device.type != "cuda":
        raise DeviceError(
            f"Weights in nf4 need a CUDA GPU and found {device.type}. Choose --quantised int8, fp8 or none."
        )
    bnb = library("bitsandbytes", kind)
    for parent in [*network.modules()]:
        for name, linear in [*parent.named_children()]:
            if type(linear) is nn.Linear:
                setattr(parent, name, packed(linear, bnb))


def packed(linear: Any, bnb: Any) -> nn.Module:
    """A linear layer whose matrix becomes four bits a weight when it moves to a GPU."""
    weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4")
    made: Any = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        linear.bias is not None,
        compute_dtype=linear.weight.dtype,
        quant_type="nf4",
    )
    made.weight, made.bias = weight, linear.bias
    return made.requires_grad_(False)
