"""What is in a word's file, as plain facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from neologism import formats
from neologism.errors import ModelError
from neologism.families import Encoder, Model, open_model
from neologism.vocabulary import check_fit, nearest


def inspected(file: Path, base: str | None = None) -> dict[str, Any]:
    """The word, its vectors' shapes, norms and nearest known words, its base, and how it was learned.

    Norms against the vocabulary and nearest words need the base; where it cannot be opened the fact "note" says why.
    """
    found = formats.examined(file)
    embedding = found.embedding
    facts: dict[str, Any] = {"word": embedding.word, "base": base or embedding.base, "layout": found.layout}
    facts |= dict(embedding.facts) | ({"notes": list(found.notes)} if found.notes else {})
    model: Model | None = None
    try:
        model = open_model(base or embedding.base or "emoji")
        check_fit(embedding.word, embedding.vectors, model)
    except ModelError as error:
        if base:
            raise
        model, facts["note"] = None, f"Nearest words are not known: {error}"
    encoders = {encoder.key: encoder for encoder in model.encoders} if model else {}
    facts["vectors"] = {key: described(rows, encoders.get(key)) for key, rows in embedding.vectors.items()}
    return facts


def described(rows: Tensor, encoder: Encoder | None) -> dict[str, Any]:
    """One encoder's rows: shape, norms, and beside them the vocabulary's norm and nearest words."""
    facts: dict[str, Any] = {
        "shape": list(rows.shape),
        "norms": [round(n, 4) for n in rows.norm(dim=1).tolist()],
        "nearest": [],
    }
    if encoder:
        facts["vocabulary_norm"] = round(float(encoder.known_rows().norm(dim=1).mean()), 4)
        facts["nearest"] = [
            [{"word": n.word, "cosine": round(n.cosine, 4)} for n in near] for near in nearest(encoder, rows)
        ]
    return facts
