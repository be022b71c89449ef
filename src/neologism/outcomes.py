"""What a way of learning came to: its figures, by what its files draw."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image, ImageOps

from neologism import batches, formats, objective, run
from neologism.embedding import Embedding
from neologism.errors import EmbeddingError
from neologism.events import Event, Finished, Step
from neologism.families import Model
from neologism.framing import Frame, values
from neologism.generation import generate
from neologism.history import WEIGHTS
from neologism.methods import choosing
from neologism.scores import Judge, score
from neologism.vocabulary import taught

ITSELF = "a {}"
PROMPTS = ("a {} on a blue background", "a small {} on a green background", "a red {}", "a {}, black and white")
GENERAL = ("a cat", "a house on a blue background", "a small red car", "a photo of a flower")
SEEDS = (0, 1, 2, 3)
TIMES = 16
"""Times at which the loss on each held-out picture is taken."""
KEPT = 2
"""Pictures of a prompt that the page shows."""


@dataclass(frozen=True)
class Figures:
    """What a method came to.

    Attributes:
        fidelity: mean cosine of what "a WORD" draws to the held-out pictures.
        loss: denoising loss on the held-out pictures of "a WORD", as a share of the frozen base's of "a CLASS": below 1 it explains
            them better than the class word does. No judge has a say in it.
        prompt: mean cosine of the word in scenes to the prompts, the class word in its place.
        diversity: mean distance between the pictures of "a WORD".
        forgetting: mean distance that pictures of unrelated prompts have moved; class_drift: those of the class word.
        unchanged: whether pictures of unrelated prompts are the same bit for bit.
        bytes: what has to be kept. seconds: of the run. memory: the most bytes in use that were seen at a step.
        steps: how many it took. curve: the probe's loss on the way, as a share of its first, by share of the steps.
    """

    fidelity: float
    prompt: float
    diversity: float
    forgetting: float
    class_drift: float
    unchanged: bool
    bytes: int
    seconds: float
    memory: int
    loss: float = float("nan")
    steps: int = 0
    curve: tuple[tuple[float, float], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


@dataclass
class Course:
    """What is noted while a method learns: the most bytes in use, the probes, and the end."""

    memory: int = 0
    probes: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    ended: Finished | None = None

    def note(self, event: Event) -> None:
        """Take notice of an event."""
        if isinstance(event, Step):
            self.memory = max(self.memory, in_use())
            self.probes += [(event.step, event.probe)] if event.probe is not None else []
        self.ended = event if isinstance(event, Finished) else self.ended

    @property
    def curve(self) -> tuple[tuple[float, float], ...]:
        """The probes as shares."""
        steps, first = max((s for s, _ in self.probes), default=1), self.probes[0][1] if self.probes else 1.0
        return tuple((step / steps, loss / first) for step, loss in self.probes)


@dataclass(frozen=True)
class Asked:
    """Whom to judge by: unseen pictures, the word, and the word of its class."""

    unseen: Sequence[Image.Image]
    word: str
    like: str


def in_use() -> int:
    """Bytes in use: the GPU's most, or the process's own now."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)


def figures(
    model: Model, judge: Judge, told: Asked, files: Sequence[Path], seconds: float, course: Course, place: Path
) -> Figures:
    """What these files draw, and what they came to; some of the pictures are kept in `place`."""
    own_use = [file for file in files if file.name != "lora-kohya.safetensors"]  # which is for other tools
    weights = [file for file in own_use if file.name in WEIGHTS or is_weights(file)]
    others = [file for file in own_use if file not in weights]
    words: list[Embedding] = [formats.load(file) for file in others]

    def drawn(prompts: Sequence[str], with_it: bool = True) -> list[Image.Image]:
        return generate(model, prompts, words if with_it else [], SEEDS, weights=weights if with_it else None)

    itself = drawn([ITSELF.replace("{}", told.word)])
    own = score(itself, told.unseen, judge=judge)
    scenes = drawn([prompt.replace("{}", told.word) for prompt in PROMPTS])
    keep_drawn([*itself, *scenes], place)
    asked = [prompt.replace("{}", told.like) for prompt in PROMPTS for _ in SEEDS]
    obeyed = score(scenes, told.unseen, asked, judge).prompt or 0.0
    general = [drawn(GENERAL, with_it) for with_it in (False, True)]
    classes = [drawn([f"a {told.like}"], with_it) for with_it in (False, True)]
    same = all(a.tobytes() == b.tobytes() for a, b in zip(*general, strict=True))
    kept = sum(file.stat().st_size for file in [*weights, *others])
    moved, drift = moved_by(judge, *general), moved_by(judge, *classes)
    steps = course.ended.step if course.ended else 0
    loss = unseen_loss(model, told, words, weights)
    found = (own.subject, obeyed, own.diversity, moved, drift, same, kept, seconds, course.memory, loss, steps)
    return Figures(*found, course.curve)


@torch.no_grad()
def unseen_loss(model: Model, told: Asked, words: Sequence[Embedding], weights: Sequence[Path]) -> float:
    """The denoising loss (Gal et al. 2022, eq. 2) on the held-out pictures, as a share of the frozen base's with the class word.

    The same noise and times for both, the times spread evenly over the scale.
    """
    side = model.size
    shown = [ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS) for image in told.unseen]
    clean = torch.cat([model.scale(model.encode(values(image)[None] * 2 - 1)[0].cpu()) for image in shown])
    clean, count = clean.repeat_interleave(TIMES, 0), len(clean) * TIMES
    times = model.noise.times(torch.cat([batches.spread(0, n, TIMES, (0.0, 1.0)) for n in range(len(shown))]))
    noise = torch.randn(clean.shape, generator=batches.generator("unseen"))
    frames = (Frame((0, 0, side, side), (side, side), (side, side), False),) * count
    masks = torch.ones(count, 1, *clean.shape[2:])

    def of(prompt: str) -> float:
        batch = batches.Batch(clean, noise, times, masks, (prompt,) * count, frames)
        pieces = [objective.loss(model, batches.part_of(batch, slice(i, i + TIMES))) for i in range(0, count, TIMES)]
        return float(torch.cat(pieces).mean())

    base = of(ITSELF.replace("{}", told.like))
    with contextlib.ExitStack() as undo:
        for file in weights:
            undo.enter_context(choosing.applied(model, file))
        undo.enter_context(taught(model, words))
        return of(ITSELF.replace("{}", told.word)) / base


def keep_drawn(images: Sequence[Image.Image], place: Path) -> None:
    """The first pictures of every prompt, in the order of (itself, scenes), as PROMPT-SEED.png."""
    for number, image in enumerate(images):
        prompt, seed = divmod(number, len(SEEDS))
        if seed < KEPT:
            run.keep_image(image, place / f"{prompt}-{seed}.png")


def is_weights(file: Path) -> bool:
    """Whether a file holds weights rather than a word."""
    try:
        choosing.files.read(file)
    except EmbeddingError:
        return False
    return True


def moved_by(judge: Judge, before: Sequence[Image.Image], after: Sequence[Image.Image]) -> float:
    """How far pictures of the same prompts and seeds have moved: the mean of 1 - cosine, 0 for those that are the same."""
    same = torch.tensor([a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True)])
    far = 1 - (judge.pictures(before) * judge.pictures(after)).sum(1)
    return float(far.clamp_min(0).masked_fill(same, 0).mean())
