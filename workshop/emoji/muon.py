"""Muon for small networks: momentum made orthogonal, matrices of one shape done together (Jordan et al. 2024)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonal(matrices: Tensor, rounds: int = 5) -> Tensor:
    """The nearest half-orthogonal matrices of `matrices` [n, rows, columns], by the quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonal steps for weights of two or more axes, a convolution's kernel flattened into its rows."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[(parameter.shape[0], parameter[0].numel())].append(parameter)
            for parameters in alike.values():
                self.step_alike(parameters, group)

    def step_alike(self, parameters: list[nn.Parameter], group: dict[str, float]) -> None:
        """One update of parameters of one flattened shape."""
        directions = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            assert parameter.grad is not None
            state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
            directions.append(parameter.grad.lerp(state["momentum"], group["momentum"]).flatten(1))
        steps = orthogonal(torch.stack(directions))
        rows, columns = steps.shape[1:]
        length = 0.2 * max(rows, columns) ** 0.5  # the root mean square of an AdamW step (Liu et al. 2025)
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(step.view_as(parameter), alpha=-group["lr"] * length)


def optimizers(modules: Iterable[nn.Module], lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the inner weights, AdamW for the rest (vectors, embeddings, first and last layers)."""
    inner, rest = [], []
    for module in modules:
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            edge = any(part in name for part in ("embed", "conv_in", "conv_out", "projection"))
            small = parameter.ndim < 2 or min(parameter.shape[0], parameter[0].numel()) < 16
            (rest if edge or small else inner).append(parameter)
    return [Muon(inner, lr=lr), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)]
