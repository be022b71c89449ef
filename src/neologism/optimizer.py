"""How rows are moved: AdamW, its rate as a pure function of progress, and what keeps their length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def rate(schedule: str, progress: float) -> float:
    """The share of the top learning rate at a progress in 0..1."""
    if schedule == "constant":
        return 1.0
    # Hot for the first third, where the word finds its place; then cold, where it settles.
    fallen = max(0.0, progress - 1 / 3) * 1.5 if schedule == "hot_then_cold" else progress
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, fallen)))


def adamw(rows: Mapping[str, Tensor], weight_decay: float) -> torch.optim.AdamW:
    """AdamW over one word's rows by encoder, a group each, "key" naming it; the rates are set before each step."""
    groups = [{"params": [tensor], "key": key} for key, tensor in rows.items()] or [{"params": [], "key": ""}]
    # Rows a thousand times longer have gradients a thousand times shorter, which the usual eps of 1e-8 would swallow.
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99), eps=1e-15, weight_decay=weight_decay)


@torch.no_grad()
def move_mean(mean: Tensor, rows: Tensor, decay: float, step: int) -> None:
    """Move a moving average in place towards the rows after step `step` (from 1).

    It keeps less than `decay` of itself at first, so that the start is soon forgotten.
    """
    mean.lerp_(rows, 1 - min(decay, (step - 1) / (step + 9)) if decay else 1.0)


@torch.no_grad()
def keep_length(rows: Tensor, rule: str, length: float, rate: float) -> None:
    """Apply a norm rule to rows [n, width] in place: "free", "drawn" towards `length` (cloneofsimo's decay), or "fixed" at it."""
    if rule == "free":
        return
    lengths = rows.norm(dim=1, keepdim=True).clamp_min(1e-8)
    wanted = lengths + min(1.0, 10 * rate) * (length - lengths) if rule == "drawn" else torch.full_like(lengths, length)
    rows.mul_(wanted / lengths)


def gradient_norm(rows: Sequence[Tensor]) -> float:
    """The joint length of the rows' gradients."""
    return math.sqrt(sum(float(r.grad.pow(2).sum()) for r in rows if r.grad is not None))


def shorten_gradient(rows: Sequence[Tensor], norm: float, most: float | None) -> None:
    """Scale the rows' gradients, of joint length `norm`, down to the length `most`."""
    if most is not None and norm > most:
        for r in rows:
            if r.grad is not None:
                r.grad.mul_(most / norm)
