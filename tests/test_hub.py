"""Models of the hub: data alone is fetched, the commit is recorded, and what cannot be had is told. No test asks the network."""

from __future__ import annotations

import fnmatch
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from neologism.errors import ModelError, RunError
from neologism.events import Checkpoint, Finished
from neologism.families import hub, native_side, open_model
from neologism.recipe import recipe
from neologism.training import train
from neologism.verifying import verify

COMMIT, OLDER = "0123456789abcdef" * 2 + "01234567", "f" * 40


@pytest.fixture
def cache(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache that has one model in two versions, on a machine without a network."""
    place = tmp_path / "hub" / "models--someone--tiny"
    for commit in (COMMIT, OLDER):
        shutil.copytree(tiny_base, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    (place / "refs" / "v1").write_text(OLDER)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return place


@pytest.mark.parametrize(
    ("asked", "commit"),
    [("someone/tiny", COMMIT), ("someone/tiny@v1", OLDER), (f"someone/tiny@{OLDER}", OLDER)],
)
def test_a_revision_is_pinned_to_its_commit(cache: Path, asked: str, commit: str) -> None:
    model = open_model(asked, precision="fp32")
    assert model.name == f"someone/tiny@{commit}"
    assert native_side(asked) == 32


def test_a_run_records_the_commit_and_verifies_against_it(cache: Path, pictures: Path, tmp_path: Path) -> None:
    made = recipe(
        pictures=str(pictures), words="<disc>", base="someone/tiny", like="cat", precision="fp32", steps=1, batch=1,
        preview_prompts=("a {}",),
    )  # fmt: skip
    *_, finished = (event for event in train(made, tmp_path / "run") if isinstance(event, Finished))
    assert finished.embedding.base == f"someone/tiny@{COMMIT}"
    assert json.loads((tmp_path / "run" / "base.json").read_text())["base"] == f"someone/tiny@{COMMIT}"
    (cache / "refs" / "main").write_text(OLDER)  # the owner goes on
    shutil.rmtree(cache / "snapshots" / OLDER)
    assert verify(tmp_path / "run").untouched


def test_a_run_does_not_go_on_once_its_owner_has(cache: Path, pictures: Path, tmp_path: Path) -> None:
    made = recipe(
        pictures=str(pictures), words="<disc>", base="someone/tiny", like="cat", precision="fp32", steps=2, batch=1,
        preview_prompts=("a {}",), checkpoint_every=1,
    )  # fmt: skip
    events = train(made, tmp_path / "run")
    next(event for event in events if isinstance(event, Checkpoint))
    events.close()
    (cache / "refs" / "main").write_text(OLDER)
    told = f"began on someone/tiny@{COMMIT}, and the base is now someone/tiny@{OLDER}. Give --out another folder"
    with pytest.raises(RunError, match=told):
        list(train(made, tmp_path / "run"))
    (cache / "refs" / "main").write_text(COMMIT)
    with (tmp_path / "run" / "events.jsonl").open("a") as journal:
        journal.write('{"event": "Ste')  # a crash
    assert any(isinstance(event, Finished) for event in train(made, tmp_path / "run"))


def test_what_is_not_at_hand_is_told_without_a_network(cache: Path) -> None:
    for name in ("someone/else", "someone/tiny@v9"):
        with pytest.raises(
            ModelError, match=f"{name} is not on this machine, and the hub cannot be reached: .*Give --base a folder"
        ):
            open_model(name)


def test_only_data_is_fetched(monkeypatch: pytest.MonkeyPatch, tiny_base: Path) -> None:
    asked: dict[str, Any] = {}

    def answer(name: str, **more: Any) -> str:
        asked.update(more, name=name)
        return str(tiny_base)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer)
    hub.fetched("someone/tiny@v2")
    assert (asked["name"], asked["revision"]) == ("someone/tiny", "v2")
    there = [
        "model_index.json", "README.md", "pipeline.py", "unet/my_unet.py", "unet/config.json", "v1-5.safetensors", "v1-5.ckpt",
        "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.bin", "tokenizer/merges.txt",
        "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors",
        "transformer/diffusion_pytorch_model.fp16-00001-of-00002.safetensors", "safety_checker/model.safetensors",
        "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
        "transformer/diffusion_pytorch_model.safetensors.index.json",
    ]  # fmt: skip
    taken = [
        file for file in there
        if any(fnmatch.fnmatch(file, p) for p in asked["allow_patterns"])
        and not any(fnmatch.fnmatch(file, p) for p in asked["ignore_patterns"])
    ]  # fmt: skip
    assert taken == [
        "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "tokenizer/merges.txt",
        "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
        "transformer/diffusion_pytorch_model.safetensors.index.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (
            GatedRepoError,
            "The owner of someone/tiny wants terms accepted. Accept them on its page, type `hf auth login`",
        ),
        (
            RevisionNotFoundError,
            "someone/tiny has no revision v2. Give someone/tiny@REVISION with a branch, tag or commit",
        ),
        (RepositoryNotFoundError, "There is no model someone/tiny on the hub, or it is private. Check the id"),
    ],
)
def test_the_hubs_refusals_are_told(kind: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise kind.__new__(kind)  # it would want an answer of the network

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelError, match=told):
        hub.fetched("someone/tiny@v2")


def test_a_path_that_is_not_there_is_not_asked_of_the_hub(tmp_path: Path) -> None:
    for name in (str(tmp_path / "a"), "./a/b", "models/of/mine", "just-a-name"):
        with pytest.raises(ModelError, match="There is no folder"):
            open_model(name)
