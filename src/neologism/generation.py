"""Pictures of prompts with learned words in them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from neologism.device import enough_memory
from neologism.embedding import Embedding
from neologism.errors import WordError
from neologism.families import Model, open_model
from neologism.formats import load
from neologism.methods.choosing import applied
from neologism.vocabulary import taught

AT_ONCE = 8  # pictures a pass, so that many prompts do not need much memory


def untaught(prompt: str, words: Sequence[Embedding]) -> list[str]:
    """What stands in angle brackets in a prompt and is none of the words: most likely a word whose file was forgotten."""
    known = {word.word.lower() for word in words}
    return [found for found in re.findall(r"<[^<>\s]+>", prompt) if found.lower() not in known]


def generate(
    model: Model | str,
    prompts: Sequence[str] | str,
    words: Sequence[Embedding | str | Path] = (),
    seeds: Sequence[int] = (0,),
    steps: int = 25,
    guidance: float = 5.0,
    negative: str = "",
    weights: Path | Sequence[Path] | None = None,
    size: tuple[int, int] | None = None,
) -> list[Image.Image]:
    """One picture for every prompt and seed, prompt by prompt; each has its own generator, so it depends on no other.

    `weights` are files that the methods dreambooth, lora or embedding wrote. `size` is width and height in pixels, the base's own
    square where not given.

    Raises:
        WordError: a prompt is too long, or steps, guidance or size make no picture.
        DeviceError: memory falls short.
    """
    if steps < 1 or guidance < 0:
        raise WordError(
            f"Found {steps} steps and guidance {guidance}; at least 1 step and a guidance of 0 or more are allowed."
        )
    opened = open_model(model) if isinstance(model, str) else model
    check_size(opened, size)
    asked = [prompts] if isinstance(prompts, str) else list(prompts)
    embeddings = [word if isinstance(word, Embedding) else load(word) for word in words]
    wanted = [(prompt, seed) for prompt in asked for seed in seeds]
    drawn: list[Image.Image] = []
    most = min(AT_ONCE, opened.machine.limits.at_once or AT_ONCE)
    files = [weights] if isinstance(weights, Path) else list(weights or ())
    with contextlib.ExitStack() as undo:
        for file in files:
            undo.enter_context(applied(opened, file))
        undo.enter_context(taught(opened, embeddings))
        undo.enter_context(enough_memory(opened.machine.device))
        for first in range(0, len(wanted), most):
            told, chosen = zip(*wanted[first : first + most], strict=True)
            drawn += opened.draw(told, [negative] * len(told), chosen, steps, guidance, size)
    return drawn


def check_size(model: Model, size: tuple[int, int] | None) -> None:
    """Refuse a width and height that the model cannot draw."""
    step, longest = model.multiple, model.longest
    if size is None or (
        all(side >= step and side % step == 0 for side in size) and max(size) <= (longest or max(size))
    ):
        return
    most = f" and at most {longest}" if longest else ""
    near = "x".join(str(min(max(step, round(side / step) * step), longest or 1 << 30)) for side in size)
    raise WordError(
        f"size: found {size[0]}x{size[1]}; sides that are multiples of {step} pixels{most} are allowed, such as {near}."
    )
