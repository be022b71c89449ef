"""Many scenes at once, as numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor

from workshop.emoji import scenes
from workshop.emoji.subjects import Subject, general_words


def one(task: tuple[int, tuple[Subject, ...], dict[Subject, tuple[str, ...]], float]) -> tuple[str, np.ndarray, int]:
    """The caption, pixels [64, 64, 3] uint8, and subject number of the scene of a seed."""
    seed, subjects, words, wide = task
    chance = random.Random(seed)
    scene = scenes.imagined(chance, subjects, words, wide)
    picture, _ = scenes.drawn(scene, chance)
    return scene.caption, np.asarray(picture), subjects.index(scene.subject)


def many(
    seeds: Sequence[int], subjects: tuple[Subject, ...], wide: float, workers: int = 2
) -> tuple[list[str], Tensor, Tensor]:
    """Captions, pixels [n, 3, 64, 64] uint8, and subject numbers [n] of the scenes of these seeds."""
    words = general_words(subjects)
    with get_context("fork").Pool(workers) as pool:
        made = pool.map(one, ((seed, subjects, words, wide) for seed in seeds), chunksize=256)
    captions, pixels, numbers = zip(*made, strict=True)
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return list(captions), stacked, torch.tensor(numbers)


def scaled(pixels: Tensor) -> Tensor:
    """Pixels uint8 0..255 as float32 -1..1."""
    return pixels.float() / 127.5 - 1
