"""Peak memory of a step on a GPU under each plan, beside the estimate that `--memory` goes by. `python -m benchmarks.peaks [--only flux]`

The networks have the exact shapes of the families and random weights; nothing is said of what real ones learn. A batch of four;
three steps; the peak is what PyTorch held on the device while stepping.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from typing import Any

import diffusers
import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from benchmarks import record
from benchmarks.networks import vae, words
from benchmarks.plans import FAMILIES, sizes
from neologism import captions
from neologism.device import Limits, Machine
from neologism.events import Step
from neologism.families import Model, flux, sd3, sdxl, stable_diffusion
from neologism.families.quantising import at_hand
from neologism.framing import Frame
from neologism.initial import Start
from neologism.latents import Latents
from neologism.lessons import Lesson
from neologism.loop import loop
from neologism.memory import GIB, Demand, Plan
from neologism.recipe import recipe

FILES: dict[str, Any] = {"sd15": stable_diffusion, "sd21": stable_diffusion, "sdxl": sdxl, "sd35": sd3, "flux": flux}
TWICE = Plan("bf16", vae_away=True, gradient_checkpointing=True)
PLANS = {
    "as set": Plan("bf16"),
    "VAE, twice": TWICE,
    "VAE, twice, 1 of 4": Plan("bf16", vae_away=True, gradient_checkpointing=True, at_once=1),
    "VAE, twice, 1 of 4, int8": Plan("bf16", "int8", True, True, 1),
    "VAE, twice, 1 of 4, nf4": Plan("bf16", "nf4", True, True, 1),
    "VAE, twice, 1 of 4, streamed": Plan("bf16", "none", True, True, 1, True),
}


def filled(network: nn.Module, kind: torch.dtype, device: str) -> Any:
    """A network without numbers, filled with random ones of a type on a device."""
    network = network.to(kind).to_empty(device=device)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if not tensor.is_floating_point():
            tensor.data.copy_(torch.arange(tensor.numel()).view(tensor.shape))  # the only such: positions
        elif tensor.ndim > 1:
            tensor.data.normal_(std=tensor[0].numel() ** -0.5)
        else:
            tensor.data.fill_(float(name.endswith("weight")))
    return network


def parts(family: str, device: str) -> dict[str, Any]:
    """A family's networks, random, on the device: the denoiser and T5 in bf16, all else in float32."""
    config, texts, _ = FAMILIES[family]
    name = "unet" if config["_class_name"].startswith("UNet") else "transformer"
    with torch.device("meta"):
        denoiser = getattr(diffusers, config["_class_name"]).from_config(config)
        kinds = [T5EncoderModel if isinstance(t, T5Config) else CLIPTextModelWithProjection for t in texts]
        kinds[0] = CLIPTextModel if family in ("sd15", "sd21", "sdxl", "flux") else kinds[0]
        made = [kind(projecting(text)) for kind, text in zip(kinds, texts, strict=True)]
        own = autoencoder(16) if family in ("sd35", "flux") else vae()
    found: dict[str, Any] = {name: filled(denoiser, torch.bfloat16, device), "vae": filled(own, torch.float32, device)}
    for number, text in enumerate(made):
        which = "" if number == 0 else f"_{number + 1}"
        kind = torch.bfloat16 if isinstance(text, T5EncoderModel) else torch.float32
        found |= {f"text_encoder{which}": filled(text, kind, device).eval(), f"tokenizer{which}": words()}
    return found


def projecting(text: Any) -> Any:
    """A text encoder's config, its pooled vector as wide as its rows."""
    return (
        text if isinstance(text, T5Config) else CLIPTextConfig(**text.to_dict() | {"projection_dim": text.hidden_size})
    )


def autoencoder(channels: int) -> Any:
    """The autoencoder of SD 3 and FLUX."""
    shape = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": channels}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return diffusers.AutoencoderKL(**shape, **blocks, use_quant_conv=False, use_post_quant_conv=False)


