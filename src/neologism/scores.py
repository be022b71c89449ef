"""Pictures against photos and prompts, as a CLIP model sees them. It scores; nothing in training looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neologism.errors import ModelError

EMOJI_JUDGE = Path(__file__).parent / "emoji" / "judge"
# What CLIP's own vision models were trained with; a judge folder may name others in preprocessor_config.json.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Judge:
    """A CLIP model with its tokenizer and the way pictures are scaled for it."""

    model: Any
    tokenizer: Any
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @torch.no_grad()
    def pictures(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit rows [n, d], float32, of the images."""
        rows = [self.model.get_image_features(pixel_values=part) for part in self.scaled(images).split(64)]
        return unit(torch.cat([features(row) for row in rows]))

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Unit rows [n, d], float32, of the prompts."""
        told = self.tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt")
        row = self.model.get_text_features(input_ids=told["input_ids"], attention_mask=told["attention_mask"])
        return unit(features(row))

    def scaled(self, images: Sequence[Image.Image]) -> Tensor:
        """The images [n, 3, side, side] as the model wants them."""
        size = (self.side, self.side)
        arrays = [np.array(i.convert("RGB").resize(size, Image.Resampling.BICUBIC), np.float32) / 255 for i in images]
        pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (self.mean, self.std))
        return (pixels - mean) / std


def features(answer: Any) -> Tensor:
    """The projected features of a CLIP answer: the tensor itself, or its pooled output in newer transformers."""
    return answer if isinstance(answer, Tensor) else answer.pooler_output


def unit(rows: Tensor) -> Tensor:
    """The rows at length 1."""
    return torch.nn.functional.normalize(rows.float(), dim=-1)


def open_judge(folder: Path | str = EMOJI_JUDGE) -> Judge:
    """The judge in a CLIPModel folder; the emoji judge that ships where none is named.

    Raises:
        ModelError: the folder holds no CLIP model.
    """
    import json

    from transformers import CLIPModel, CLIPTokenizer

    try:
        model: Any = CLIPModel.from_pretrained(folder).float().eval()
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"No judge could be opened at {folder}: {first} Give a folder with a CLIP model.") from None
    file = Path(folder) / "preprocessor_config.json"
    scaling = json.loads(file.read_text("utf-8")) if file.exists() else {}
    mean, std = tuple(scaling.get("image_mean", MEAN)), tuple(scaling.get("image_std", STD))
    return Judge(model, tokenizer, int(model.config.vision_config.image_size), mean, std)


@dataclass(frozen=True)
class Score:
    """How pictures compare.

    Attributes:
        subject: mean cosine of every drawn picture to every photo (CLIP-I).
        prompt: mean cosine of each drawn picture to its prompt (CLIP-T), or None without prompts.
        diversity: mean distance (1 - cosine) between drawn pictures; 0 for one picture.
        count: how many pictures were drawn.
    """

    subject: float
    prompt: float | None
    diversity: float
    count: int


def score(
    drawn: Sequence[Image.Image],
    photos: Sequence[Image.Image],
    prompts: Sequence[str] | None = None,
    judge: Judge | None = None,
) -> Score:
    """Score drawn pictures against photos, and against their prompts (the word replaced by what it stands for)."""
    sees = judge or open_judge()
    rows = sees.pictures(drawn)
    cosines = rows @ rows.T
    others = len(rows) * (len(rows) - 1)
    diversity = float((1 - cosines).sum() / others) if others else 0.0
    told = float((rows * sees.texts(prompts)).sum(1).mean()) if prompts else None
    return Score(float((rows @ sees.pictures(photos).T).mean()), told, diversity, len(rows))


def likeness(judge: Judge, drawn: Sequence[Image.Image], photos: Sequence[Image.Image]) -> float:
    """The mean cosine of every drawn picture to every photo."""
    return float((judge.pictures(drawn) @ judge.pictures(photos).T).mean())


def ranks(judge: Judge, images: Sequence[Image.Image], names: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """The place [n], int64, 0 for the first, of each image's wanted name among all names."""
    cosines = judge.pictures(images) @ judge.texts(names).T
    own = cosines.gather(1, torch.tensor([names.index(name) for name in wanted]).unsqueeze(1))
    return (cosines > own).sum(1)
