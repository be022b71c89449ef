"""Teach words to a model's tokenizers and text encoders for a while, and leave no trace."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neologism.embedding import Embedding
from neologism.errors import ModelError, WordError
from neologism.families.model import Encoder, Model, bare

Rows = Mapping[str, Tensor]


class SplicedTable(nn.Module):
    """A frozen token embedding table with new rows behind it; only the new rows can learn.

    The ids from `first` on stand for the new rows. The table itself is neither copied nor resized.
    """

    def __init__(self, table: nn.Module, first: int, rows: Sequence[Tensor]):
        super().__init__()
        self.table, self.first, self.rows = table, first, list(rows)

    @property
    def weight(self) -> Tensor:
        """The frozen table [tokens, width], for those who ask its dtype or width."""
        return self.table.weight  # type: ignore[return-value]

    @property
    def end(self) -> int:
        """The id behind the last new row."""
        return self.first + sum(len(rows) for rows in self.rows)

    def forward(self, ids: Tensor) -> Tensor:
        """Rows [..., width] of ids [...]."""
        new = ids >= self.first
        known = self.table(ids.masked_fill(new, 0))
        added = torch.cat(list(self.rows)).to(known.device)
        # Not added[...]: its backward pass sums in whatever order the threads come, and no run would go on exactly.
        rows = F.embedding((ids - self.first).clamp_min(0), added)
        return torch.where(new.unsqueeze(-1), rows.to(known.dtype), known)


@contextlib.contextmanager
def taught(model: Model, words: Sequence[Embedding] | Mapping[str, Rows]) -> Generator[None]:
    """Teach the model these words until the block ends; blocks may stand within blocks.

    Words are Embeddings, or live tensors by word and encoder key, whose gradients then flow.

    Raises:
        WordError: a word cannot be told from one the model knows.
        ModelError: a word's vectors do not fit the model's text encoders.
    """
    rows = words if isinstance(words, Mapping) else {word.word: word.vectors for word in words}
    for word, vectors in rows.items():
        check_word(word, model)
        check_fit(word, vectors, model)
    with contextlib.ExitStack() as undo:
        for encoder in model.encoders:
            undo.enter_context(spliced(encoder, {w: v[encoder.key] for w, v in rows.items() if encoder.key in v}))
        yield


@contextlib.contextmanager
def spliced(encoder: Encoder, rows: Mapping[str, Tensor]) -> Generator[None]:
    """Splice the words' rows behind one encoder's table until the block ends."""
    if not rows:
        yield
        return
    table, known = encoder.table, encoder.taught
    first = end_of(table)
    starts = torch.tensor([0, *(len(r) for r in rows.values())]).cumsum(0).tolist()
    added = {
        word.lower(): tuple(range(first + start, first + start + len(vectors)))
        for (word, vectors), start in zip(rows.items(), starts, strict=False)
    }
    encoder.taught = known | added
    encoder.module.set_input_embeddings(SplicedTable(table, first, list(rows.values())))  # type: ignore[operator]
    try:
        yield
    finally:
        encoder.module.set_input_embeddings(table)  # type: ignore[operator]
        encoder.taught = known


def end_of(table: nn.Module) -> int:
    """The first id behind a table, whatever rows were put behind it."""
    return int(getattr(table, "end", 0)) or len(table.weight)  # type: ignore[arg-type]


def check_word(word: str, model: Model) -> None:
    """Refuse a word that is empty, has spaces around it, or that the vocabulary holds already."""
    if not word.strip() or word != word.strip():
        raise WordError(f"The word {word!r} is empty or has spaces around it. Choose one such as <my-mug>.")
    for encoder in model.encoders:
        if word.lower() not in encoder.taught and len(encoder.pieces(word)) == 1:
            raise WordError(
                f"The model already has a word {word!r}, and what is learned could not be told from it. "
                f"Choose another, such as <my-{word.strip('<>')}>."
            )


def pieces_warning(word: str, model: Model) -> str | None:
    """What to know of a bare word that breaks into pieces the model knows."""
    if word.startswith("<") and word.endswith(">"):
        return None
    pieces = model.encoders[0].tokenizer.convert_ids_to_tokens(model.encoders[0].pieces(word))
    shown = " + ".join(bare(piece) for piece in pieces)
    return (
        f"Without the word's file, {word!r} still means something to the model ({shown}), so a forgotten file goes unnoticed. "
        f"A word in angle brackets, such as <{word}>, is safer."
    )


def check_fit(word: str, vectors: Rows, model: Model) -> None:
    """Refuse vectors for encoders that the model lacks or of another width."""
    widths = {encoder.key: encoder.width for encoder in model.encoders}
    for key, rows in vectors.items():
        if widths.get(key) != rows.shape[1]:
            has = ", ".join(f"{k} of width {w}" for k, w in widths.items())
            raise ModelError(
                f"The word {word!r} has vectors for {key} of width {rows.shape[1]}; {model.name} has {has}. "
                "Use the base model that the word was learned on."
            )


@dataclass(frozen=True)
class Neighbour:
    """A known word and its cosine to a vector."""

    word: str
    cosine: float


def nearest(encoder: Encoder, vectors: Tensor, count: int = 3) -> list[list[Neighbour]]:
    """For each vector [n, width] the known whole words whose rows have the highest cosine to it."""
    cosines = torch.nn.functional.normalize(vectors.detach().float().cpu(), dim=1) @ encoder.directions.T
    best = cosines.topk(min(count, len(encoder.whole_words)), dim=1)
    names = encoder.tokenizer.convert_ids_to_tokens(encoder.whole_words)
    return [
        [Neighbour(bare(names[i]), c) for c, i in zip(cs, ns, strict=True)]
        for cs, ns in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
