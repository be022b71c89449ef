"""What a run folder tells of each of its words: the journal of events, read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neologism.cookbook import read
from neologism.errors import RunError
from neologism.run import word_folder

Line = dict[str, Any]


WEIGHTS = ("lora.safetensors", "difference.safetensors", "tuned.safetensors")
"""Files of learned weights, as `generate --weights` reads them."""


@dataclass(frozen=True)
class Drawn:
    """A preview that is on disk: the prompt, its seed, the step it was drawn at, and its file."""

    prompt: str
    seed: int
    step: int
    path: Path


@dataclass(frozen=True)
class Story:
    """What a run told of one word, in the order of its steps.

    `folder` is where the word's own files are, `start` what its vectors began from in words, `pictures` how many it learned
    from, `finished` the line of its end or None, and `source` the folder of its pictures as the recipe has it.
    """

    word: str
    folder: Path
    source: str
    start: str = ""
    pictures: int = 0
    steps: Sequence[Line] = ()
    drawn: Sequence[Drawn] = ()
    checkpoints: Sequence[int] = ()
    finished: Line | None = None

    @property
    def newest(self) -> list[Drawn]:
        """The newest preview of each of the word's prompts."""
        return list({(one.prompt, one.seed): one for one in self.drawn if self.word in one.prompt}.values())


@dataclass(frozen=True)
class History:
    """What a run told: its recipe as it was given, the base as it was opened, the notes, and each word's story."""

    folder: Path
    recipe: Line
    opened: Line = field(default_factory=dict[str, Any])
    notes: Sequence[str] = ()
    stories: Sequence[Story] = ()


def history(folder: Path) -> History:
    """What the run in a folder told so far.

    Raises:
        RunError: the folder holds no run.
    """
    if not (folder / "recipe.toml").is_file():
        raise RunError(
            f"{folder} holds no run (there is no recipe.toml in it). Give the folder that `neologism train` wrote, "
            "such as words/my-mug."
        )
    recipe = read(folder / "recipe.toml")
    lines = journal(folder / "events.jsonl")
    words, sources = list(recipe.get("words", [])), list(recipe.get("pictures", []))
    stories = [
        story(folder, word, source, [line for line in lines if line.get("word") == word], len(words) == 1)
        for word, source in zip(words, sources, strict=False)
    ]
    opened = next((line for line in reversed(lines) if line["event"] == "Opened"), {})
    notes = list(dict.fromkeys(str(line["text"]) for line in lines if line["event"] == "Warned"))
    return History(folder, recipe, opened, notes, stories)


def journal(file: Path) -> list[Line]:
    """The events that were written whole; a line that a crash cut is left out."""
    found: list[Line] = []
    for text in file.read_text("utf-8").splitlines() if file.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and "event" in line:
            found.append(line)
    return found


def story(folder: Path, word: str, source: str, lines: Sequence[Line], alone: bool) -> Story:
    """What the lines tell of one word; of what was told twice, the later holds."""
    own = word_folder(folder, word, alone)
    steps = {int(line["step"]): line for line in lines if line["event"] == "Step"}
    ended = [line for line in lines if line["event"] == "Finished"]
    cached = [line for line in lines if line["event"] == "Cached"]
    started = [line for line in lines if line["event"] == "Started"]
    return Story(
        word,
        own,
        source,
        str(started[0]["start"]) if started else "",
        int(cached[-1]["pictures"]) if cached else 0,
        [steps[step] for step in sorted(steps)],
        previews(own, lines),
        sorted(int(line["step"]) for line in lines if line["event"] == "Checkpoint"),
        ended[-1] if ended else None,
    )


def previews(own: Path, lines: Sequence[Line]) -> list[Drawn]:
    """The previews whose files are there, by prompt and step; a folder that was moved keeps them."""
    found: dict[tuple[str, int, int], Drawn] = {}
    for line in lines:
        if line["event"] == "Picture":
            path = own / "pictures" / Path(str(line["path"])).name
            key = (str(line["prompt"]), int(line["seed"]), int(line["step"]))
            if path.is_file():
                found[key] = Drawn(*key, path)
    return sorted(found.values(), key=lambda one: one.step)
