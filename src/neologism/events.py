"""What a run tells while it goes on: frozen facts, in the order they happen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from neologism.embedding import Embedding


@dataclass(frozen=True)
class Opened:
    """The base model is open: which, where it computes, and why so."""

    base: str
    family: str
    device: str
    precision: str
    reason: str


@dataclass(frozen=True)
class Warned:
    """Something the user should know, in plain language; the run goes on."""

    text: str


@dataclass(frozen=True)
class Cached:
    """A word's pictures are encoded: how many were used, and how many were found encoded already."""

    word: str
    pictures: int
    found: int


@dataclass(frozen=True)
class Started:
    """Where a word's vectors start, in words."""

    word: str
    start: str
    step: int


@dataclass(frozen=True)
class Step:
    """One update of one word.

    `norm` is the mean length of its rows, `cosine` that to the start, `nearest` the known words most like it,
    `probe` the loss on fixed probes where this step was probed, and `seconds_left` an estimate.
    """

    word: str
    step: int
    steps: int
    loss: float
    rate: float
    gradient: float
    norm: float
    cosine: float
    nearest: tuple[str, ...]
    probe: float | None
    seconds_left: float


@dataclass(frozen=True)
class Checkpoint:
    """A word's state was kept on disk."""

    word: str
    step: int
    folder: Path


@dataclass(frozen=True)
class Picture:
    """A preview: what the word draws at a step. The image is also at `path` once written."""

    word: str
    step: int
    prompt: str
    seed: int
    image: Image.Image
    path: Path | None = None


@dataclass(frozen=True)
class Finished:
    """A word is learned: the file, the contact sheet, why it stopped, and what it cost.

    `embedding` is None where the method learns no vectors; `more` are the files of what learned beside them.
    """

    word: str
    embedding: Embedding | None
    file: Path
    sheet: Path | None
    step: int
    reason: str
    seconds: float
    facts: Mapping[str, str]
    more: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Failed:
    """A word could not be learned, and why; other words of the run go on. `code` is the exit code of its error."""

    word: str
    reason: str
    code: int


Event = Opened | Warned | Cached | Started | Step | Checkpoint | Picture | Finished | Failed
