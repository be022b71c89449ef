"""Put the learned parts together as the base that ships. `python -m workshop.emoji.assemble`"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from workshop.emoji.course import WORK
from workshop.emoji.denoiser import SHIPPED

MOST = 40_000_000
MEASURED = Path("docs/measured/workshop.emoji.measure.json")

CARD = """---
license: apache-2.0
pipeline_tag: text-to-image
---
# The emoji base

A Stable Diffusion of 64 x 64 pixels, small enough to train, test and measure on two CPU cores. All parts are standard classes:
`StableDiffusionPipeline.from_pretrained` opens this folder.

- Made by `make emoji-base`: see docs/emoji-base.md for data, steps, time and losses.
- Knows 436 things drawn from an emoji font, ten background colours, sizes, places, tints and a few styles. Prompts look like
  "a small blue rocket on a yellow background at the left". It knows nothing else, and draws no people.
- Trained for {steps} steps of 96 pictures. {measured}
- Licence of the weights: Apache-2.0. The pictures it learned from were drawn with Noto Color Emoji (OFL 1.1); their names are
  Unicode CLDR annotations (Unicode licence).
"""


def measured() -> str:
    """What was measured of it, in a sentence."""
    if not MEASURED.exists():
        return "Not measured yet."
    figures = json.loads(MEASURED.read_text("utf-8"))["figures"]
    return (
        f"On {figures['prompts']} prompts the judge names the prompted thing first in {figures['top1']:.0%} and among the first five in "
        f"{figures['top5']:.0%}; the background is right in {figures['background']:.0%}. Autoencoder: {figures['psnr']:.1f} dB PSNR."
    )


def card() -> None:
    """Write the model card."""
    steps = json.loads((SHIPPED / "training.json").read_text("utf-8"))["steps"]
    (SHIPPED / "README.md").write_text(CARD.format(steps=f"{steps:,}", measured=measured()), "utf-8")


def name_precision(config: Path) -> None:
    """Have the text encoder opened in float32 as diffusers opens its own parts: transformers would take the file's precision."""
    facts = json.loads(config.read_text("utf-8"))
    config.write_text(json.dumps(facts | {"dtype": "float32"}, indent=2) + "\n", "utf-8")


def assemble(steps: int) -> None:
    """Write the diffusers folder in half precision."""
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(WORK / "vae").half(),
        text_encoder=CLIPTextModel.from_pretrained(WORK / "text_encoder").half(),
        tokenizer=CLIPTokenizer.from_pretrained(WORK / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(WORK / "unet").half(),
        scheduler=DDIMScheduler.from_pretrained(WORK / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    shutil.rmtree(SHIPPED, ignore_errors=True)
    pipe.save_pretrained(SHIPPED)
    name_precision(SHIPPED / "text_encoder/config.json")
    (SHIPPED / "training.json").write_text(json.dumps({"steps": steps}), "utf-8")
    card()
    size = sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file())
    print(f"{SHIPPED}: {size / 1e6:.1f} MB")
    if size > MOST:
        sys.exit(f"That is over {MOST / 1e6:.0f} MB: make a part smaller.")


def main() -> None:
    """Take the averaged weights of the denoiser as they are now, and assemble."""
    import torch

    from workshop.emoji.denoiser import assemble as keep_parts

    if "--card" in sys.argv:
        card()
        return
    keep_parts()
    assemble(int(torch.load(WORK / "denoiser.pt", map_location="cpu", weights_only=True)["step"]))


if __name__ == "__main__":
    main()
