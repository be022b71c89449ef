"""Named tensors and texts <-> Embedding: ours, and what diffusers, AUTOMATIC1111 and kohya write."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
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

WIDTH_OF = {key: width for width, key in WIDTHS.items()} | {"t5": 4096}
"""How wide the rows of an encoder are; of any other, such as "text", nothing is known."""

NAMELESS = {"", "*", "emb_params", "emp_params", "emb", "_EmbeddingMerge_temp", *ENCODERS}
"""Names that tools write where a word would stand, and that are none."""


@dataclass(frozen=True)
class Found:
    """What a file turned out to be: its word, the layout it was recognised by, and what to know of it, in sentences."""

    embedding: Embedding
    layout: str
    notes: tuple[str, ...] = ()


def read(contents: Contents, path: Path, encoder: str | None = None) -> Found:
    """The word in the contents of the file at `path`, whose name is the word where nothing else tells it.

    `encoder` is the one that a file's only tensor is for, where the file does not say it.

    Raises:
        EmbeddingError: no known layout has these names, the numbers are no vectors, or they are not for that encoder.
    """
    for layout, fits, taken in LAYOUTS:
        if fits(contents):
            try:
                embedding = taken(contents, path)
                if encoder is not None:
                    embedding = declared(embedding, encoder, told=taken in (ours, by_encoder))
            except EmbeddingError as error:
                raise EmbeddingError(f"{path}: {error} Give the file of a word that was learned well.") from None
            return Found(embedding, layout, notes(contents, embedding, path))
    raise EmbeddingError(
        f"{path} holds no word: found {listed(contents)}. Allowed are one tensor named as the word (diffusers), "
        f"string_to_param (AUTOMATIC1111), or tensors named as encoders ({', '.join(ENCODERS)}). Give such a file."
    )


def declared(embedding: Embedding, encoder: str, told: bool) -> Embedding:
    """The word with its only vectors as those of an encoder that the user names; `told` is whether the file names one itself."""
    if encoder != "text" and encoder not in WIDTH_OF:
        raise EmbeddingError(
            f"there is no text encoder {encoder!r} here; known are {', '.join(WIDTH_OF)}, and text for any other."
        )
    key, *more = embedding.vectors
    if more or (told and key != encoder):
        raise EmbeddingError(
            f"it says itself that its vectors are for {', '.join(embedding.vectors)}; leave out the encoder."
        )
    width = embedding.vectors[key].shape[1]
    if WIDTH_OF.get(encoder, width) != width:
        raise EmbeddingError(
            f"its vectors are {width} wide and those of {encoder} {WIDTH_OF[encoder]}; name another encoder."
        )
    return replace(embedding, vectors={encoder: embedding.vectors[key]})


def notes(contents: Contents, embedding: Embedding, path: Path) -> tuple[str, ...]:
    """What is known to mislead in files like this one."""
    said: list[str] = []
    empty = [key for key, rows in embedding.vectors.items() if not rows.any()]
    if empty:
        said.append(
            f"All vectors of {' and '.join(empty)} are zero: what was learned stands elsewhere, or nothing was learned."
        )
    stored = contents.texts.get("name", "").strip()
    if stored not in NAMELESS and stored != path.stem and not is_ours(contents):
        said.append(
            f"The file calls its word {stored!r}; AUTOMATIC1111 and ComfyUI would call it {path.stem!r}, as the file."
        )
    counts = {len(rows) for rows in embedding.vectors.values()}
    if len(counts) > 1:
        told = ", ".join(f"{len(rows)} for {key}" for key, rows in embedding.vectors.items())
        said.append(f"The text encoders have different numbers of vectors ({told}); most tools expect the same number.")
    if "text" in embedding.vectors and not is_ours(contents):
        width = embedding.vectors["text"].shape[1]
        said.append(
            f"Nothing in it tells which text encoder its vectors of width {width} are for; name one (--encoder t5)."
        )
    if mistaken(contents):
        said.append("Its clip_g is 768 wide, so it is CLIP-L's: OneTrainer called it so in 2024. It is read as clip_l.")
    return tuple(said)


def listed(contents: Contents) -> str:
    """The names of the tensors, the first few of many."""
    names = [repr(name) for name in contents.tensors]
    if not names:
        return "no tensors"
    return f"tensors {', '.join(names[:5])}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def is_ours(contents: Contents) -> bool:
    """Whether the file tells its word in our metadata."""
    return {OURS + "word", OURS + "encoders"} <= contents.texts.keys()


def ours(contents: Contents, path: Path) -> Embedding:
    """A file that `save` made, in whatever layout: the metadata tells word and encoders, the names which tensor is whose."""
    word, keys = contents.texts[OURS + "word"], encoders(contents.texts[OURS + "encoders"])
    tensors = dict(contents.tensors)
    if len(keys) == 1 and len(tensors) == 1 and set(tensors) <= {word, *NAMELESS, *keys}:
        vectors = {keys[0]: rows(next(iter(tensors.values())))}
    else:
        vectors = {key: rows(tensors[name]) for name in sorted(tensors) if (key := ENCODERS.get(name, name)) in keys}
    named_else = [name for name in tensors if ENCODERS.get(name, name) not in keys]
    if not keys or set(vectors) != set(keys) or (len(tensors) > 1 and named_else):
        raise EmbeddingError(
            f"its metadata tells of the encoders {keys}, and it has {listed(contents)}: they must be the same."
        )
    facts = {name.removeprefix(FACT): text for name, text in contents.texts.items() if name.startswith(FACT)}
    return Embedding(word, {key: vectors[key] for key in keys}, contents.texts.get(OURS + "base", ""), facts)


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
    """Whether every tensor is named as an encoder, each encoder once, or T5 under both its names."""
    return bool(contents.tensors) and all(name.removesuffix("_out") in ENCODERS for name in contents.tensors)


def by_encoder(contents: Contents, path: Path) -> Embedding:
    """{"clip_l": [n, 768], "clip_g": [n, 1280]}, as kohya and others write for models of several encoders."""
    vectors: dict[str, Tensor] = {}
    for name, tensor in refuse_outputs(contents).items():
        key = "clip_l" if mistaken(contents) and name == "clip_g" else ENCODERS[name]
        found = rows(tensor)
        if key in vectors and not torch.equal(vectors[key], found):
            raise EmbeddingError(f"it holds two different sets of vectors for {key}; one is allowed.")
        vectors[key] = found
    return Embedding(named("", path), vectors)


def mistaken(contents: Contents) -> bool:
    """Whether CLIP-L's vectors stand under clip_g, as OneTrainer wrote for FLUX until January 2025."""
    tensor = contents.tensors.get("clip_g")
    return tensor is not None and tensor.shape[-1] == 768 and "clip_l" not in contents.tensors


