"""CLIP's tokenizer (Radford et al. 2021), made from the list of merges that ships; that list is under the MIT licence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

START, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 49_408
"""How many tokens it knows."""


def merges() -> str:
    """The list of merges, as transformers reads it."""
    return gzip.decompress((Path(__file__).parent / "clip" / "merges.txt.gz").read_bytes()).decode()


def tokens() -> list[str]:
    """Every token, by its number."""
    letters = in_bytes_order()
    return [*letters, *(letter + "</w>" for letter in letters), *map(joined, merges().splitlines()[1:]), START, END]


def tokenizer(folder: Path, padding: str) -> None:
    """Write the tokenizer into a new folder as transformers reads it; `padding` is the token that fills prompts up."""
    folder.mkdir()
    (folder / "merges.txt").write_text(merges(), "utf-8")
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens())}), "utf-8")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": START, "pad_token": padding}
    config |= dict.fromkeys(("eos_token", "unk_token"), END)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def joined(merge: str) -> str:
    """The token that a merge makes."""
    return merge.replace(" ", "")


def in_bytes_order() -> list[str]:
    """The letter of every byte in the order of CLIP's vocabulary: those that print, then stand-ins for the others."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [*map(chr, printing), *(chr(256 + number) for number in range(256 - len(printing)))]
