"""Where a word looks: the prompt as tokens with their vectors, and the word's cross-attention over the picture that is drawn."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neologism import run
from neologism.contact import contact_sheet
from neologism.embedding import Embedding
from neologism.errors import ModelError, WordError
from neologism.families import Model
from neologism.families.model import Encoder
from neologism.saliency import subject
from neologism.vocabulary import taught

CELL = 192
PHASES = ("early", "middle", "late")
AWAY = 0.9
"""The word looks away where its mean attention on the subject is below this multiple of that on the ground."""


@dataclass(frozen=True)
class Token:
    """A token of the prompt: how it is written, the length of its vector, and whether it is a learned one."""

    written: str
    norm: float
    learned: bool


@dataclass(frozen=True)
class Looks:
    """What a word looks at.

    Attributes:
        tokens: of the prompt, for each encoder by its key.
        image: the picture that was drawn.
        levels: the word's attention by the side of the feature map, [side, side] each, float32, sums of 1.
        phases: the same by part of the sampling ("early", "middle", "late"), at the largest side.
        lift: mean attention on the subject over that on the ground, or None where the picture's ground is not plain.
        told: all this in plain language.
    """

    tokens: dict[str, list[Token]]
    image: Image.Image
    levels: dict[int, Tensor]
    phases: dict[str, Tensor]
    lift: float | None
    told: str


@dataclass
class Seen:
    """Attention to the word's tokens as it happens: a list of maps for every side, in the order of the steps."""

    positions: list[int]
    maps: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def note(self, layer: Any, queries: Tensor, keys: Tensor) -> None:
        """Add one layer's attention at one step: softmax(q k^T / sqrt(d)) at the word's tokens, the mean of all heads."""
        heads = int(layer.heads)
        q, k = (rows[-1].float().view(rows.shape[1], heads, -1).transpose(0, 1) for rows in (queries, keys))
        share = (q @ k.transpose(1, 2) * float(layer.scale)).softmax(-1)[:, :, self.positions].sum(-1).mean(0)
        side = round(len(share) ** 0.5)
        if side * side == len(share):
            self.maps[side].append(share.view(side, side).cpu())


@contextlib.contextmanager
def watched(model: Model, seen: Seen) -> Generator[None]:
    """Note the cross-attention of the denoiser until the block ends; nothing of what is drawn changes.

    Raises:
        ModelError: the denoiser has no cross-attention of its own.
    """
    unet = getattr(model.pipe, "unet", None)
    if unet is None:
        raise ModelError(
            f"{model.name} ({model.family}) mixes text and picture in one attention, and where a word looks cannot be told from it. "
            "Use explain with a Stable Diffusion 1, 2 or XL."
        )
    hooks: list[Any] = []
    for name, layer in unet.named_modules():
        if name.endswith("attn2"):
            asked: dict[str, Tensor] = {}
            hooks.append(layer.to_q.register_forward_hook(lambda _, __, out, kept=asked: kept.update(q=out.detach())))
            hooks.append(
                layer.to_k.register_forward_hook(
                    lambda _, __, out, kept=asked, of=layer: seen.note(of, kept["q"], out.detach())
                )
            )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def explain(
    model: Model,
    prompt: str,
    words: Sequence[Embedding],
    word: str,
    seed: int = 0,
    steps: int = 20,
    guidance: float = 5.0,
) -> Looks:
    """Draw a prompt and see where a word in it looks.

    Raises:
        WordError: the word is not in the prompt. ModelError: the family has no cross-attention.
    """
    with taught(model, words):
        tokens = {encoder.key: told_tokens(encoder, prompt) for encoder in model.encoders}
        positions = places(model.encoders[0], prompt, word)
        if not positions:
            raise WordError(f"{word} is not in the prompt {prompt!r}. Write it there, or name one that is by --of.")
        seen = Seen(positions)
        with watched(model, seen):
            image: Image.Image = model.draw([prompt], [""], [seed], steps, guidance)[0]
    levels = {side: shares(maps) for side, maps in sorted(seen.maps.items())}
    largest = max(seen.maps)
    phases = {name: shares(part) for name, part in zip(PHASES, thirds(seen.maps[largest]), strict=True) if part}
    mask = subject(image)
    lift = None if mask is None else lifted(levels[largest], mask)
    return Looks(tokens, image, levels, phases, lift, in_words(word, lift, tokens))


def shares(maps: Sequence[Tensor]) -> Tensor:
    """The mean of maps, as shares of its sum."""
    mean = torch.stack(list(maps)).mean(0)
    return mean / mean.sum()