def refuse_outputs(contents: Contents) -> dict[str, Tensor]:
    """The tensors, none of which is an "output embedding" of OneTrainer: that is added behind the encoder, where no other
    tool and no prompt can put it."""
    outputs = [name for name in contents.tensors if name.endswith("_out")]
    if outputs:
        raise EmbeddingError(
            f"{' and '.join(outputs)} hold OneTrainer's output embeddings, which are added behind the text encoder; the plain "
            "vectors beside them are zeros. Train it there again without output embeddings."
        )
    return dict(contents.tensors)


def is_single(contents: Contents) -> bool:
    """Whether there is one tensor only, or OneTrainer's pair for one encoder."""
    return len(contents.tensors) == 1 or set(contents.tensors) == {"emp_params", "emp_params_out"}


def single(contents: Contents, path: Path) -> Embedding:
    """{word: [width] or [n, width]}, as diffusers writes."""
    ((name, tensor),) = refuse_outputs(contents).items()
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


Layout = tuple[str, Callable[[Contents], bool], Callable[[Contents, Path], Embedding]]

LAYOUTS: tuple[Layout, ...] = (
    ("Neologism", is_ours, ours),
    ("AUTOMATIC1111, or the paper's own code", is_automatic1111, automatic1111),
    ("one tensor for each text encoder (kohya, OneTrainer, ComfyUI, pivotal tuning)", is_by_encoder, by_encoder),
    ("one tensor (diffusers, kohya, OneTrainer)", is_single, single),
)
"""Which layout a file has: the first that fits."""
