"""Many words in one batch against one after the other. `python -m benchmarks.company [--words 32] [--together 8]`

Words come from the development subjects (again with another seed where there are fewer). Both sides learn the same words with the
same settings from an opened model, pictures already encoded, alternating word for word and batch for batch; what is compared is
the learning itself. The worst cosine is that between a word learned in company and the same word learned alone, in float32.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import record
from benchmarks.asides import WORK, folder_of
from neologism import captions, initial, photos
from neologism.families import Model, open_model
from neologism.latents import cached
from neologism.lessons import Lesson, probe_batch
from neologism.loop import loop
from neologism.recipe import recipe
from neologism.training import sayer
from workshop.emoji.subjects import development


def lesson(model: Model, number: int, steps: int) -> Lesson:
    """The lesson of a word, from a start that costs nothing to find."""
    subject = development()[number % len(development())]
    word = f"<word-{number}>"
    made = recipe(
        pictures=str(folder_of(subject.name, True)), words=word, seed=number, steps=steps, like="animal",
        probe_every=10**6, precision=model.machine.precision, base=model.name,
    )  # fmt: skip
    shown = photos.gather(Path(made.pictures[0]), model.size).photos
    latents = cached(model, shown, model.size, False, False)
    template = captions.TEMPLATES["object"][0]
    start = initial.start(model, "animal", made.count, number, probe_batch(model, latents, template, made))
    return Lesson(word, latents, sayer(word, shown, made), made, model, start, template)


def seconds(model: Model, lessons: list[Lesson], together: int) -> float:
    """How long the lessons take, so many at once."""
    if model.machine.device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in loop(model, lessons, together):
        pass
    return time.perf_counter() - began


ARITHMETIC = ("addmm", "mm", "bmm", "matmul", "convolution", "mkldnn", "attention", "einsum")


def profile(model: Model, together: int) -> dict[str, Any]:
    """Where the time of five steps of so many words goes: the share of products and convolutions, and the five costliest operations."""
    lessons = [lesson(model, number, 5) for number in range(together)]
    with torch.profiler.profile() as seen:
        seconds(model, lessons, together)
    spent = {e.key: e.self_cpu_time_total for e in seen.key_averages() if e.key.startswith(("aten::", "mkldnn"))}
    whole = sum(spent.values())
    first = sorted(spent, key=lambda name: -spent[name])[:5]
    heavy = sum(time for name, time in spent.items() if any(part in name for part in ARITHMETIC))
    return {"arithmetic": heavy / whole, "costliest": {name: round(spent[name] / whole, 3) for name in first}}


def measured(words: int, together: int, steps: int, precision: str) -> dict[str, Any]:
    """Seconds both ways, interleaved, and the worst cosine."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    model = open_model("emoji", precision=precision)
    seconds(model, [lesson(model, 0, 3)], 1)  # warm up
    alone = company = 0.0
    for first in range(0, words, together):
        numbers = range(first, min(words, first + together))
        company += seconds(model, [lesson(model, n, steps) for n in numbers], together)
        alone += sum(seconds(model, [lesson(model, n, steps)], 1) for n in numbers)
    return {
        "words": words,
        "together": together,
        "steps": steps,
        "precision": precision,
        "device": str(model.machine.device),
        "seconds_in_company": company,
        "seconds_alone": alone,
        "speedup": alone / company,
        "words_per_hour": 3600 * words / company,
        "profile": {str(n): profile(model, n) for n in (1, together)} if model.machine.device.type == "cpu" else {},
        "worst_cosine": worst_cosine(min(words, together)),
    }


def worst_cosine(words: int, steps: int = 200) -> float:
    """The lowest cosine between words learned together and alone, after 200 steps in float32 (at most 2 words are tried)."""
    model = open_model("emoji", precision="fp32")
    alone = [lesson(model, n, steps) for n in range(min(words, 2))]
    company = [lesson(model, n, steps) for n in range(min(words, 2))]
    seconds(model, company, len(company))
    for one in alone:
        seconds(model, [one], 1)
    rows = [[next(iter(some.vectors().values())) for some in side] for side in (alone, company)]
    return float(torch.nn.functional.cosine_similarity(torch.cat(rows[0]), torch.cat(rows[1])).min())


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--words", type=int, default=32)
    parser.add_argument("--together", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50, help="steps of each word in the timing")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    given = parser.parse_args()
    record.told("company", given, lambda: measured(given.words, given.together, given.steps, given.precision))


if __name__ == "__main__":
    main()
