"""An Embedding as each of its users' tools wants it written, and what to do with the file there."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from neologism.embedding import Embedding
from neologism.errors import EmbeddingError
from neologism.formats import pictures
from neologism.formats.containers import Contents, packed

Files = dict[str, bytes]
"""What is written: the ending of each file's name, and its bytes."""

OURS, FACT = "neologism.", "neologism.facts."
CLIP = ("clip_l", "clip_g")
TOO_NEW = (".format_version", ".storage_alignment")
"""Members that today's torch adds to its zip files, and that AUTOMATIC1111's checker does not know and so refuses."""


def about(embedding: Embedding, keys: list[str]) -> dict[str, str]:
    """The word, its base and facts as metadata; no other tool stores the word anywhere.

    Raises:
        EmbeddingError: no file can hold that word.
    """
    if not embedding.word or embedding.word == "__metadata__":
        raise EmbeddingError(f"{embedding.word!r} cannot name a word in a file. Give another word, such as '<my-mug>'.")
    texts = {
        "format": "pt",  # some tools of others refuse safetensors without it
        OURS + "word": embedding.word,
        OURS + "base": embedding.base,
        OURS + "encoders": json.dumps(keys),
    }
    return texts | {FACT + name: text for name, text in embedding.facts.items()}


def tensors_file(embedding: Embedding, tensors: Mapping[str, Tensor], keys: list[str], **more: str) -> bytes:
    """A safetensors file of these tensors, which hold the vectors of these encoders."""
    return packed(Contents(dict(tensors), about(embedding, keys) | more))


def by_key(embedding: Embedding, alone: str, t5: tuple[str, ...] = ("t5",)) -> bytes:
    """One tensor called `alone` for one encoder; for several, one each, T5's under all the given names."""
    keys = list(embedding.vectors)
    if len(keys) == 1 and keys != ["t5"]:
        return tensors_file(embedding, {alone: embedding.vectors[keys[0]]}, keys)
    names = {name: rows.clone() for key, rows in embedding.vectors.items() for name in (t5 if key == "t5" else (key,))}
    return tensors_file(embedding, names, keys)


def common(embedding: Embedding, stem: str) -> Files:
    """The names that most tools read: emb_params, or an encoder's own; T5 under both its names."""
    return {".safetensors": by_key(embedding, "emb_params", ("t5", "t5xxl"))}


def diffusers(embedding: Embedding, stem: str) -> Files:
    """A tensor called as the word; for SDXL a file for each encoder, as its script writes; with T5 the pivotal layout."""
    if "t5" in embedding.vectors:
        return {".safetensors": by_key(embedding, embedding.word)}
    endings = (".safetensors", *(f"_{n}.safetensors" for n in range(2, 9)))
    return {
        ending: tensors_file(embedding, {embedding.word: rows}, [key])
        for ending, (key, rows) in zip(endings, embedding.vectors.items(), strict=False)
    }


def comfyui(embedding: Embedding, stem: str) -> Files:
    """The encoder's own names; T5 is t5xxl there."""
    return {".safetensors": by_key(embedding, "emb_params", ("t5xxl",))}


def clip_only(embedding: Embedding, tool: str) -> None:
    """Refuse what a tool cannot take because it has no T5."""
    if "t5" in embedding.vectors:
        raise EmbeddingError(
            f"{tool} reads no vectors of T5, which {embedding.word!r} has. Use the layout common, diffusers, comfyui or onetrainer."
        )


ARCHITECTURES: dict[tuple[str, ...], str] = {
    ("clip_l",): "stable-diffusion-v1",
    ("clip_h",): "stable-diffusion-v2-768-v",
    CLIP: "stable-diffusion-xl-v1-base",
}


def kohya(embedding: Embedding, stem: str) -> Files:
    """emb_params or clip_l and clip_g, with the modelspec that sd-scripts writes."""
    clip_only(embedding, "kohya's sd-scripts")
    keys = list(embedding.vectors)
    spec = {"modelspec.sai_model_spec": "1.0.1", "modelspec.title": stem}
    if tuple(keys) in ARCHITECTURES:
        spec["modelspec.architecture"] = ARCHITECTURES[tuple(keys)] + "/textual-inversion"
    names = {"emb_params" if len(keys) == 1 else key: rows for key, rows in embedding.vectors.items()}
    return {".safetensors": tensors_file(embedding, names, keys, **spec)}


