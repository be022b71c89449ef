"""What helps and what does not: the defaults with one thing changed. `python -m benchmarks.tries [--only NAME,NAME] [--seeds 2]`

Every development subject and the made style are learned in one batch for each try (a core needs about half a minute a word), and
drawn and judged at a few steps. Each try is kept as soon as it is measured, so the command may be stopped and typed again.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import record, ridge, together
from benchmarks.asides import WORK, subjects
from benchmarks.time_to_quality import yardstick
from benchmarks.together import Job, Pair, Starts
from neologism import batches, initial
from neologism.batches import Batch, joined
from neologism.families import Model, open_model
from neologism.initial import Start

MARKS = (0, 20, 40, 80, 150, 300, 600, 1000)
FIGURES = ("fidelity", "prompt", "top1", "top5", "probe")
Begun = Callable[[Model, Pair, dict[str, Any]], Start]


@dataclass(frozen=True)
class Try:
    """One thing changed: settings, where the rows begin, or how samples are drawn."""

    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    begun: Begun | None = None
    patched: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext


@contextlib.contextmanager
def antithetic() -> Generator[None]:
    """Until the block ends, samples come in pairs of the same picture and time, with noise and its negative."""
    real = batches.draw

    def draw(model: Any, latents: Any, said: Any, seed: int, step: int, count: int, band: Any) -> Batch:
        half = real(model, latents, said, seed, step, count // 2, band)
        return joined([half, Batch(half.clean, -half.noise, half.times, half.masks, half.prompts, half.frames)])

    batches.draw = draw
    try:
        yield
    finally:
        batches.draw = real


def mean_of_best(model: Model, pair: Pair, chosen: dict[str, Any], count: int = 5) -> Start:
    """The mean row of the words that explain the pictures best."""
    probes = together.probes(model, pair, chosen)
    first = initial.promising(model, probes)[: initial.ROUNDS[0][0]]
    best = [first[i] for i in initial.word_losses(model, first, probes).argsort().tolist()[:count]]
    encoder = model.encoders[0]
    return Start(
        {encoder.key: encoder.known_rows()[[encoder.word_ids[w] for w in best]].mean(0, keepdim=True).cpu()},
        ",".join(best),
    )


def by_loss_alone(model: Model, pair: Pair, chosen: dict[str, Any]) -> Start:
    """The vocabulary's best word by the loss of all, without the gradient's ranking before."""
    probes = together.probes(model, pair, chosen)
    words = list(model.encoders[0].word_ids)
    best = words[int(initial.word_losses(model, words, probes).argmin())]
    return Start(
        {model.encoders[0].key: model.encoders[0].known_rows()[[model.encoders[0].word_ids[best]]].cpu()}, best
    )


TRIES: dict[str, Try] = {
    "defaults": Try(),
    "rate x 1/2": Try({"learning_rate": 0.25}),
    "rate x 2": Try({"learning_rate": 1.0}),
    "rate x 4": Try({"learning_rate": 2.0}),
    "80 steps": Try({"steps": 80}),
    "300 steps": Try({"steps": 300}),
    "600 steps": Try({"steps": 600}),
    "batch 1, 600 steps": Try({"batch": 1, "steps": 600}),
    "batch 2, 300 steps": Try({"batch": 2, "steps": 300}),
    "batch 8, 75 steps": Try({"batch": 8, "steps": 75}),
    "batch 8, 150 steps": Try({"batch": 8}),
    "batch 16, 40 steps": Try({"batch": 16, "steps": 40}),
    "constant rate": Try({"schedule": "constant"}),
    "constant rate x 1/2, average 0.95": Try({"schedule": "constant", "learning_rate": 0.25, "average": 0.95}),
    "cosine": Try({"schedule": "cosine"}),
    "no average": Try({"average": 0.0}),
    "average 0.97": Try({"average": 0.97}),
    "norm drawn": Try({"norm": "drawn"}),
    "norm fixed": Try({"norm": "fixed"}),
    "2 vectors": Try({"vectors": 2}),
    "4 vectors": Try({"vectors": 4}),
    "times 0 to 1": Try({"times": (0.0, 1.0)}),
    "times 0.1 to 0.9": Try({"times": (0.1, 0.9)}),
    "times 0.3 to 1": Try({"times": (0.3, 1.0)}),
    "times 0.2 to 0.7": Try({"times": (0.2, 0.7)}),
    "times 0.4 to 0.9": Try({"times": (0.4, 0.9)}),
    "min-SNR": Try({"weighting": "min_snr"}),
    "min-SNR, times 0 to 1": Try({"weighting": "min_snr", "times": (0.0, 1.0)}),
    "mirrored, too": Try({"mirror": True}),
    "one template": Try({"templates": ("a {}",)}),
    "no clipping": Try({"clip": None}),
    "weight decay 0.01": Try({"weight_decay": 0.01}),
    "start: small random": Try({"like": "normal"}),
    "start: the mean of the 5 best words": Try(begun=mean_of_best),
    "start: best of all words by loss": Try(begun=by_loss_alone),
    "start: ridge from features": Try(begun=ridge.begun),
    "start: ridge, or the best word": Try(begun=ridge.better),
    "antithetic noise": Try(patched=antithetic),
    "antithetic noise, batch 8, 75 steps": Try({"batch": 8, "steps": 75}, patched=antithetic),
}  # fmt: skip


def file_of(name: str) -> Path:
    """Where a try is kept."""
    return WORK / "tries" / f"{''.join(c if c.isalnum() else '-' for c in name)}.json"


def tried(model: Model, name: str, pairs: Sequence[Pair], starts: Starts) -> dict[str, Any]:
    """Learn with one thing changed, and judge at each mark: the means, and every word's figures at the end."""
    what, began = TRIES[name], time.perf_counter()
    own: Starts = starts
    if what.begun:
        own = {together.start_key(pair, what.settings): what.begun(model, pair, what.settings) for pair in pairs}
    with what.patched():
        asides = together.ours(model, pairs, what.settings, own, MARKS)
    spent = time.perf_counter() - began
    marks = {int(step) for step in asides[pairs[0]].steps}
    found = {mark: at(model, mark, pairs, asides) for mark in sorted(marks)}
    means = {mark: {k: statistics.mean(q[k] for q in rows) for k in FIGURES} for mark, rows in found.items()}
    return {
        "name": name,
        "means": means,
        "ends": found[max(marks)],
        "starts": [asides[p].start for p in pairs],
        "seconds": spent,
    }


