"""Where a word's vectors start: a word, a phrase, small random numbers, or the vocabulary's best by denoising loss."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from neologism.batches import Batch, counted, generator, joined, part_of
from neologism.errors import WordError
from neologism.families.model import Encoder, Model
from neologism.objective import loss
from neologism.vocabulary import taught

# The search in earnest: how many candidates each round begins with, and on how many probes each is tried.
ROUNDS = ((48, 4), (8, 32))
AT_ONCE, WITH_GRADIENT = 96, 8  # samples a pass, at most, without and with a gradient


@dataclass(frozen=True)
class Start:
    """First vectors {encoder key: [n, width]}, float32, and where they are from, in words."""

    vectors: dict[str, Tensor]
    told: str


def start(model: Model, like: str, count: Callable[[str], int], seed: int, probes: Batch) -> Start:
    """The first vectors for a `like`: a word, a phrase, "auto", "normal" or "uniform".

    `count` tells how many vectors an encoder of a key gets; `probes` are fixed samples of the word's pictures, on which
    "auto" tries the vocabulary.

    Raises:
        WordError: the phrase has no tokens.
    """
    if like in ("normal", "uniform"):
        return Start(
            {e.key: small_random(e, like, count(e.key), seed) for e in model.encoders}, f"small random numbers ({like})"
        )
    chosen = best_word(model, probes) if like == "auto" else like
    vectors = {encoder.key: of_phrase(encoder, chosen, count(encoder.key), seed) for encoder in model.encoders}
    return Start(vectors, chosen)


def small_random(encoder: Encoder, law: str, count: int, seed: int) -> Tensor:
    """Random rows [count, width] with the deviation of the vocabulary's numbers."""
    chance, deviation = generator(seed, "start", encoder.key), float(encoder.known_rows().std())
    if law == "normal":
        return torch.randn(count, encoder.width, generator=chance) * deviation
    return (torch.rand(count, encoder.width, generator=chance) * 2 - 1) * deviation * 3**0.5


def of_phrase(encoder: Encoder, phrase: str, count: int, seed: int) -> Tensor:
    """The phrase's rows where they are as many as wanted, else their mean, a little apart from one another."""
    ids = encoder.tokens(phrase)
    if not ids:
        raise WordError(f"The start {phrase!r} has no tokens. Give --like a word or phrase, auto, normal or uniform.")
    rows = encoder.known_rows()[ids].cpu()
    if len(rows) == count:
        return rows.clone()
    apart = torch.randn(count, encoder.width, generator=generator(seed, "apart", encoder.key))
    return rows.mean(0, keepdim=True) + (apart * encoder.known_rows().std().cpu() * 0.1 if count > 1 else 0)


def best_word(model: Model, probes: Batch) -> str:
    """The vocabulary's word that explains the pictures best: lowest denoising loss.

    The gradient at the vocabulary's mean ranks all words at the price of one step; the first of them are tried in earnest.
    """
    left = promising(model, probes)
    for most, tried in ROUNDS:
        left = left[:most]
        losses = word_losses(model, left, first_of(probes, tried))
        left = [left[i] for i in losses.argsort().tolist()]
    return left[0]


def promising(model: Model, probes: Batch) -> list[str]:
    """The vocabulary's whole words, that first which should lower the loss most, to first order, seen from their mean."""
    places = [encoder.word_ids for encoder in model.encoders]
    if not places[0]:
        raise WordError(
            "The model's vocabulary has no whole words to start from. Give --like a word, normal or uniform."
        )
    tables = [e.known_rows()[list(ids.values())].cpu() for e, ids in zip(model.encoders, places, strict=True)]
    change: dict[str, float] = dict.fromkeys(places[0], 0.0)
    for ids, table, slope in zip(places, tables, slopes(model, probes, tables), strict=True):
        for name, change_here in zip(ids, ((table - table.mean(0)) @ slope).tolist(), strict=True):
            if name in change:
                change[name] += change_here
    return sorted(change, key=lambda name: change[name])


def slopes(model: Model, probes: Batch, tables: Sequence[Tensor]) -> list[Tensor]:
    """How the probes' loss changes with each encoder's row [width], at the means of these tables [words, width].

    Where memory falls short, fewer samples are taken at once.
    """
    at_once = WITH_GRADIENT
    while True:
        with contextlib.suppress(torch.OutOfMemoryError):
            return slopes_by(at_once, model, probes, tables)
        if at_once == 1:
            raise torch.OutOfMemoryError("for a single sample")
        at_once //= 2


def slopes_by(at_once: int, model: Model, probes: Batch, tables: Sequence[Tensor]) -> list[Tensor]:
    """The slopes, by so many samples at once."""
    word = f"<probe-{counted('probe') % 10**6}>"
    keys = [encoder.key for encoder in model.encoders]
    rows = {
        key: nn.Parameter(table.mean(0, keepdim=True) if len(table) else torch.zeros(1, encoder.width))
        for key, table, encoder in zip(keys, tables, model.encoders, strict=True)
    }
    with taught(model, {word: rows}):
        for rows_of_it in model.machine.limits.pieces(len(probes), at_once):
            loss(model, part_of(worded(probes, word), rows_of_it)).sum().backward()
    return [rows[key].grad[0].cpu() / len(probes) for key in keys]  # type: ignore[index]


def first_of(batch: Batch, count: int) -> Batch:
    """The first samples of a batch, taken round by round."""
    return part_of(batch, slice(0, min(count, len(batch))))


def worded(batch: Batch, word: str) -> Batch:
    """The batch with each prompt's {} filled by a word."""
    prompts = tuple(prompt.replace("{}", word) for prompt in batch.prompts)
    return replace(batch, prompts=prompts)


@torch.no_grad()
def word_losses(model: Model, words: Sequence[str], probes: Batch) -> Tensor:
    """The mean loss [words] of the probes under each word."""
    words_at_once = max(1, AT_ONCE // len(probes))
    found: list[Tensor] = []
    for first in range(0, len(words), words_at_once):
        some = words[first : first + words_at_once]
        each = loss(model, joined([worded(probes, word) for word in some]))
        found.append(each.view(len(some), -1).mean(1).cpu())
    return torch.cat(found)


@torch.no_grad()
def rows_loss(model: Model, vectors: dict[str, Tensor], probes: Batch) -> float:
    """The mean loss of the probes under a word of these vectors."""
    word = f"<probe-{counted('probe') % 10**6}>"
    with taught(model, {word: vectors}):
        return float(loss(model, worded(probes, word)).mean())
