"""What there is to score: a run's words or a word's file, the photos it learned from and those it did not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neologism import formats, photos, run, scoring
from neologism.errors import PhotosError, RunError
from neologism.families import open_model
from neologism.history import WEIGHTS, Story, history
from neologism.metrics import Shown, networks
from neologism.photos import Photo, opened
from neologism.recipe import recipe
from neologism.scoring import Scored, Subject

RANDOM = "small random numbers"


@dataclass(frozen=True)
class Source:
    """A word to score: its subject, its base, and the folder where its score goes (None for a bare file)."""

    subject: Subject
    base: str
    folder: Path | None


def sources(source: Path, folder: Path | None, base: str | None = None) -> list[Source]:
    """The words of a run, or the word of a file, with the photos in a folder (for a run also its own, and those held out).

    Photos that a run learned from count as such wherever they lie, by content.

    Raises:
        NeologismError: there is no run and no word there, or there are no photos to compare with.
    """
    if source.is_dir():
        told = history(source)
        learned = recipe(**told.recipe)
        return [of_story(story, folder, learned.hold_out, base or learned.base, source) for story in told.stories]
    word = formats.load(source)
    if folder is None:
        raise PhotosError(
            f"{source} is a word's file, which does not hold its pictures. Give --photos a folder of some."
        )
    start = known(word.facts.get("start", ""))
    subject = Subject(word.word, [word], None, start, [], [shown(one) for one in photos.gather(folder).photos])
    return [Source(subject, base or word.base or "emoji", None)]


def of_story(story: Story, folder: Path | None, hold_out: str, base: str, out: Path) -> Source:
    """A word of a run."""
    if story.finished is None:
        raise RunError(
            f"{out} holds a run that is not finished. Finish it by typing its train command again, then score it."
        )
    file, weights = (
        story.folder / "word.safetensors",
        next((f for n in WEIGHTS if (f := story.folder / n).is_file()), None),
    )
    words = [formats.load(file)] if file.is_file() else []
    given, unseen = own_photos(story, hold_out)
    if folder is not None:
        seen = {photo.sha256 for photo in given}
        unseen = [photo for photo in photos.gather(folder).photos if photo.sha256 not in seen]
    if not given and not unseen:
        raise PhotosError(
            f"The pictures of {story.word} are no longer at {story.source}. Give --photos a folder of some."
        )
    subject = Subject(story.word, words, weights, known(story.start), [*map(shown, given)], [*map(shown, unseen)])
    return Source(subject, base, story.folder)


def own_photos(story: Story, hold_out: str) -> tuple[Sequence[Photo], Sequence[Photo]]:
    """The photos a word learned from and those held out, as far as they are still there."""
    try:
        found, unseen = photos.parted(photos.gather(Path(story.source)), hold_out)
    except PhotosError:
        return [], []
    return found.photos, unseen


def known(start: str) -> str:
    """The start as a known word, "" where it was none."""
    return "" if start.startswith(RANDOM) else start


def shown(photo: Photo) -> Shown:
    """A photo with its mask."""
    return Shown(*opened(photo))


def score(
    source: Path | str, photos: Path | str | None = None, metrics: str = "auto", prompts: Sequence[str] = scoring.SCENES,
    seeds: int = scoring.SEEDS, steps: int = scoring.STEPS, base: str | None = None, device: str = "auto",
    tell: Callable[[Scored], None] | None = None,
) -> list[Scored]:  # fmt: skip
    """Score the words of a finished run, or the word of a file: as `neologism score` does.

    Args:
        source: a run's folder, or a word's file. photos: a folder to compare with; a run knows its own.
        metrics: folders or hub ids of networks, separated by commas, or "auto". prompts: scenes, {} for the word.
        seeds: pictures of every prompt. steps: of sampling. base, device: as for `open_model`.
        tell: is told of each word as soon as it is scored. A run's words also get a score.json.

    Raises:
        NeologismError: there is nothing to score or to compare with, or a network cannot be opened.
    """
    found = sources(Path(source), None if photos is None else Path(photos), base)
    seeing, model = networks(metrics, found[0].base), open_model(found[0].base, device, "fp32")
    scored: list[Scored] = []
    for one in found:
        scored.append(scoring.score(model, one.subject, seeing, range(seeds), prompts, steps))
        if tell:
            tell(scored[-1])
        if one.folder is not None:
            run.write_whole(one.folder / "score.json", json.dumps(scored[-1].as_dict(), ensure_ascii=False).encode())
    return scored


def photos_of(word: str, folders: Sequence[Path], named: Path | None) -> Sequence[Photo]:
    """The photos in a folder, or where none is named those that the run in one of the folders taught the word from.

    Raises:
        PhotosError: the named folder holds none.
    """
    if named is not None:
        return photos.gather(named).photos
    for folder in folders:
        run_folder = next((place for place in (folder, folder.parent) if (place / "recipe.toml").is_file()), None)
        told = history(run_folder) if run_folder else None
        for story in told.stories if told else ():
            if story.word.lower() == word.lower():
                return own_photos(story, "none")[0]
    return []


def prompts_in(file: Path) -> list[str]:
    """The prompts of a text file, one a line, {} standing for the word; blank lines and those that begin with # are left out.

    Raises:
        RunError: there is none, or a line has no place for the word.
    """
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise RunError(
            f"{file} cannot be read as text. Give --prompts a file with a prompt a line, {{}} for the word."
        ) from None
    found = [line for line in lines if line and not line.startswith("#")]
    if not found or any("{}" not in line for line in found):
        bad = next((line for line in found if "{}" not in line), "no line")
        raise RunError(f"{file}: found {bad!r}; every line needs {{}} where the word goes. Mend it.")
    return found
