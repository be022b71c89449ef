"""Every tool's file holds the same word, and each tool, by its own rules, takes it."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neologism import formats
from neologism.embedding import Embedding
from neologism.errors import EmbeddingError
from neologism.formats import DIALECTS, pictures

FAMILIES = {
    "sd1": {"clip_l": 768},
    "sd2": {"clip_h": 1024},
    "sdxl": {"clip_l": 768, "clip_g": 1280},
    "sd3": {"clip_l": 768, "clip_g": 1280, "t5": 4096},
    "flux": {"clip_l": 768, "t5": 4096},
    "emoji": {"text": 192},
}
WITHOUT_T5 = ("a1111", "a1111-png", "kohya", "invokeai")


def word(family: str, count: int = 2, seed: int = 0) -> Embedding:
    chance = torch.Generator().manual_seed(seed)
    rows = {key: torch.randn(count, width, generator=chance) for key, width in FAMILIES[family].items()}
    return Embedding("<mug>", rows, "a-base", {"step": "150"})


def equal(one: Embedding, other: Embedding) -> bool:
    return dict(one.vectors).keys() == dict(other.vectors).keys() and all(
        torch.equal(rows, other.vectors[key]) for key, rows in one.vectors.items()
    )


@pytest.mark.parametrize("layout", DIALECTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout_of_every_family_is_read_back_to_the_bit(family: str, layout: str, tmp_path: Path) -> None:
    made = word(family)
    if layout in WITHOUT_T5 and "t5" in made.vectors:
        with pytest.raises(EmbeddingError, match="reads no vectors of T5, which '<mug>' has. Use the layout common"):
            formats.save(made, tmp_path / "mug", layout)
        return
    file = formats.save(made, tmp_path / "mug", layout)
    parts = sorted(tmp_path.iterdir())
    found = [formats.load(part) for part in parts]
    vectors = {key: rows for part in found for key, rows in part.vectors.items()}
    assert equal(Embedding("<mug>", vectors), made)
    assert len(parts) == (len(made.vectors) if layout == "diffusers" and "t5" not in made.vectors else 1)
    assert found[0].word == ("mug" if layout in ("a1111", "a1111-png") and file.suffix != ".safetensors" else "<mug>")
    assert all("mug" in line for line in formats.how_to_use(made, file, layout))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(0, 99), st.sampled_from(sorted(DIALECTS)), st.sampled_from(sorted(DIALECTS)))
def test_a_word_survives_any_two_conversions(count: int, seed: int, one: str, two: str) -> None:
    import tempfile

    made = word("sd1", count, seed)
    with tempfile.TemporaryDirectory() as folder:
        first = formats.save(made, Path(folder) / "one", one)
        assert equal(formats.load(formats.convert(first, Path(folder) / "two", two)), made)


def names_in(file: Path) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in safetensors.torch.load_file(file).items()}


@pytest.mark.parametrize(
    ("family", "layout", "names"),
    [
        ("sd1", "common", {"emb_params": (2, 768)}),
        ("sd1", "diffusers", {"<mug>": (2, 768)}),
        ("sd1", "onetrainer", {"emp_params": (2, 768)}),
        ("sdxl", "common", {"clip_l": (2, 768), "clip_g": (2, 1280)}),
        ("sdxl", "a1111", {"clip_l": (2, 768), "clip_g": (2, 1280)}),
        ("flux", "comfyui", {"clip_l": (2, 768), "t5xxl": (2, 4096)}),
        ("flux", "onetrainer", {"clip_l": (2, 768), "t5": (2, 4096)}),
        ("sd3", "common", {"clip_l": (2, 768), "clip_g": (2, 1280), "t5": (2, 4096), "t5xxl": (2, 4096)}),
    ],
)
def test_the_names_are_those_each_tool_looks_for(family: str, layout: str, names: Any, tmp_path: Path) -> None:
    assert names_in(formats.save(word(family), tmp_path / "mug", layout)) == names


def test_kohyas_file_says_its_architecture(tmp_path: Path) -> None:
    file = formats.save(word("sdxl"), tmp_path / "mug", "kohya")
    with safetensors.safe_open(file, "pt") as opened:
        told = opened.metadata()
    assert told["modelspec.architecture"] == "stable-diffusion-xl-v1-base/textual-inversion"
    assert told["modelspec.title"] == "mug" and told["neologism.word"] == "<mug>"


# The readers of two tools by their rules, as independent checkers.


def automatic1111_takes(file: Path) -> dict[str, Any]:
    """The web UI's rules: which members a zip may have, then which dictionary a word may be."""
    import re

    allowed = re.compile(r"^([^/]+)/((data/\d+)|version|byteorder|(\.data/serialization_id)|(data\.pkl))$")
    if file.suffix == ".pt":
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                assert allowed.match(name), f"bad file inside {file}: {name}"
        data = torch.load(file, weights_only=True)
    else:
        data = safetensors.torch.load_file(file)
    if "string_to_param" in data:
        assert len(data["string_to_param"]) == 1
        return {"rows": next(iter(data["string_to_param"].values()))}
    if "clip_g" in data and "clip_l" in data:
        return data
    assert len(data) == 1, "embedding file has multiple terms in it"
    rows = next(iter(data.values()))
    return {"rows": rows.unsqueeze(0) if rows.ndim == 1 else rows}


