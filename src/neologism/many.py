"""Many words through one frozen model: a batch shared, places refilled, each word in a run folder of its own."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from neologism import formats, photos, previewing, run, verifying
from neologism.device import enough_memory
from neologism.errors import NeologismError, RecipeError
from neologism.events import Event, Failed, Finished, Picture, Step
from neologism.families import Model
from neologism.lessons import Lesson
from neologism.loop import loop
from neologism.photos import Photo
from neologism.recipe import SHARED, Recipe
from neologism.report import report
from neologism.training import (
    Course,
    finish,
    keep,
    opened_for,
    opening,
    prepared,
    previews,
    prove,
    remarks,
    warnings,
)
from neologism.vocabulary import check_word

TOGETHER = 8  # words in a batch, where nobody says


@dataclass
class Pupil:
    """A word on its way, with all that is its own: run folder, lock, journal, pictures."""

    course: Course
    lesson: Lesson
    shown: list[Photo]
    lock: contextlib.ExitStack
    kept: dict[str, int]

    def told(self, event: Event) -> Event:
        """The event, journalled."""
        self.course.journal.tell(event)
        return event


@dataclass
class School:
    """A run of many words: what waits, who learns, what is to be told, and whose proof is still to be written."""

    model: Model
    recipes: Sequence[Recipe]
    out: Path
    before: dict[str, dict[str, str]]
    news: deque[Event]
    pupils: dict[str, Pupil]
    unproven: list[tuple[Course, Path]]

    def lessons(self) -> Iterator[Lesson]:
        """The lessons in their order, each made ready only when there is a place for it."""
        for recipe in self.recipes:
            try:
                pupil = self.entered(recipe)
            except NeologismError as error:
                self.news.append(Failed(recipe.words[0], str(error), error.exit_code))
                continue
            if pupil and pupil.lesson.done:  # cut short between its last checkpoint and its file
                self.news += self.ended(pupil)
            elif pupil:
                yield pupil.lesson

    def entered(self, recipe: Recipe) -> Pupil | None:
        """A word made ready, from its newest checkpoint where it has one; None where it is learned already."""
        word, folder = recipe.words[0], self.out / run.slug(recipe.words[0])
        check_word(word, self.model)
        file = folder / "word.safetensors"
        if file.exists():
            with run.opened(folder, recipe):
                self.news.append(learned_before(word, file))
            return None
        gathered = photos.gather(Path(recipe.pictures[0]), recipe.side or self.model.size)
        found, _ = photos.parted(gathered, recipe.hold_out)
        with contextlib.ExitStack() as lock:
            lock.enter_context(run.opened(folder, recipe))
            lesson, events = prepared(self.model, recipe, folder, 0, found.photos)
            course = Course.begun(self.model, recipe, folder, {word: lesson.step}, self.before)
            pupil = Pupil(course, lesson, found.photos, lock.pop_all(), {word: lesson.step})
        self.pupils[word] = pupil
        self.news += [pupil.told(event) for event in (*warnings(self.model, word, found, recipe), *events)]
        course.diagnosis(lesson, found.photos)
        if lesson.step == 0:
            lesson.probe()
            self.news += [pupil.told(event) for event in previews(course, lesson)]
        return pupil

    def taught(self, together: int) -> Iterator[Event]:
        """Everything that happens, word by word; what is cut short keeps a checkpoint."""
        try:
            for lesson, event in loop(self.model, self.lessons(), together):
                yield from drained(self.news)
                yield from self.followed(self.pupils[lesson.word], event)
            yield from drained(self.news)
        finally:
            for pupil in list(self.pupils.values()):
                self.left(pupil)
            self.proven()

    def followed(self, pupil: Pupil, event: Event) -> Iterator[Event]:
        """What follows from a step of a word: checkpoints, previews, its file, or the end of its attempt."""
        lesson, recipe = pupil.lesson, pupil.course.recipe
        yield pupil.told(event)
        yield from map(pupil.told, remarks(pupil.course, lesson, event))
        try:
            due = isinstance(event, Step) and lesson.step % recipe.checkpoint_every == 0
            if not lesson.failed and (lesson.done or due):
                yield pupil.told(keep(pupil.course, lesson, pupil.kept))
            if previewing.due(recipe, lesson, event):
                yield from map(pupil.told, previews(pupil.course, lesson))
        except NeologismError as error:
            yield self.given_up(pupil, error)
        if lesson.done:
            yield from self.ended(pupil)

    def given_up(self, pupil: Pupil, error: NeologismError) -> Failed:
        """A word fails for a reason of its own, such as a full disk: the others go on."""
        pupil.lesson.done, pupil.lesson.failed = "failed", True
        return Failed(pupil.lesson.word, str(error), error.exit_code)

    def ended(self, pupil: Pupil) -> Iterator[Event]:
        """A word leaves: with its file and pictures, unless it failed."""
        try:
            if not pupil.lesson.failed:
                yield from map(pupil.told, self.finished(pupil))
        except NeologismError as error:
            yield self.given_up(pupil, error)
        self.left(pupil)

    def finished(self, pupil: Pupil) -> Iterator[Event]:
        """A word's file and pictures."""
        drawn = list(previews(pupil.course, pupil.lesson))
        yield from drawn
        ended = [event for event in drawn if isinstance(event, Picture)]
        done = finish(pupil.course, pupil.lesson, pupil.shown, ended)
        self.unproven.append((pupil.course, done.file))
        yield done

    def left(self, pupil: Pupil) -> None:
        """Keep what an unfinished word has learned, and free its folder."""
        lesson = pupil.lesson
        if lesson.step > pupil.kept[lesson.word] and not lesson.failed:
            with contextlib.suppress(OSError, NeologismError):
                keep(pupil.course, lesson, pupil.kept)
        pupil.lock.close()
        self.pupils.pop(lesson.word, None)

    def proven(self) -> None:
        """Write the base's hashes before and after into every finished word's folder: the model is hashed once for all."""
        if not self.unproven:
            return
        after = verifying.hashes(self.model)
        for course, file in self.unproven:
            with contextlib.suppress(NeologismError):
                prove(course, [file], after)
                report(course.out)
        self.unproven.clear()


