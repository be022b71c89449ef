"""The run folder: recipe, events, checkpoints that survive a crash at any moment, and the lock that keeps two runs apart."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save

from neologism.cookbook import read, written
from neologism.errors import RunError
from neologism.events import Event, Picture, Step, Warned
from neologism.lessons import Lesson
from neologism.recipe import Recipe
from neologism.recipe import recipe as made

KEPT = 3  # checkpoints a word keeps
BESIDE = (
    "tracker",
    "preview_every",
)  # settings that a run may change on its way: what is learned does not depend on them


def slug(word: str) -> str:
    """A word as a file name: "<my-mug>" is my-mug."""
    plain = re.sub(r"[^\w.-]+", "-", word.strip("<>")).strip("-.").lower()
    return plain or hashlib.sha256(word.encode()).hexdigest()[:12]


@contextlib.contextmanager
def opened(folder: Path, recipe: Recipe) -> Generator[None]:
    """Hold the run folder of this recipe until the block ends.

    Raises:
        RunError: it belongs to another recipe, is in use, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise RunError(
            f"The run folder {folder} cannot be written: {error.strerror}. Give --out a folder you may write to."
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"Another run is working in {folder}. Wait for it, or give --out another folder.") from None
        claim(folder, recipe)
        yield


def claim(folder: Path, recipe: Recipe) -> None:
    """Write the recipe into a new folder, or find the same one in an old folder."""
    file = folder / "recipe.toml"
    if file.exists():
        earlier = made(**read(file)).model_dump(by_alias=True)  # settings it did not know yet are at their defaults
        now = recipe.model_dump(by_alias=True)
        changed = sorted(name for name in now if now[name] != earlier[name] and name not in BESIDE)
        if changed:
            raise RunError(
                f"The run folder {folder} holds a run with other settings ({', '.join(changed)}). "
                "Type the same command to go on with that run, or give --out another folder."
            )
    write_whole(file, written(recipe).encode())


def check_base(folder: Path, name: str) -> None:
    """Refuse to go on with a run on another version of its base, as a hub's model may have become since.

    Raises:
        RunError: the run began on another.
    """
    file = folder / "events.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    began = next((event["base"] for line in lines if (event := parsed(line)).get("event") == "Opened"), name)
    if began != name:
        raise RunError(
            f"The run in {folder} began on {began}, and the base is now {name}. "
            f"Give --out another folder, with --base {began} to learn on the same as before."
        )


def parsed(line: str) -> dict[str, Any]:
    """A line of events.jsonl; nothing where a crash cut it."""
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):
        return {}


def write_whole(file: Path, content: bytes) -> None:
    """Write a file so that it is either there whole or not at all, also after a power cut.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    partial = file.with_name(file.name + ".partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, file)
        sync(file.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise RunError(
            f"{file} could not be written: {error.strerror}. "
            "Free some space or give --out another folder, then type the same command again."
        ) from None


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def word_folder(out: Path, word: str, alone: bool) -> Path:
    """Where a word's checkpoints, pictures and file go: the run folder itself where it is the only word."""
    return out if alone else out / slug(word)


