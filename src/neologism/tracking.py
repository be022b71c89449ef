"""A run's numbers and previews for TensorBoard, or for any other tracker that accelerate knows and that is installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from neologism import run
from neologism.errors import RecipeError
from neologism.events import Event, Finished, Picture, Step, Warned
from neologism.recipe import Recipe

NUMBERS = ("loss", "rate", "gradient", "norm", "cosine", "probe")
PROJECT = "neologism"
PACKAGES = {"comet_ml": "comet-ml"}
"""What to install for a tracker, where that is not its name."""


class Writer(Protocol):
    """Where a tracker keeps things."""

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Keep numbers of a step."""
        ...

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """Keep a picture of a step."""
        ...

    def close(self) -> None:
        """Write what is not written yet."""
        ...


class TensorBoard:
    """Event files in a folder."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard.writer import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder))  # pyright: ignore[reportUnknownVariableType]

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Each as a scalar."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """A picture."""
        self.writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


class Accelerates:
    """A tracker by accelerate, which knows how each wants to be told."""

    def __init__(self, kind: str, folder: Path, settings: Mapping[str, Any]):
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # accelerate's trackers ask it whether this is the main process
        made: Any = LOGGER_TYPE_TO_CLASS[kind]
        self.tracker = made(PROJECT, str(folder)) if made.requires_logging_directory else made(PROJECT)
        self.tracker.start()
        self.tracker.store_init_configuration(dict(settings))

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """All in one."""
        self.tracker.log({plain(name): value for name, value in values.items()}, step=step)

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """A picture, where the tracker takes any."""
        if hasattr(self.tracker, "log_images"):
            self.tracker.log_images({plain(name): [np.asarray(image.convert("RGB"))]}, step=step)

    def close(self) -> None:
        """Have it send and write everything."""
        self.tracker.finish()


class Tracker:
    """Tells a writer what can be shown of a run; a writer that fails is dropped, and the run goes on."""

    def __init__(self, kind: str = "none", writer: Writer | None = None):
        self.kind, self.writer = kind, writer

    def tell(self, event: Event) -> str | None:
        """Write what a tracker can show of an event; a sentence where that failed."""
        try:
            self.write(event)
        except Exception as error:
            writer, self.writer = self.writer, None
            with contextlib.suppress(Exception):
                writer.close()  # type: ignore[union-attr]
            failed = f"The tracker {self.kind} failed and is told nothing more: {reason(error)}."
            return f"{failed} The run goes on; its own files have everything."
        return None

    def write(self, event: Event) -> None:
        """Write what can be shown of an event."""
        if self.writer is None:
            return
        if isinstance(event, Step):
            found = {name: getattr(event, name) for name in NUMBERS}
            told = {f"{event.word}/{name}": float(value) for name, value in found.items() if value is not None}
            self.writer.numbers(told, event.step)
        elif isinstance(event, Picture):
            self.writer.picture(f"{event.word}/{event.prompt}", event.image, event.step)
        elif isinstance(event, Finished):
            self.writer.numbers({f"{event.word}/seconds": event.seconds}, event.step)


def followed(events: Iterator[Event], recipe: Recipe, folder: Path) -> Iterator[Event]:
    """The events of a run, told to the recipe's tracker as well: "tensorboard" writes into FOLDER/tracking, others where they do.

    Raises:
        RecipeError: what the tracker needs is not installed, or it does not begin, such as without a login.
    """
    kind = recipe.tracker
    tracker = Tracker(kind, None if kind == "none" else begun(kind, folder / "tracking", shareable(recipe)))
    try:
        for event in events:
            failed = tracker.tell(event)
            yield event
            if failed:
                yield Warned(failed)
    finally:
        if tracker.writer is not None:
            tracker.writer.close()


def shareable(recipe: Recipe) -> dict[str, str | int | float | bool]:
    """Settings for others to see, by name: of files and folders only the last part, for where they lie is nobody's business."""
    told = recipe.model_dump(mode="json")
    told |= {name: [Path(one).name for one in told[name]] for name in ("pictures", "start_from")}
    told |= {name: Path(told[name]).name for name in ("base", "features") if Path(told[name]).exists()}
    return {name: value if isinstance(value, int | float | bool) else str(value) for name, value in told.items()}


def begun(kind: str, folder: Path, settings: Mapping[str, Any]) -> Writer:
    """A tracker's writer."""
    try:
        return TensorBoard(folder) if kind == "tensorboard" else Accelerates(kind, folder, settings)
    except ImportError:
        package = "'neologism[tracking]'" if kind == "tensorboard" else PACKAGES.get(kind, kind)
        raise RecipeError(
            f"tracker: found {kind}, which is not installed. Type pip install {package}, or leave --tracker out."
        ) from None
    except Exception as error:
        raise RecipeError(
            f"tracker: {kind} does not begin: {reason(error)}. Log in as its own documentation says, or leave --tracker out."
        ) from None


def plain(name: str) -> str:
    """A name of letters, digits, dashes and slashes: MLflow takes nothing else, and others make folders of it."""
    return "/".join(run.slug(part) for part in name.split("/", 1))


def reason(error: Exception) -> str:
    """What an error says, to stand within a sentence."""
    return str(error).strip().rstrip(".")
