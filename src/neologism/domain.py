"""Which words a domain's captions say far more often than English at large, and prompts that have nothing to do with them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from neologism.batches import counted
from neologism.families.model import Encoder

LEAST, TIMES, MOST = 5, 8.0, 256
"""Said at least so often, so many times as often as expected; at most so many words."""
GENERAL = 12  # prompts


def words(encoder: Encoder, captions: Sequence[str]) -> tuple[str, ...]:
    """The domain's words, that first which stands out most.

    How often a word is said at large is told from its place in the tokenizer's vocabulary, which grew from the frequent to the
    rare: Zipf's law gives the word of rank r a share of about 1 / (r ln n). A word of several pieces is as rare as the last token.
    """
    said = Counter(word for caption in captions for word in set(re.findall(r"[^\W\d_]{3,}", caption.lower())))
    ranks = rank(encoder)
    whole, size = sum(said.values()), max(len(ranks), 2)
    expected = {word: whole / ((ranks.get(word, size) + 10) * math.log(size)) for word in said}
    far = {w: n * math.log(n / expected[w]) for w, n in said.items() if n >= LEAST and n > TIMES * expected[w]}
    return tuple(sorted(far, key=lambda word: (-far[word], word))[:MOST])


def rank(encoder: Encoder) -> dict[str, int]:
    """The place of every whole word among all of them, from the most frequent."""
    return {word: place for place, word in enumerate(sorted(encoder.word_ids, key=lambda w: encoder.word_ids[w]))}


def general(encoder: Encoder, captions: Sequence[str]) -> tuple[str, ...]:
    """Prompts of known words that no caption says, always the same ones for the same captions."""
    said = {word for caption in captions for word in re.findall(r"\w+", caption.lower())}
    others = [word for word in encoder.word_ids if word not in said and word.isalpha()]
    chosen = sorted(others, key=lambda word: counted("general", word))[:GENERAL]
    return tuple(f"a photo of a {word}" for word in chosen)
