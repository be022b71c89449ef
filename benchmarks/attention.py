"""Attention fused and written out, forward and backward, on one thread of a CPU. `python -m benchmarks.attention`"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import record

SHAPES = {
    "emoji base, 8 x 8, itself": (4, 4, 64, 64, 24),
    "emoji base, 8 x 8, prompt": (4, 4, 64, 32, 24),
    "SD 1.5, 64 x 64, prompt": (1, 8, 4096, 77, 40),
    "SD 1.5, 32 x 32, itself": (1, 8, 1024, 1024, 80),
    "SD 1.5, 16 x 16, itself": (1, 8, 256, 256, 160),
    "SD 1.5, 8 x 8, itself": (1, 8, 64, 64, 160),
    "2,048 by 2,048": (1, 8, 2048, 2048, 40),
}
"""Samples, heads, queries, keys, width of a head."""


def written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by two products and a softmax."""
    b, h, n, d = query.shape
    rough = torch.empty(b * h, n, key.shape[2], dtype=query.dtype)
    scores = torch.baddbmm(
        rough, query.reshape(b * h, n, d), key.reshape(b * h, -1, d).transpose(1, 2), beta=0, alpha=d**-0.5
    )
    return torch.bmm(scores.softmax(-1), value.reshape(b * h, -1, d)).view(b, h, n, d)


def milliseconds(attend: Callable[..., Tensor], given: list[Tensor], times: int = 7) -> dict[str, float]:
    """The best of so many forward and backward passes."""
    forward, backward = [], []
    for _ in range(times):
        began = time.perf_counter()
        answer = attend(*given)
        forward.append(time.perf_counter() - began)
        began = time.perf_counter()
        torch.autograd.grad(answer, given, torch.ones_like(answer))
        backward.append(time.perf_counter() - began)
    return {"forward": min(forward) * 1000, "backward": min(backward) * 1000}


def measured() -> dict[str, Any]:
    """Every shape, both ways, in both precisions."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name, (b, h, n, m, d) in SHAPES.items():
        for kind in (torch.bfloat16, torch.float32):
            given = [torch.randn(b, h, count, d, dtype=kind, requires_grad=True) for count in (n, m, m)]
            both = {"fused": F.scaled_dot_product_attention, "written out": written_out}
            found[f"{name}, {str(kind)[6:]}"] = {way: milliseconds(attend, given) for way, attend in both.items()}
    return found


if __name__ == "__main__":
    record.told("attention", record.options(__doc__ or "").parse_args(), measured)
