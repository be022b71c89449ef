"""A run's numbers and previews for TensorBoard."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from neologism.errors import RecipeError
from neologism.events import Event, Finished, Picture, Step

NUMBERS = ("loss", "rate", "gradient", "norm", "cosine", "probe")


class Tracker:
    """Writes events where a tracker reads them."""

    def __init__(self, writer: Any = None):
        self.writer = writer

    def tell(self, event: Event) -> None:
        """Write what a tracker can show of an event."""
        if self.writer is None:
            return
        if isinstance(event, Step):
            for name in NUMBERS:
                value = getattr(event, name)
                if value is not None:
                    self.writer.add_scalar(f"{event.word}/{name}", value, event.step)
        elif isinstance(event, Picture):
            pixels = np.asarray(event.image.convert("RGB"))
            self.writer.add_image(f"{event.word}/{event.prompt}", pixels, event.step, dataformats="HWC")
        elif isinstance(event, Finished):
            self.writer.add_text(f"{event.word}/end", event.reason, event.step)
            self.writer.flush()


@contextlib.contextmanager
def tracked(kind: str, folder: Path) -> Generator[Tracker]:
    """A tracker until the block ends: "tensorboard" writes into FOLDER/tracking, "none" nothing.

    Raises:
        RecipeError: what it needs is not installed.
    """
    if kind == "none":
        yield Tracker()
        return
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        raise RecipeError(
            "tracker: found tensorboard, which is not installed. Type pip install 'neologism[tracking]', or leave --tracker out."
        ) from None
    writer: Any = SummaryWriter(str(folder / "tracking"))  # pyright: ignore[reportUnknownVariableType]
    try:
        yield Tracker(writer)
    finally:
        writer.close()
