"""One training step at full size: seconds, memory, arithmetic. `python -m benchmarks.step --reference [--family sd15|sd21] [--side 512]`

The networks have the exact shapes of the family and random weights, built in memory; nothing of a real Stable Diffusion is run.
Seconds: with --reference, our step and the published algorithm's alternate in one process. Memory: each side alone in a process
of its own, the highest resident memory while stepping, weights included.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import record, reference
from benchmarks.networks import UNETS, alike, pipeline, shared
from neologism import captions
from neologism.device import machine
from neologism.families import Model, pipelines, sdxl, stable_diffusion, thrift
from neologism.framing import Frame
from neologism.initial import Start
from neologism.latents import Latents
from neologism.lessons import Lesson
from neologism.loop import gradients
from neologism.recipe import recipe
from neologism.vocabulary import taught

WORD = "<thing>"


class Ours:
    """Our step as it is without a setting: pictures encoded before, new rows alone, frozen weights in the chosen precision."""

    def __init__(self, pipe: Any, precision: str, side: int, batch: int, device: str):
        family = sdxl if hasattr(pipe, "text_encoder_2") else stable_diffusion
        self.model: Model = family.assembled(pipe, "random", machine(device, precision))
        mean = torch.randn(4, 4, side // 8, side // 8)
        frames = (Frame((0, 0, side, side), (side, side), (side, side), False),) * 4
        self.latents = Latents(mean, torch.full_like(mean, 0.1), torch.ones_like(mean[:, :1]), frames, (0, 1, 2, 3), 0)
        self.batch = batch
        self.lesson = self.another(WORD)

    def another(self, word: str) -> Lesson:
        """A lesson of a word of random rows."""
        made = recipe(pictures="none", words=word, batch=self.batch, probe_every=10**6, steps=10**6)
        start = Start({e.key: torch.randn(1, e.width) * 0.02 for e in self.model.encoders}, "random")
        templates = captions.OBJECT_TEMPLATES
        return Lesson(
            word,
            self.latents,
            lambda _, chance: chance.choice(templates).replace("{}", word),
            made,
            self.model,
            start,
            "a {}",
        )

    def step(self) -> None:
        """One step of the word."""
        with taught(self.model, {WORD: self.lesson.rows}):
            self.lesson.update(gradients(self.model, [self.lesson])[0])


class Thrifty(Ours):
    """Our step with half_weights, light_checkpointing and vae_away."""

    def __init__(self, pipe: Any, precision: str, side: int, batch: int, device: str):
        super().__init__(pipe, precision, side, batch, device)
        assert thrift.rest(self.model.parts().values())  # a rounded base would not be the same
        self.model.save_memory(lightly=True)
        pipelines.put_away(self.model.parts()["vae"], self.model.machine)


class Theirs:
    """The published algorithm's step."""

    def __init__(self, pipe: Any, precision: str, side: int, batch: int, device: str):
        where = machine(device, "fp32").device
        kind = torch.float32 if precision == "fp32" else torch.bfloat16
        self.state = reference.Reference(pipe.to(where), WORD, "cat", kind, batch)
        self.pixels = torch.rand(batch, 3, side, side) * 2 - 1

    def step(self) -> None:
        """One step of the word."""
        self.state.step(self.pixels, [f"a photo of a {WORD}"] * len(self.pixels))


SIDES = {"ours": Ours, "thrifty": Thrifty, "reference": Theirs}


