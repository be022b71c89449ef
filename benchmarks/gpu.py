"""Full-size steps on a GPU: seconds, peak memory, share of the matrix peak, words per hour. `python -m benchmarks.gpu [--only sd15]`

The networks have the exact shapes of the families and random weights, made on the GPU; nothing of a real Stable Diffusion is run.
Each side is built, warmed up and timed alone. Words per hour: so many lessons share one batch, four samples each, at the number
of steps that the family's recipe asks for.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import record, step
from benchmarks.networks import UNETS, pipeline
from neologism.cookbook import read
from neologism.loop import gradients
from neologism.vocabulary import taught

SIDES = {"sd15": 512, "sd21": 768, "sdxl": 1024}
WORDS = (1, 8, 32, 128)
RECIPES = {"sd15": "sd15-object-8gb", "sd21": "sd21-object-12gb", "sdxl": "sdxl-object-24gb"}
AT_ONCE = {"sd15": 64, "sd21": 32, "sdxl": 8}  # samples a pass: as many as keep the card busy


def median_seconds(act: Callable[[], Any], times: int) -> float:
    """The median of so many timings, after one that is not counted."""
    found: list[float] = []
    for _ in range(times + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        act()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])


def emptied() -> None:
    """Give the card's memory back, and count its peak from here on."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def of_side(which: str, family: str, batch: int, times: int) -> dict[str, float]:
    """One side's step: seconds, peak bytes, floating point operations."""
    emptied()
    side = step.SIDES[which](pipeline(family, SIDES[family], "cuda"), "bf16", SIDES[family], batch, "cuda")
    flops = step.flops_of(side)
    torch.cuda.reset_peak_memory_stats()
    seconds = median_seconds(side.step, times)
    return {
        "seconds": seconds,
        "steps_per_second": 1 / seconds,
        "peak_bytes": torch.cuda.max_memory_allocated(),
        "flops": flops,
    }


def in_company(family: str, counts: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Words per hour with so many lessons together."""
    emptied()
    first = step.Ours(pipeline(family, SIDES[family], "cuda"), "bf16", SIDES[family], 4, "cuda")
    first.model.machine.limits.at_once = AT_ONCE[family]
    steps = int(read(Path(RECIPES[family]))["steps"])
    found: dict[str, dict[str, float]] = {}
    for count in counts:
        lessons = [first.another(f"<thing-{number}>") for number in range(count)]
        torch.cuda.reset_peak_memory_stats()
        seconds = median_seconds(lambda lessons=lessons: one_step(first.model, lessons), 3 if count < 32 else 1)
        found[str(count)] = {
            "seconds": seconds, "words_per_hour": 3600 * count / (seconds * steps), "steps_of_a_word": steps,
            "peak_bytes": torch.cuda.max_memory_allocated(),
        }  # fmt: skip
        print(family, count, found[str(count)], file=sys.stderr, flush=True)
    return found


def one_step(model: Any, lessons: list[Any]) -> None:
    """One step of every lesson."""
    with taught(model, {lesson.word: lesson.rows for lesson in lessons}):
        for lesson, loss in zip(lessons, gradients(model, lessons), strict=True):
            lesson.update(loss)


def of_family(family: str, given: argparse.Namespace) -> dict[str, Any]:
    """A family's figures."""
    sides = {
        f"{which}, batch {batch}": of_side(which, family, batch, given.times)
        for batch in (1, 4)
        for which in ("ours", "thrifty", "reference")
    }
    peak = step.matrix_peak("bf16", "cuda")
    for name, side in sides.items():
        side["share_of_peak"] = side["flops"] / side["seconds"] / peak
        print(family, name, side, file=sys.stderr, flush=True)
    ratios = {
        f"ratio, batch {b}": sides[f"ours, batch {b}"]["seconds"] / sides[f"reference, batch {b}"]["seconds"]
        for b in (1, 4)
    }
    return {"side": SIDES[family], "matrix_peak": peak, **ratios, "sides": sides, "together": in_company(family, WORDS)}


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """Every family's figures."""
    asked = [name for name in given.only.split(",") if name] or list(UNETS)
    return {"device": torch.cuda.get_device_name(), "torch": torch.__version__} | {
        f: of_family(f, given) for f in asked
    }


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--times", type=int, default=10, help="steps of each side that are timed")
    given = parser.parse_args()
    if not given.stored and not torch.cuda.is_available():
        sys.exit("This needs a CUDA GPU; benchmarks.step measures a step on a CPU.")
    record.told("gpu", given, lambda: measured(given))


if __name__ == "__main__":
    main()
