"""The emoji base's AutoencoderKL: 64 x 64 pictures to 8 x 8 x 8 numbers. `python -m workshop.emoji.autoencoder`"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from workshop.emoji import pictures
from workshop.emoji.course import WORK, Course, best_device
from workshop.emoji.muon import optimizers
from workshop.emoji.subjects import HELD_OUT, pool

CHANNELS = 8
CROP_STEPS, FULL_STEPS = 5000, 1600
KL_WEIGHT = 2e-4


def fresh() -> AutoencoderKL:
    """An untrained autoencoder of 3 M parameters; no attention, so that it may learn on crops."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(24, 48, 96, 128),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=4,  # few groups: many would hide flat colours
        mid_block_add_attention=False,
        sample_size=64,
    )


def difference(drawn: Tensor, real: Tensor) -> Tensor:
    """L1 and squared error of the pixels, and L1 of their horizontal and vertical steps (edges)."""
    edges = sum((drawn.diff(dim=axis) - real.diff(dim=axis)).abs().mean() for axis in (2, 3))
    return F.l1_loss(drawn, real) + F.mse_loss(drawn, real) + 0.5 * edges


def batch(pixels: Tensor, step: int, side: int, count: int) -> Tensor:
    """The pictures or crops of a step, scaled to -1..1: a pure function of the step."""
    chance = torch.Generator().manual_seed(step)
    chosen = pixels[torch.randint(len(pixels), (count,), generator=chance)]
    if side == 64:
        return pictures.scaled(chosen)
    corners = torch.randint(64 - side + 1, (count, 2), generator=chance).tolist()
    crops = [picture[:, y : y + side, x : x + side] for picture, (y, x) in zip(chosen, corners, strict=True)]
    return pictures.scaled(torch.stack(crops))


def train() -> AutoencoderKL:
    """Learn on crops of 32 pixels, then on whole pictures; resumable."""
    torch.manual_seed(0)
    device = best_device()
    model = fresh().to(device)
    course = Course("autoencoder", {"model": model}, optimizers([model], 2e-3))
    _, pixels, _ = pictures.many(range(24_000), pool()[HELD_OUT:], wide=0.3)
    total = CROP_STEPS + FULL_STEPS
    for step in course.steps(total):
        real = batch(pixels, step, *((32, 32) if step < CROP_STEPS else (64, 16))).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            posterior = model.encode(real).latent_dist
            drawn = model.decode(posterior.sample()).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        course.descend(difference(drawn.float(), real) + KL_WEIGHT * kl.float(), total)
    return model


@torch.no_grad()
def psnr(model: AutoencoderKL, pixels: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB of pictures [n, 3, 64, 64] uint8 through the autoencoder."""
    real = pictures.scaled(pixels)
    drawn = torch.cat([model.decode(model.encode(part).latent_dist.mean).sample for part in real.split(50)])
    squared = ((drawn.clamp(-1, 1) - real) ** 2).mean(dim=(1, 2, 3))
    return float((10 * torch.log10(4 / squared.clamp_min(1e-8))).mean())


@torch.no_grad()
def settle(model: AutoencoderKL, pixels: Tensor) -> None:
    """Set the scaling factor so that latents have unit deviation, and keep the model as a diffusers folder."""
    latents = torch.cat([model.encode(pictures.scaled(part)).latent_dist.mean for part in pixels.split(50)])
    model.register_to_config(scaling_factor=round(float(1 / latents.std()), 4))
    model.save_pretrained(WORK / "vae")


def main() -> None:
    """Train, measure on unseen pictures, keep."""
    model = train().float().cpu().eval()
    _, pixels, _ = pictures.many(range(10**6, 10**6 + 1000), pool()[HELD_OUT:], wide=0.3)
    settle(model, pixels)
    print(f"autoencoder PSNR on unseen pictures: {psnr(model, pixels):.2f} dB", flush=True)


if __name__ == "__main__":
    main()
