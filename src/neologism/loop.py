"""The training loop: lessons that share one frozen model, as a stream of their steps. It writes nothing."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch

from neologism import objective
from neologism.batches import Batch, joined, part_of
from neologism.device import halved_activations
from neologism.errors import RunError
from neologism.events import Failed, Step, Warned
from neologism.families import pipelines
from neologism.families.model import Model
from neologism.lessons import Lesson
from neologism.recipe import Recipe
from neologism.vocabulary import taught

Told = Step | Warned | Failed


def loop(model: Model, lessons: Iterable[Lesson], together: int | None = None) -> Iterator[tuple[Lesson, Told]]:
    """Learn the words of the lessons: each lesson with what it tells after every update.

    At most `together` lessons fill a batch (all of them where None). One that is done, or fails, gives its place to the
    next, which is asked of `lessons` only then; the others go on as if it had never been there. All lessons must agree
    on what shapes a batch (`recipe.SHARED`).
    """
    waiting, active = iter(lessons), list[Lesson]()
    while True:
        active = [lesson for lesson in active if not lesson.done]
        active += islice(waiting, None if together is None else together - len(active))
        active = [lesson for lesson in active if not lesson.done]  # a resumed one may be done already
        if not active:
            return
        yield from until_one_is_done(model, active)


def until_one_is_done(model: Model, active: Sequence[Lesson]) -> Iterator[tuple[Lesson, Told]]:
    """Steps of these lessons until at least one of them is done."""
    with contextlib.ExitStack() as undo:
        for lesson in active:
            undo.enter_context(lesson.opened())
        undo.enter_context(taught(model, {lesson.word: lesson.rows for lesson in active}))
        while not any(lesson.done for lesson in active):
            losses, eased = patiently(model, active)
            if eased:
                yield active[0], eased
            for lesson, loss in zip(active, losses, strict=True):
                yield lesson, updated(lesson, loss)


def patiently(model: Model, active: Sequence[Lesson]) -> tuple[list[float], Warned | None]:
    """The step's gradients; where memory falls short, once more with less of it, and a word about that."""
    with contextlib.suppress(torch.OutOfMemoryError):
        return gradients(model, active), None
    if model.machine.limits.eased:
        raise torch.OutOfMemoryError("even after it was eased")
    told = ease(model, len(active) * active[0].recipe.batch)
    for lesson in active:
        lesson.forget()
    gc.collect()
    if model.machine.device.type == "cuda":
        torch.cuda.empty_cache()
    return gradients(model, active), Warned(told)


def ease(model: Model, samples: int) -> str:
    """Tighten the limits of a model; what was done, in words."""
    limits = model.machine.limits
    limits.eased, limits.vae_away = True, True
    pipelines.put_away(model.parts()["vae"], model.machine)
    limits.at_once = max(1, (limits.at_once or samples) // 2)
    if not limits.streamed:  # whose blocks are computed twice anyway
        model.save_memory()
    return (
        f"Memory fell short. From here on activations are computed twice and {limits.at_once} of {samples} samples at once; "
        "the sum of gradients is the same."
    )


def updated(lesson: Lesson, loss: float) -> Told:
    """The lesson's update; one that breaks down for good is done, and harms no other."""
    try:
        return lesson.update(loss)
    except RunError as error:
        lesson.done, lesson.failed = "failed", True
        return Failed(lesson.word, str(error), error.exit_code)


def gradients(model: Model, active: Sequence[Lesson]) -> list[float]:
    """Add up the gradients of one step of every lesson; their mean losses.

    The sum of the lessons' means is what is differentiated: a word's gradient depends on its own samples alone,
    because the model is frozen and a prompt finds only its own word's rows.
    """
    recipe = active[0].recipe
    totals, more = torch.zeros(len(active)), active[0].more()
    share = recipe.batch * recipe.accumulate
    for part in range(recipe.accumulate):
        whole = joined([lesson.batch(part) for lesson in active])
        whose = torch.arange(len(whole)) // recipe.batch
        for rows in model.machine.limits.pieces(len(whole)):
            with remembering(model, recipe):
                each = objective.loss(model, part_of(whole, rows), recipe.weighting, more)
            (each.sum() / share).backward()
            totals.index_add_(0, whose[rows], each.detach().cpu() / share)
        for lesson in active:
            keep_class(model, lesson, lesson.beside(part), share)
    return totals.tolist()


def keep_class(model: Model, lesson: Lesson, prior: Batch | None, share: int) -> None:
    """Add the gradient of prior preservation (Ruiz et al. 2023, eq. 2), if the lesson has a class to keep."""
    if prior is None:
        return
    for rows in model.machine.limits.pieces(len(prior)):
        with remembering(model, lesson.recipe):
            each = objective.loss(model, part_of(prior, rows), lesson.recipe.weighting)
        (each.sum() * lesson.recipe.prior_weight / share).backward()


def remembering(model: Model, recipe: Recipe) -> contextlib.AbstractContextManager[None]:
    """How activations are kept for the backward pass: as they are, or halved where float32 is too large to keep."""
    if not recipe.activations_bf16 or model.machine.precision != "fp32":
        return contextlib.nullcontext()
    return halved_activations(tensor for part in model.parts().values() for tensor in part.parameters())
