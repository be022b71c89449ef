"""A captioning model in a folder writes one line for a picture, the same every time; other folders are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from neologism.captioning import captioner
from neologism.errors import ModelError


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP of a few thousand random numbers, with a tokenizer of 40 words."""
    from transformers import BertTokenizerFast, BlipConfig, BlipForConditionalGeneration
    from transformers.models.blip import image_processing_pil_blip, processing_blip

    folder = tmp_path_factory.mktemp("blip")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *(f"word{n}" for n in range(34))]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), bos_token="[DEC]")
    small: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = small | {"vocab_size": 40, "bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    torch.manual_seed(0)
    config = BlipConfig(
        text_config=text | {"encoder_hidden_size": 16}, vision_config=small | {"image_size": 32, "patch_size": 16}
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    images: Any = image_processing_pil_blip.BlipImageProcessorPil(size={"height": 32, "width": 32})
    processing_blip.BlipProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def test_a_caption_is_one_line_and_the_same_every_time(blip: Path) -> None:
    say = captioner(blip)
    first, again = (say(Image.new("RGB", (40, 30), "red")) for _ in range(2))
    assert first == again and "\n" not in first and all(part.startswith("word") for part in first.split())


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match="^captioner: .* cannot be used: .* Give the folder of a captioning model such as"
    ):
        captioner(tmp_path)
