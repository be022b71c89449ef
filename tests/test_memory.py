"""Plans come from measured sizes, say what they chose, change no gradient; and a lack of memory is met once, then told."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from neologism import latents, loop, memory, objective
from neologism.device import Limits, enough_memory
from neologism.errors import DeviceError, RecipeError
from neologism.events import Finished, Opened, Warned
from neologism.families import Model, measuring, open_model, pipelines, quantising, streaming
from neologism.families.flux import Flux
from neologism.families.measuring import Measured, measured
from neologism.framing import Frame
from neologism.generation import generate
from neologism.memory import GIB, Demand, Plan, ladder
from neologism.recipe import Recipe, recipe
from neologism.training import train
from neologism.verifying import verify
from neologism.vocabulary import taught
from tests.originals import original, parts, saved

FAMILIES = ("sd", "sdxl", "sd3", "flux")


def numbers(part: nn.Module) -> int:
    """How many numbers a network has; a table that it uses twice is there once."""
    return sum({tensor.data_ptr(): tensor.numel() for tensor in part.state_dict().values()}.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bases_sizes_are_those_of_its_opened_networks(
    bases: dict[str, Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Flux, "size", 32)
    sizes, model = measured(str(bases[family]), 32), open_model(str(bases[family]), precision="fp32")
    assert sizes.parts == {name: numbers(part) for name, part in model.parts().items()}
    assert sizes.kept > sizes.kept_twice > 0 and all(sizes.kept_of_text.values()) and sizes.denoiser in sizes.parts


def test_a_single_files_sizes_are_those_of_its_networks(tmp_path: Path) -> None:
    networks = parts("sd1")
    sizes = measured(str(saved(original("sd1", networks), tmp_path / "a.safetensors")), 64)
    assert sizes.parts == {name: numbers(part) for name, part in networks.items()}


def test_what_is_kept_is_what_a_step_keeps(bases: dict[str, Path]) -> None:
    model: Any = open_model(str(bases["sdxl"]), precision="fp32")
    unet, sizes = model.parts()["unet"], measured(str(bases["sdxl"]), 32)
    frozen, kept = {p.untyped_storage().data_ptr() for p in unet.parameters()}, dict[int, int]()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in frozen:
            kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    given = measuring.inputs(dict(unet.config), 8)
    real = {
        n: torch.randn_like(t, requires_grad=t.requires_grad) for n, t in given.items() if isinstance(t, torch.Tensor)
    }
    added = {name: torch.randn_like(tensor) for name, tensor in given["added_cond_kwargs"].items()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), measuring.light_attention():
        unet(**real, added_cond_kwargs=added)
    assert sizes.kept == pytest.approx(sum(kept.values()), rel=0.1)


LARGE = Measured(
    {"unet": 2_567_000_000, "text_encoder": 123_000_000, "text_encoder_2": 695_000_000, "vae": 84_000_000},
    "unet", 2_140_000_000, 270_000_000, 20_000_000, 60_000_000, {"text_encoder": 10_000_000, "text_encoder_2": 40_000_000}, 4 * 128 * 1024 * 1024, 1024,
)  # fmt: skip


def test_each_plan_of_the_ladder_needs_no_more_than_the_one_before() -> None:
    plans = list(ladder(Plan("fp32"), 8, "cuda", ["int8", "nf4"]))
    wanted = [Demand(LARGE, 8).needed(plan) for plan in plans]
    assert wanted == sorted(wanted, reverse=True)
    assert plans[0] == Plan("fp32")
    assert plans[-1] == Plan("bf16", "nf4", gradient_checkpointing=True, vae_away=True, at_once=1, streamed=True)
    assert [plan.at_once for plan in plans if plan.quantised == "none"] == [None, None, None, 4, 2, 1, 1]


def of_size(size: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Plan:
    monkeypatch.setattr(memory, "measured", lambda *_: LARGE)
    monkeypatch.setattr(memory, "at_hand", lambda _: ["int8"])
    made = recipe(**{"memory": size, "precision": "bf16", "device": "cpu", "batch": 4} | more)
    return memory.planned(made)


def test_a_plan_is_the_cheapest_that_fits_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    roomy, middle, small = (of_size(size, monkeypatch) for size in ("80gb", "12gb", "10gb"))
    assert roomy.told.startswith("for 80 GB: as set (about ") and not roomy.gradient_checkpointing
    assert middle.gradient_checkpointing and middle.vae_away and middle.quantised == "none"
    assert small.quantised == "int8" and small.at_once == 1
    assert small.told.startswith(
        "for 10 GB: the VAE on the device only while it works, activations computed twice, 1 of 4 samples at once, weights kept in int8 (about "
    )
    assert all(plan.needed <= size * GIB for plan, size in ((roomy, 80), (middle, 12), (small, 10)))
    assert of_size("2gb", monkeypatch).told.endswith("GB at the peak, estimated), and that may not be enough")


def test_a_text_encoder_whose_rows_do_not_learn_keeps_nothing() -> None:
    large = dataclasses.replace(
        LARGE, parts=LARGE.parts | {"text_encoder_3": 4_762_000_000}, kept_of_text={"text_encoder_3": 10**9}
    )
    with_t5, without = (Demand(large, 1, t5=t5).needed(Plan("bf16")) for t5 in (True, False))
    assert with_t5 - without == 2 * 10**9 * 1.25


def test_without_its_library_no_plan_quantises() -> None:
    plans = list(ladder(Plan("bf16"), 2, "cuda", []))
    assert {plan.quantised for plan in plans} == {"none"} and plans[-1].streamed


def test_what_can_be_quantised_is_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for installed, kinds in (((), []), (("torchao",), ["int8"]), (("torchao", "bitsandbytes"), ["int8", "nf4"])):
        monkeypatch.setattr(quantising, "find_spec", lambda name, known=installed: name in known)
        assert quantising.at_hand(torch.device("cuda")) == kinds
        assert quantising.at_hand(torch.device("cpu")) == kinds[:1]


def test_a_plan_for_many_words_counts_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measured", lambda *_: LARGE)
    made = recipe(memory="24gb", precision="bf16", device="cpu", batch=1)
    assert memory.planned(made, together=16).needed > memory.planned(made).needed


def test_auto_takes_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: 12 * GIB)
    assert of_size("auto", monkeypatch).told.startswith("for the 12.0 GB that are free: ")


def test_without_a_memory_nothing_is_chosen() -> None:
    assert memory.planned(Recipe(precision="auto", at_once=2)) == Plan("auto", at_once=2)


def test_a_memory_that_is_none_is_told() -> None:
    with pytest.raises(RecipeError, match="memory: found 'lots'; auto, or gigabytes such as 8gb are allowed"):
        recipe(memory="lots")


def settings(base: Path, pictures: Path, **more: Any) -> Recipe:
    plain = {
        "words": "<disc>",
        "like": "cat",
        "precision": "fp32",
        "steps": 3,
        "batch": 4,
        "preview_prompts": ("a {}",),
    }
    return recipe(pictures=str(pictures), base=str(base), **plain | more)


def learned(made: Recipe, out: Path) -> tuple[list[Any], torch.Tensor]:
    events = list(train(made, out))
    *_, finished = (event for event in events if isinstance(event, Finished))
    return events, finished.embedding.vectors["text"]


def test_pieces_twice_computed_activations_and_a_vae_put_away_change_no_word(
    tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    _, plain = learned(settings(tiny_base, pictures), tmp_path / "plain")
    for number, more in enumerate(({"at_once": 3}, {"gradient_checkpointing": True, "vae_away": True})):
        _, small = learned(settings(tiny_base, pictures, **more), tmp_path / str(number))
        assert torch.allclose(plain, small, atol=1e-4), more


@pytest.mark.parametrize("family", FAMILIES)
def test_a_streamed_denoiser_learns_the_same_and_uses_its_blocks_only_where_they_are(
    bases: dict[str, Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Flux, "size", 32)
    frame = Frame((0, 0, 32, 32), (32, 32), (32, 32), False)
    gradients, pictures, hashes = [], [], []
    for limits in (Limits(), Limits(streamed=True)):
        model = open_model(str(bases[family]), precision="fp32", limits=limits)
        hashes.append({name: latents.fingerprint(part) for name, part in model.parts().items()})
        if limits.streamed:
            unusable_at_rest(model.parts()["unet" if "unet" in model.parts() else "transformer"])
        rows = {e.key: nn.Parameter(torch.full((1, e.width), 0.1)) for e in model.encoders}
        with taught(model, {"<disc>": rows}):
            told, noisy = model.condition(["a <disc>"], [frame]), torch.ones(1, 4, 8, 8)
            model.predict(noisy, model.noise.times(torch.tensor([0.5])), told).square().sum().backward()
        gradients.append(next(iter(rows.values())).grad)
        pictures.append(generate(model, "a cat", steps=2)[0].tobytes())
    assert gradients[0].any() and torch.allclose(gradients[0], gradients[1], atol=1e-5)
    assert pictures[0] == pictures[1] and hashes[0] == hashes[1]


def unusable_at_rest(network: nn.Module) -> None:
    """Spoil what a block has while it rests, as weights in main memory are of no use to a GPU."""
    found = [*streaming.blocks(network)]
    assert found
    for block in found:
        visitor: Any = block.forward
        visitor.homes = {name: home.clone() for name, home in visitor.homes.items()}
        for parameter in block.parameters():
            parameter.data.fill_(float("nan"))


def test_a_run_in_a_memory_says_what_was_chosen(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    events, _ = learned(settings(tiny_base, pictures, memory="8gb", steps=1), tmp_path / "run")
    opened = next(event for event in events if isinstance(event, Opened))
    assert "; for 8 GB: as set (about 0." in opened.reason


# where it falls short


def failing(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second step on, so many steps find no memory."""
    real, calls = loop.gradients, list[int]()

    def gradients(model: Model, active: Any) -> list[float]:
        calls.append(1)
        if 1 < len(calls) <= 1 + times:
            for lesson in active:
                for rows in lesson.rows.values():
                    rows.grad = torch.full_like(rows, 9.0)  # a step cut short
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, active)

    monkeypatch.setattr(loop, "gradients", gradients)


