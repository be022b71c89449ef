"""Whatever a tool can have written, in whatever container and for whatever family, is read as what it was, to the bit."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from neologism import formats
from neologism.embedding import Embedding
from neologism.errors import EmbeddingError
from neologism.formats import DIALECTS

FAMILIES = {
    "sd1": {"clip_l": 768},
    "sd2": {"clip_h": 1024},
    "sdxl": {"clip_l": 768, "clip_g": 1280},
    "sd3": {"clip_l": 768, "clip_g": 1280, "t5": 4096},
    "flux": {"clip_l": 768, "t5": 4096},
    "emoji": {"text": 192},
}
Named = dict[str, Any]
Rows = dict[str, torch.Tensor]


def rows_of(family: str, counts: list[int], kind: torch.dtype, seed: int) -> Rows:
    """Random rows with very small and very large numbers among them, in a type that files have."""
    chance = torch.Generator().manual_seed(seed)
    found: Rows = {}
    for count, (key, width) in zip(counts, FAMILIES[family].items(), strict=False):
        scale = 10 ** (4 * torch.rand(count, width, generator=chance) - 2)
        found[key] = (torch.randn(count, width, generator=chance) * scale).to(kind)
    return found


ROWS = st.builds(
    rows_of,
    st.sampled_from(sorted(FAMILIES)),
    st.lists(st.integers(1, 4), min_size=3, max_size=3),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.integers(0, 999),
)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=12).map(
    lambda text: f"<{text}>"
)


def same(found: Rows | Any, wanted: Rows) -> bool:
    return set(found) == set(wanted) and all(torch.equal(found[key], rows.float()) for key, rows in wanted.items())


# what we write


@settings(deadline=None, max_examples=60)
@given(
    ROWS,
    WORDS,
    st.sampled_from(sorted(DIALECTS)),
    st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3),
)
def test_every_layout_holds_every_word_of_every_family(
    rows: Rows, word: str, layout: str, facts: dict[str, str]
) -> None:
    made = Embedding(word, rows, "a base", facts)
    with tempfile.TemporaryDirectory() as folder:
        try:
            formats.save(made, Path(folder) / "mug", layout)
        except EmbeddingError as error:
            assert "reads no vectors of T5" in str(error) and "t5" in rows
            return
        files = sorted(Path(folder).iterdir())
        found = [formats.load(file) for file in files]
    assert same({key: tensor for part in found for key, tensor in part.vectors.items()}, made.vectors)
    if all(file.suffix == ".safetensors" for file in files):
        assert all((part.word, part.base, dict(part.facts)) == (word, "a base", facts) for part in found)


# what others write, by research into their code


def diffusers(rows: Rows, word: str) -> Named:
    ((_, tensor),) = rows.items()
    return {word: tensor[0] if len(tensor) == 1 else tensor}


def automatic1111(rows: Rows, word: str) -> Named:
    ((_, tensor),) = rows.items()
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": tensor},
        "name": word,
        "step": 9,
        "sd_checkpoint_name": None,
    }


def textual_inversion(rows: Rows, word: str) -> Named:
    ((_, tensor),) = rows.items()
    held = nn.ParameterDict({word: nn.Parameter(tensor)})
    return {"string_to_token": {word: torch.arange(77)[5]}, "string_to_param": held}


def kohya(rows: Rows, word: str) -> Named:
    return {"emb_params": next(iter(rows.values()))} if len(rows) == 1 else dict(rows)


def onetrainer(rows: Rows, word: str) -> Named:
    return {"emp_params": next(iter(rows.values()))} if len(rows) == 1 else dict(rows)


def comfyui(rows: Rows, word: str) -> Named:
    return {"t5xxl" if key == "t5" else key: tensor for key, tensor in rows.items()}


def cog(rows: Rows, word: str) -> Named:
    return {"text_encoders_0": rows["clip_l"], "text_encoders_1": rows["clip_g"]}


ONE, CLIPS, ENCODERS = ("sd1", "sd2", "emoji"), ("sd1", "sd2", "sdxl", "emoji"), ("sd1", "sdxl", "sd3", "flux")
TOOLS: dict[str, tuple[Callable[[Rows, str], Named], tuple[str, ...], tuple[str, ...]]] = {
    "diffusers": (diffusers, ONE, ("safetensors", "zip", "legacy")),
    "a1111": (automatic1111, ONE, ("zip", "legacy", "picture")),
    "the paper's": (textual_inversion, ONE, ("zip", "legacy")),
    "kohya": (kohya, CLIPS, ("safetensors", "zip", "legacy")),
    "onetrainer": (onetrainer, (*CLIPS, "sd3", "flux"), ("safetensors",)),
    "comfyui": (comfyui, ENCODERS, ("safetensors", "zip")),
    "cog": (cog, ("sdxl",), ("safetensors",)),
}
CASES = [
    (tool, family, container)
    for tool, (_, families, kinds) in TOOLS.items()
    for family in families
    for container in kinds
]


def in_picture(told: Named) -> bytes:
    """A PNG with the web UI's text chunk; its numbers stand there as JSON has them."""
    from PIL.PngImagePlugin import PngInfo

    plain = told | {"string_to_param": {"*": {"TORCHTENSOR": told["string_to_param"]["*"].tolist()}}}
    chunk, out = PngInfo(), io.BytesIO()
    chunk.add_text("sd-ti-embedding", base64.b64encode(json.dumps(plain).encode()).decode())
    Image.new("RGB", (16, 16), "teal").save(out, "PNG", pnginfo=chunk)
    return out.getvalue()


def contained(told: Named, container: str) -> bytes:
    """The bytes of a file."""
    if container == "safetensors":
        return safetensors.torch.save({name: tensor.contiguous() for name, tensor in told.items()})
    if container == "picture":
        return in_picture(told)
    out = io.BytesIO()
    torch.save(told, out, _use_new_zipfile_serialization=container == "zip")
    return out.getvalue()


@settings(deadline=None, max_examples=120)
@given(
    st.sampled_from(CASES),
    st.integers(0, 999),
    st.integers(1, 3),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    WORDS,
)
def test_every_tools_file_is_read_to_the_bit(
    case: tuple[str, str, str], seed: int, count: int, kind: torch.dtype, word: str
) -> None:
    tool, family, container = case
    assume(not (container == "picture" and kind != torch.float32))  # a picture's numbers are written out in full
    assume(not (tool == "the paper's" and "." in word))  # torch refuses such names in a ParameterDict
    rows = rows_of(family, [count] * 3, kind, seed)
    content = contained(TOOLS[tool][0](rows, word), container)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "no-ending-tells"
        file.write_bytes(content)
        found = formats.load(file)
    assert same(found.vectors, rows)
    assert found.word == (word if tool in ("diffusers", "a1111", "the paper's") else "no-ending-tells")


def test_the_cases_are_all_that_can_exist() -> None:
    assert len(CASES) == len(set(CASES)) == 51 and {family for _, family, _ in CASES} == set(FAMILIES)
