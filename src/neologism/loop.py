"""The training loop: lessons that share one frozen model, as a stream of their steps. It writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from neologism import objective
from neologism.batches import joined
from neologism.events import Step, Warned
from neologism.families.model import Model
from neologism.lessons import Lesson
from neologism.recipe import Recipe
from neologism.vocabulary import taught


def loop(model: Model, lessons: Sequence[Lesson], recipe: Recipe) -> Iterator[tuple[Lesson, Step | Warned]]:
    """Learn the words of the lessons: each lesson with what it tells after every update.

    A lesson that is done leaves the batch; the others go on as if it had never been there.
    """
    with taught(model, {lesson.word: lesson.rows for lesson in lessons}):
        while active := [lesson for lesson in lessons if not lesson.done]:
            losses = gradients(model, active, recipe)
            for lesson, loss in zip(active, losses, strict=True):
                yield lesson, lesson.update(loss)


def gradients(model: Model, active: Sequence[Lesson], recipe: Recipe) -> list[float]:
    """Add up the gradients of one step of every lesson; their mean losses.

    The sum of the lessons' means is what is differentiated: a word's gradient depends on its own samples alone,
    because the model is frozen and a prompt finds only its own word's rows.
    """
    totals = torch.zeros(len(active))
    for part in range(recipe.accumulate):
        each = objective.loss(model, joined([lesson.batch(part) for lesson in active]), recipe.weighting)
        means = each.view(len(active), recipe.batch).mean(1)
        (means.sum() / recipe.accumulate).backward()
        totals += means.detach().cpu() / recipe.accumulate
    return totals.tolist()