def test_a_lack_of_memory_is_met_once_and_changes_no_word(
    tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plain = learned(settings(tiny_base, pictures), tmp_path / "plain")
    failing(1, monkeypatch)
    events, small = learned(settings(tiny_base, pictures), tmp_path / "short")
    told = [event.text for event in events if isinstance(event, Warned)]
    assert told == [
        "Memory fell short. From here on activations are computed twice and 2 of 4 samples at once; the sum of gradients is the same."
    ]
    assert torch.allclose(plain, small, atol=1e-4)


def test_the_second_lack_of_memory_names_what_to_lower_and_keeps_the_steps(
    tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(2, monkeypatch)
    with pytest.raises(
        DeviceError, match="memory of cpu is too small for this. Lower --at-once .* and --side, and .* --quantised int8"
    ):
        learned(settings(tiny_base, pictures), tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "000001").is_dir()


def test_the_start_search_takes_fewer_at_once_where_memory_falls_short(
    tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plain = learned(settings(tiny_base, pictures, like="auto", steps=1), tmp_path / "plain")
    real, sizes = objective.at_once, list[int]()

    def at_once(model: Model, batch: Any, *rest: Any) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, batch, *rest)

    monkeypatch.setattr(objective, "at_once", at_once)
    _, small = learned(settings(tiny_base, pictures, like="auto", steps=1), tmp_path / "short")
    assert torch.allclose(plain, small, atol=1e-5) and sizes.count(max(sizes)) == 1
    monkeypatch.setattr(objective, "at_once", failing_always)
    with pytest.raises(DeviceError, match="The memory of cpu is too small"):
        learned(settings(tiny_base, pictures, like="auto", steps=1), tmp_path / "none")


def failing_always(*_: Any) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_lack_of_memory_while_drawing_is_told(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(str(tiny_base), precision="fp32")

    def draw(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(model), "draw", draw)
    with pytest.raises(DeviceError, match="The memory of cpu is too small"):
        generate(model, "a cat")
    with pytest.raises(ValueError, match="else"), enough_memory(torch.device("cpu")):
        raise ValueError("something else")


def test_pictures_drawn_in_a_small_memory_are_the_same(tiny_base: Path) -> None:
    small = open_model(str(tiny_base), precision="fp32", limits=Limits(at_once=1, vae_away=True))
    one, two = (
        generate(m, "a cat", seeds=(1, 2), steps=2) for m in (open_model(str(tiny_base), precision="fp32"), small)
    )
    assert [image.tobytes() for image in one] == [image.tobytes() for image in two]


def test_large_pictures_are_decoded_one_by_one(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = open_model(str(tiny_base), precision="fp32")
    plain = generate(model, "a cat", seeds=(1, 2, 3), steps=2)
    decoded, real = list[int](), model.pipe.vae.decode
    monkeypatch.setattr(model.pipe.vae, "decode", lambda latents: decoded.append(len(latents)) or real(latents))
    monkeypatch.setattr(pipelines, "PIXELS", 2 * 32 * 32)
    again = generate(model, "a cat", seeds=(1, 2, 3), steps=2)
    assert decoded == [2, 1]
    for one, two in zip(plain, again, strict=True):
        assert max(abs(a - b) for a, b in zip(one.tobytes(), two.tobytes(), strict=True)) <= 1


# weights in fewer bits


def test_a_missing_library_is_told_with_its_extra(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(
        DeviceError,
        match="Weights in fp8 need torchao, which is not installed. Type pip install 'neologism.quantised.'",
    ):
        open_model(str(tiny_base), quantised="fp8")


def test_four_bits_need_a_gpu(tiny_base: Path) -> None:
    with pytest.raises(
        DeviceError, match="Weights in nf4 need a CUDA GPU and found cpu. Choose --quantised int8, fp8 or none"
    ):
        open_model(str(tiny_base), device="cpu", quantised="nf4")


def test_every_matrix_is_handed_to_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Linear4bit(nn.Linear):
        def __init__(self, *given: Any, compute_dtype: torch.dtype, quant_type: str):
            super().__init__(*given)
            assert (compute_dtype, quant_type) == (torch.bfloat16, "nf4")

    fake: Any = types.ModuleType("bitsandbytes")
    fake.nn = types.SimpleNamespace(Linear4bit=Linear4bit, Params4bit=lambda data, **_: nn.Parameter(data, False))
    monkeypatch.setitem(sys.modules, "bitsandbytes", fake)
    network = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.GELU(), nn.Linear(8, 2, bias=False))).bfloat16()
    asked = network(torch.ones(1, 4, dtype=torch.bfloat16))
    quantising.by_bitsandbytes(network, "nf4", torch.device("cuda"))
    assert [type(part).__name__ for part in network.modules()].count("Linear4bit") == 2
    assert torch.equal(network(torch.ones(1, 4, dtype=torch.bfloat16)), asked)
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_a_word_is_learned_through_weights_in_eight_bits(
    bases: dict[str, Path], pictures: Path, tmp_path: Path, kind: str
) -> None:
    pytest.importorskip("torchao.quantization")
    made = recipe(
        pictures=str(pictures), base=str(bases["sd3"]), words="<disc>", like="cat", quantised=kind, steps=3, batch=2,
        preview_prompts=("a {}",), device="cpu",
    )  # fmt: skip
    *_, finished = (event for event in train(made, tmp_path / "run") if isinstance(event, Finished))
    rows = finished.embedding.vectors
    assert all(torch.isfinite(tensor).all() and tensor.dtype == torch.float32 for tensor in rows.values())
    assert json.loads((tmp_path / "run" / "base.json").read_text())["quantised"] == kind
    assert verify(tmp_path / "run").untouched
