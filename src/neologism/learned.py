"""What there is to score: a run's words or a word's file, the photos it learned from and those it did not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from neologism import formats, photos, run
from neologism.errors import PhotosError, RunError
from neologism.families import Model
from neologism.history import Story, history
from neologism.metrics import Network, Shown
from neologism.photos import Photo, opened
from neologism.recipe import recipe
from neologism.scoring import Scored, Subject, score

WEIGHTS = ("lora.safetensors", "difference.safetensors")
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


def image_at(file: Path) -> Image.Image:
    """A picture in memory."""
    with Image.open(file) as image:
        return image.convert("RGB")


def score_all(
    found: Sequence[Source], model: Model, networks: Sequence[Network], seeds: Sequence[int], prompts: Sequence[str], steps: int,
    tell: Callable[[Scored], None],
) -> list[Scored]:  # fmt: skip
    """Score the words, tell each at once, and write score.json into its folder, where it has one."""
    scored: list[Scored] = []
    for one in found:
        scored.append(score(model, one.subject, networks, seeds, prompts, steps))
        tell(scored[-1])
        if one.folder is not None:
            run.write_whole(one.folder / "score.json", json.dumps(scored[-1].as_dict(), ensure_ascii=False).encode())
    return scored


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
