"""Scores on a tiny random CLIP: bounds, order, and what a judge folder may lack."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import tokenizer_folder
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from neologism.errors import ModelError
from neologism.scores import Judge, likeness, open_judge, ranks, score


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    folder = tmp_path_factory.mktemp("judge")
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder(folder / "made"))
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    text = small | ends | {"vocab_size": len(tokenizer), "max_position_embeddings": 24}
    CLIPModel(
        CLIPConfig(text_config=text, vision_config=small | {"image_size": 16, "patch_size": 8}, projection_dim=8)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return open_judge(folder)


def images(*colours: str) -> list[Image.Image]:
    return [Image.new("RGB", (20, 20), colour) for colour in colours]


def test_a_picture_is_wholly_like_itself(judge: Judge) -> None:
    assert likeness(judge, images("red"), images("red")) == pytest.approx(1, abs=1e-5)


def test_a_score_holds_subject_prompt_and_diversity(judge: Judge) -> None:
    found = score(images("red", "red"), images("red"), ["a red cat", "a red cat"], judge)
    assert found.subject == pytest.approx(1, abs=1e-5) and found.diversity == pytest.approx(0, abs=1e-5)
    assert found.count == 2 and found.prompt is not None and -1 <= found.prompt <= 1
    assert score(images("red", "blue"), images("red"), judge=judge).diversity > 0


def test_ranks_count_the_names_that_fit_better(judge: Judge) -> None:
    names = ["a cat", "a dog", "a red car"]
    shown = images("red", "green")
    places = [ranks(judge, shown, names, [name] * 2).tolist() for name in names]
    assert all(sorted(column) == [0, 1, 2] for column in zip(*places, strict=True))


def test_a_folder_without_a_judge_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"No judge could be opened at {tmp_path}"):
        open_judge(tmp_path)
