"""Named tensors and texts <-> Embedding: ours, and what diffusers, AUTOMATIC1111 and kohya write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from neologism.embedding import Embedding
from neologism.errors import EmbeddingError
from neologism.formats.containers import Contents

OURS = "neologism."
"""How the names of our metadata begin."""

FACT = OURS + "facts."
PARAMETERS = "string_to_param."

WIDTHS = {768: "clip_l", 1024: "clip_h", 1280: "clip_g"}
"""The encoder that a width tells, where the file does not."""

ENCODERS = {
    "clip_l": "clip_l",
    "clip_g": "clip_g",
    "clip_h": "clip_h",
    "t5": "t5",
    "t5xxl": "t5",
    "text_encoders_0": "clip_l",
    "text_encoders_1": "clip_g",
}
"""Names under which files hold an encoder's vectors, and the encoder they mean."""

NAMELESS = {"", "*", "emb_params", "emp_params", "emb", "_EmbeddingMerge_temp", *ENCODERS}
"""Names that tools write where a word would stand, and that are none."""


def read(contents: Contents, path: Path) -> Embedding:
    """The word in the contents of the file at `path`, whose name is the word where nothing else tells it.

    Raises:
        EmbeddingError: no known layout has these names, or the numbers are no vectors.
    """
    for fits, taken in LAYOUTS:
        if fits(contents):
            try:
                return taken(contents, path)
            except EmbeddingError as error:
                raise EmbeddingError(f"{path}: {error} Give the file of a word that was learned well.") from None
    raise EmbeddingError(
        f"{path} holds no word: found {listed(contents)}. Allowed are one tensor named as the word (diffusers), "
        f"string_to_param (AUTOMATIC1111), or tensors named as encoders ({', '.join(ENCODERS)}). Give such a file."
    )


def listed(contents: Contents) -> str:
    """The names of the tensors, the first few of many."""
    names = [repr(name) for name in contents.tensors]
    if not names:
        return "no tensors"
    return f"tensors {', '.join(names[:5])}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def written(embedding: Embedding) -> Contents:
    """The word as we write it.

    One encoder: one tensor under the word, which plain diffusers reads. Several: a tensor under each encoder's key.
    """
    keys = list(embedding.vectors)
    tensors = {embedding.word: embedding.vectors[keys[0]]} if len(keys) == 1 else dict(embedding.vectors)
    if not embedding.word or "__metadata__" in tensors:
        raise EmbeddingError(f"{embedding.word!r} cannot name a word in a file. Give another word, such as '<my-mug>'.")
    texts = {
        "format": "pt",  # some tools of others refuse safetensors without it
        OURS + "word": embedding.word,
        OURS + "base": embedding.base,
        OURS + "encoders": json.dumps(keys),
    }
    return Contents(tensors, texts | {FACT + name: text for name, text in embedding.facts.items()})


def is_ours(contents: Contents) -> bool:
    """Whether the file tells its word in our metadata."""
    return {OURS + "word", OURS + "encoders"} <= contents.texts.keys()


def ours(contents: Contents, path: Path) -> Embedding:
    """A file that `written` made."""
    word = contents.texts[OURS + "word"]
    keys = encoders(contents.texts[OURS + "encoders"])
    names = [word] if len(keys) == 1 else keys
    if not keys or set(names) != set(contents.tensors):
        raise EmbeddingError(
            f"its metadata tells of the tensors {names}, and it has {listed(contents)}: they must be the same."
        )
    vectors = {key: rows(contents.tensors[name]) for key, name in zip(keys, names, strict=True)}
    facts = {name.removeprefix(FACT): text for name, text in contents.texts.items() if name.startswith(FACT)}
    return Embedding(word, vectors, contents.texts.get(OURS + "base", ""), facts)


def encoders(text: str) -> list[str]:
    """The encoder keys that our metadata lists; none where the text is not such a list."""
    try:
        found: object = json.loads(text)
    except ValueError:
        return []
    return [str(key) for key in found] if isinstance(found, list) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def is_automatic1111(contents: Contents) -> bool:
    """Whether tensors stand under string_to_param, as in the .pt files of AUTOMATIC1111."""
    return any(name.startswith(PARAMETERS) for name in contents.tensors)


def automatic1111(contents: Contents, path: Path) -> Embedding:
    """{"string_to_param": {"*": [n, width]}, "name": word, "sd_checkpoint_name": base, "step": n}."""
    found = {name.removeprefix(PARAMETERS): t for name, t in contents.tensors.items() if name.startswith(PARAMETERS)}
    if len(found) > 1:
        raise EmbeddingError(f"it holds {len(found)} words ({', '.join(sorted(found))}); one file holds one word.")
    name, tensor = found.popitem()
    told = contents.texts.get("name", name)
    base = contents.texts.get("sd_checkpoint_name", "")
    facts = {"step": contents.texts["step"]} if contents.texts.get("step", "None") != "None" else {}
    return one_encoder(named(told, path), tensor, "" if base == "None" else base, facts)


def is_by_encoder(contents: Contents) -> bool:
    """Whether every tensor is named as an encoder, each encoder once."""
    known = [ENCODERS[name] for name in contents.tensors if name in ENCODERS]
    return bool(known) and len(known) == len(contents.tensors) == len(set(known))


def by_encoder(contents: Contents, path: Path) -> Embedding:
    """{"clip_l": [n, 768], "clip_g": [n, 1280]}, as kohya and others write for models of several encoders."""
    vectors = {ENCODERS[name]: rows(tensor) for name, tensor in contents.tensors.items()}
    return Embedding(named("", path), vectors)


def is_single(contents: Contents) -> bool:
    """Whether there is one tensor only."""
    return len(contents.tensors) == 1


def single(contents: Contents, path: Path) -> Embedding:
    """{word: [width] or [n, width]}, as diffusers writes."""
    ((name, tensor),) = contents.tensors.items()
    return one_encoder(named(name, path), tensor, "", {})


def named(name: str, path: Path) -> str:
    """The name, or the file's where the name tells nothing."""
    return path.stem if name.strip() in NAMELESS else name


def one_encoder(word: str, tensor: Tensor, base: str, facts: dict[str, str]) -> Embedding:
    """The word of a file that does not say which encoder it is for: its width does."""
    vectors = rows(tensor)
    return Embedding(word, {WIDTHS.get(vectors.shape[-1], "text"): vectors}, base, facts)


def rows(tensor: Tensor) -> Tensor:
    """The tensor as [n, width]; older files hold a single vector as [width]."""
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise EmbeddingError(f"it holds numbers of the kind {kind}; vectors are floating-point numbers.")
    return tensor[None] if tensor.ndim == 1 else tensor


LAYOUTS: tuple[tuple[Callable[[Contents], bool], Callable[[Contents, Path], Embedding]], ...] = (
    (is_ours, ours),
    (is_automatic1111, automatic1111),
    (is_by_encoder, by_encoder),
    (is_single, single),
)
"""Which layout a file has: the first that fits."""
