"""The same asides and the same points as one by one, for all subjects and seeds in one batch: what a GPU is for.

A word learned in company is the word learned alone (a test says so); the reference's words are as independent, each with AdamW of
its own over its row. Seconds can not be taken from company: they are those of the same method's words learned alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks import quality, reference
from benchmarks.asides import (
    MARKS,
    Asides,
    folder_of,
    gathered,
    kept,
    load,
    rows_of,
    settings,
    shown,
    start_word,
    subjects,
)
from benchmarks.quality import Asked, Quality, Yardstick
from neologism import captions, photos
from neologism.batches import Batch
from neologism.families import Model
from neologism.initial import Start, rows_loss
from neologism.latents import Latents, cached
from neologism.lessons import Lesson, probe_batch
from neologism.loop import loop
from neologism.recipe import Recipe
from neologism.scores import likeness, ranks
from neologism.training import first_rows, sayer
from neologism.vocabulary import taught
from workshop.emoji.judge import names
from workshop.emoji.scenes import with_article

AT_ONCE = 768  # pictures drawn in a pass
Pair = tuple[str, int]  # a subject's name, and the seed of training
Starts = dict[tuple[Any, ...], Start]


def word_of(pair: Pair) -> str:
    """A word of its own for every subject and seed."""
    return f"<{pair[0].replace(' ', '-')}-{pair[1]}>"


def encoded(model: Model, name: str, made: Recipe) -> tuple[list[Any], Latents]:
    """A subject's pictures, and their latents."""
    found = photos.gather(folder_of(name, True), model.size).photos
    return found, cached(model, found, model.size, made.mirror, made.masks)


def recipe_of(pair: Pair, chosen: dict[str, Any]) -> Recipe:
    """The settings of a word."""
    return settings(pair[0], pair[1], {"words": word_of(pair)} | chosen)


def template_of(made: Recipe) -> str:
    """What a word's probes say."""
    return (made.templates or captions.TEMPLATES[made.kind])[0]


def start_key(pair: Pair, chosen: dict[str, Any]) -> tuple[Any, ...]:
    """What the search for a start depends on."""
    made = recipe_of(pair, chosen)
    return (pair, made.starts, made.vectors, made.times, template_of(made))


def probes(model: Model, pair: Pair, chosen: dict[str, Any]) -> Batch:
    """The fixed samples that the start is searched on."""
    made = recipe_of(pair, chosen)
    return probe_batch(model, encoded(model, pair[0], made)[1], template_of(made), made)


def lesson(model: Model, pair: Pair, chosen: dict[str, Any], starts: Starts) -> Lesson:
    """The lesson of a word; where it starts is searched once for all settings that do not touch it."""
    word, made, key = word_of(pair), recipe_of(pair, chosen), start_key(pair, chosen)
    found, latents = encoded(model, pair[0], made)
    if key not in starts:
        starts[key] = first_rows(model, made, 0, latents, template_of(made))
    return Lesson(word, latents, sayer(word, found, made), made, model, starts[key], template_of(made))


def ours(
    model: Model, pairs: Sequence[Pair], chosen: dict[str, Any], starts: Starts, marks: Sequence[int] = MARKS
) -> dict[Pair, Asides]:
    """Our own learning of all words together."""
    pupils = {pair: lesson(model, pair, chosen, starts) for pair in pairs}
    whose = {pupil.word: pair for pair, pupil in pupils.items()}
    aside = {pair: [(0, 0.0, rows_of(pupil))] for pair, pupil in pupils.items()}
    for pupil in pupils.values():
        pupil.probe()
    for pupil, _ in loop(model, pupils.values()):
        pair = whose[pupil.word]
        if (pupil.step in marks or pupil.done) and aside[pair][-1][0] != pupil.step:
            aside[pair].append((pupil.step, 0.0, rows_of(pupil)))
    return {
        pair: gathered(
            pupil.start.told, aside[pair], [(n * pupil.recipe.probe_every, v) for n, v in enumerate(pupil.probes)]
        )
        for pair, pupil in pupils.items()
    }


@dataclass(frozen=True)
class Shown:
    """A subject's pictures as the reference sees them: means and deviations [2, 4, c, h, w] of plain and mirrored ones."""

    mean: Tensor
    std: Tensor
    templates: tuple[str, ...]


def seen(model: Model, name: str) -> Shown:
    """A subject's pictures, encoded once: a posterior drawn from afterwards is the same as one encoded at every step."""
    side = model.size
    both = [
        torch.stack([reference.prepared(i, side, mirrored) for i in shown(name, True)]) for mirrored in (False, True)
    ]
    mean, std = (torch.stack(parts) for parts in zip(*(model.encode(pixels) for pixels in both), strict=True))
    style = subjects()[name] == "style"
    return Shown(mean, std, captions.STYLE_TEMPLATES if style else captions.OBJECT_TEMPLATES)


def theirs(model: Model, pairs: Sequence[Pair], marks: Sequence[int] = MARKS) -> dict[Pair, Asides]:
    """The published algorithm's learning of all words together: the loss of each is the mean over its own four samples."""
    device, encoder = model.machine.device, model.encoders[0]
    table = encoder.known_rows()
    words, starts = [word_of(pair) for pair in pairs], [start_word(name) for name, _ in pairs]
    rows = [nn.Parameter(table[encoder.tokens(start)[:1]].to(device).clone()) for start in starts]
    adamw = torch.optim.AdamW(rows, lr=reference.RATE * reference.BATCH, betas=(0.9, 0.999), weight_decay=1e-2)
    things, chances = (
        [seen(model, name) for name, _ in pairs],
        [torch.Generator().manual_seed(seed) for _, seed in pairs],
    )
    aside: list[list[tuple[int, float, Tensor]]] = [[(0, 0.0, row.detach().cpu().clone())] for row in rows]
    with taught(model, {word: {encoder.key: row} for word, row in zip(words, rows, strict=True)}):
        remembered = functools.cache(encoder.framed)
        for step in range(1, max(marks) + 1):
            each = [sampled(*both) for both in zip(things, chances, words, strict=True)]
            step_of_all(model, each, remembered)
            adamw.step()
            adamw.zero_grad()
            if step in marks:
                for own, row in zip(aside, rows, strict=True):
                    own.append((step, 0.0, row.detach().cpu().clone()))
    return {pair: gathered(start, own, []) for pair, start, own in zip(pairs, starts, aside, strict=True)}