def at(model: Model, mark: int, pairs: Sequence[Pair], asides: Any) -> list[dict[str, float]]:
    """The figures of all words at a step."""
    jobs: list[Job] = []
    for pair in pairs:
        rows = asides[pair].rows[asides[pair].steps.tolist().index(mark)]
        jobs.append(Job(yardstick(model, pair[0]), rows, together.word_of(pair)))
    return [quality.as_dict() for quality in together.measured(model, jobs)]


def measured(given: Any) -> dict[str, Any]:
    """Try what is asked for and was not tried yet; what was tried, each with its change from the defaults."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    names = list(subjects())
    pairs = [
        (name, seed)
        for seed in range(given.seeds)
        for name in names[:: max(1, len(names) // given.words)][: given.words]
    ]
    asked = [name for name in given.only.split(";") if name] or list(TRIES)
    model, starts = open_model("emoji", precision="fp32"), Starts()
    for name in asked:
        if not file_of(name).exists():
            file_of(name).parent.mkdir(parents=True, exist_ok=True)
            file_of(name).write_text(json.dumps(tried(model, name, pairs, starts)), "utf-8")
        print(name, line(json.loads(file_of(name).read_text("utf-8"))), file=sys.stderr, flush=True)
    return {name: line(json.loads(file_of(name).read_text("utf-8"))) for name in TRIES if file_of(name).exists()}


def line(kept: dict[str, Any]) -> dict[str, Any]:
    """A try's figures at its end and on the way, and over the words how often it beat the defaults."""
    end = kept["means"][max(kept["means"], key=int)]
    base = json.loads(file_of("defaults").read_text("utf-8")) if file_of("defaults").exists() else kept
    gained = [q["fidelity"] - b["fidelity"] for q, b in zip(kept["ends"], base["ends"], strict=False)]
    error = statistics.stdev(gained) / len(gained) ** 0.5 if len(gained) > 1 else 0.0
    on_the_way = {step: [round(m["fidelity"], 3), round(m["prompt"], 3)] for step, m in kept["means"].items()}
    return end | {"gain": statistics.mean(gained), "error": error, "words": len(gained), "on_the_way": on_the_way}


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--words", type=int, default=25, help="so many of the subjects, evenly")
    parser.add_argument("--seeds", type=int, default=2, help="training seeds of every subject")
    given = parser.parse_args()
    record.told("tries", given, lambda: measured(given))


if __name__ == "__main__":
    main()
