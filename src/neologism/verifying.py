"""The proof that teaching a word changed nothing else: every tensor's hash, and pictures bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neologism.cookbook import read
from neologism.device import Limits
from neologism.errors import RunError
from neologism.families import Model, open_model
from neologism.formats import load
from neologism.generation import generate
from neologism.latents import tensor_hashes

PROMPTS = ("a cat", "a house on a blue background", "a small red car", "a photo of a flower")
Hashes = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Verdict:
    """What was compared, and what differs: nothing, where the base is untouched."""

    tensors: int
    pictures: int
    words: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def untouched(self) -> bool:
        """Whether nothing differs."""
        return not self.changed


def hashes(model: Model) -> dict[str, dict[str, str]]:
    """The sha256 of every tensor of the base, by network and name."""
    return {name: tensor_hashes(part) for name, part in model.parts().items()}


def differences(before: Hashes, after: Hashes, when: str) -> list[str]:
    """The names of tensors that differ, in sentences."""
    names = sorted({(part, name) for side in (before, after) for part, tensors in side.items() for name in tensors})
    return [
        f"{part}.{name} {when}"
        for part, name in names
        if before.get(part, {}).get(name) != after.get(part, {}).get(name)
    ]


def verify(run: Path) -> Verdict:
    """Compare a finished run's base before and after training and as it is on disk now, and pictures without the word.

    Raises:
        RunError: the folder holds no finished run.
    """
    try:
        proof = json.loads((run / "base.json").read_text("utf-8"))
        before, after, files = proof["before"], proof["after"], proof["words"]
        precision, base = str(proof.get("precision", "fp32")), proof.get("base")
        quantised, limits = str(proof.get("quantised", "none")), Limits(half_weights=bool(proof.get("half_weights")))
    except (OSError, ValueError, KeyError):
        raise RunError(
            f"{run} holds no finished run (base.json is missing or not whole). Finish it by typing its train command again."
        ) from None
    model = open_model(
        str(base or read(run / "recipe.toml")["base"]), precision=precision, quantised=quantised, limits=limits
    )
    now = hashes(model)
    changed = differences(before, after, "changed while training") + differences(
        before, now, "differs on disk from what was trained on"
    )
    words = [load(run / file) for file in files]
    plain, learned, again = (generate(model, PROMPTS, some, steps=10) for some in ((), words, ()))
    for prompt, one, two, three in zip(PROMPTS, plain, learned, again, strict=True):
        if not one.tobytes() == two.tobytes() == three.tobytes():
            changed.append(f"the picture of {prompt!r} differs once the word is known")
    tensors = sum(len(part) for part in now.values())
    return Verdict(tensors, len(PROMPTS), tuple(word.word for word in words), tuple(changed))