def thirds(maps: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """The maps in three parts, in their order."""
    cuts = [round(len(maps) * part / 3) for part in range(4)]
    return [maps[a:b] for a, b in pairwise(cuts)]


def places(encoder: Encoder, prompt: str, word: str) -> list[int]:
    """Where the tokens of a word stand in the framed prompt: those of a learned word, or the pieces of a known one."""
    ids, own = encoder.framed(prompt), list(encoder.taught.get(word.lower(), ()) or encoder.pieces(word))
    found = [start for start in range(len(ids) - len(own) + 1) if own and ids[start : start + len(own)] == own]
    return list(range(found[0], found[0] + len(own))) if found else []


def told_tokens(encoder: Encoder, prompt: str) -> list[Token]:
    """The prompt's tokens, start, end and padding left out."""
    names = {i: word for word, ids in encoder.taught.items() for i in ids}
    ids = torch.tensor(encoder.tokens(prompt))
    rows = encoder.table(ids.to(next(encoder.module.parameters()).device)).float().norm(dim=-1).tolist()
    written = [names.get(i) or str(encoder.tokenizer.convert_ids_to_tokens(i)) for i in ids.tolist()]
    return [Token(text, norm, i in names) for text, norm, i in zip(written, rows, ids.tolist(), strict=True)]


def lifted(heat: Tensor, mask: Image.Image) -> float:
    """Mean attention inside a mask over that outside."""
    small = mask.resize((heat.shape[1], heat.shape[0]), Image.Resampling.BOX)
    inside = torch.from_numpy(np.asarray(small, np.float32) / 255)
    return float(((heat * inside).sum() / inside.sum()) / ((heat * (1 - inside)).sum() / (1 - inside).sum()))


def in_words(word: str, lift: float | None, tokens: dict[str, list[Token]]) -> str:
    """What was found, in plain language."""
    said: list[str] = []
    if lift is None:
        said.append("The picture's ground is not plain, so subject and ground were not told apart.")
    elif lift < AWAY:
        said.append(
            f"{word} looks at the background rather than at the thing: {lift:.2f} times as much attention on the subject as around it. "
            "It may have learned its pictures' surroundings: give pictures on various grounds, or with masks."
        )
    else:
        said.append(f"{word} looks at the thing: {lift:.2f} times as much attention on the subject as around it.")
    for some in tokens.values():
        own, others = ([t.norm for t in some if t.learned == which] for which in (True, False))
        if own and others:
            times = max(own) / (sum(others) / len(others))
            said.append(f"Its vectors are {times:.1f} times as long as those of the other tokens of the prompt.")
    return " ".join(said)


def overlaid(image: Image.Image, heat: Tensor) -> Image.Image:
    """A picture under its heat map: what is looked at stays bright and turns warm, the rest goes dark."""
    size = (CELL, CELL)
    scaled = (heat - heat.min()) / (heat.max() - heat.min()).clamp_min(1e-12)
    wide = Image.fromarray((scaled.numpy() * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    share = np.asarray(wide, np.float32)[..., None] / 255
    plain = np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), np.float32)
    warm = np.array([255, 120, 0], np.float32)
    mixed = plain * (0.25 + 0.75 * share) * (1 - 0.35 * share) + warm * 0.35 * share
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def sheet(looks: Looks, prompt: str) -> Image.Image:
    """The picture, then the word's attention by level and by time."""
    levels = [overlaid(looks.image, heat) for heat in looks.levels.values()]
    sides = ", ".join(f"{side} x {side}" for side in looks.levels)
    rows = [
        (prompt, [looks.image.resize((CELL, CELL), Image.Resampling.LANCZOS)]),
        (f"by level: {sides}", levels),
        (f"by time: {', '.join(looks.phases)}", [overlaid(looks.image, heat) for heat in looks.phases.values()]),
    ]
    return contact_sheet(rows, CELL)


def kept(looks: Looks, prompt: str, word: str, folder: Path) -> Path:
    """Write explained.png and explained.json, which the report of a run shows."""
    run.keep_image(sheet(looks, prompt), folder / "explained.png")
    facts = {
        "prompt": prompt,
        "word": word,
        "told": looks.told,
        "lift": looks.lift,
        "tokens": {key: [vars(token) for token in tokens] for key, tokens in looks.tokens.items()},
    }
    run.write_whole(folder / "explained.json", json.dumps(facts, ensure_ascii=False).encode())
    return folder / "explained.png"
