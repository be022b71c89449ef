"""A word's file: what is written comes back, others' files are read, and everything else is refused in plain words."""

from __future__ import annotations

import errno
import json
import os
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from diffusers.loaders import TextualInversionLoaderMixin
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from neologism import formats
from neologism.embedding import Embedding
from neologism.errors import EmbeddingError
from neologism.formats import containers, pickles

TEXT = st.text(max_size=20)
WORDS = st.text(min_size=1, max_size=20).filter(lambda word: word != "__metadata__")
KEYS = st.lists(st.sampled_from(["clip_l", "clip_g", "t5", "text", "other key"]), min_size=1, max_size=3, unique=True)


@st.composite
def embeddings(draw: st.DrawFn) -> Embedding:
    """Any word with any encoders, counts and widths."""
    sides = st.tuples(st.integers(1, 4), st.integers(1, 9))
    seed = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    vectors = {key: torch.randn(draw(sides), generator=seed) for key in draw(KEYS)}
    return Embedding(draw(WORDS), vectors, draw(TEXT), draw(st.dictionaries(TEXT, TEXT, max_size=4)))


def word(n: int = 2, width: int = 768, name: str = "<mug>") -> Embedding:
    return Embedding(name, {"clip_l": torch.arange(n * width).reshape(n, width) / 100}, "emoji", {"step": "250"})


def same(one: Embedding, other: Embedding) -> bool:
    return (
        (one.word, one.base, one.facts, list(one.vectors)) == (other.word, other.base, other.facts, list(other.vectors))
    ) and all(torch.equal(one.vectors[key], other.vectors[key]) for key in one.vectors)


def refused(path: Path, *texts: str) -> None:
    """Loading fails, and says all of these."""
    with pytest.raises(EmbeddingError) as caught:
        formats.load(path)
    for text in (str(path), *texts):
        assert text in str(caught.value)


# ours


