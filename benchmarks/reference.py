"""The published algorithm, written plainly: what everything here is measured against.

It does what diffusers' `examples/textual_inversion/textual_inversion.py` does at its README's settings, waste included: the
whole token table in AdamW, every row but one put back after each step; the VAE at every step; a random template and a mirrored
picture half of the time; one vector from the start word; 5e-4 x batch 4, constant; 3,000 steps; float32 (or bf16 networks, as
its --mixed_precision bf16 has it). Gal et al. 2022, arXiv 2208.01618.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler  # pyright: ignore[reportPrivateImportUsage]
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from neologism.captions import OBJECT_TEMPLATES, STYLE_TEMPLATES

STEPS, BATCH, RATE = 3000, 4, 5e-4


@dataclass
class Reference:
    """The script's state: networks of a pipeline, the word added to them, and the optimizer over the whole table.

    The pipeline's text encoder and tokenizer are changed by it; give it a pipeline of its own.
    """

    pipe: Any
    word: str
    start: str
    precision: torch.dtype = torch.float32
    batch: int = BATCH
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        self.encoders = [(self.pipe.tokenizer, self.pipe.text_encoder)]
        if hasattr(self.pipe, "text_encoder_2"):  # as textual_inversion_sdxl.py, which teaches both
            self.encoders.append((self.pipe.tokenizer_2, self.pipe.text_encoder_2))
        for part in (self.pipe.vae, self.pipe.unet):
            part.requires_grad_(False).to(dtype=self.precision)
        self.row, *_ = [self.added(*encoder) for encoder in self.encoders]  # one id, for both have the same tokens
        self.tables = [text.get_input_embeddings().weight for _, text in self.encoders]
        self.kept = [table.detach().clone() for table in self.tables]
        rate = RATE * self.batch
        self.adamw = torch.optim.AdamW(self.tables, lr=rate, betas=(0.9, 0.999), weight_decay=1e-2)
        self.noise: Any = DDPMScheduler.from_config(self.pipe.scheduler.config)
        self.device = self.tables[0].device

    def added(self, tokenizer: Any, text: Any) -> int:
        """Add the word to an encoder at its start word's row, and have its table alone learn; the id of the word."""
        first = tokenizer.encode(self.start, add_special_tokens=False)
        if tokenizer.add_tokens([self.word]) != 1 or len(first) != 1:
            raise ValueError(f"the word {self.word!r} must be new and the start {self.start!r} one token")
        rows = text.get_input_embeddings().weight.shape[0]
        text.resize_token_embeddings(max(rows, len(tokenizer)))  # a table may be larger than what its tokenizer knows
        row = tokenizer.convert_tokens_to_ids(self.word)
        text.requires_grad_(False)
        table = text.get_input_embeddings().weight
        with torch.no_grad():
            table[row] = table[first[0]].clone()
        table.requires_grad_(True)
        return int(row)

    def told(self, prompts: Sequence[str]) -> list[Tensor]:
        """The context of the prompts, and the pooled vectors where there are two encoders."""
        answers: list[Any] = []
        for tokenizer, text in self.encoders:
            ids = tokenizer(
                list(prompts),
                padding="max_length",
                truncation=True,
                max_length=tokenizer.model_max_length,
                return_tensors="pt",
            ).input_ids
            answers.append(text(ids.to(self.device), output_hidden_states=len(self.encoders) > 1))
        if len(answers) == 1:
            return [answers[0][0].to(self.precision)]
        contexts = torch.cat([answer.hidden_states[-2] for answer in answers], dim=-1)
        return [contexts.to(self.precision), answers[1].text_embeds.to(self.precision)]

    def vector(self) -> Tensor:
        """The word's row now: [1, width], float32."""
        return self.tables[0].detach()[self.row : self.row + 1].float().cpu().clone()

    def step(self, pixels: Tensor, prompts: Sequence[str]) -> float:
        """One step on pixels [b, 3, h, w] in -1..1 and their prompts; its loss. `seconds` sums what each part took."""
        clock = Clock(self.seconds, self.device)
        with torch.no_grad():
            posterior = self.pipe.vae.encode(pixels.to(self.device, self.precision)).latent_dist
            latents = posterior.sample() * self.pipe.vae.config.scaling_factor
        clock.lap("vae")
        noise = torch.randn_like(latents)
        times = torch.randint(0, self.noise.config["num_train_timesteps"], (len(latents),), device=self.device)
        noisy = self.noise.add_noise(latents, noise, times)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            context, *pooled = self.told(prompts)
        clock.lap("text")
        sizes = [*pixels.shape[-2:], 0, 0, *pixels.shape[-2:]]
        six = torch.tensor([sizes] * len(pixels), device=self.device, dtype=self.precision)
        more = {"added_cond_kwargs": {"text_embeds": pooled[0], "time_ids": six}} if pooled else {}
        guess = self.pipe.unet(noisy, times, context, **more).sample
        velocity = self.noise.config["prediction_type"] == "v_prediction"
        target = self.noise.get_velocity(latents, noise, times) if velocity else noise
        loss = F.mse_loss(guess.float(), target.float())
        clock.lap("unet")
        loss.backward()
        clock.lap("backward")
        self.descend()
        clock.lap("rows")
        return float(loss.detach())

    @torch.no_grad()
    def descend(self) -> None:
        """Move the whole table, then put every row but the word's back."""
        for table in self.tables:
            table.grad = table.grad if table.grad is not None else torch.zeros_like(table)
        self.adamw.step()
        self.adamw.zero_grad()
        for table, kept in zip(self.tables, self.kept, strict=True):
            others = torch.ones(len(table), dtype=torch.bool)
            others[self.row] = False
            table[others] = kept[others]