def checkpoint(folder: Path, lesson: Lesson) -> Path:
    """Keep a lesson's last good state: a partial folder, renamed when whole and read back; then old ones are pruned."""
    state = lesson.good
    place = folder / "checkpoints" / f"{state['numbers']['step']:06d}"
    partial = place.with_name(place.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    tensors = save(state["tensors"])
    manifest = {"word": lesson.word, "numbers": state["numbers"], "sha256": hashlib.sha256(tensors).hexdigest()}
    write_whole(partial / "state.safetensors", tensors)
    write_whole(partial / "MANIFEST.json", json.dumps(manifest).encode())
    shutil.rmtree(place, ignore_errors=True)
    os.replace(partial, place)
    sync(place.parent)
    if read_back(place) is None:
        raise RunError(
            f"The checkpoint {place} does not read back as written: the disk may be failing. "
            "Give --out a folder on another disk."
        )
    best = best_folder(folder)
    for old in whole_folders(folder)[:-KEPT]:
        if old != best:
            shutil.rmtree(old, ignore_errors=True)
    return place


def best_folder(folder: Path) -> Path | None:
    """The checkpoint of the lowest loss on the fixed probes, by the last probe before each; None without any probe."""
    found: list[tuple[float, Path]] = []
    for place in whole_folders(folder):
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            probes = json.loads((place / "MANIFEST.json").read_text("utf-8"))["numbers"]["probes"]
            found.append((float(probes[-1]), place))
    return min(found)[1] if found else None


def whole_folders(folder: Path) -> list[Path]:
    """A word's checkpoint folders, oldest first, partial ones left out."""
    return sorted(path for path in (folder / "checkpoints").glob("[0-9]*") if path.name.isdigit())


def read_back(place: Path) -> dict[str, Any] | None:
    """The state in a checkpoint folder, or None where it is damaged."""
    try:
        manifest = json.loads((place / "MANIFEST.json").read_text("utf-8"))
        content = (place / "state.safetensors").read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
            return None
        return {"tensors": load(content), "numbers": manifest["numbers"], "word": manifest["word"]}
    except (OSError, ValueError, KeyError, SafetensorError):
        return None


def newest(folder: Path) -> tuple[dict[str, Any] | None, list[Warned]]:
    """The newest state that reads back, and a warning for each that does not."""
    warnings: list[Warned] = []
    for place in reversed(whole_folders(folder)):
        state = read_back(place)
        if state is not None:
            return state, warnings
        warnings.append(Warned(f"The checkpoint {place} is damaged; going on from the one before it."))
    return None, warnings


def as_json(event: Event) -> dict[str, Any] | None:
    """An event as a line of events.jsonl; pictures are files of their own, embeddings too."""
    if isinstance(event, Picture) and event.path is None:
        return None
    values = {
        name: getattr(event, name)
        for name in (f.name for f in dataclasses.fields(event))
        if name not in ("image", "embedding")
    }
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    return {"event": type(event).__name__, **plain}


class Journal:
    """events.jsonl: one line for each event; on going on, steps behind the checkpoint are dropped."""

    def __init__(self, folder: Path, steps: dict[str, int]):
        self.file = folder / "events.jsonl"
        if self.file.exists():
            lines = self.file.read_text("utf-8").splitlines()
            write_whole(self.file, "".join(line + "\n" for line in lines if happened(line, steps)).encode())

    def tell(self, event: Event) -> None:
        """Append an event."""
        line = as_json(event)
        if line is None:
            return
        try:
            with open(self.file, "a", encoding="utf-8") as out:
                out.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        except OSError as error:
            raise RunError(
                f"{self.file} could not be written: {error.strerror}. Free some space, then type the same command again."
            ) from None


def happened(line: str, steps: dict[str, int]) -> bool:
    """Whether a line is whole and not behind the step its word goes on from."""
    try:
        event = json.loads(line)
    except ValueError:
        return False
    return event.get("event") != Step.__name__ or event["step"] <= steps.get(event["word"], 0)


def keep_picture(folder: Path, event: Picture) -> Picture:
    """Write a preview into the word's pictures folder; the event with its path."""
    file = picture_file(folder, event)
    keep_image(event.image, file)
    return dataclasses.replace(event, path=file)


def picture_file(folder: Path, event: Picture) -> Path:
    """Where a preview is kept; long prompts that begin alike do not share a file."""
    name = slug(event.prompt)
    short = name if len(name) <= 40 else f"{name[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return folder / "pictures" / f"{event.step:06d}-{short}-{event.seed}.png"


def keep_image(image: Image.Image, file: Path) -> None:
    """Write an image so that it is there whole or not at all."""
    from io import BytesIO

    content = BytesIO()
    image.save(content, "PNG")
    write_whole(file, content.getvalue())


def image_at(file: Path) -> Image.Image:
    """A picture in memory."""
    with Image.open(file) as image:
        return image.convert("RGB")
