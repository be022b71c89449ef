"""A word carried to another family, as a start for training there: a ridge map between the words that both vocabularies know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neologism.embedding import Embedding
from neologism.errors import WordError
from neologism.families.tables import Table, tables

FEWEST = 50  # words that both must know; below that a map says nothing
STRENGTHS = tuple(10.0**power for power in range(-4, 4))  # of the ridge, as shares of the rows' mean variance


@dataclass(frozen=True)
class Fit:
    """How well a map finds known words again that it was not made from: all that is known of a transfer.

    Attributes:
        encoder, source: the keys of the target's text encoder and of that whose rows were mapped.
        shared, left_out: how many words both know, and on how many of them this was measured.
        cosine: the mean cosine between mapped and true row, both less the vocabulary's mean row.
        rank: the median place of the true row among all shared words' rows, nearest first; 1 is best.
        first: the share of words whose true row is the nearest.
        strength: of the ridge, chosen on yet other words.
    """

    encoder: str
    source: str
    shared: int
    left_out: int
    cosine: float
    rank: int
    first: float
    strength: float

    def told(self) -> str:
        """In a sentence."""
        return (
            f"{self.encoder} from {self.source}: of {self.left_out} left-out words, mean cosine {self.cosine:.2f}, median rank "
            f"{self.rank} of {self.shared}, {self.first:.0%} found first"
        )


@dataclass(frozen=True)
class Map:
    """A linear map of rows [n, width] of one vocabulary to rows [n, width] of another."""

    matrix: Tensor
    origin: Tensor
    target: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """The rows [n, width] there."""
        return (rows.double() - self.origin) @ self.matrix + self.target


def transfer(word: Embedding, to: str, source: str | None = None) -> tuple[Embedding, list[Fit]]:
    """The word as a start on the base `to`, and how well known words are found there; `source` is the base it was learned on.

    It is not learned there: go on from it with pictures.

    Raises:
        ModelError: a base cannot be read.
        WordError: the word's base is not known or not its own, or the vocabularies share too few words.
    """
    if not (source or word.base):
        raise WordError(f"The file of {word.word!r} does not say what base it was learned on. Name it with --from.")
    (name_from, ours), (name_to, theirs) = tables(source or word.base), tables(to)
    check_base(word, ours, name_from)
    vectors: dict[str, Tensor] = {}
    fits: list[Fit] = []
    for key, table in theirs.items():
        maps = [(fitted(ours[own], table, own, key), own) for own in word.vectors]
        (best, fit), own = max(maps, key=lambda made: made[0][1].cosine)
        vectors[key] = best(word.vectors[own]).float()
        fits.append(fit)
    facts = {f"fit {fit.encoder}": fit.told() for fit in fits}
    told = {"start": f"carried from {name_from}", "step": "0"}
    return Embedding(word.word, vectors, name_to, told | facts), fits


def check_base(word: Embedding, ours: Mapping[str, Table], name: str) -> None:
    """Refuse a base that the word's vectors do not fit."""
    widths = {key: table.rows.shape[1] for key, table in ours.items()}
    for key, rows in word.vectors.items():
        if widths.get(key) != rows.shape[1]:
            has = ", ".join(f"{k} of width {w}" for k, w in widths.items())
            raise WordError(
                f"The word {word.word!r} has vectors for {key} of width {rows.shape[1]}; {name} has {has}. "
                "Name the base it was learned on with --from."
            )


def fitted(ours: Table, theirs: Table, own: str, key: str) -> tuple[Map, Fit]:
    """The map between two vocabularies, its ridge chosen on a tenth of the shared words, and its fit on another tenth.

    Raises:
        WordError: they share too few words.
    """
    shared = sorted(ours.words.keys() & theirs.words.keys())
    if len(shared) < FEWEST:
        raise WordError(
            f"The vocabularies of {own} and {key} share {len(shared)} words and at least {FEWEST} are needed: "
            "the word cannot be carried between these bases."
        )
    order = torch.randperm(len(shared), generator=torch.Generator().manual_seed(0))
    tenth = len(shared) // 10
    x = ours.rows[[ours.words[word] for word in shared]].double()
    y = theirs.rows[[theirs.words[word] for word in shared]].double()
    tried, left_out, rest = order[:tenth], order[tenth : 2 * tenth], order[2 * tenth :]
    strength = max(zip(cosines_by_strength(x, y, rest, tried), STRENGTHS, strict=True))[1]
    made = ridge(x, y, rest, (strength,))[0]
    cosine, ranks = found(made, x, y, left_out)
    first = float((ranks == 1).double().mean())
    fit = Fit(key, own, len(shared), len(left_out), cosine, int(ranks.median()), first, strength)
    return ridge(x, y, order, (strength,))[0], fit


def ridge(x: Tensor, y: Tensor, rows: Tensor, strengths: tuple[float, ...]) -> list[Map]:
    """Maps from x [n, d] to y [n, e] by these rows, one for each strength (Hoerl and Kennard 1970)."""
    origin, target = x[rows].mean(0), y[rows].mean(0)
    apart, wanted = x[rows] - origin, y[rows] - target
    values, vectors = torch.linalg.eigh(apart.T @ apart)
    turned = vectors.T @ (apart.T @ wanted)
    typical = values.clamp_min(0).mean().clamp_min(1e-12)
    return [Map(vectors @ (turned / (values.clamp_min(0) + s * typical)[:, None]), origin, target) for s in strengths]


def cosines_by_strength(x: Tensor, y: Tensor, rows: Tensor, tried: Tensor) -> list[float]:
    """The mean cosine on the words tried, for each strength of the ridge."""
    return [found(made, x, y, tried)[0] for made in ridge(x, y, rows, STRENGTHS)]


def found(made: Map, x: Tensor, y: Tensor, rows: Tensor) -> tuple[float, Tensor]:
    """The mean cosine of mapped to true rows, less the mean row, and the true row's place [n] among all, from 1 on."""
    everyone = torch.nn.functional.normalize(y - made.target, dim=1)
    guesses = torch.nn.functional.normalize(made(x[rows]) - made.target, dim=1)
    near = guesses @ everyone.T
    own = near.gather(1, rows[:, None])
    return float(own.mean()), 1 + (near > own).sum(1)
