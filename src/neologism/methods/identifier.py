"""A rare token to stand for a thing (Ruiz et al. 2023, section 3.2): whole to the tokenizer, and no word."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence

from neologism.captions import says
from neologism.errors import WordError
from neologism.families.model import Encoder, Model, bare

VOWELS = set("aeiouy")


def identifier(encoder: Encoder, asked: str, said: Sequence[str]) -> str:
    """The identifier asked for, or with "auto" the rarest token that is no word and that none of the texts `said` holds.

    Raises:
        WordError: the one asked for is empty, or no token of the vocabulary will do.
    """
    if asked != "auto":
        if not asked.strip() or asked != asked.strip():
            raise WordError(
                f"The identifier {asked!r} is empty or has spaces around it. Choose one such as sks, or auto."
            )
        return asked
    heard = " ".join(said).lower()
    fit = [token for token in rarest_first(encoder) if not says(heard, token)]
    if not fit:
        raise WordError("The tokenizer has no token that is no word. Name one by --identifier, such as sks.")
    return fit[0]


def rarest_first(encoder: Encoder) -> list[str]:
    """Whole tokens of plain letters without a vowel, which no word is: of three or four letters first, the latest learned first.

    A byte-pair vocabulary grows from the frequent to the rare, so its last tokens are its rarest.
    """
    vocabulary: dict[str, int] = encoder.tokenizer.get_vocab()
    whole = {bare(token): i for token, i in vocabulary.items() if bare(token) != token}
    fit = [t for t in whole if t.isascii() and t.isalpha() and t.islower() and not VOWELS & set(t) and len(t) <= 4]
    found = [token for token in fit if encoder.pieces(token) == [whole[token]]]
    return sorted(found, key=lambda token: (len(token) < 3, -whole[token]))


@contextlib.contextmanager
def spelled(model: Model, word: str, text: str) -> Generator[None]:
    """Until the block ends, the word stands for a text that the model knows; for nothing where the text is empty."""
    before = {encoder.key: encoder.taught for encoder in model.encoders}
    for encoder in model.encoders if text else ():
        encoder.taught = encoder.taught | {word.lower(): tuple(encoder.pieces(text))}
    try:
        yield
    finally:
        for encoder in model.encoders:
            encoder.taught = before[encoder.key]