@pytest.mark.parametrize("layout", ["a1111", "common", "kohya", "invokeai", "diffusers"])
def test_automatic1111_takes_what_is_written_for_it(layout: str, tmp_path: Path) -> None:
    taken = automatic1111_takes(formats.save(word("sd1"), tmp_path / "mug", layout))
    assert torch.equal(taken["rows"], word("sd1").vectors["clip_l"])
    if layout != "diffusers":
        both = automatic1111_takes(formats.save(word("sdxl"), tmp_path / "both", layout))
        assert torch.equal(both["clip_g"], word("sdxl").vectors["clip_g"])


def comfyui_takes(file: Path, key: str, width: int) -> torch.Tensor:
    """ComfyUI's rules: string_to_param's first value, else the encoder's key, else the first tensor; a wrong width is dropped."""
    data = torch.load(file, weights_only=True) if file.suffix == ".pt" else safetensors.torch.load_file(file)
    if "string_to_param" in data:
        rows = next(iter(data["string_to_param"].values()))
    else:
        rows = data[key] if key in data else next(iter(data.values()))
    assert rows.shape[-1] == width, f"shape mismatch, embedding will be ignored {rows.shape[-1]} != {width}"
    return rows


@pytest.mark.parametrize("layout", ["comfyui", "common"])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "sd3", "flux"])
def test_comfyui_takes_what_is_written_for_it(family: str, layout: str, tmp_path: Path) -> None:
    made, file = word(family), formats.save(word(family), tmp_path / "mug", layout)
    asked = {"clip_h": "clip_l", "t5": "t5xxl"}  # what it calls those encoders
    for key, rows in made.vectors.items():
        assert torch.equal(comfyui_takes(file, asked.get(key, key), rows.shape[1]), rows)


# pictures


def test_a_picture_holds_its_word_twice(tmp_path: Path) -> None:
    made = word("sd1", 3)
    file = formats.save(made, tmp_path / "mug", "a1111-png")
    with Image.open(file) as image:
        told = json.loads(base64.b64decode(image.text["sd-ti-embedding"]))  # type: ignore[attr-defined]
        bare = image.convert("RGB")
    assert told["name"] == "mug" and np.array(told["string_to_param"]["*"]["TORCHTENSOR"]).shape == (3, 768)
    bare.save(tmp_path / "stripped.png")
    framed = Image.new("RGB", (bare.width + 20, bare.height + 8))
    framed.paste(bare, (10, 4))
    framed.save(tmp_path / "framed.webp", lossless=True)
    for name in ("mug.png", "stripped.png", "framed.webp"):
        found = formats.load(tmp_path / name)
        assert found.word == "mug" and torch.equal(found.vectors["clip_l"], made.vectors["clip_l"])


def test_a_picture_without_a_word_is_told(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "a.png")
    with pytest.raises(EmbeddingError, match="a.png is a picture, and it has no word in its text nor in its pixels"):
        formats.load(tmp_path / "a.png")


def test_a_picture_saved_with_loss_is_told(tmp_path: Path) -> None:
    file = formats.save(word("sd1"), tmp_path / "mug", "a1111-png")
    Image.open(file).convert("RGB").save(tmp_path / "mug.jpg", quality=60)
    with pytest.raises(EmbeddingError, match="mug.jpg is a picture, and .*Give the picture as it was first saved"):
        formats.load(tmp_path / "mug.jpg")


def test_a_picture_that_unpacks_to_gigabytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    monkeypatch.setattr(pictures, "LARGEST_JSON", 1000)
    out = io.BytesIO()
    pictures.with_blocks(Image.new("RGB", (64, 64), "teal"), zlib.compress(b" " * 5000)).save(out, "PNG")
    with pytest.raises(pictures.NoWord, match="it unpacks to more than a word has"):
        pictures.read(out.getvalue())


