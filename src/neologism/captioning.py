"""Captions by a model that sees and writes: BLIP, GIT and whatever transformers opens as one, from a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from neologism.errors import ModelError
from neologism.families import pipelines

LONGEST = 40
"""Tokens of a caption at most."""


def captioner(folder: Path) -> Callable[[Image.Image], str]:
    """What a model in a folder says of a picture, in one line; the same every time.

    Raises:
        ModelError: there is no such model, or it does not write.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        with pipelines.quiet():
            processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModelForImageTextToText.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"captioner: {folder} cannot be used: {first[:200]} Give the folder of a captioning model such as BLIP or GIT."
        ) from None
    model.eval()

    def say(image: Image.Image) -> str:
        seen = processor(images=image.convert("RGB"), return_tensors="pt")
        with torch.no_grad():
            written = model.generate(**seen, max_new_tokens=LONGEST, do_sample=False, num_beams=3)
        return " ".join(processor.batch_decode(written, skip_special_tokens=True)[0].split())

    return say
