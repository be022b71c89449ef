"""What may be added to the loss: what each addition costs and buys. `python -m benchmarks.objectives [--only eagle,rabbit]`

Words are learned by inversion from 4 pictures, from the same start word, with the same steps and seeds; only the loss differs. Figures
are over 6 unseen pictures and over prompts, as in benchmarks.quality. What a step costs in time and memory is measured last, each
objective in a process of its own on one thread. What is measured is kept at once, so the command may be stopped and typed again, and
pieces may run at a time: `--only SUBJECT --objectives NAME --seeds 0`.
"""

from __future__ import annotations

import functools
import itertools
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks import record
from benchmarks.asides import folder_of, shown
from benchmarks.methods import class_words
from benchmarks.quality import WORD, Yardstick, probes_of
from neologism.events import Finished, Step
from neologism.families import Model, open_model
from neologism.recipe import Recipe, recipe
from neologism.scores import Judge, open_judge
from neologism.training import train
from workshop.emoji.examples import GIVEN, by_name, masked_pictures

WORK = Path(".emoji-base/objectives")
NAMES = ("eagle", "blue book", "rabbit", "lady beetle", "takeout box", "aerial tramway")
STEPS, PICTURES = 100, 16
OBJECTIVES: dict[str, dict[str, Any]] = {
    "denoising": {},
    "pixel l1": {"pixel": 1.0, "pixel_distance": "l1"},
    "pixel l2": {"pixel": 1.0, "pixel_distance": "l2"},
    "pixel huber": {"pixel": 5.0, "pixel_distance": "huber"},
    "perceptual": {"perceptual": 1.0},
    "contrastive": {"contrastive": 0.05, "class_pictures": PICTURES},
    "masked": {},
    "min snr": {"weighting": "min_snr"},
    "pixel l2 tenfold": {"pixel": 10.0, "pixel_distance": "l2"},
    "perceptual tenfold": {"perceptual": 10.0},
    "contrastive twentyfold": {"contrastive": 1.0, "class_pictures": PICTURES},
}
"""Each with its denoising loss; weights at which the addition is about as large as that, by its first step, and much larger ones."""
MEANS = ("fidelity", "top1", "top5", "prompt", "probe")
TIMED = 40  # steps of a run whose cost is measured


@functools.cache
def opened() -> tuple[Model, Judge]:
    """The base and the judge."""
    return open_model("emoji", precision="fp32"), open_judge()


def masked_folder(name: str) -> Path:
    """The pictures to learn from, each with a mask of its subject."""
    folder = WORK / "masked" / name.replace(" ", "-")
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        partial.mkdir(parents=True)
        for number, (image, mask) in enumerate(masked_pictures(by_name(name), GIVEN, 0)):
            image.save(partial / f"{number}.png")
            mask.save(partial / f"{number}.mask.png")
        partial.rename(folder)
    return folder


def settings(name: str, objective: str, seed: int, steps: int) -> Recipe:
    """What a word is learned by."""
    folder = masked_folder(name) if objective == "masked" else folder_of(name, True)
    plain = {"pictures": str(folder), "words": WORD, "like": class_words()[name], "seed": seed, "steps": steps}
    plain |= {"preview_prompts": (), "precision": "fp32", "probe_every": steps, "checkpoint_every": steps}
    return recipe(**plain | OBJECTIVES[objective])


def one(name: str, objective: str, seed: int) -> dict[str, float]:
    """One word's figures, kept."""
    place = WORK / f"{name}-{objective}-{seed}".replace(" ", "-")
    file = place.with_suffix(".json")
    if file.exists():
        return json.loads(file.read_text("utf-8"))
    shutil.rmtree(place, ignore_errors=True)
    finished: Finished | None = None
    for event in train(settings(name, objective, seed, STEPS), place):
        finished = event if isinstance(event, Finished) else finished
    assert finished and finished.embedding
    model, judge = opened()
    yard = Yardstick(model, judge, name, False, shown(name, False), probes_of(model, folder_of(name, False)))
    (vectors,) = finished.embedding.vectors.values()
    found = yard.of_word(vectors).as_dict()
    file.with_suffix(".partial").write_text(json.dumps(found), "utf-8")
    os.replace(file.with_suffix(".partial"), file)
    shutil.rmtree(place, ignore_errors=True)
    print(name, objective, seed, {k: round(v, 3) for k, v in found.items()}, file=sys.stderr, flush=True)
    return found


def cost(objective: str) -> dict[str, float]:
    """Median seconds of a step on one thread, and the most memory in bytes of a process that does nothing else."""
    torch.set_num_threads(1)
    place, times = WORK / f"cost-{os.getpid()}", list[float]()
    for event in train(settings(NAMES[0], objective, 0, TIMED), place):
        times += [time.perf_counter()] if isinstance(event, Step) else []
    shutil.rmtree(place, ignore_errors=True)
    apart = [after - before for before, after in itertools.pairwise(times)]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds_a_step": statistics.median(apart), "memory": float(most)}


def costs(objectives: list[str]) -> dict[str, dict[str, float]]:
    """What each objective costs, and as a share of denoising alone, all in one run."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as processes:
        found = dict(zip(objectives, processes.map(cost, objectives), strict=True))
    if "denoising" not in found:
        return found
    plain = found["denoising"]
    return {o: own | {f"{key}_ratio": own[key] / plain[key] for key in plain} for o, own in found.items()}


def measured(names: list[str], objectives: list[str], seeds: list[int]) -> dict[str, Any]:
    """The mean figures of each objective, and by how much it is better than denoising alone, word by word."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    WORK.mkdir(parents=True, exist_ok=True)
    rows = {o: {f"{n} {s}": one(n, o, s) for n in names for s in seeds} for o in objectives}
    found: dict[str, Any] = {"words": len(names), "seeds": len(seeds), "steps": STEPS}
    spent = costs(objectives)
    for objective, row in rows.items():
        found[objective] = spent[objective] | {
            key: statistics.mean(each[key] for each in row.values()) for key in MEANS
        }
        if "denoising" in rows and objective != "denoising":
            found[objective] |= gains(row, rows["denoising"])
    return found | {"rows": rows}


def gains(row: dict[str, dict[str, float]], plain: dict[str, dict[str, float]]) -> dict[str, float]:
    """What is gained over denoising alone, mean over words, with the standard error of that mean."""
    found: dict[str, float] = {}
    for key in ("fidelity", "prompt"):
        each = [row[name][key] - plain[name][key] for name in row]
        error = statistics.stdev(each) / len(each) ** 0.5 if len(each) > 1 else float("nan")
        found |= {f"{key}_gain": statistics.mean(each), f"{key}_error": error}
    return found


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--objectives", default="", help="only these, separated by commas; nothing is recorded then")
    parser.add_argument("--seeds", default="0,1", help="training seeds")
    given = parser.parse_args()
    names, objectives = record.narrowed(given, "objectives")
    seeds = [int(seed) for seed in given.seeds.split(",")]
    record.told("objectives", given, lambda: measured(names or list(NAMES), objectives or list(OBJECTIVES), seeds))


if __name__ == "__main__":
    main()