def invokeai(embedding: Embedding, stem: str) -> Files:
    """emb_params or clip_l and clip_g; a flat file of diffusers is not recognised there."""
    clip_only(embedding, "InvokeAI")
    return {".safetensors": by_key(embedding, "emb_params")}


def onetrainer(embedding: Embedding, stem: str) -> Files:
    """emp_params (so spelled there), or the encoders' own names."""
    return {".safetensors": by_key(embedding, "emp_params")}


def automatic1111(embedding: Embedding, stem: str) -> Files:
    """The .pt of the web UI; for SDXL the safetensors that it reads."""
    clip_only(embedding, "AUTOMATIC1111")
    if len(embedding.vectors) > 1:
        return {".safetensors": by_key(embedding, "emb_params")}
    stream = io.BytesIO()
    torch.save(told(embedding, stem), stream)
    return {".pt": without(stream.getvalue(), TOO_NEW)}


def automatic1111_png(embedding: Embedding, stem: str) -> Files:
    """The picture that the web UI reads."""
    clip_only(embedding, "AUTOMATIC1111")
    inside: dict[str, Any] = told(embedding, stem) if len(embedding.vectors) == 1 else dict(embedding.vectors)
    return {".png": pictures.drawn(inside | {"name": stem}, card(embedding, stem))}


def told(embedding: Embedding, stem: str) -> dict[str, Any]:
    """The web UI's own dictionary; what its "*" and 265 say means nothing to any reader."""
    (rows,) = embedding.vectors.values()
    step = embedding.facts.get("step", "")
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": rows.clone()},
        "name": stem,
        "step": int(step) if step.isdecimal() else None,
        "sd_checkpoint": None,
        "sd_checkpoint_name": embedding.base or None,
    }


def without(content: bytes, names: tuple[str, ...]) -> bytes:
    """A zip file without these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for part in old.infolist():
            if not part.filename.endswith(names):
                new.writestr(zipfile.ZipInfo(part.filename), old.read(part))
    return out.getvalue()


def card(embedding: Embedding, stem: str) -> Image.Image:
    """A picture that says what it is."""
    image = Image.new("RGB", (384, 256), (36, 41, 54))
    lines = [
        stem,
        f"{embedding.count} vector{'s' if embedding.count > 1 else ''}",
        embedding.base,
        "a word, made with Neologism",
    ]
    ImageDraw.Draw(image).multiline_text((24, 24), "\n\n".join(line for line in lines if line), fill=(236, 239, 244))
    return image


@dataclass(frozen=True)
class Dialect:
    """A way of writing, and what to do with its file: `use` has places for {file}, {stem} and {word}."""

    write: Callable[[Embedding, str], Files]
    use: tuple[str, ...]


AUTOMATIC = "AUTOMATIC1111, Forge: put {file} into embeddings/ and type {stem}"
COMFY = "ComfyUI: put {file} into models/embeddings/ and type embedding:{stem}"
INVOKE = "InvokeAI: import {file} in the model manager and type <{stem}>"
KOHYA = "kohya sd-scripts: --textual_inversion_embeddings {file}, and type {stem}"
DIFFUSERS = 'diffusers: pipe.load_textual_inversion("{file}", token="{word}"), and type {word}'

DIALECTS: dict[str, Dialect] = {
    "common": Dialect(common, (DIFFUSERS, AUTOMATIC, COMFY, INVOKE, KOHYA)),
    "diffusers": Dialect(diffusers, (DIFFUSERS,)),
    "a1111": Dialect(automatic1111, (AUTOMATIC, COMFY, INVOKE, KOHYA)),
    "a1111-png": Dialect(automatic1111_png, (AUTOMATIC,)),
    "comfyui": Dialect(comfyui, (COMFY,)),
    "kohya": Dialect(kohya, (KOHYA, AUTOMATIC, COMFY, INVOKE)),
    "invokeai": Dialect(invokeai, (INVOKE, AUTOMATIC, COMFY)),
    "onetrainer": Dialect(onetrainer, ("OneTrainer: choose {file} as the embedding to go on from",)),
}
"""What `save` and `convert` can write; the first is what is written where nobody says."""