@dataclass
class Clock:
    """Adds the seconds between laps to a table."""

    sums: dict[str, float]
    device: torch.device
    last: float = field(default_factory=time.perf_counter)

    def lap(self, name: str) -> None:
        """What ended now took since the last lap."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.sums[name] = self.sums.get(name, 0.0) + now - self.last
        self.last = now


def pictures_and_prompts(
    images: Sequence[Image.Image], side: int, word: str, kind: str, batch: int, seed: int
) -> Iterator[tuple[Tensor, list[str]]]:
    """Batches without end: pictures in random order (each 100 times a round), half of them mirrored, each with a template."""
    chance = random.Random(seed)
    templates = STYLE_TEMPLATES if kind == "style" else OBJECT_TEMPLATES
    while True:
        order = [number % len(images) for number in range(100 * len(images))]
        chance.shuffle(order)
        for first in range(0, len(order) - batch + 1, batch):
            shown = [prepared(images[i], side, chance.random() < 0.5) for i in order[first : first + batch]]
            yield torch.stack(shown), [chance.choice(templates).replace("{}", word) for _ in shown]


def prepared(image: Image.Image, side: int, mirrored: bool) -> Tensor:
    """A picture as the script feeds it: [3, side, side], float32, -1..1."""
    small = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    array = np.array(ImageOps.mirror(small) if mirrored else small, np.float32) / 127.5 - 1
    return torch.from_numpy(array).permute(2, 0, 1)


def learned(
    reference: Reference, images: Sequence[Image.Image], side: int, kind: str, seed: int, marks: Sequence[int]
) -> Iterator[tuple[int, float, Tensor]]:
    """Learn the word: at each of the marked steps the step, the seconds of learning so far, and the row."""
    torch.manual_seed(seed)
    batches = pictures_and_prompts(images, side, reference.word, kind, reference.batch, seed)
    spent = 0.0
    if 0 in marks:
        yield 0, 0.0, reference.vector()
    for step in range(1, max(marks) + 1):
        began = time.perf_counter()
        reference.step(*next(batches))
        spent += time.perf_counter() - began
        if step in marks:
            yield step, spent, reference.vector()