def timed(side: Any, device: str) -> float:
    """The seconds of one step."""
    began = time.perf_counter()
    side.step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def peak_while(act: Any) -> int:
    """The highest resident memory while something is done, looked at every 5 ms."""
    seen, done = [resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            seen.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        act()
    finally:
        done.set()
        watcher.join()
    return max(seen)


def memory_of(which: str, precision: str, given: argparse.Namespace) -> int:
    """Peak bytes of one side's steps: on a GPU what PyTorch holds there, else resident memory of a process of its own."""
    words = ["-m", "benchmarks.step", "--alone", which, "--family", given.family, "--side", str(given.side)]
    words += ["--precision", precision, "--batch", str(given.batch), "--device", given.device]
    answer = subprocess.run([sys.executable, "-W", "ignore", *words], capture_output=True, text=True, check=True)
    return int(json.loads(answer.stdout.splitlines()[-1])["peak"])


def alone(which: str, given: argparse.Namespace) -> int:
    """Peak bytes of two steps of one side in this process."""
    if which == "thrifty":
        thrift.large_blocks_return()  # as opening a model with half_weights does
    side = SIDES[which](pipeline(given.family, given.side), given.precision, given.side, given.batch, given.device)
    trim()
    if given.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        side.step(), side.step()
        return torch.cuda.max_memory_allocated()
    return peak_while(lambda: (side.step(), side.step()))


def trim() -> None:
    """Give memory that building took back to the system, where the C library knows how."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def matrix_peak(precision: str, device: str) -> float:
    """The machine's measured FLOP/s in a matrix product of this precision."""
    side = 3072 if device == "cpu" else 8192
    kind = torch.float32 if precision == "fp32" else torch.bfloat16
    one, two = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    times: list[float] = []
    for _ in range(4):
        began = time.perf_counter()
        one @ two
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 2 * side**3 / min(times)


def flops_of(side: Any) -> int:
    """Floating point operations of one step, by PyTorch's own count."""
    with FlopCounterMode(display=False) as counter:
        side.step()
    return counter.get_total_flops()


def built(given: argparse.Namespace, precisions: tuple[str, ...], whose: tuple[str, ...]) -> dict[str, Any]:
    """Every side in every precision, by name such as "ours fp32"; the sides of one precision share their frozen weights."""
    sides: dict[str, Any] = {}
    for precision in precisions:
        pipe = pipeline(given.family, given.side)
        for which in whose:
            own = (
                pipe
                if which == "ours"
                else alike(given.family, given.side)
                if which == "thrifty"
                else shared(pipe, given.family)
            )
            sides[f"{which} {precision}"] = SIDES[which](own, precision, given.side, given.batch, given.device)
    return sides


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds interleaved, memory apart, arithmetic counted."""
    precisions = (given.precision,) if given.precision else ("fp32", "bf16")
    whose = ("ours", "thrifty", "reference") if given.reference else ("ours", "thrifty")
    memory = {f"{which} {p}": memory_of(which, p, given) for p in precisions for which in whose}
    sides = built(given, precisions, whose)
    flops = {name: flops_of(side) for name, side in sides.items()}  # warms up, too
    clocks = {name: side.state.seconds for name, side in sides.items() if isinstance(side, Theirs)}
    for clock in clocks.values():
        clock.clear()
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(given.times):
        for name, side in sides.items():
            spent[name].append(timed(side, given.device))
    seconds = {name: statistics.median(times) for name, times in spent.items()}
    peaks = {precision: matrix_peak(precision, given.device) for precision in precisions}
    return {
        "family": given.family,
        "side": given.side,
        "batch": given.batch,
        "device": given.device,
        **ratios(seconds, memory),
        "seconds": seconds,
        "every_second": spent,
        "parts": {name: {k: v / given.times for k, v in clock.items()} for name, clock in clocks.items()},
        "peak_bytes": memory,
        "flops": flops,
        "matrix_peak": peaks,
        "share_of_peak": {name: flops[name] / seconds[name] / peaks[name.split()[1]] for name in sides},
    }


def ratios(seconds: dict[str, float], memory: dict[str, int]) -> dict[str, Any]:
    """Ours as shares of the published algorithm's, as far as both were measured; the memory is that of the thrifty step."""
    pairs = {
        "ratio": ("ours fp32", "reference fp32"),
        "ratio_bf16": ("ours bf16", "reference bf16"),
        "ratio_bf16_to_fp32": ("ours bf16", "reference fp32"),
        "thrifty_ratio": ("thrifty fp32", "reference fp32"),
        "thrifty_ratio_bf16": ("thrifty bf16", "reference bf16"),
        "thrifty_ratio_bf16_to_fp32": ("thrifty bf16", "reference fp32"),
    }
    found: dict[str, Any] = {
        name: seconds[one] / seconds[two] for name, (one, two) in pairs.items() if one in seconds and two in seconds
    }
    shares = {
        name: memory[name] / memory[f"reference {name.split()[1]}"]
        for name in memory
        if f"reference {name.split()[1]}" in memory and not name.startswith("reference")
    }
    thrifty = [share for name, share in shares.items() if name.startswith("thrifty")]
    return found | ({"memory_ratio": max(thrifty), "memory_ratios": shares} if thrifty else {})


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--family", choices=sorted(UNETS), default="sd15")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="both where none is named")
    parser.add_argument("--reference", action="store_true", help="measure the published algorithm's step beside ours")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--times", type=int, default=3, help="steps of each side that are timed")
    parser.add_argument("--alone", choices=sorted(SIDES), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        print(json.dumps({"peak": alone(given.alone, given)}))
        return
    record.told("step" if given.family == "sd15" else f"step-{given.family}", given, lambda: measured(given))


if __name__ == "__main__":
    main()