# what is known to mislead


def saved(tensors: dict[str, torch.Tensor], file: Path) -> Path:
    safetensors.torch.save_file(tensors, file)
    return file


def test_onetrainers_output_embeddings_are_refused_with_the_reason(tmp_path: Path) -> None:
    one = {"emp_params": torch.zeros(2, 768), "emp_params_out": torch.ones(2, 768)}
    two = {"clip_l": torch.zeros(2, 768), "clip_l_out": torch.ones(2, 768), "clip_g": torch.zeros(2, 1280)}
    for tensors in (one, two):
        with pytest.raises(EmbeddingError, match="hold OneTrainer's output embeddings, which are added behind"):
            formats.load(saved(tensors, tmp_path / "a.safetensors"))


def test_onetrainers_mistaken_flux_file_is_mended_and_told(tmp_path: Path) -> None:
    file = saved({"clip_g": torch.ones(4, 768), "t5": torch.ones(4, 4096)}, tmp_path / "a.safetensors")
    found = formats.examined(file)
    assert set(found.embedding.vectors) == {"clip_l", "t5"}
    assert found.notes == (
        "Its clip_g is 768 wide, so it is CLIP-L's: OneTrainer called it so in 2024. It is read as clip_l.",
    )


def test_zeros_other_names_and_uneven_counts_are_told(tmp_path: Path) -> None:
    zeros = formats.examined(saved({"emb_params": torch.zeros(1, 768)}, tmp_path / "z.safetensors"))
    assert zeros.notes[0].startswith("All vectors of clip_l are zero")
    torch.save({"string_to_param": {"*": torch.ones(1, 768)}, "name": "bad-artist-2"}, tmp_path / "bad-artist-anime.pt")
    told = formats.examined(tmp_path / "bad-artist-anime.pt")
    assert told.embedding.word == "bad-artist-2" and "would call it 'bad-artist-anime'" in told.notes[0]
    uneven = {"clip_l": torch.ones(1, 768), "clip_g": torch.ones(2, 1280)}
    assert "(2 for clip_g, 1 for clip_l)" in formats.examined(saved(uneven, tmp_path / "u.safetensors")).notes[0]


@pytest.mark.parametrize(("encoder", "width"), [("clip_l", 768), ("clip_g", 1280), ("t5", 4096), ("text", 64)])
def test_a_bare_tensor_is_of_the_encoder_that_is_named(encoder: str, width: int, tmp_path: Path) -> None:
    for number, rows in enumerate((torch.randn(width), torch.randn(3, width))):
        torch.save(rows.bfloat16(), tmp_path / f"mug{number}.pt")
        found = formats.load(tmp_path / f"mug{number}.pt", encoder=encoder)
        assert found.word == f"mug{number}" and list(found.vectors) == [encoder]
        assert torch.equal(found.vectors[encoder], rows.bfloat16().float().reshape(-1, width))
        again = formats.load(formats.convert(tmp_path / f"mug{number}.pt", tmp_path / "out", "comfyui", encoder))
        assert equal(again, found)


def test_a_bare_tensor_of_unknown_width_says_what_is_missing(tmp_path: Path) -> None:
    torch.save(torch.randn(4096), tmp_path / "mug.pt")
    assert formats.examined(tmp_path / "mug.pt").notes == (
        "Nothing in it tells which text encoder its vectors of width 4096 are for; name one (--encoder t5).",
    )


@pytest.mark.parametrize(
    ("tensors", "encoder", "told"),
    [
        (
            {"a": torch.ones(1, 768)},
            "clip_q",
            "there is no text encoder 'clip_q' here; known are clip_l, clip_h, clip_g, t5, and text",
        ),
        ({"a": torch.ones(1, 768)}, "t5", "its vectors are 768 wide and those of t5 4096; name another encoder"),
        ({"t5": torch.ones(1, 4096)}, "text", "it says itself that its vectors are for t5; leave out the encoder"),
        (
            {"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)},
            "clip_l",
            "its vectors are for clip_g, clip_l; leave out",
        ),
    ],
)
def test_an_encoder_that_a_file_is_not_for_is_told(tensors: Any, encoder: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match=told):
        formats.load(saved(tensors, tmp_path / "a.safetensors"), encoder=encoder)


def test_an_unknown_layout_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match="There is no layout 'a111'. Choose one of common, diffusers, a1111"):
        formats.save(word("sd1"), tmp_path / "mug", "a111")
