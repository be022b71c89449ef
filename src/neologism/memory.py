"""Plans for a memory: what to compute twice, what to put away and how small to store, by the base's measured sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from neologism.device import free_bytes, machine
from neologism.families.measuring import Measured, measured
from neologism.families.quantising import BYTES, at_hand
from neologism.recipe import Recipe

GIB = 2**30
RESERVED = 0.75 * GIB  # what a GPU's own library and PyTorch's blocks take besides
WORKSPACE = 1.25  # of what a step keeps: room for the operations on the way


@dataclass(frozen=True)
class Plan:
    """How a run computes in a memory.

    Attributes:
        precision, quantised, gradient_checkpointing, vae_away, at_once, streamed: the settings of those names.
        needed: estimated bytes at the peak.
        told: what was chosen and why, in words.
    """

    precision: str
    quantised: str = "none"
    gradient_checkpointing: bool = False
    vae_away: bool = False
    at_once: int | None = None
    streamed: bool = False
    needed: int = 0
    told: str = ""


@dataclass(frozen=True)
class Demand:
    """What a run wants of a memory.

    Attributes:
        sizes: of the base.
        batch: samples a step, of all words together.
        halved: whether activations of float32 are kept in bfloat16.
        t5: whether T5's rows learn; a text encoder of which none learns keeps nothing.
        whole: whether weights learn, so that they cannot be quantised or streamed.
    """

    sizes: Measured
    batch: int
    halved: bool = False
    t5: bool = True
    whole: bool = False

    def needed(self, plan: Plan) -> int:
        """Estimated bytes at the peak: weights, and what is kept or in hand in the costlier of a step and a picture."""
        vae = self.sizes.parts.get("vae", 0) * 4
        picture = self.sizes.decoded * 4 + (vae if plan.vae_away else 0)
        step = self.kept(plan) * min(plan.at_once or self.batch, self.batch) * WORKSPACE
        return int(self.weights(plan) + max(step, picture) + (0 if plan.vae_away else vae) + RESERVED)

    def weights(self, plan: Plan) -> float:
        """Bytes of the weights that are on the device in a step."""
        sizes = self.sizes
        number, packed = (4, 4.0) if plan.precision == "fp32" else (2, BYTES[plan.quantised])
        others = ((part, count) for part, count in sizes.parts.items() if part not in ("vae", sizes.denoiser))
        texts = sum(count * (packed if self.is_large(part) else 4) for part, count in others)
        # Of the streamed blocks one computes, and the next may be on its way.
        streamed = (sizes.outside + 2 * sizes.block) * number
        return texts + (streamed if plan.streamed else sizes.parts[sizes.denoiser] * packed)

    def kept(self, plan: Plan) -> float:
        """Bytes that one sample keeps for the backward pass."""
        number = 4 if plan.precision == "fp32" else 2
        denoised = self.sizes.kept_twice if plan.gradient_checkpointing else self.sizes.kept
        texts = sum(
            count * (number if self.is_large(part) else 4)
            for part, count in self.sizes.kept_of_text.items()
            if self.t5 or not self.is_large(part)
        )
        return denoised * (2 if self.halved else number) + texts

    def is_large(self, part: str) -> bool:
        """Whether a text encoder is in the machine's own type as the denoiser is (T5); CLIP is float32."""
        return self.sizes.parts.get(part, 0) > 2 * 10**9


def planned(recipe: Recipe, together: int = 1) -> Plan:
    """The plan of a recipe: what it says, or the first that fits its `memory`; `together` words fill a batch.

    Raises:
        ModelError: the base cannot be measured.
        DeviceError: the device is not there.
    """
    where = machine(recipe.device, recipe.precision, recipe.quantised)
    said = Plan(
        where.precision, recipe.quantised, recipe.gradient_checkpointing or recipe.streamed, recipe.vae_away, recipe.at_once,
        recipe.streamed,
    )  # fmt: skip
    if not recipe.memory:
        return replace(said, precision=recipe.precision)
    room, named = room_of(recipe.memory, where.device)
    demand = demanded(recipe, together)
    best = fitting(demand, said, room, where.device.type, at_hand(where.device))
    same = best.precision == said.precision
    told_of = told(best, said, demand.batch, named) + ("" if best.needed <= room else ", and that may not be enough")
    return replace(best, precision=recipe.precision if same else best.precision, told=told_of)


def demanded(recipe: Recipe, together: int) -> Demand:
    """What a recipe wants of a memory."""
    t5 = not recipe.encoders or any(name.partition("=")[0] == "t5" for name in recipe.encoders)
    sizes, whole = measured(recipe.base, recipe.side), recipe.method != "inversion"
    return Demand(sizes, recipe.batch * together, recipe.activations_bf16, t5, whole)


def fitting(demand: Demand, said: Plan, room: float, device: str, kinds: Sequence[str]) -> Plan:
    """The first plan of the ladder that fits into so many bytes, or its last; `kinds` of quantised weights can be had."""
    best = said
    for plan in ladder(said, demand.batch, device, kinds):
        if demand.whole and (plan.streamed or plan.quantised != "none"):
            break
        best = replace(plan, needed=demand.needed(plan))
        if best.needed <= room:
            break
    return best


def room_of(memory: str, device: torch.device) -> tuple[float, str]:
    """The bytes of a memory, and what it is called."""
    if memory == "auto":
        free = free_bytes(device)
        return free, f"the {free / GIB:.1f} GB that are free"
    return float(memory.removesuffix("gb")) * GIB, memory.upper().replace("GB", " GB")


def ladder(plan: Plan, batch: int, device: str, kinds: Sequence[str]) -> Iterator[Plan]:
    """Plans from that which costs nothing to that which costs most; each keeps what those before it save.

    The gradient stays the same down to the last digits until weights are quantised, which changes the model a little.
    """
    yield plan
    yield (plan := replace(plan, vae_away=True))
    yield (plan := replace(plan, gradient_checkpointing=True))
    at_once = plan.at_once or batch
    while at_once > 1:
        at_once = -(-at_once // 2)
        yield (plan := replace(plan, at_once=at_once))
    if plan.precision == "fp32" and device != "cpu":  # a CPU without bf16 of its own would be slower by far
        yield (plan := replace(plan, precision="bf16"))
    for kind in kinds if plan.quantised == "none" else ():
        yield (plan := replace(plan, precision="bf16", quantised=kind))
    if device != "cpu":
        yield replace(plan, streamed=True)


def told(plan: Plan, said: Plan, batch: int, named: str) -> str:
    """What was chosen and why."""
    steps = {
        "bf16": plan.precision != said.precision,
        "the VAE on the device only while it works": plan.vae_away and not said.vae_away,
        "activations computed twice": plan.gradient_checkpointing and not said.gradient_checkpointing,
        f"{plan.at_once} of {batch} samples at once": plan.at_once != said.at_once,
        "the denoiser's blocks on the device only while they compute": plan.streamed and not said.streamed,
        f"weights kept in {plan.quantised}": plan.quantised != said.quantised,
    }
    chosen = ", ".join(name for name, new in steps.items() if new) or "as set"
    return f"for {named}: {chosen} (about {plan.needed / GIB:.1f} GB at the peak, estimated)"
