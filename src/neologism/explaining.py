"""Where a word looks: the prompt as tokens with their vectors, and the word's attention over the picture that is drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neologism import run
from neologism.attending import Pointed, Seen, lifted, pointed, positions, shares, thirds, watched
from neologism.contact import contact_sheet
from neologism.embedding import Embedding
from neologism.errors import WordError
from neologism.families import Model
from neologism.families.model import Encoder
from neologism.photos import Photo
from neologism.saliency import subject
from neologism.vocabulary import taught

CELL = 192
PHASES = ("early", "middle", "late")
AWAY = 0.9
"""The word looks away where its mean attention on the subject is below this multiple of that on the ground."""
PHOTOS = 4
"""So many of the photos are looked at, at most."""


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
        photos: the word's attention on photos it learned from, where their subjects are known.
        told: all this in plain language.
    """

    tokens: dict[str, list[Token]]
    image: Image.Image
    levels: dict[int, Tensor]
    phases: dict[str, Tensor]
    lift: float | None
    photos: list[Pointed]
    told: str


def explain(
    model: Model,
    prompt: str,
    words: Sequence[Embedding],
    word: str,
    seed: int = 0,
    steps: int = 20,
    guidance: float = 5.0,
    photos: Sequence[Photo] = (),
) -> Looks:
    """Draw a prompt and see where a word in it looks; of some photos of the word, also where it looks in those, under noise.

    Raises:
        WordError: the word is not in the prompt.
    """
    with taught(model, words):
        tokens = {encoder.key: told_tokens(encoder, prompt) for encoder in model.encoders}
        found_at = positions(model, prompt, word)
        if not found_at:
            raise WordError(f"{word} is not in the prompt {prompt!r}. Write it there, or name one that is by --of.")
        seen = Seen(found_at)
        with watched(model, seen):
            image: Image.Image = model.draw([prompt], [""], [seed], steps, guidance)[0]
        seen_in = [pointed(model, photo, f"a {word}", word) for photo in photos[:PHOTOS]]
    levels = {side: shares(maps) for side, maps in sorted(seen.maps.items())}
    largest = max(seen.maps)
    phases = {name: shares(part) for name, part in zip(PHASES, thirds(seen.maps[largest]), strict=True) if part}
    mask = subject(image)
    lift = None if mask is None else lifted(levels[largest], mask)
    found = [one for one in seen_in if one]
    return Looks(tokens, image, levels, phases, lift, found, in_words(word, lift, tokens, found))


def told_tokens(encoder: Encoder, prompt: str) -> list[Token]:
    """The prompt's tokens, start, end and padding left out."""
    names = {i: word for word, ids in encoder.taught.items() for i in ids}
    ids = torch.tensor(encoder.tokens(prompt))
    rows = encoder.table(ids.to(next(encoder.module.parameters()).device)).float().norm(dim=-1).tolist()
    written = [names.get(i) or str(encoder.tokenizer.convert_ids_to_tokens(i)) for i in ids.tolist()]
    return [Token(text, norm, i in names) for text, norm, i in zip(written, rows, ids.tolist(), strict=True)]


def in_words(word: str, lift: float | None, tokens: dict[str, list[Token]], photos: Sequence[Pointed] = ()) -> str:
    """What was found, in plain language. Where photos tell their subjects they decide, for what is drawn may lie anywhere."""
    said = [in_photos(word, photos)] if photos else []
    if lift is None and not photos:
        said.append("The picture's ground is not plain, so subject and ground were not told apart.")
    elif lift is not None:
        where = "in the picture that was drawn" if photos else ""
        said.append(looking(word, lift, where) if not photos else f"It is {lift:.2f} times {where}.")
    for some in tokens.values():
        own, others = ([t.norm for t in some if t.learned == which] for which in (True, False))
        if own and others:
            times = max(own) / (sum(others) / len(others))
            said.append(f"Its vectors are {times:.1f} times as long as those of the other tokens of the prompt.")
    return " ".join(said)


def in_photos(word: str, photos: Sequence[Pointed]) -> str:
    """What was found in photos."""
    mean = float(np.exp(np.mean([np.log(max(one.lift, 1e-6)) for one in photos])))  # of ratios, the geometric mean
    masked = sum(one.masked for one in photos)
    by = "their masks" if masked == len(photos) else "their masks or plain grounds" if masked else "their plain grounds"
    where = (
        f"in {len(photos)} of its photos, by {by}"
        if len(photos) > 1
        else f"in a photo of it, by {by.replace('their', 'its').rstrip('s')}"
    )
    return looking(word, mean, where)


def looking(word: str, lift: float, where: str) -> str:
    """Whether a word looks at the thing, and what to do where it does not."""
    share = f"{lift:.2f} times as much attention on the subject as around it" + (f", {where}" if where else "")
    if lift >= AWAY:
        return f"{word} looks at the thing: {share}."
    return (
        f"{word} looks at the background rather than at the thing: {share}. "
        "It may have learned its pictures' surroundings: give pictures on various grounds, or with masks."
    )


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
        ("in photos, under noise", [overlaid(one.image, one.heat) for one in looks.photos]),
    ]
    return contact_sheet([row for row in rows if row[1]], CELL)


def kept(looks: Looks, prompt: str, word: str, folder: Path) -> Path:
    """Write explained.png and explained.json, which the report of a run shows."""
    run.keep_image(sheet(looks, prompt), folder / "explained.png")
    facts = {
        "prompt": prompt,
        "word": word,
        "told": looks.told,
        "lift": looks.lift,
        "photos": [{"name": one.name, "lift": one.lift, "masked": one.masked} for one in looks.photos],
        "tokens": {key: [vars(token) for token in tokens] for key, tokens in looks.tokens.items()},
    }
    run.write_whole(folder / "explained.json", json.dumps(facts, ensure_ascii=False).encode())
    return folder / "explained.png"