def sampled(thing: Shown, chance: torch.Generator, word: str) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """One word's posterior samples, noise, shares of the noise scale, and prompts, of a step."""
    batch, many = reference.BATCH, thing.mean.shape[1]
    photo, mirrored = torch.randperm(many, generator=chance)[:batch], torch.randint(0, 2, (batch,), generator=chance)
    mean, std = thing.mean[mirrored, photo], thing.std[mirrored, photo]
    sample = mean + std * torch.randn(mean.shape, generator=chance).to(mean.device)
    noise, times = torch.randn(mean.shape, generator=chance), torch.rand(batch, generator=chance)
    said = torch.randint(0, len(thing.templates), (batch,), generator=chance).tolist()
    return sample, noise, times, [thing.templates[number].replace("{}", word) for number in said]


def step_of_all(model: Model, each: Sequence[Any], framed: Callable[[str], list[int]]) -> None:
    """Add up the gradients of one step of all words."""
    samples, noises, shares, prompts = zip(*each, strict=True)
    device = model.machine.device
    clean, noise = model.scale(torch.cat(samples)).to(device), torch.cat(noises).to(device)
    times = model.noise.times(torch.cat(shares)).to(device)
    ids = torch.tensor([framed(prompt) for some in prompts for prompt in some], device=device)
    context = model.encoders[0].module(ids).last_hidden_state
    guess = model.pipe.unet(model.noise.add(clean, noise, times), times, context).sample
    wrong = (guess - model.noise.target(clean, noise, times)) ** 2
    (wrong.mean(dim=(1, 2, 3)).sum() / reference.BATCH).backward()


@dataclass(frozen=True)
class Job:
    """A word to be measured: its subject's yardstick, and its rows, or the known word it is."""

    yard: Yardstick
    rows: Tensor | None
    written: str


def measured(model: Model, jobs: Sequence[Job]) -> list[Quality]:
    """The quality of many words, drawn in large batches; the same figures as one by one."""
    key = model.encoders[0].key
    asked = [quality.asked_of_style() if job.yard.style else quality.asked_of_thing(job.yard.name) for job in jobs]
    wanted = [
        (job.written, ask) for job, (own, other) in zip(jobs, asked, strict=True) for ask in different(own, other)
    ]
    with taught(model, {job.written: {key: job.rows} for job in jobs if job.rows is not None}):
        images = dict(zip(((w, a.prompt, a.seed) for w, a in wanted), drawn(model, wanted), strict=True))
    return [judged(job, *both, images) for job, both in zip(jobs, asked, strict=True)]


def different(own: Sequence[Asked], other: Sequence[Asked]) -> list[Asked]:
    """What is asked for in either, once."""
    return list(own) if own is other else [*own, *other]


def drawn(model: Model, wanted: Sequence[tuple[str, Asked]]) -> Iterator[Image.Image]:
    """The pictures, each from its own seed, so that it matters to none which others are drawn beside it."""
    for first in range(0, len(wanted), AT_ONCE):
        some = wanted[first : first + AT_ONCE]
        prompts, seeds = [ask.prompt.replace("{}", word) for word, ask in some], [ask.seed for _, ask in some]
        yield from model.draw(prompts, [""] * len(some), seeds, 25, 5.0)


def judged(job: Job, own: Sequence[Asked], other: Sequence[Asked], images: dict[Any, Image.Image]) -> Quality:
    """The figures of one word's pictures."""
    yard = job.yard
    first, others = ([images[job.written, ask.prompt, ask.seed] for ask in some] for some in (own, other))
    places = ranks(yard.judge, first, all_names(), [with_article(ask.name, "a") for ask in own])
    cosines = (yard.judge.pictures(others) * yard.judge.texts([ask.wanted for ask in other])).sum(1)
    top1, top5 = (float((places < k).float().mean()) for k in (1, 5))
    return Quality(likeness(yard.judge, first, yard.unseen), top1, top5, float(cosines.mean()), probe_of(job))


def probe_of(job: Job) -> float:
    """The denoising loss on unseen pictures."""
    encoder = job.yard.model.encoders[0]
    known = encoder.known_rows()[encoder.tokens(job.written)].cpu() if job.rows is None else job.rows
    return rows_loss(job.yard.model, {encoder.key: known}, job.yard.probes)


@functools.cache
def all_names() -> list[str]:
    """What the judge may call a picture."""
    return names()


def timed(asides: Asides, name: str, method: str) -> Asides:
    """The asides with the seconds that the method took for the subject alone, of its first seed."""
    alone = kept(name, 0, method)
    if not alone.exists():
        return asides
    known = load(alone)
    seconds = dict(zip(known.steps.tolist(), known.seconds.tolist(), strict=True))
    told = torch.tensor([seconds.get(step, float("nan")) for step in asides.steps.tolist()], dtype=torch.float64)
    return Asides(asides.start, asides.steps, told, asides.rows, asides.probes)
