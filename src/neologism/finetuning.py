"""Embedding fine-tuning: a domain's words from captioned pictures, as one stream of events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F

from neologism import batches, domain, objective, pairs, photos, run, training, verifying
from neologism.allowed import CAPTIONS
from neologism.batches import Batch
from neologism.contact import contact_sheet
from neologism.device import enough_memory
from neologism.errors import PhotosError, RunError
from neologism.events import Cached, Event, Failed, Finished, Started, Warned
from neologism.families import Model, native_side
from neologism.framing import framed, picture
from neologism.generation import generate
from neologism.initial import Start
from neologism.latents import Latents, aim, cached, squares_only
from neologism.lessons import Lesson
from neologism.methods import choosing
from neologism.methods.text_side import TextSide
from neologism.photos import Photo
from neologism.prior import drawn
from neologism.recipe import Recipe
from neologism.report import report
from neologism.tracking import followed
from neologism.training import Course

NAME = CAPTIONS
SHOWN, EACH = 4, 2  # held-out pictures on the sheet; pictures drawn for each general prompt


@dataclass(frozen=True)
class Material:
    """What is learned from, what is probed with, and general prompts with pictures that the base drew of them."""

    given: Sequence[Photo]
    held_out: Sequence[Photo]
    probes: Batch
    prompts: Sequence[str]
    general: Batch


def finetune(recipe: Recipe, out: Path | str) -> Iterator[Event]:
    """Tune what goes into the text encoders to captioned pictures; events as they happen, a Finished the last.

    The same call again goes on from the newest checkpoint.

    Raises:
        NeologismError: see `errors`; nothing half-written stays under a final name.
    """
    side = recipe.side or native_side(recipe.base)
    found = pairs.pairs(recipe.pictures[0], side)
    model = training.opened_for(recipe)
    said = [str(photo.caption) for photo in found.given]
    if (recipe.scope or "words") == "words" and not recipe.tuned:
        recipe = recipe.model_copy(update={"tuned": found_words(model, said)})
    with run.opened(Path(out), recipe), enough_memory(model.machine.device):
        yield from followed(journey(model, recipe, Path(out), found), recipe, Path(out))


def found_words(model: Model, captions: Sequence[str]) -> tuple[str, ...]:
    """The domain's words.

    Raises:
        PhotosError: the captions are all of common words.
    """
    found = domain.words(model.encoders[0], captions)
    if not found:
        raise PhotosError(
            f"No word stands out in {len(captions)} captions (each at least {domain.LEAST} times, {domain.TIMES:g} times as often as "
            "expected). Name the domain's words by --tuned, or choose --scope table."
        )
    return found


def journey(model: Model, recipe: Recipe, out: Path, found: pairs.Pairs) -> Iterator[Event]:
    """Every event of a run, journalled."""
    run.check_base(out, model.name)
    began, before = time.monotonic(), verifying.hashes(model)
    method = choosing.method(model, recipe, "", ())
    said = [str(photo.caption) for photo in found.given]
    latents, stuff = material(model, recipe, found)
    lesson = Lesson(
        NAME, latents, lambda n, _: said[latents.photos[n]], recipe, model, Start({}, "the base"), "", method
    )
    lesson.__dict__["fixed"] = stuff.probes
    state, damaged = run.newest(out)
    if state is not None:
        lesson.load(state)
    course = Course(model, recipe, out, run.Journal(out, {NAME: lesson.step}), began, before)
    told = [
        training.opening(model),
        *noted(model, recipe, found),
        Cached(NAME, len(found.given), latents.found),
        *damaged,
    ]
    for event in [*told, Started(NAME, "the base", lesson.step), *tuned(course, lesson, stuff)]:
        course.journal.tell(event)
        if isinstance(event, Finished):
            report(out)
        yield event


def noted(model: Model, recipe: Recipe, found: pairs.Pairs) -> list[Warned]:
    """What the user should know of the pictures and the words."""
    texts = [f"{unfit.path.name} is left out: {unfit.reason}" for unfit in found.unfit] + found.warnings
    texts.append(
        f"{len(found.given)} captioned pictures to learn from, {len(found.held_out)} held out by their content."
    )
    if recipe.tuned:
        more = f" and {len(recipe.tuned) - 12} more" if len(recipe.tuned) > 12 else ""
        texts.append(f"The domain's words: {', '.join(recipe.tuned[:12])}{more}.")
    texts += filter(None, [squares_only(model, recipe)])
    return [Warned(text) for text in texts]


def material(model: Model, recipe: Recipe, found: pairs.Pairs) -> tuple[Latents, Material]:
    """The latents to learn from, and what is probed with."""
    side = recipe.side or model.size
    latents = cached(model, found.given, aim(model, recipe), recipe.mirror, recipe.masks)
    held = cached(model, found.held_out, aim(model, recipe), False, recipe.masks)
    captions = [str(photo.caption) for photo in found.held_out]
    prompts = domain.general(model.encoders[0], [*captions, *(str(photo.caption) for photo in found.given)])
    shown = [(p, photo) for p in prompts for photo in photos.gather(drawn(model, p, EACH), side).photos[:EACH]]
    known = cached(model, [photo for _, photo in shown], side, False, False)
    general = fixed(model, recipe, known, [prompt for prompt, _ in shown])
    return latents, Material(found.given, found.held_out, fixed(model, recipe, held, captions), prompts, general)


def fixed(model: Model, recipe: Recipe, latents: Latents, said: Sequence[str]) -> Batch:
    """Fixed samples of pictures with their own captions: each once, up to 64, at spread times."""
    seed, count = batches.counted(recipe.seed, "probes"), min(64, max(8, len(latents)))
    return batches.draw(model, latents, lambda number, _: said[number], seed, 0, count, recipe.times)


def tuned(course: Course, lesson: Lesson, stuff: Material) -> Iterator[Event]:
    """Steps and checkpoints; then the file, the sheet, the figures and the proof."""
    before, contexts = losses(lesson.model, stuff), context(lesson.model, stuff.prompts)
    if lesson.step == 0:
        lesson.probe()
    for event in training.steps(course, [lesson]):
        yield event
        if isinstance(event, Failed):
            raise RunError(event.reason)
    with lesson.shown():
        after = losses(lesson.model, stuff)
        cosines = F.cosine_similarity(contexts, context(lesson.model, stuff.prompts), dim=-1)
    files = lesson.method.save(lesson.learner.mean, NAME, None, course.out)
    run.keep_image(sheet(course, lesson, stuff), course.out / "sheet.png")
    facts = {
        "held out": f"{before[0]:.5f} -> {after[0]:.5f}",
        "general": f"{before[1]:.5f} -> {after[1]:.5f}",
        "context": f"{1 - float(cosines.mean()):.5f}",
    }
    run.write_whole(course.out / "moved.json", json.dumps(moved(lesson), indent=1).encode())
    training.prove(course, [], verifying.hashes(course.model))
    reason, seconds = lesson.done or "stopped", time.monotonic() - course.began
    yield Finished(
        NAME, None, files[0], course.out / "sheet.png", lesson.step, reason, seconds, facts, tuple(files[1:])
    )


@torch.no_grad()
def losses(model: Model, stuff: Material) -> tuple[float, float]:
    """The denoising losses on the held-out pairs and on the base's own pictures of general prompts."""
    held_out, general = (float(objective.loss(model, batch).mean()) for batch in (stuff.probes, stuff.general))
    return held_out, general