def train_many(recipes: Sequence[Recipe], out: Path | str = "words", together: int = TOGETHER) -> Iterator[Event]:
    """Learn many words through one frozen model, `together` of them in a batch; a finished word's place goes to the next.

    Every word is what it would be alone: its own seed, schedule, clipping, norm rule and stop. Every word has a run folder
    OUT/WORD; the same call again goes on where each stopped. A word that fails tells `Failed`, and the others go on.

    Raises:
        NeologismError: the recipes do not agree on what they share, or the model cannot be opened.
    """
    check_shared(recipes)
    if together < 1:
        raise RecipeError(f"Found {together} words together; at least 1 is allowed.")
    model = opened_for(recipes[0], min(together, len(recipes)))
    yield opening(model)
    school = School(model, recipes, Path(out), verifying.hashes(model), deque(), {}, [])
    with enough_memory(model.machine.device):
        yield from school.taught(together)


def check_shared(recipes: Sequence[Recipe]) -> None:
    """Refuse recipes of no word, of several words, or that differ in what a batch shares."""
    if not recipes:
        raise RecipeError("There are no words to learn. Give at least one recipe.")
    if any(len(recipe.words) != 1 for recipe in recipes):
        raise RecipeError(
            "Every recipe of many must have one word and its pictures. Give each word a recipe of its own."
        )
    if len({recipe.words[0].lower() for recipe in recipes}) < len(recipes):
        raise RecipeError(
            "Two recipes have the same word (case does not count). Words that learn together must differ."
        )
    if recipes[0].method != "inversion":
        raise RecipeError(
            f"Found method = {recipes[0].method!r}, which learns one word at a time; many words learn by 'inversion' alone. "
            "Use neologism train for each word."
        )
    if any(recipe.contrastive for recipe in recipes):
        raise RecipeError(
            "Found contrastive, which sets one word against its class. Use neologism train for each word."
        )
    if any(recipe.tracker != "none" for recipe in recipes):
        raise RecipeError("Found tracker, which follows one run. Leave it out, or use neologism train for each word.")
    for name in SHARED:
        values = {getattr(recipe, name) for recipe in recipes}
        if len(values) > 1:
            told = " and ".join(sorted(map(repr, values))[:2])
            raise RecipeError(f"Words that learn together share {name!r}; found {told}. Give them one value.")


def learned_before(word: str, file: Path) -> Finished:
    """What is told of a word whose file is there already."""
    embedding, sheet = formats.load(file), file.with_name("sheet.png")
    step = int(embedding.facts.get("step", 0))
    kept = sheet if sheet.exists() else None
    return Finished(word, embedding, file, kept, step, "learned before", 0.0, embedding.facts)


def drained(news: deque[Event]) -> Iterator[Event]:
    """What has happened since, oldest first."""
    while news:
        yield news.popleft()