@settings(deadline=None, max_examples=60)
@given(embedding=embeddings())
def test_what_is_saved_is_loaded(embedding: Embedding, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = formats.save(embedding, tmp_path_factory.mktemp("words") / "word.safetensors")
    assert same(formats.load(file), embedding)


def test_the_same_word_gives_the_same_bytes(tmp_path: Path) -> None:
    embedding = Embedding("<a>", {"clip_l": torch.ones(1, 4)}, "b", {f"fact{i}": str(i) for i in range(9)})
    files = [formats.save(embedding, tmp_path / f"{i}.safetensors").read_bytes() for i in range(4)]
    assert len(set(files)) == 1


def test_metadata_tells_word_base_and_facts(tmp_path: Path) -> None:
    file = formats.save(word(), tmp_path / "word.safetensors")
    with safetensors.safe_open(file, "pt") as opened:
        told = opened.metadata()
    assert told["neologism.word"] == "<mug>"
    assert told["neologism.base"] == "emoji"
    assert told["neologism.facts.step"] == "250"
    assert json.loads(told["neologism.encoders"]) == ["clip_l"]


def test_several_encoders_are_named_by_their_keys(tmp_path: Path) -> None:
    both = Embedding("<a>", {"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)})
    file = formats.save(both, tmp_path / "word.safetensors")
    assert set(safetensors.torch.load_file(file)) == {"clip_l", "clip_g"}


# those of others


def test_diffusers_safetensors_is_read(tmp_path: Path) -> None:
    file = tmp_path / "learned_embeds.safetensors"
    safetensors.torch.save_file({"<toy>": torch.ones(3, 1024).half()}, file)
    loaded = formats.load(file)
    assert (loaded.word, loaded.vectors["clip_h"].shape, loaded.count) == ("<toy>", (3, 1024), 3)


def test_old_diffusers_bin_of_one_dimension_is_read(tmp_path: Path) -> None:
    file = tmp_path / "learned_embeds.bin"
    torch.save({"<toy>": torch.nn.Parameter(torch.ones(768))}, file)
    assert formats.load(file).vectors["clip_l"].shape == (1, 768)


def test_automatic1111_pt_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file-name.pt"
    tensor = torch.ones(2, 768).requires_grad_()
    content = {"string_to_token": {"*": 265}, "string_to_param": {"*": tensor}, "name": "mug", "step": 500}
    torch.save(content | {"sd_checkpoint": None, "sd_checkpoint_name": "v1-5"}, file)
    loaded = formats.load(file)
    assert (loaded.word, loaded.base, loaded.facts) == ("mug", "v1-5", {"step": "500"})
    assert loaded.vectors["clip_l"].shape == (2, 768)


def test_files_without_a_word_are_called_as_the_file(tmp_path: Path) -> None:
    kohya = tmp_path / "style.safetensors"
    safetensors.torch.save_file({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}, kohya)
    easy = tmp_path / "easy.safetensors"
    safetensors.torch.save_file({"emb_params": torch.ones(8, 768)}, easy)
    assert formats.load(kohya).word == "style"
    assert formats.load(easy).word == "easy"


def test_an_unknown_width_is_some_text_encoder(tmp_path: Path) -> None:
    safetensors.torch.save_file({"<a>": torch.ones(1, 77)}, tmp_path / "a.safetensors")
    assert list(formats.load(tmp_path / "a.safetensors").vectors) == ["text"]


# what is refused in reading


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    refused(
        tmp_path / "none.safetensors", "There is no file", "Give the path of a word's file: a .safetensors, .bin or .pt"
    )


def test_a_folder_is_told(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder", "Give a word's file in it")


def test_a_path_through_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "word.safetensors", "Not a directory", "Give a file you may read")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty (0 bytes)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"hello world", "is of a kind unknown here"),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "file").write_bytes(content)
    refused(tmp_path / "file", text, "not a word's file. Give a .safetensors, .bin or .pt file")


@settings(deadline=None, max_examples=60)
@given(cut=st.integers(9, 1800), legacy=st.booleans())
def test_a_truncated_file_is_damaged(cut: int, legacy: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("words") / ("word.bin" if legacy else "word.safetensors")
    if legacy:
        torch.save({"<a>": torch.ones(768)}, file)
    else:
        formats.save(word(), file)
    file.write_bytes(file.read_bytes()[:cut])
    refused(file, "is damaged: ", "It must be a whole file; copy or download it again.")


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_no_flipped_byte_ends_in_a_traceback(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("words") / "word.pt"
    content = {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.ones(1, 8)}, "name": "a"}
    torch.save(content, file)
    broken = bytearray(file.read_bytes())
    broken[data.draw(st.integers(0, len(broken) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(broken)
    try:
        formats.load(file)
    except EmbeddingError as error:
        assert str(file) in str(error)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_told(tmp_path: Path, value: float) -> None:
    safetensors.torch.save_file({"<a>": torch.full((1, 768), value)}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "'<a>' holds NaN or infinity for clip_l", "Give the file of a word")


def test_unknown_names_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file({f"layer{i}": torch.ones(1) for i in range(7)}, file)
    refused(file, "holds no word: found tensors 'layer0', 'layer1'", "and 2 more", "Allowed are one tensor named as")


def test_a_file_without_tensors_is_told(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "holds no word: found no tensors")


def test_several_words_in_one_file_are_told(tmp_path: Path) -> None:
    torch.save({"string_to_param": {"a": torch.ones(1, 768), "b": torch.ones(1, 768)}}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "it holds 2 words (a, b); one file holds one word")


def test_whole_numbers_are_no_vectors(tmp_path: Path) -> None:
    safetensors.torch.save_file({"<a>": torch.ones(1, 768, dtype=torch.int64)}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "numbers of the kind int64; vectors are floating-point numbers")


def test_wrong_shapes_are_told(tmp_path: Path) -> None:
    safetensors.torch.save_file({"<a>": torch.ones(1, 2, 768)}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "[1, 2, 768]", "it must be [vectors, width]")


@pytest.mark.parametrize("keys", ['["clip_l", "clip_g"]', "[]", "no json", "{}"])
def test_metadata_that_lies_about_the_tensors_is_told(tmp_path: Path, keys: str) -> None:
    told = {"neologism.word": "<a>", "neologism.encoders": keys}
    safetensors.torch.save_file({"<b>": torch.ones(1, 768)}, tmp_path / "a.safetensors", told)
    refused(tmp_path / "a.safetensors", "its metadata tells of the encoders", "'<b>'", "they must be the same")


def test_large_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = formats.save(word(), tmp_path / "word.safetensors")
    monkeypatch.setattr(containers, "LARGEST", 1000)
    refused(file, "a word's file has at most 1,000. Is it a whole model?")


def test_small_files_that_unpack_to_large_ones_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "bomb.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb/data/0", "w") as stream:
        for _ in range(257):
            stream.write(bytes(2**20))
    refused(file, "a word's file has at most 268,435,456")


def test_tensors_that_claim_more_numbers_than_they_have_are_refused(tmp_path: Path) -> None:
    torch.save({"<a>": torch.ones(1).expand(2**20, 768)}, tmp_path / "a.bin")
    refused(tmp_path / "a.bin", "of shape [1048576, 768] in a storage of 1 numbers")


def test_a_bare_pickle_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"a": 1}))
    refused(tmp_path / "a.pt", "is a bare pickle, not a file of torch, and only tensors", "nothing in it was run")


@pytest.mark.parametrize("place", [b"r\xff\xff\xff\x7f", b"p2147483647\n"])
def test_a_pickle_that_would_reserve_gigabytes_reserves_none(tmp_path: Path, place: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(b"\x80\x02]" + place + b".")
    refused(tmp_path / "a.pt", "holds a place of memory that is none")


@pytest.mark.parametrize("legacy", [True, False])
def test_a_parameter_dict_of_any_torch_is_read(tmp_path: Path, legacy: bool) -> None:
    """The paper's own code saves one; torch's reader of weights only refuses it."""
    rows = torch.randn(2, 768)
    held = torch.nn.ParameterDict({"*": torch.nn.Parameter(rows)})
    told = {"string_to_token": {"*": torch.arange(77)[5]}, "string_to_param": held}
    torch.save(told, tmp_path / "cat.pt", _use_new_zipfile_serialization=not legacy)
    found = formats.load(tmp_path / "cat.pt")
    assert found.word == "cat" and torch.equal(found.vectors["clip_l"], rows)


def test_the_parameter_dict_of_torch_before_1_12_is_read() -> None:
    held = pickles.Held()
    held.__setstate__({"_parameters": {"*": 1}, "training": True})
    assert held.items() == {"*": 1}


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("legacy", [True, False])
def test_every_kind_of_number_and_container_of_torch_is_read(tmp_path: Path, kind: torch.dtype, legacy: bool) -> None:
    rows = torch.randn(6, 768).to(kind)
    torch.save({"<a>": rows[::2].requires_grad_()}, tmp_path / "a.bin", _use_new_zipfile_serialization=not legacy)
    assert torch.equal(formats.load(tmp_path / "a.bin").vectors["clip_l"], rows[::2].float())


class Trap:
    """Pickled, it asks for a file to be made when it is opened."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, legacy: bool) -> None:
    made = tmp_path / "made"
    told = {"<a>": torch.ones(768), "trap": Trap(made)}
    torch.save(told, tmp_path / "trap.bin", _use_new_zipfile_serialization=not legacy)
    refused(tmp_path / "trap.bin", "asks for posix.mkdir, and only tensors", "nothing in it was run")
    assert not made.exists()


# what is refused in writing


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        EmbeddingError, match=r"a\.pt cannot be written: a word's file of the layout common is named NAME\.safetensors"
    ):
        formats.save(word(), tmp_path / "a.pt")


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match=r"No such file or directory\. Give a path in a folder that exists"):
        formats.save(word(), tmp_path / "none" / "a.safetensors")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    file = formats.save(word(), tmp_path / "a.safetensors")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(EmbeddingError, match=r"a\.safetensors cannot be written: No space left on device"):
        formats.save(word(3), file)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    assert formats.load(file).count == 2


@pytest.mark.parametrize("name", ["", "__metadata__"])
def test_words_that_no_file_can_hold_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EmbeddingError, match=r"cannot name a word in a file\. Give another word"):
        formats.save(word(name=name), tmp_path / "a.safetensors")


def test_texts_that_are_not_unicode_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match="Use characters that UTF-8 has"):
        formats.save(word(name="\udce4"), tmp_path / "a.safetensors")


# parity


class Pipe(TextualInversionLoaderMixin):
    """As much of a diffusers pipeline as loading a word needs."""

    hf_device_map = None

    def __init__(self, folder: Path) -> None:
        letters = [chr(code) for code in range(33, 127)]
        pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
        (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)
        torch.manual_seed(0)
        sizes = SimpleNamespace(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
        self.text_encoder = CLIPTextModel(CLIPTextConfig(vocab_size=len(pieces), **vars(sizes)))
        self.components = {"tokenizer": self.tokenizer, "text_encoder": self.text_encoder}


@pytest.mark.parametrize("n", [1, 3])
def test_diffusers_loads_our_file(tmp_path: Path, n: int) -> None:
    embedding = word(n, 16)
    file = formats.save(embedding, tmp_path / "word.safetensors")
    pipe = Pipe(tmp_path)
    pipe.load_textual_inversion(str(file), token="<mug>")
    prompt = pipe.maybe_convert_prompt("a <mug>", pipe.tokenizer)
    ids = [i for i in pipe.tokenizer(prompt).input_ids if i >= 190]
    table = pipe.text_encoder.get_input_embeddings().weight
    assert len(ids) == n
    assert torch.equal(table[ids], embedding.vectors["clip_l"])