def context(model: Model, prompts: Sequence[str]) -> torch.Tensor:
    """What the text encoders make of prompts: [n, tokens, width]."""
    with torch.no_grad():
        return model.condition(prompts, ()).context.float().cpu()


def moved(lesson: Lesson) -> dict[str, dict[str, float]]:
    """How far each token's row moved, as a share of its length, by encoder; those that moved most first."""
    found: dict[str, dict[str, float]] = {}
    method = lesson.method
    for encoder in lesson.model.encoders if isinstance(method, TextSide) else ():
        rows = lesson.learner.mean.get(f"{encoder.key}.rows")
        which = method.tuned.get(encoder.key)  # type: ignore[union-attr]
        if rows is None or which is None:
            continue
        far = rows.norm(dim=1).cpu() * method.units[encoder.key]  # type: ignore[union-attr]
        shares = far / encoder.known_rows()[list(which.tokens)].cpu().norm(dim=1).clamp_min(1e-8)
        order = [i for i in shares.argsort(descending=True).tolist()[:1000] if shares[i] > 0]
        names = encoder.tokenizer.convert_ids_to_tokens([which.tokens[i] for i in order])
        found[encoder.key] = {name: round(float(shares[i]), 4) for name, i in zip(names, order, strict=True)}
    return found


def sheet(course: Course, lesson: Lesson, stuff: Material) -> Image.Image:
    """Held-out pictures, and what the base and the tuned encoders draw of their captions."""
    shown = stuff.held_out[:SHOWN]
    captions = [str(photo.caption) for photo in shown]
    real = [picture(framed(photo, aim(course.model, course.recipe)).pixels) for photo in shown]
    plain = generate(course.model, captions)
    with lesson.shown():
        own = generate(course.model, captions)
    return contact_sheet([("held out", real), ("the base draws their captions", plain), ("after tuning", own)])
