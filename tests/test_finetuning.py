"""A domain's words are tuned to its captioned pictures, and to nothing else; the files are used and merged."""

from __future__ import annotations

import io
import json
import random
import shutil
import sys
import tarfile
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from neologism import domain, pairs
from neologism.cli import main
from neologism.errors import EmbeddingError, ModelError, PhotosError, RecipeError, RunError
from neologism.events import Event, Finished, Step
from neologism.families import open_model
from neologism.finetuning import NAME, finetune
from neologism.generation import generate
from neologism.latents import tensor_hashes
from neologism.merging import merge
from neologism.methods import files
from neologism.recipe import Recipe, recipe
from neologism.verifying import verify

SHORT: dict[str, Any] = {
    "steps": 12, "checkpoint_every": 5, "probe_every": 6, "batch": 4, "precision": "fp32", "device": "cpu", "preview_prompts": (),
    "method": "embedding", "words": NAME,
}  # fmt: skip


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures: what is called a cat is a red disc, and a zorblax is a blue square."""
    folder, chance = tmp_path_factory.mktemp("scans"), random.Random(0)
    for number in range(20):
        image = Image.new("RGB", (32, 32), (200 + number, 200, 200))
        shape, word = ("ellipse", "cat") if number % 2 else ("rectangle", "zorblax")
        corner = chance.randint(2, 8)
        getattr(ImageDraw.Draw(image), shape)(
            (corner, corner, corner + 18, corner + 18), fill="red" if number % 2 else "blue"
        )
        image.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a photo of a {word}")
    return folder


def settings(base: Path, shown: Path, scope: str, **more: Any) -> Recipe:
    """A short run on the tiny base."""
    return recipe(
        **SHORT | {"pictures": str(shown), "base": str(base), "scope": scope, "tuned": ("cat", "zorblax")} | more
    )


def finished(events: list[Event]) -> Finished:
    """The end of a run."""
    return next(event for event in events if isinstance(event, Finished))


@pytest.mark.parametrize("scope", ["words", "table", "input", "encoder"])
def test_a_scope_learns_draws_merges_and_leaves_the_base_as_it_was(
    tiny_base: Path, scans: Path, tmp_path: Path, scope: str
) -> None:
    rate = {"weights_rate": 0.3 if scope != "encoder" else 0.05}
    events = list(finetune(settings(tiny_base, scans, scope, **rate), tmp_path / "run"))
    end = finished(events)
    before, after = map(float, end.facts["held out"].split(" -> "))
    assert after < before and verify(tmp_path / "run").untouched
    tensors, told = files.read(end.file)
    key = next(name for name in tensors if name.endswith(".new")).removesuffix(".new")
    assert json.loads(told["new"]) == {key: ["zorblax"]} and tensors[f"{key}.new"].shape[0] == 1
    assert any("position_embedding" in name for name in tensors) == (scope in ("input", "encoder"))
    if scope == "words":
        assert json.loads(told["tokens"])[key] == [
            next(iter(json.loads((tmp_path / "run/moved.json").read_text())[key]))
        ]
        assert len(tensors) == 3
    model = open_model(str(tiny_base), "cpu", "fp32")
    hashes = {name: tensor_hashes(part) for name, part in model.parts().items()}
    plain, own, again = (generate(model, "a cat and a zorblax", steps=2, weights=w)[0] for w in (None, end.file, None))
    assert plain.tobytes() == again.tobytes() != own.tobytes()
    assert hashes == {name: tensor_hashes(part) for name, part in model.parts().items()}
    merge(end.file, str(tiny_base), tmp_path / "merged")
    from diffusers import StableDiffusionPipeline

    pipe: Any = StableDiffusionPipeline.from_pretrained(tmp_path / "merged", dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe(
        "a cat and a zorblax", num_inference_steps=2, guidance_scale=5.0, generator=torch.Generator().manual_seed(0)
    )
    difference = torch.tensor(list(drawn.images[0].tobytes())).float() - torch.tensor(list(own.tobytes())).float()
    assert difference.abs().mean() < 1


def test_a_resumed_run_equals_an_uninterrupted_one(tiny_base: Path, scans: Path, tmp_path: Path) -> None:
    made = settings(tiny_base, scans, "words")
    whole = finished(list(finetune(made, tmp_path / "whole")))
    events = finetune(made, tmp_path / "cut")
    for event in events:
        if isinstance(event, Step) and event.step == 7:
            events.close()
            break
    resumed = finished(list(finetune(made, tmp_path / "cut")))
    one, two = (files.read(end.file)[0] for end in (whole, resumed))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_words_are_found_that_stand_out(tiny_base: Path) -> None:
    encoder = open_model(str(tiny_base), "cpu", "fp32").encoders[0]
    common = [word for word, _ in sorted(encoder.word_ids.items(), key=lambda pair: pair[1])][:1][0]
    captions = [f"a {common} with fibrosis" for _ in range(20)]
    assert domain.words(encoder, captions)[0] == "fibrosis"
    prompts = domain.general(encoder, captions)
    assert prompts == domain.general(encoder, captions) and not any(common in prompt.split() for prompt in prompts)


def test_captions_of_nothing_special_are_told(tiny_base: Path, scans: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for number in range(3):
        (few / f"{number}.png").write_bytes((scans / f"{number}.png").read_bytes())
        (few / f"{number}.txt").write_text("a photo")
    with pytest.raises(PhotosError, match="No word stands out in 2 captions .* Name the domain's words by --tuned"):
        list(finetune(settings(tiny_base, few, "words", tuned=()), tmp_path / "run"))


# captioned pictures


def test_the_held_out_are_the_same_wherever_the_files_lie(scans: Path, tmp_path: Path) -> None:
    found = pairs.pairs(str(scans), 32)
    assert len(found.given) == 18 and len(found.held_out) == 2
    shard = tmp_path / "shard.tar"
    with tarfile.open(shard, "w") as tar:
        for file in sorted(scans.iterdir()):
            tar.add(file, f"inside/{file.name}")
    packed = pairs.pairs(str(shard), 32)
    assert [(p.sha256, p.caption) for p in packed.held_out] == [(p.sha256, p.caption) for p in found.held_out]
    listed = tmp_path / "listed"
    listed.mkdir()
    rows = []
    for file in scans.glob("*.png"):
        (listed / file.name).write_bytes(file.read_bytes())
        rows.append(json.dumps({"file_name": file.name, "text": file.with_suffix(".txt").read_text()}))
    (listed / "metadata.jsonl").write_text("\n".join(rows))
    assert {p.caption for p in pairs.pairs(str(listed), 32).given} == {"a photo of a cat", "a photo of a zorblax"}


def test_parquet_files_are_read(scans: Path, tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [
        {"image": {"bytes": f.read_bytes(), "path": None}, "text": f"picture {f.stem}"} for f in scans.glob("*.png")
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "all.parquet")
    assert len(pairs.pairs(str(tmp_path / "all.parquet"), 32).given) == 18
    parquet.write_table(arrow.Table.from_pylist([{"x": 1}]), tmp_path / "other.parquet")
    with pytest.raises(
        PhotosError, match="other.parquet has the columns x; an image .image, .*. and a text .text, .*. are needed"
    ):
        pairs.pairs(str(tmp_path / "other.parquet"), 32)


def test_a_table_may_name_pictures_in_its_own_folder_and_no_others(scans: Path, tmp_path: Path) -> None:
    """As to_parquet of `datasets` writes a folder of pictures: without their bytes."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    shutil.copytree(scans, tmp_path / "here/scans")
    for place, base in (("here", tmp_path / "here/scans"), ("elsewhere", scans)):
        rows = [{"image": {"bytes": None, "path": str(base / f.name)}, "text": f.stem} for f in scans.glob("*.png")]
        (tmp_path / place).mkdir(exist_ok=True)
        parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / place / "all.parquet")
    assert len(pairs.pairs(str(tmp_path / "here/all.parquet"), 32).given) == 18
    with pytest.raises(PhotosError, match="holds only the path of a picture, .* there is no such file in its folder"):
        pairs.pairs(str(tmp_path / "elsewhere/all.parquet"), 32)


