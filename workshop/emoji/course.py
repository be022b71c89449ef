"""A long computation that may end at any moment: its state is kept in a folder and taken up again by the same command."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

WORK = Path(".emoji-base")
RATE = float  # what a schedule returns


def best_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def rate(step: int, steps: int, warm: int = 100, cooling: float = 0.3) -> RATE:
    """The share of the top learning rate at a step: up over `warm` steps, level, down to 0 over the last `cooling`."""
    return min(1.0, (step + 1) / warm, (steps - step) / (cooling * steps))


class Course:
    """The state of one training: modules and optimizers, kept every `seconds` in `WORK/name.pt`."""

    def __init__(
        self, name: str, modules: dict[str, nn.Module], optimizers: list[torch.optim.Optimizer], seconds: float = 120
    ):
        self.path, self.modules, self.optimizers, self.seconds = WORK / f"{name}.pt", modules, optimizers, seconds
        self.top_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        self.name, self.step, self.kept, self.began = name, 0, time.monotonic(), time.monotonic()
        self.seen: list[float] = []
        if self.path.exists():
            self.resume()

    def resume(self) -> None:
        """Take up the state that was kept."""
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step = state["step"]
        print(f"{self.name}: goes on at step {self.step}", flush=True)

    def keep(self) -> None:
        """Write the state beside its place, then move it there."""
        WORK.mkdir(exist_ok=True)
        state = {
            "step": self.step,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.path)
        self.kept = time.monotonic()

    def steps(self, total: int) -> Iterator[int]:
        """The steps that are left, each with its learning rate set; the state is kept when due and at the end."""
        while self.step < total:
            for optimizer, tops in zip(self.optimizers, self.top_rates, strict=True):
                for group, top in zip(optimizer.param_groups, tops, strict=True):
                    group["lr"] = top * rate(self.step, total)
            yield self.step
            self.step += 1
            if time.monotonic() - self.kept > self.seconds:
                self.keep()
        self.keep()

    def descend(self, loss: torch.Tensor, total: int) -> None:
        """One update from the loss, with a progress line every 50 steps."""
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.seen.append(loss.detach())  # type: ignore[arg-type]
        if len(self.seen) == 50:
            mean = torch.stack(self.seen).mean().item()  # type: ignore[arg-type]
            speed = (time.monotonic() - self.began) / 50
            self.seen, self.began = [], time.monotonic()
            print(f"{self.name} step {self.step + 1}/{total}  loss {mean:.4f}  {speed:.2f} s/step", flush=True)