def pipe(family: str, device: str) -> Any:
    """The family's pipeline over random networks."""
    discrete = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False
    )
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    own = parts(family, device)
    if family in ("sd15", "sd21"):
        return diffusers.StableDiffusionPipeline(
            **own, scheduler=discrete, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    if family == "sdxl":
        return diffusers.StableDiffusionXLPipeline(**own, scheduler=discrete, add_watermarker=False)
    kind = diffusers.StableDiffusion3Pipeline if family == "sd35" else diffusers.FluxPipeline
    return kind(**own, scheduler=flow)


def opened(family: str, plan: Plan, device: str) -> Model:
    """The model of a family under a plan."""
    limits = Limits(at_once=plan.at_once, vae_away=plan.vae_away, streamed=plan.streamed)
    where = Machine(torch.device(device), "bf16", "as asked", plan.quantised, limits)
    made = pipe(family, device)
    if plan.vae_away:
        made.vae.to("cpu")
    if plan.streamed:
        (made.unet if hasattr(made, "unet") else made.transformer).to("cpu")
    model = FILES[family].assembled(made, "random", where)
    if plan.gradient_checkpointing and not plan.streamed:
        model.save_memory()
    return model


def lesson(model: Model, side: int, batch: int) -> Lesson:
    """A word of random rows in every text encoder."""
    channels = int(model.pipe.vae.config.latent_channels)
    mean = torch.randn(4, channels, side // 8, side // 8)
    frames = (Frame((0, 0, side, side), (side, side), (side, side), False),) * 4
    latents = Latents(mean, torch.full_like(mean, 0.1), torch.ones_like(mean[:, :1]), frames, (0, 1, 2, 3), 0)
    settings = recipe(pictures="none", words="<thing>", batch=batch, steps=3, probe_every=10**6)
    start = Start({e.key: torch.randn(1, e.width) * 0.02 for e in model.encoders}, "random")
    told = captions.OBJECT_TEMPLATES[0]
    made = Lesson("<thing>", latents, lambda *_: told.replace("{}", "<thing>"), settings, model, start, told)
    made.probe = lambda: 0.0  # type: ignore[method-assign]  # the end's probe would be sixteen samples more
    return made


def of_plan(family: str, plan: Plan, device: str = "cuda", batch: int = 4) -> dict[str, Any]:
    """Three steps under a plan: peak bytes, the estimate, seconds a step, and whether the word moved."""
    gc.collect()
    torch.cuda.empty_cache()
    side = FAMILIES[family][2]
    model = opened(family, plan, device)
    pupil = lesson(model, side, batch)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    times, steps = [time.perf_counter()], list[Step]()
    for _, event in loop(model, [pupil]):
        torch.cuda.synchronize()
        times.append(time.perf_counter())
        steps += [event] if isinstance(event, Step) else []
    peak = torch.cuda.max_memory_allocated()
    moved = all(not torch.equal(rows, pupil.start.vectors[key]) for key, rows in pupil.vectors().items())
    return {
        "peak_gb": peak / GIB,
        "estimated_gb": Demand(sizes(family), batch).needed(plan) / GIB,
        "seconds_a_step": times[-1] - times[-2],
        "learned": moved and len(steps) == 3,
    }


def of_family(family: str, asked: Sequence[str]) -> dict[str, Any]:
    """A family under every plan; one that fails says why."""
    found: dict[str, Any] = {}
    for name, plan in PLANS.items():
        if (asked and name not in asked) or (plan.quantised not in ("none", *at_hand(torch.device("cuda")))):
            continue
        try:
            found[name] = of_plan(family, plan)
        except torch.OutOfMemoryError:
            found[name] = {"failed": "out of memory"}
        print(family, name, found[name], file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure and record."""
    parser = record.options(__doc__ or "")
    parser.add_argument("--plans", default="", help="only these plans, separated by semicolons")
    given = parser.parse_args()
    if not given.stored and not torch.cuda.is_available():
        sys.exit("This needs a CUDA GPU; benchmarks.plans gives the estimates without one.")
    families = [name for name in given.only.split(",") if name] or list(FAMILIES)
    plans = [name for name in given.plans.split(";") if name]
    record.told("peaks", given, lambda: {family: of_family(family, plans) for family in families})


if __name__ == "__main__":
    main()