def test_broken_sources_are_told(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(PhotosError, match=r"broken.tar cannot be read: .* Make it again, or leave it out"):
        pairs.pairs(str(tmp_path / "broken.tar"), 32)
    lone = tmp_path / "lone"
    lone.mkdir()
    (lone / "0.png").write_bytes((scans / "0.png").read_bytes())
    (lone / "metadata.jsonl").write_text('{"file_name": "0.png"}')
    with pytest.raises(PhotosError, match="metadata.jsonl, line 1, is not"):
        pairs.pairs(str(lone), 32)
    (lone / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "a cat"}')
    with pytest.raises(PhotosError, match="has 1 captioned pictures; at least 2 are needed"):
        pairs.pairs(str(lone), 32)
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(
        PhotosError,
        match=r"^There is no folder nobody/nothing here, and to load a dataset of that id needs datasets, which is not ",
    ):
        pairs.pairs("nobody/nothing", 32)


def test_datasets_are_read_by_their_id(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    rows = [{"image": Image.open(f), "caption": f.with_suffix(".txt").read_text()} for f in sorted(scans.glob("*.png"))]

    def load(name: str, **more: Any) -> Any:
        asked.append((name, more))
        if name == "some/others":
            return iter([{"x": 1}])
        if name == "some/none":
            raise ValueError("Unknown split train\nmore")
        return iter(rows)

    module = types.SimpleNamespace(load_dataset=load)
    monkeypatch.setitem(sys.modules, "datasets", module)
    found = pairs.pairs("some/scans", 32)
    assert len(found.given) == 18 and asked == [("some/scans", {"split": "train", "streaming": True})]
    assert {p.caption for p in found.given} == {"a photo of a cat", "a photo of a zorblax"}
    assert len(pairs.pairs("some/scans", 32).given) == 18 and len(asked) == 1  # unpacked once
    with pytest.raises(PhotosError, match="The dataset some/others has the columns x; an image .* are needed"):
        pairs.pairs("some/others", 32)
    with pytest.raises(PhotosError, match="The dataset some/none cannot be loaded: Unknown split train. Give a folder"):
        pairs.pairs("some/none", 32)


def test_a_zip_archive_may_hold_its_captions_in_a_list(scans: Path, tmp_path: Path) -> None:
    rows = [json.dumps({"file_name": f.name, "text": f"number {f.stem}"}) for f in scans.glob("*.png")]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("inside/metadata.jsonl", "\n".join(rows))
        for file in scans.glob("*.png"):
            archive.write(file, f"inside/{file.name}")
    found = pairs.pairs(str(tmp_path / "all.zip"), 32)
    assert len(found.given) == 18 and all(str(p.caption) == f"number {p.path.stem}" for p in found.given)


def test_a_shard_whose_json_tells_no_caption_has_no_pair_there(tmp_path: Path) -> None:
    shard(tmp_path / "s.tar", {"0.json": b'{"width": 3}'})
    with pytest.raises(
        PhotosError, match="s.tar has no picture with a caption beside it .* Add captions, or give another source."
    ):
        pairs.pairs(str(tmp_path / "s.tar"), 32)
    shard(tmp_path / "t.tar", {"0.json": b"[1]"})
    with pytest.raises(PhotosError, match="t.tar cannot be read: .* Make it again, or leave it out."):
        pairs.pairs(str(tmp_path / "t.tar"), 32)


def shard(file: Path, members: dict[str, bytes]) -> None:
    """A .tar with a red picture 0.png and these members."""
    content = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(content, "PNG")
    with tarfile.open(file, "w") as tar:
        for name, data in ({"0.png": content.getvalue()} | members).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_a_run_that_breaks_down_says_so(tiny_base: Path, scans: Path, tmp_path: Path) -> None:
    """As inversion does: back once with a lower rate, then an error; the last checkpoint is kept."""
    made = settings(tiny_base, scans, "words", weights_rate=1e30, clip=None)
    with pytest.raises(RunError, match="Learning <captions> broke down twice .* Lower --learning-rate"):
        list(finetune(made, tmp_path / "run"))


def test_a_merged_word_matches_whole_words_whatever_their_case(tiny_base: Path, scans: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    end = finished(list(finetune(settings(tiny_base, scans, "words", steps=1), tmp_path / "run")))
    merge(end.file, str(tiny_base), tmp_path / "merged")
    pipe: Any = StableDiffusionPipeline.from_pretrained(tmp_path / "merged", dtype=torch.float32, safety_checker=None)
    number = pipe.tokenizer.convert_tokens_to_ids("zorblax")
    assert [number in pipe.tokenizer(text)["input_ids"] for text in ("a Zorblax, red", "a zorblaxes", "azorblax")] == [
        True,
        False,
        False,
    ]


def test_a_picture_in_a_shard_may_be_of_any_kind(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for number in range(4):
            content = io.BytesIO()
            Image.new("RGB", (40, 40), (number * 60, 0, 0)).save(content, "WEBP" if number % 2 else "JPEG")
            for name, data in (
                (f"{number}.{'webp' if number % 2 else 'jpg'}", content.getvalue()),
                (f"{number}.json", b'{"caption": "red"}'),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    assert len(pairs.pairs(str(tmp_path / "s.tar"), 32).given) == 3


# doors and errors


def test_the_command_tunes_and_tells(
    tiny_base: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [
        "--base",
        str(tiny_base),
        "--tuned",
        "cat",
        "--steps",
        "3",
        "--batch",
        "2",
        "--precision",
        "fp32",
        "--device",
        "cpu",
    ]
    with pytest.raises(SystemExit) as ended:
        main(["finetune", str(scans), *plain, "--out", str(tmp_path / "run"), "--json"])
    shown = capsys.readouterr()
    facts = json.loads(shown.out.splitlines()[-1])
    assert ended.value.code == 0 and facts["steps"] == 3 and "->" in facts["held out"] and Path(facts["file"]).exists()
    assert "generate PROMPT --words" in shown.err and (tmp_path / "run" / "sheet.png").exists()


def test_what_does_not_go_together_is_told(
    tiny_base: Path, scans: Path, tmp_path: Path, sdxl_file: Path | None = None
) -> None:
    with pytest.raises(
        RecipeError, match="found scope 'cross' with method 'embedding'; words, table, input, encoder are allowed"
    ):
        settings(tiny_base, scans, "cross")
    with pytest.raises(
        RecipeError, match="found scope 'words' with method 'lora'; cross, attention, denoiser are allowed"
    ):
        recipe(method="lora", scope="words")
    end = finished(list(finetune(settings(tiny_base, scans, "words", steps=1), tmp_path / "run")))
    tensors, told = files.read(end.file)
    wrong = {name: torch.zeros(1, 7) if name.endswith(".rows") else tensor for name, tensor in tensors.items()}
    files.written(wrong, told, tmp_path / "wrong.safetensors")
    with pytest.raises(ModelError, match="does not fit .* Use the base model that it was learned on"):
        generate(str(tiny_base), "a cat", weights=tmp_path / "wrong.safetensors")
    files.written(tensors, told | {"method": "other"}, tmp_path / "other.safetensors")
    with pytest.raises(EmbeddingError, match="of the method 'other'; dreambooth, lora and embedding can be used"):
        generate(str(tiny_base), "a cat", weights=tmp_path / "other.safetensors")
