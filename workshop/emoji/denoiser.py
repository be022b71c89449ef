"""The emoji base's U-Net and text encoder, learned together. `python -m workshop.emoji.denoiser [--steps N]`"""

from __future__ import annotations

import argparse
import copy
import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from workshop.emoji import pictures, scenes, words
from workshop.emoji.course import WORK, Course, best_device
from workshop.emoji.muon import optimizers
from workshop.emoji.subjects import HELD_OUT, general_words, pool, trained

SUBJECTS, PICTURES, WIDE = 436, 140_000, 0.2
BATCH, RATE, DROPPED = 96, 1.2e-3, 0.1
WIDTH = 192
SHIPPED = Path("src/neologism/emoji/base")


def scheduler() -> DDIMScheduler:
    """v-prediction with zero terminal SNR: pure noise holds no brightness, so plain backgrounds come out right (Lin et al. 2023)."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,  # unused by trailing spacing; pipelines warn of any other value
    )


def fresh_unet() -> UNet2DConditionModel:
    """An untrained U-Net of three levels, cross-attention on each."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        block_out_channels=(96, 160, 192),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def fresh_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder of three layers."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=words.LENGTH,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            projection_dim=WIDTH,
        )
    )


@torch.no_grad()
def encoded(vae: AutoencoderKL, pixels: Tensor, device: torch.device) -> Tensor:
    """The posterior means of pictures, scaled: [n, 8, 8, 8] float32."""
    parts = []
    for part in pixels.split(100):
        with torch.autocast(device.type, torch.bfloat16):
            parts.append(vae.encode(pictures.scaled(part).to(device)).latent_dist.mean.float().cpu())
    return torch.cat(parts) * vae.config["scaling_factor"]


def lesson(count: int, device: torch.device) -> tuple[list[str], Tensor]:
    """Captions and latents of the pictures the base learns from, made once and kept."""
    kept = WORK / f"lesson-{SUBJECTS}-{count}.pt"
    if not kept.exists():
        folder = WORK / "vae" if (WORK / "vae").exists() else SHIPPED / "vae"
        vae = AutoencoderKL.from_pretrained(folder).to(device).eval()
        captions, pixels, _ = pictures.many(range(count), trained(SUBJECTS), WIDE)
        torch.save((captions, encoded(vae, pixels, device).half()), kept)
    captions, latents = torch.load(kept, weights_only=True)
    return captions, latents


def vocabulary() -> CLIPTokenizer:
    """The tokenizer, learned from captions of every subject that is not held out, so that the world can be widened later."""
    for folder in (WORK / "tokenizer", SHIPPED / "tokenizer"):
        if (folder / "vocab.json").exists():
            return CLIPTokenizer.from_pretrained(folder)
    subjects, chance = pool()[HELD_OUT:], random.Random(0)
    general = general_words(subjects)
    said = [scenes.imagined(chance, subjects, general, WIDE).caption for _ in range(40_000)]
    return words.write(WORK / "tokenizer", said)


class Average:
    """An exponential moving average of modules' weights, slower as training goes on."""

    def __init__(self, modules: dict[str, nn.Module]):
        self.pairs = {name: (module, copy.deepcopy(module).requires_grad_(False)) for name, module in modules.items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move towards the present weights."""
        share = max(1 / (step + 1), 0.0015)
        for module, average in self.pairs.values():
            torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), share)


def v_target(latents: Tensor, noise: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
    """Noisy latents and their v target at alpha-bar `signal` [b, 1, 1, 1] (Salimans and Ho 2022, appendix D)."""
    clean, rough = signal.sqrt(), (1 - signal).sqrt()
    return clean * latents + rough * noise, clean * noise - rough * latents


def shipped(unet: UNet2DConditionModel, text: CLIPTextModel) -> None:
    """Begin from the weights that ship, to better them."""
    unet.load_state_dict(UNet2DConditionModel.from_pretrained(SHIPPED / "unet").state_dict())
    text.load_state_dict(CLIPTextModel.from_pretrained(SHIPPED / "text_encoder").state_dict())


def train(steps: int, better: bool = False) -> None:
    """Learn to take the noise out of latents of captioned scenes; resumable."""
    device = best_device()
    captions, latents = lesson(PICTURES, device)
    tokenizer = vocabulary()
    torch.manual_seed(0)
    unet, text = fresh_unet().to(device), fresh_text_encoder(tokenizer).to(device)
    if better:
        shipped(unet, text)
    modules: dict[str, nn.Module] = {"unet": unet, "text": text}
    average = Average(modules)
    kept = modules | {f"average_{name}": pair[1] for name, pair in average.pairs.items()}
    course = Course("denoiser", kept, optimizers([unet, text], RATE))
    signals = scheduler().alphas_cumprod
    ids = tokenizer(["", *captions], padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    for step in course.steps(steps):
        chance = torch.Generator().manual_seed(step)
        chosen = torch.randint(len(captions), (BATCH,), generator=chance)
        times = ((torch.arange(BATCH) + torch.rand(BATCH, generator=chance)) * len(signals) / BATCH).long()
        clean = latents[chosen].float()
        noisy, target = v_target(clean, torch.randn(clean.shape, generator=chance), signals[times].view(-1, 1, 1, 1))
        said = torch.where(torch.rand(BATCH, generator=chance) < DROPPED, 0, chosen + 1)
        with torch.autocast(device.type, torch.bfloat16):
            context = text(ids[said].to(device)).last_hidden_state
            guess = unet(noisy.to(device), times.to(device), context).sample
        course.descend(F.mse_loss(guess.float(), target.to(device)), steps)
        average.follow(step)


def assemble() -> None:
    """Keep the averaged weights as diffusers folders beside the autoencoder's."""
    state = torch.load(WORK / "denoiser.pt", map_location="cpu", weights_only=True)["modules"]
    unet, text = fresh_unet(), fresh_text_encoder(CLIPTokenizer.from_pretrained(WORK / "tokenizer"))
    unet.load_state_dict(state["average_unet"])
    text.load_state_dict(state["average_text"])
    unet.save_pretrained(WORK / "unet")
    text.save_pretrained(WORK / "text_encoder")
    scheduler().save_pretrained(WORK / "scheduler")


def main() -> None:
    """Train for the given number of steps in all, and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--better", action="store_true", help="begin from the base that ships instead of from nothing")
    parser.add_argument("--assemble", action="store_true", help="only keep what was learned so far")
    options = parser.parse_args()
    random.seed(0)
    if not options.assemble:
        train(options.steps, options.better)
    assemble()


if __name__ == "__main__":
    main()
