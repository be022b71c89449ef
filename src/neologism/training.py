"""The whole journey from pictures to a word, as one stream of events."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from neologism import captions, formats, initial, lessons, memory, photos, previewing, run, verifying
from neologism.device import Limits, enough_memory
from neologism.diagnosing import Diagnosis
from neologism.errors import RunError
from neologism.events import Cached, Checkpoint, Event, Failed, Finished, Opened, Picture, Started, Step, Warned
from neologism.families import Model, native_side, open_model
from neologism.framing import framed, picture
from neologism.latents import Latents, aim, cached, squares_only
from neologism.lessons import Lesson
from neologism.loop import loop
from neologism.methods import choosing
from neologism.photos import Gathered, Photo
from neologism.prior import prior
from neologism.recipe import Recipe
from neologism.report import report
from neologism.tracking import followed
from neologism.vocabulary import check_fit, check_word, pieces_warning


@dataclass
class Course:
    """A run on its way: the model, where it writes, and when it began."""

    model: Model
    recipe: Recipe
    out: Path
    journal: run.Journal
    began: float
    before: dict[str, dict[str, str]]
    diagnoses: dict[str, Diagnosis] = field(default_factory=dict[str, Diagnosis])

    @classmethod
    def begun(
        cls, model: Model, recipe: Recipe, out: Path, steps: dict[str, int], before: dict[str, dict[str, str]]
    ) -> Course:
        """A run that begins now, its words at these steps; `before` are the base's hashes."""
        return cls(model, recipe, out, run.Journal(out, steps), time.monotonic(), before)

    def folder(self, lesson: Lesson) -> Path:
        """Where a word's own files go."""
        return run.word_folder(self.out, lesson.word, alone=len(self.recipe.words) == 1)

    def diagnosis(self, lesson: Lesson, shown: list[Photo] | None = None) -> Diagnosis:
        """What watches over a word; `shown` are its photos, known when it begins."""
        if lesson.word not in self.diagnoses or shown is not None:
            seen = [picture(framed(photo, aim(self.model, self.recipe)).pixels) for photo in (shown or [])[:10]]
            length = next((self_length for key, self_length in lesson.lengths.items() if key in lesson.rows), None)
            self.diagnoses[lesson.word] = Diagnosis(lesson.word, length, seen)
        return self.diagnoses[lesson.word]


def train(recipe: Recipe, out: Path | str | None = None) -> Iterator[Event]:
    """Learn the recipe's words; events as they happen, the last a Finished for each word.

    Closing the iterator, or an error inside it, keeps a checkpoint first. The same call again goes on from there.

    Raises:
        NeologismError: see `errors`; nothing half-written stays under a final name.
    """
    folder = Path(out) if out else Path("words") / "-".join(run.slug(word) for word in recipe.words)
    side = recipe.side or native_side(recipe.base)
    sets = [photos.parted(photos.gather(Path(source), side), recipe.hold_out)[0] for source in recipe.pictures]
    model = opened_for(recipe, len(recipe.words))
    for word in recipe.words:
        check_word(word, model)
    with run.opened(folder, recipe), enough_memory(model.machine.device):
        yield from followed(journey(model, recipe, folder, sets), recipe, folder)


def opened_for(recipe: Recipe, together: int = 1) -> Model:
    """The recipe's base, where and as the recipe or its memory says; `together` words fill a batch."""
    plan = memory.planned(recipe, together)
    limits = Limits(plan.at_once, plan.vae_away, plan.streamed, recipe.half_weights, told=plan.told)
    model = open_model(recipe.base, recipe.device, plan.precision, plan.quantised, limits)
    if plan.streamed:  # its blocks are computed twice anyway
        return model
    if plan.gradient_checkpointing or recipe.light_checkpointing:
        model.save_memory(lightly=not plan.gradient_checkpointing)
    return model


def opening(model: Model) -> Opened:
    """What is told of a model that was opened."""
    machine = model.machine
    reason = "; ".join(told for told in (machine.reason, machine.limits.told) if told)
    return Opened(model.name, model.family, str(machine.device), machine.precision, reason)


