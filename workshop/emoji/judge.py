"""The judge: a small CLIP that knows every subject of the world, held-out ones too. `python -m workshop.emoji.judge`

It scores; it never teaches the base.
"""

from __future__ import annotations

import argparse
import json
import random

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from neologism.scores import EMOJI_JUDGE, features, unit
from workshop.emoji import pictures, scenes, words
from workshop.emoji.course import WORK, Course, best_device
from workshop.emoji.denoiser import SUBJECTS
from workshop.emoji.muon import optimizers
from workshop.emoji.scenes import with_article
from workshop.emoji.subjects import Subject, general_words, held_out, trained

PICTURES, WIDE, BATCH, RATE = 60_000, 0.15, 96, 1.2e-3
WIDTH, LAYERS = 192, 5


def everyone() -> tuple[Subject, ...]:
    """Every subject a picture may show: held out or taught."""
    return held_out() + trained(SUBJECTS)


def fresh(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIP: patches of 8 pixels, five layers; text of three layers."""
    shape = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
    }
    marks = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    narrow = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4}
    text = narrow | marks | {"vocab_size": len(tokenizer), "max_position_embeddings": words.LENGTH}
    return CLIPModel(
        CLIPConfig(text_config=text, vision_config=shape | {"image_size": 64, "patch_size": 8}, projection_dim=128)
    )


def vocabulary() -> CLIPTokenizer:
    """A tokenizer of its own, which knows every name."""
    subjects, chance = everyone(), random.Random(0)
    general = general_words(subjects)
    return words.write(
        WORK / "judge-tokenizer", [scenes.imagined(chance, subjects, general, WIDE).caption for _ in range(40_000)]
    )


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> dict[str, Tensor]:
    """Texts as the model takes them."""
    return dict(tokenizer(texts, padding="longest", truncation=True, return_tensors="pt"))


def names() -> list[str]:
    """Every name as a caption, in the order of `everyone`."""
    return [with_article(subject.name, "a") for subject in everyone()]


def alike(ids: Tensor) -> Tensor:
    """Which captions [b, tokens] say the same as which others: [b, b], without each one's own."""
    same = (ids.unsqueeze(0) == ids.unsqueeze(1)).all(-1)
    return same & ~torch.eye(len(ids), dtype=torch.bool, device=ids.device)


def loss(
    model: CLIPModel, pixels: Tensor, told: dict[str, Tensor], named: dict[str, Tensor], subjects: Tensor
) -> Tensor:
    """CLIP's contrastive loss (Radford et al. 2021) plus the cross-entropy of each picture over all names.

    Pictures of one caption are not told apart by it, so they are left out of each other's negatives.
    """
    seen = unit(features(model.get_image_features(pixel_values=pixels)))
    said = unit(features(model.get_text_features(**told)))
    all_names = unit(features(model.get_text_features(**named)))
    sharp = model.logit_scale.exp().clamp(max=100)
    own = torch.arange(len(seen), device=seen.device)
    pairs = (sharp * seen @ said.T).masked_fill(alike(told["input_ids"]), float("-inf"))
    contrast = (F.cross_entropy(pairs, own) + F.cross_entropy(pairs.T, own)) / 2
    return contrast + F.cross_entropy(sharp * seen @ all_names.T, subjects)


def train(steps: int) -> tuple[CLIPModel, CLIPTokenizer]:
    """Learn from drawn scenes of all subjects; resumable."""
    device = best_device()
    torch.manual_seed(0)
    tokenizer = vocabulary()
    model = fresh(tokenizer).to(device)
    course = Course("judge", {"model": model}, optimizers([model], RATE))
    captions, pixels, numbers = pictures.many(range(2 * 10**6, 2 * 10**6 + PICTURES), everyone(), WIDE)
    told, named = tokens(tokenizer, captions), {k: v.to(device) for k, v in tokens(tokenizer, names()).items()}
    for step in course.steps(steps):
        chosen = torch.randint(PICTURES, (BATCH,), generator=torch.Generator().manual_seed(step))
        some = {key: value[chosen].to(device) for key, value in told.items()}
        with torch.autocast(device.type, torch.bfloat16):
            value = loss(model, pictures.scaled(pixels[chosen]).to(device), some, named, numbers[chosen].to(device))
        course.descend(value, steps)
    return model.cpu().float().eval(), tokenizer


@torch.no_grad()
def naming(model: CLIPModel, tokenizer: CLIPTokenizer, count: int = 1000) -> tuple[float, float]:
    """How often the right name is first, and among the first five, on real pictures it never saw."""
    _, pixels, numbers = pictures.many(range(3 * 10**6, 3 * 10**6 + count), everyone(), WIDE)
    all_names = unit(features(model.get_text_features(**tokens(tokenizer, names()))))
    parts = pictures.scaled(pixels).split(100)
    seen = torch.cat([unit(features(model.get_image_features(pixel_values=part))) for part in parts])
    best = (seen @ all_names.T).topk(5).indices == numbers.unsqueeze(1)
    return float(best[:, 0].float().mean()), float(best.any(1).float().mean())


def keep(model: CLIPModel, tokenizer: CLIPTokenizer, found: tuple[float, float]) -> None:
    """Keep the judge in half precision, with its names and how well it names real pictures."""
    model.half().save_pretrained(EMOJI_JUDGE)
    tokenizer.save_pretrained(EMOJI_JUDGE)
    listed = [{"name": subject.name, "code": subject.code} for subject in everyone()]
    (EMOJI_JUDGE / "names.json").write_text(json.dumps(listed, indent=0), "utf-8")
    scaling = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (EMOJI_JUDGE / "preprocessor_config.json").write_text(json.dumps(scaling), "utf-8")
    (EMOJI_JUDGE / "README.md").write_text(CARD.format(count=len(listed), top1=found[0], top5=found[1]), "utf-8")


CARD = """---
license: apache-2.0
---
# The emoji judge

A small CLIPModel that names {count} things drawn from Noto Color Emoji (OFL 1.1; names from Unicode CLDR), among them those
that the emoji base was never taught. It scores pictures; nothing in training looks at it. On 1,000 real pictures it had not
seen, the right name came first in {top1:.1%} and among the first five in {top5:.1%}. Made by `python -m workshop.emoji.judge`.
"""


def main() -> None:
    """Train, measure, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    model, tokenizer = train(parser.parse_args().steps)
    found = naming(model, tokenizer)
    keep(model, tokenizer, found)
    print(f"judge names unseen real pictures: top-1 {found[0]:.1%}, top-5 {found[1]:.1%}", flush=True)


if __name__ == "__main__":
    main()
