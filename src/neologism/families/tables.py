"""The vocabularies of a base: each text encoder's tokens and their rows, read without opening the networks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from neologism.errors import ModelError
from neologism.families import bpe, checkpoints, pipelines, places, single_file
from neologism.families.checkpoints import CLIP_1, CLIP_XL, OPEN_2, OPEN_XL
from neologism.families.model import bare, is_whole

TABLES = ("token_embedding.weight", "shared.weight", "embed_tokens.weight")
# The encoders' keys in the order of the parts text_encoder, text_encoder_2, text_encoder_3.
KEYS = {
    "StableDiffusionXLPipeline": ("clip_l", "clip_g"),
    "StableDiffusion3Pipeline": ("clip_l", "clip_g", "t5"),
    "FluxPipeline": ("clip_l", "t5"),
}
IN_FILES = {
    "sd1": {"clip_l": CLIP_1 + "embeddings.token_embedding.weight"},
    "sd2": {"clip_h": OPEN_2 + "token_embedding.weight"},
    "sdxl": {"clip_l": CLIP_XL + "embeddings.token_embedding.weight", "clip_g": OPEN_XL + "token_embedding.weight"},
}


@dataclass(frozen=True)
class Table:
    """A text encoder's vocabulary.

    Attributes:
        rows: [tokens, width], float32, the frozen embedding table.
        words: the place of each token that is a whole plain word, by the word.
    """

    rows: Tensor
    words: dict[str, int]


def tables(name: str) -> tuple[str, dict[str, Table]]:
    """What a base is called in words' files, and its vocabularies by the encoders' keys.

    Raises:
        ModelError: there is no such base, or it lacks a table.
    """
    base = places.located(name)
    folder = base.place if base.place.is_dir() else base.whole_beside
    return base.name, of_file(base.place) if folder is None else of_folder(folder)


def of_folder(folder: Path) -> dict[str, Table]:
    """The vocabularies of a diffusers folder."""
    index: dict[str, Any] = json.loads((folder / "model_index.json").read_text("utf-8"))
    endings = [ending for ending in ("", "_2", "_3") if (index.get("text_encoder" + ending) or [None])[0]]
    found: dict[str, Table] = {}
    for number, ending in enumerate(endings):
        rows = table_in(folder / f"text_encoder{ending}")
        keys = KEYS.get(str(index.get("_class_name")), (pipelines.KEYS.get(rows.shape[1], "text"),))
        found[keys[number]] = Table(rows, whole_words(vocabulary_in(folder / f"tokenizer{ending}")))
    return found


def table_in(folder: Path) -> Tensor:
    """The embedding table among a text encoder's files."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:  # pyright: ignore[reportUnknownVariableType]
            name = next((name for name in opened.keys() if name.endswith(TABLES)), None)  # noqa: SIM118
            if name:
                return opened.get_tensor(name).float()
    raise ModelError(f"{folder} holds no table of token embeddings. Give --from and --to whole diffusers folders.")


def vocabulary_in(folder: Path) -> dict[str, int]:
    """A tokenizer's tokens and their places."""
    from transformers import AutoTokenizer

    try:
        with pipelines.quiet():
            tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{folder} holds no tokenizer: {reason}. Give --from and --to whole diffusers folders."
        ) from None
    return tokenizer.get_vocab()


def of_file(file: Path) -> dict[str, Table]:
    """The vocabularies of a single file, which has CLIP's tokens."""
    kind = checkpoints.recognised(checkpoints.shapes_of(file), file)
    if kind not in IN_FILES:
        raise ModelError(
            f"{file} is a {single_file.PIPELINES[kind]} and holds no vocabulary of its own. "
            "Name a diffusers folder behind a plus sign: FILE+FOLDER."
        )
    words = whole_words({token: number for number, token in enumerate(bpe.tokens())})
    with safe_open(file, "pt") as opened:  # pyright: ignore[reportUnknownVariableType]
        found = {key: Table(opened.get_tensor(name).float(), words) for key, name in IN_FILES[kind].items()}
    if kind != "sdxl":  # whose only encoder is called by its width
        return {pipelines.KEYS.get(table.rows.shape[1], "text"): table for table in found.values()}
    return found


def whole_words(vocabulary: dict[str, int]) -> dict[str, int]:
    """The tokens that are words of plain letters by themselves."""
    return {bare(token): place for token, place in vocabulary.items() if is_whole(token) and len(bare(token)) > 1}