def journey(model: Model, recipe: Recipe, out: Path, sets: list[Gathered]) -> Iterator[Event]:
    """Every event of a run, journalled."""
    began = time.monotonic()
    run.check_base(out, model.name)
    before = verifying.hashes(model)
    told: list[Event] = [opening(model)]
    made: list[Lesson] = []
    shown = 0  # of what is told so far; the journal opens once every word's step is known
    for number, (word, found) in enumerate(zip(recipe.words, sets, strict=True)):
        told += warnings(model, word, found, recipe)
        yield from told[shown:]
        shown = len(told)
        lesson, events = prepared(model, recipe, out, number, found.photos)
        made.append(lesson)
        told += events
    course = Course(model, recipe, out, run.Journal(out, {lesson.word: lesson.step for lesson in made}), began, before)
    for event in told:
        course.journal.tell(event)
    yield from told[shown:]
    for event in learned(course, made, [found.photos for found in sets]):
        course.journal.tell(event)
        if isinstance(event, Finished) and event.word == [one.word for one in made if not one.failed][-1]:
            report(out)
        yield event


def warnings(model: Model, word: str, found: Gathered, recipe: Recipe) -> list[Warned]:
    """What the user should know of the pictures and the word before training."""
    texts = [f"{unfit.path.name} is left out: {unfit.reason}" for unfit in found.unfit] + list(found.warnings)
    texts += captions.check_captions(found.photos, word, recipe.captions)
    more = (pieces_warning(word, model), squares_only(model, recipe))
    return [Warned(text) for text in (*texts, *filter(None, more))]


def prepared(model: Model, recipe: Recipe, out: Path, number: int, shown: list[Photo]) -> tuple[Lesson, list[Event]]:
    """A word's lesson, new or as its newest checkpoint left it, and what is told of that."""
    word = recipe.words[number]
    latents = cached(model, shown, aim(model, recipe), recipe.mirror, recipe.masks)
    events: list[Event] = [Cached(word, len(shown), latents.found)]
    state, damaged = run.newest(run.word_folder(out, word, alone=len(recipe.words) == 1))
    template = (recipe.templates or captions.TEMPLATES[recipe.kind])[0]
    said = [*(recipe.templates or captions.TEMPLATES[recipe.kind]), *(photo.caption or "" for photo in shown)]
    method = choosing.method(model, recipe, recipe.starts[number], said)
    if method.spelled:
        first = initial.Start({}, method.spelled)
    else:
        first = first_rows(model, recipe, number, latents, template) if state is None else rows_of(state, model)
    keep_in_mind = prior(model, recipe)
    lesson = Lesson(word, latents, sayer(word, shown, recipe), recipe, model, first, template, method, keep_in_mind)
    if state is not None:
        lesson.load(state)
    return lesson, [*events, *damaged, Started(word, lesson.start.told, lesson.step)]


def rows_of(state: dict[str, dict[str, object]], model: Model) -> initial.Start:
    """The start that a checkpoint remembers, in the encoders' own order: a checkpoint's names are sorted."""
    tensors = state["tensors"]
    rows = {e.key: tensors[f"{e.key}.start"] for e in model.encoders if f"{e.key}.start" in tensors}
    return initial.Start(rows, str(state["numbers"]["told"]))  # type: ignore[arg-type]


def first_rows(model: Model, recipe: Recipe, number: int, latents: Latents, template: str) -> initial.Start:
    """Where a word starts: an earlier file, or what `like` says."""
    if recipe.start_from:
        file = (recipe.start_from * len(recipe.words))[number]
        earlier = formats.load(Path(file))
        check_fit(earlier.word, earlier.vectors, model)
        return initial.Start(dict(earlier.vectors), str(earlier.facts.get("start", earlier.word)))
    probes = lessons.probe_batch(model, latents, template, recipe)
    return initial.start(model, recipe.starts[number], recipe.count, recipe.seed, probes)


def sayer(word: str, shown: list[Photo], recipe: Recipe) -> lessons.Said:
    """What is said of a photo at a step."""
    return lambda photo, chance: captions.prompt(
        word, recipe.kind, shown[photo].caption, recipe.captions, recipe.drop_caption, chance, recipe.templates
    )


