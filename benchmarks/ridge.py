"""A self-taught start: the model draws its own words, and a ridge map from what it sees of pictures to their words' rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks import together
from neologism import initial
from neologism.batches import generator
from neologism.families import Model
from neologism.initial import Start, rows_loss

DRAWN, AT_ONCE, SHARES, PENALTIES = 4, 768, (0.3, 0.5, 0.7), (10.0, 100.0, 1000.0, 10000.0, 100000.0)


@torch.no_grad()
def features(model: Model, latents: Tensor) -> Tensor:
    """What the denoiser's middle makes of latents [n, c, h, w] under an empty prompt at a few noise levels: [n, d], float32."""
    seen: list[Tensor] = []
    hook = model.pipe.unet.mid_block.register_forward_hook(lambda _, __, answer: seen.append(answer.float()))
    clean = latents.to(model.machine.device)
    noise = torch.randn(clean.shape[1:], generator=generator("features")).to(clean)
    told = model.condition([""], ())
    try:
        for share in SHARES:
            times = model.noise.times(torch.full((len(clean),), share)).to(clean.device)
            context = type(told)(told.context.expand(len(clean), -1, -1), told.more)
            model.predict(model.noise.add(clean, noise.expand_as(clean), times), times, context)
    finally:
        hook.remove()
    return torch.cat([part for answer in seen for part in (answer.mean((2, 3)), answer.std((2, 3)))], dim=1).cpu()


MAPS: dict[int, tuple[Tensor, Tensor, Tensor]] = {}  # by the model's identity


def map_of(model: Model) -> tuple[Tensor, Tensor, Tensor]:
    """The means of features and rows, and the map between them; made once."""
    if id(model) not in MAPS:
        MAPS[id(model)] = made_map(model)
    return MAPS[id(model)]


def made_map(model: Model) -> tuple[Tensor, Tensor, Tensor]:
    """The map, fitted on what the model draws of its own words."""
    encoder = model.encoders[0]
    words = list(encoder.word_ids)
    prompts = [f"a photo of a {word}" for word in words for _ in range(DRAWN)]
    seen: list[Tensor] = []
    for first in range(0, len(prompts), AT_ONCE):
        some = prompts[first : first + AT_ONCE]
        images = model.draw(some, [""] * len(some), list(range(first, first + len(some))), 25, 5.0)
        pixels = torch.stack([together.reference.prepared(image, model.size, False) for image in images])
        seen.append(features(model, model.scale(model.encode(pixels)[0])))
    inputs = torch.cat(seen).view(len(words), DRAWN, -1).mean(1)
    targets = encoder.known_rows()[list(encoder.word_ids.values())].cpu()
    return fitted(inputs, targets)


def fitted(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ridge regression at the penalty that tells left-out words' rows best (exact leave-one-out)."""
    middle, spread, goal = inputs.mean(0), inputs.std(0).clamp_min(1e-6), targets.mean(0)
    x, y = ((inputs - middle) / spread).double(), (targets - goal).double()
    found: list[tuple[float, Tensor]] = []
    for penalty in PENALTIES:
        solved = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]), x.T)
        own = (x * solved.T).sum(1, keepdim=True).clamp(max=1 - 1e-9)
        left_out = (y - x @ (solved @ y)) / (1 - own)
        found.append((float(left_out.pow(2).sum() / y.pow(2).sum()), (solved @ y).float() / spread.unsqueeze(1)))
    error, best = min(found, key=lambda pair: pair[0])
    print(f"ridge: {1 - error:.1%} of the variance of left-out rows explained", flush=True)
    return middle, goal, best


def begun(model: Model, pair: together.Pair, chosen: dict[str, Any]) -> Start:
    """The row that the map tells of a subject's pictures."""
    made = together.recipe_of(pair, chosen)
    _, latents = together.encoded(model, pair[0], made)
    middle, goal, slope = map_of(model)
    row = goal + (features(model, model.scale(latents.mean)).mean(0) - middle) @ slope
    return Start({model.encoders[0].key: row.unsqueeze(0)}, "ridge")


def better(model: Model, pair: together.Pair, chosen: dict[str, Any]) -> Start:
    """The map's row or the best word, whichever explains the pictures better."""
    probes = together.probes(model, pair, chosen)
    first, key = begun(model, pair, chosen), model.encoders[0].key
    word = initial.best_word(model, probes)
    loss = float(initial.word_losses(model, [word], probes)[0])
    if rows_loss(model, first.vectors, probes) < loss:
        return first
    return Start({key: model.encoders[0].known_rows()[[model.encoders[0].word_ids[word]]].cpu()}, word)
