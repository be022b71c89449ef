"""How good a word is at a moment of its learning: four figures from fixed seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from neologism.batches import Batch
from neologism.embedding import Embedding
from neologism.families import Model
from neologism.generation import generate
from neologism.initial import rows_loss
from neologism.latents import cached
from neologism.lessons import probe_batch
from neologism.photos import gather
from neologism.recipe import recipe
from neologism.scores import Judge, likeness, ranks
from workshop.emoji.judge import names
from workshop.emoji.scenes import with_article

WORD = "<thing>"
PROMPTS = (
    "a {} on a blue background",
    "a {} on a yellow background",
    "a small {} at the left",
    "a large {} on a white background",
    "a red {}",
    "a green {} on a black background",
    "a tilted {}",
    "a {}, black and white",
)
"""What prompt fidelity of a thing is measured on; half of a word's use is being itself, the rest is obeying."""
THINGS = ("fox", "rocket", "pear", "crab", "shark", "candle", "owl", "tractor")
"""What a style is drawn on."""


@dataclass(frozen=True)
class Asked:
    """One picture to draw: prompt with {} for the word, seed, what its subject is called, and what it should look like in words."""

    prompt: str
    seed: int
    name: str
    wanted: str


def asked_of_thing(name: str) -> tuple[list[Asked], list[Asked]]:
    """Pictures of a thing itself, and of it in other scenes."""
    own = [Asked("a {}", seed, name, name) for seed in range(8)]
    return own, [Asked(prompt, seed, name, prompt.replace("{}", name)) for prompt in PROMPTS for seed in range(2)]


def asked_of_style() -> tuple[list[Asked], list[Asked]]:
    """Pictures of eight known things in a style: the same show the style, and whether the things are still themselves."""
    own = [
        Asked(f"{with_article(t, 'a')} in the style of {{}}", seed, t, with_article(t, "a"))
        for t in THINGS
        for seed in range(2)
    ]
    return own, own


@dataclass(frozen=True)
class Quality:
    """Of one word at one moment: judge's cosine to unseen pictures, naming, cosine to prompts, loss on unseen pictures."""

    fidelity: float
    top1: float
    top5: float
    prompt: float
    probe: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


@dataclass(frozen=True)
class Yardstick:
    """What a subject's word is measured against."""

    model: Model
    judge: Judge
    name: str
    style: bool
    unseen: Sequence[Image.Image]
    probes: Batch

    def of_word(self, vectors: Tensor) -> Quality:
        """The quality of a word of these rows [n, width]."""
        key = self.model.encoders[0].key
        word = Embedding(WORD, {key: vectors}, self.model.name, {})
        return self.measured(WORD, [word], rows_loss(self.model, {key: vectors}, self.probes))

    def of_known(self, name: str) -> Quality:
        """The quality of a word that the model knows."""
        with torch.no_grad():
            rows = self.model.encoders[0].known_rows()[self.model.encoders[0].tokens(name)].cpu()
        return self.measured(name, [], rows_loss(self.model, {self.model.encoders[0].key: rows}, self.probes))

    def measured(self, written: str, words: Sequence[Embedding], probe: float) -> Quality:
        """The figures of a word as written in prompts."""
        own, obeying = asked_of_style() if self.style else asked_of_thing(self.name)
        images = self.drawn(own, written, words)
        places = ranks(self.judge, images, names(), [with_article(ask.name, "a") for ask in own])
        others = images if obeying is own else self.drawn(obeying, written, words)
        cosines = (self.judge.pictures(others) * self.judge.texts([ask.wanted for ask in obeying])).sum(1)
        top1, top5 = (float((places < k).float().mean()) for k in (1, 5))
        return Quality(likeness(self.judge, images, self.unseen), top1, top5, float(cosines.mean()), probe)

    def drawn(self, asked: Sequence[Asked], written: str, words: Sequence[Embedding]) -> list[Image.Image]:
        """The pictures asked for, each from its own seed."""
        images: list[Image.Image] = []
        for seed in sorted({ask.seed for ask in asked}):
            images += generate(
                self.model, [a.prompt.replace("{}", written) for a in asked if a.seed == seed], words, (seed,)
            )
        order = sorted(range(len(asked)), key=lambda i: asked[i].seed)
        return [image for _, image in sorted(zip(order, images, strict=True), key=lambda pair: pair[0])]


def probes_of(model: Model, folder: Path) -> Batch:
    """Fixed samples of the pictures in a folder, spread over the noise scale, their prompts "a WORD"."""
    settings = recipe(pictures=str(folder), words=WORD, times=(0.0, 1.0))
    latents = cached(model, gather(folder, model.size).photos, model.size, mirror=False, masks=False)
    return probe_batch(model, latents, "a {}", settings)