def learned(course: Course, made: list[Lesson], shown: list[list[Photo]]) -> Iterator[Event]:
    """Previews, steps, checkpoints; then each word's file and sheet, and the proof."""
    for lesson, of_it in zip(made, shown, strict=True):
        course.diagnosis(lesson, of_it)
        if lesson.step == 0:
            lesson.probe()
            yield from previews(course, lesson)
    failures: list[Failed] = []
    for event in steps(course, made):
        if isinstance(event, Failed):
            failures.append(event)
        yield event
    whole = [(lesson, of_it) for lesson, of_it in zip(made, shown, strict=True) if not lesson.failed]
    finished: list[Finished] = []
    for lesson, of_it in whole:
        ended = list(previews(course, lesson))
        yield from ended
        finished.append(finish(course, lesson, of_it, [event for event in ended if isinstance(event, Picture)]))
    if finished:
        prove(course, [event.file for event in finished], verifying.hashes(course.model))
    yield from finished
    if failures:
        raise RunError("\n".join(event.reason for event in failures))


def steps(course: Course, made: list[Lesson]) -> Iterator[Event]:
    """The loop's events with the time left, and checkpoints when due; one more where the run is cut short."""
    first, kept = min(lesson.step for lesson in made), {lesson.word: lesson.step for lesson in made}
    began = time.monotonic()
    try:
        for lesson, event in loop(course.model, made):
            yield timed(event, began, first) if isinstance(event, Step) else event
            yield from remarks(course, lesson, event)
            if isinstance(event, Failed):
                continue
            if lesson.done or (isinstance(event, Step) and lesson.step % course.recipe.checkpoint_every == 0):
                yield keep(course, lesson, kept)
            if previewing.due(course.recipe, lesson, event):
                yield from previews(course, lesson)
    finally:
        for lesson in made:
            if lesson.step > kept[lesson.word] and not lesson.failed:
                with contextlib.suppress(OSError):
                    keep(course, lesson, kept)


def keep(course: Course, lesson: Lesson, kept: dict[str, int]) -> Checkpoint:
    """Keep a lesson's state on disk, and as the one to fall back to."""
    lesson.good = lesson.state()
    place = run.checkpoint(course.folder(lesson), lesson)
    kept[lesson.word] = lesson.step
    return Checkpoint(lesson.word, lesson.step, place)


def timed(event: Step, began: float, first: int) -> Step:
    """The step with an estimate of the seconds left."""
    pace = (time.monotonic() - began) / max(1, event.step - first)
    return replace(event, seconds_left=pace * (event.steps - event.step))


def previews(course: Course, lesson: Lesson) -> Iterator[Picture | Warned]:
    """The recipe's preview prompts as the word draws them now, and what to say of them."""
    drawn = list(previewing.previews(course.model, course.recipe, course.folder(lesson), lesson))
    yield from drawn
    yield from map(Warned, course.diagnosis(lesson).pictures(drawn))


def remarks(course: Course, lesson: Lesson, event: Event) -> Iterator[Warned]:
    """What to say after a step."""
    if isinstance(event, Step):
        yield from map(Warned, course.diagnosis(lesson).step(event))


def finish(course: Course, lesson: Lesson, shown: list[Photo], ended: list[Picture]) -> Finished:
    """Write the word's file, those of the weights, and its contact sheet, which shows the previews of the end."""
    folder, embedding = course.folder(lesson), lesson.embedding()
    files = lesson.method.save(lesson.learner.mean, lesson.word, embedding, folder)
    if embedding:
        files.insert(0, formats.save(embedding, folder / "word.safetensors"))
    sheet, side = folder / "sheet.png", aim(course.model, course.recipe)
    run.keep_image(previewing.sheet(course.recipe, lesson, shown, side, ended, folder), sheet)
    reason = lesson.done or "stopped"
    seconds = time.monotonic() - course.began
    return Finished(
        lesson.word, embedding, files[0], sheet, lesson.step, reason, seconds, lesson.facts(), tuple(files[1:])
    )


def prove(course: Course, files: list[Path], after: dict[str, dict[str, str]]) -> None:
    """Write down the base's hashes before and after, for `verify`."""
    proof = {
        "base": course.model.name,  # of a hub's model with the commit, which the recipe need not name
        "precision": course.model.machine.precision,
        "quantised": course.model.machine.quantised,
        "half_weights": course.model.machine.limits.half_weights,
        "before": course.before,
        "after": after,
        "words": [str(file.relative_to(course.out)) for file in files if file.stem == "word"],
    }
    run.write_whole(course.out / "base.json", json.dumps(proof).encode())
