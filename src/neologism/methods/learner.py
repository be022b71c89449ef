"""Weights that learn: their optimizer, their moving average, and their state."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neologism import optimizer

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Learner:
    """Moves a method's weights by AdamW (Loshchilov and Hutter 2019) and keeps their exponential moving average.

    Attributes:
        weights: by name, float32, of any shape.
        mean: their moving average, which is what is probed, drawn and saved.
        taken: how many steps they have moved.
        rate: the learning rate of the last step.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float, average: float):
        self.weights, self.average, self.taken, self.rate = dict(weights), average, 0, 0.0
        self.mean = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.adamw = self.fresh(decay) if self.weights else None

    def fresh(self, decay: float) -> torch.optim.AdamW:
        """The optimizer, its rate set before each step."""
        return torch.optim.AdamW(list(self.weights.values()), lr=0.0, betas=(0.9, 0.999), weight_decay=decay)

    def gradient(self) -> float:
        """The joint length of the gradients."""
        return optimizer.gradient_norm(list(self.weights.values()))

    def forget(self) -> None:
        """Drop the gradients."""
        for weight in self.weights.values():
            weight.grad = None

    def step(self, rate: float, clip: float | None) -> None:
        """Move the weights by their gradients; at a rate of 0 they stay."""
        self.rate = rate
        if self.adamw is not None and rate > 0:
            optimizer.shorten_gradient(list(self.weights.values()), self.gradient(), clip)
            for group in self.adamw.param_groups:
                group["lr"] = rate
            self.adamw.step()
            self.taken += 1
            for name, weight in self.weights.items():
                optimizer.move_mean(self.mean[name], weight.detach(), self.average, self.taken)
        self.forget()

    def finite(self) -> bool:
        """Whether every number is finite."""
        return all(bool(torch.isfinite(weight).all()) for weight in self.weights.values())

    @contextlib.contextmanager
    def shown(self) -> Generator[None]:
        """Have the moving average in the weights' place until the block ends."""
        live = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.fill(self.mean)
        try:
            yield
        finally:
            self.fill(live)

    @torch.no_grad()
    def fill(self, values: Mapping[str, Tensor]) -> None:
        """Put values into the weights."""
        for name, weight in self.weights.items():
            weight.copy_(values[name])

    def state(self) -> dict[str, Tensor]:
        """All that decides what comes next, as named tensors on the CPU; nothing where there are no weights."""
        if self.adamw is None:
            return {}
        found = {"weights.taken": torch.tensor(self.taken)}
        for name, weight in self.weights.items():
            parts = {"value": weight, "mean": self.mean[name], **self.adamw.state[weight]}
            found |= {f"weights.{name}|{part}": tensor.detach().cpu().clone() for part, tensor in parts.items()}
        return found

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        if self.adamw is None:
            return
        self.adamw.state.clear()
        self.forget()
        self.taken = int(state["weights.taken"])
        self.fill({name: state[f"weights.{name}|value"] for name in self.weights})
        for name, weight in self.weights.items():
            self.mean[name].copy_(state[f"weights.{name}|mean"])
            kept: dict[str, Tensor] = {
                p: state[f"weights.{name}|{p}"] for p in MOMENTS if f"weights.{name}|{p}" in state
            }
            if kept:
                # AdamW keeps its count of steps on the CPU.
                self.adamw.state[weight] = {
                    part: tensor.clone() if part == "step" else tensor.to(weight.device, copy=True)
                    for part, tensor in kept.items()
                }
