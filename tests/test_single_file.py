"""A base that is one file opens without a network, is what it was before it was packed, and says what it cannot be."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FluxTransformer2DModel, SD3Transformer2DModel, StableDiffusionPipeline
from transformers import CLIPTokenizer

from neologism import formats
from neologism.errors import ModelError
from neologism.events import Finished
from neologism.families import bpe, native_side, open_model, single_file
from neologism.framing import Frame
from neologism.recipe import recipe
from neologism.training import train
from tests.originals import Tensors, original, original_sd3, parts, saved

WHOLE = Frame((0, 0, 64, 64), (64, 64), (32, 32), False)
KINDS = ("sd1", "sd2", "sdxl")
SIDES = {"sd1": 512, "sd2": 768, "sdxl": 1024}


@pytest.fixture(scope="session")
def made() -> dict[str, tuple[dict[str, Any], Tensors]]:
    """The networks of each family, and their tensors in the original names."""
    found = {kind: parts(kind) for kind in KINDS}
    return {kind: (networks, original(kind, networks)) for kind, networks in found.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_opens_as_the_very_networks_that_were_packed(made: Any, kind: str, tmp_path: Path) -> None:
    networks, tensors = made[kind]
    file = saved(tensors, tmp_path / "model.safetensors", {"modelspec.prediction_type": "v"})
    model: Any = open_model(str(file), precision="fp32")
    for name, module in networks.items():
        opened = model.parts()[name].state_dict()
        assert opened.keys() == module.state_dict().keys(), name
        assert all(torch.equal(opened[key], tensor) for key, tensor in module.state_dict().items()), name
    assert (
        model.noise.prediction == "v_prediction" and model.size == SIDES[kind] // 4
    )  # this VAE has two levels of four
    assert native_side(str(file)) == SIDES[kind]
    with torch.no_grad():
        noisy, told = torch.ones(1, 4, 8, 8), model.condition(["a cat"], [WHOLE])
        answer = model.predict(noisy, torch.tensor([500]), told)
        more = {} if kind != "sdxl" else {"text_embeds": told.more.vector, "time_ids": told.more.sizes}
        wanted = (
            networks["unet"].eval()(noisy, torch.tensor([500]), told.context, added_cond_kwargs=more or None).sample
        )
    assert torch.allclose(answer, wanted, atol=1e-5)


def test_a_word_is_learned_on_a_file_and_the_base_verified(made: Any, pictures: Path, tmp_path: Path) -> None:
    file = saved(made["sd1"][1], tmp_path / "model.safetensors")
    settings = recipe(
        pictures=str(pictures), words="<disc>", base=str(file), like="cat", precision="fp32", steps=2, batch=1, side=32,
        preview_prompts=(),
    )  # fmt: skip
    *_, finished = (event for event in train(settings, tmp_path / "run") if isinstance(event, Finished))
    assert formats.load(finished.file).base == str(file)


def test_bf16_is_the_type_of_the_denoiser_alone(made: Any, tmp_path: Path) -> None:
    halved = {name: tensor.half() for name, tensor in made["sdxl"][1].items()}
    model = open_model(str(saved(halved, tmp_path / "model.safetensors")), precision="bf16")
    kinds = {name: {p.dtype for p in part.parameters()} for name, part in model.parts().items()}
    assert kinds.pop("unet") == {torch.bfloat16}
    assert kinds == {name: {torch.float32} for name in ("vae", "text_encoder", "text_encoder_2")}


def test_the_vocabulary_that_ships_is_clips() -> None:
    assert [bpe.in_bytes_order()[n] for n in (0, 93, 94, 187, 188, 255)] == ["!", "~", "¡", "ÿ", "Ā", "Ń"]


def test_clips_ids_are_those_it_was_trained_with(tmp_path: Path) -> None:
    bpe.tokenizer(tmp_path / "words", "!")
    words = CLIPTokenizer.from_pretrained(tmp_path / "words")
    assert words("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (len(words), words.pad_token_id, words.model_max_length) == (49408, 0, 77)


@pytest.mark.parametrize(
    ("yaml", "metadata", "spread", "told"),
    [
        ('    parameterization: "v"', {}, 0.0, "v_prediction"),
        ("    linear_start: 0.00085", {"modelspec.prediction_type": "v"}, 1.0, "epsilon"),
        (None, {"modelspec.architecture": "stable-diffusion-v2-768-v"}, 0.0, "v_prediction"),
        (None, {"modelspec.architecture": "stable-diffusion-v2-512"}, 1.0, "epsilon"),
        (None, {}, 1.0, "v_prediction"),
        (None, {}, 0.01, "epsilon"),
    ],
)
def test_what_is_predicted_is_told_by_the_yaml_then_the_metadata_then_the_numbers(
    yaml: str | None, metadata: dict[str, str], spread: float, told: str, tmp_path: Path
) -> None:
    bias = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
    file = saved({bias: torch.linspace(-1, 1, 64) * spread}, tmp_path / "a.safetensors", metadata or None)
    if yaml:
        (tmp_path / "a.yaml").write_text(f"model:\n  params:\n{yaml}\n")
    assert single_file.prediction(file, "sd2") == told


def test_a_mark_among_the_tensors_tells_v_and_zero_signal(made: Any, tmp_path: Path) -> None:
    marked = made["sdxl"][1] | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    model: Any = open_model(str(saved(marked, tmp_path / "model.safetensors")), precision="fp32")
    assert model.noise.prediction == "v_prediction" and model.noise.signal[-1] < 1e-6


# what is refused

CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({CONV_IN: torch.zeros(32, 9, 3, 3)}, "an inpainting model: its U-Net expects a mask"),
        (
            {CONV_IN: torch.zeros(32, 8, 3, 3)},
            "made for editing: its input has 8 channels where the family's own has 4",
        ),
        ({"conditioner.embedders.0.model.ln_final.bias": torch.zeros(1)}, "a refiner: it goes on from another"),
        ({"edm_mean": torch.zeros(1)}, "a Playground 2.5, whose rule of noise"),
        ({"control_model.a": torch.zeros(1)}, "a ControlNet: it steers another model"),
        ({"lora_unet_a.alpha": torch.zeros(1)}, "a LoRA: it changes another model"),
    ],
)
def test_files_of_other_kinds_are_refused_by_name(made: Any, more: Tensors, told: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"model.safetensors is {told}.*Teach the word to the family's own base"):
        open_model(str(saved(made["sd1"][1] | more, tmp_path / "model.safetensors")))


def without(tensors: Tensors, beginning: str) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(beginning)}


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match="holds no Stable Diffusion or FLUX that is known: 1 tensors, such as emb_params"
    ):
        open_model(str(saved({"emb_params": torch.zeros(1)}, tmp_path / "a.safetensors")))


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x02.")
    with pytest.raises(ModelError, match="model.ckpt is a pickle, which can run code when it is opened, so it is not"):
        open_model(str(tmp_path / "model.ckpt"))


def test_a_damaged_file_is_told(made: Any, tmp_path: Path) -> None:
    file = saved(made["sd1"][1], tmp_path / "model.safetensors")
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(ModelError, match="is no whole .safetensors file"):
        open_model(str(file))


def test_a_missing_tensor_is_told(made: Any, tmp_path: Path) -> None:
    file = saved(
        without(made["sd1"][1], "model.diffusion_model.middle_block.0.in_layers.0.bias"), tmp_path / "m.safetensors"
    )
    with pytest.raises(
        ModelError, match="m.safetensors cannot be converted: some of its tensors are missing. Give a whole checkpoint"
    ):
        open_model(str(file), precision="fp32")


def test_a_pruned_unet_is_told(made: Any, tmp_path: Path) -> None:
    changed = without(made["sdxl"][1], "model.diffusion_model.input_blocks.2.0.op")
    with pytest.raises(ModelError, match="has levels of different makes"):
        open_model(str(saved(changed, tmp_path / "model.safetensors")))


def test_another_vocabulary_is_told(made: Any, tmp_path: Path) -> None:
    table = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    changed = made["sd1"][1] | {table: torch.zeros(100, 32)}
    with pytest.raises(
        ModelError, match="has 100 tokens and CLIP's vocabulary 49,408. Name a diffusers folder with its own"
    ):
        open_model(str(saved(changed, tmp_path / "model.safetensors")))


# what stands behind a plus sign


@pytest.fixture(scope="session")
def folder(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same SD 1 as a diffusers folder."""
    place = tmp_path_factory.mktemp("sd1")
    bpe.tokenizer(place / "words", bpe.END)
    networks = copy.deepcopy(made["sd1"][0])
    pipe = StableDiffusionPipeline(
        **networks, tokenizer=CLIPTokenizer.from_pretrained(place / "words"), scheduler=DDIMScheduler(prediction_type="v_prediction", steps_offset=1, clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    with torch.no_grad():
        pipe.vae.quant_conv.bias.add_(1)
    pipe.save_pretrained(place / "base")
    return place / "base"


def test_what_a_file_lacks_comes_from_the_folder_beside_it(made: Any, folder: Path, tmp_path: Path) -> None:
    lacking = saved(without(made["sd1"][1], "first_stage_model."), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="holds no vae. Name a diffusers folder of the same family behind a plus sign"):
        open_model(str(lacking))
    model: Any = open_model(f"{lacking}+{folder}", precision="fp32")
    assert model.name == f"{lacking}+{folder}" and model.noise.prediction == "v_prediction"
    wanted = made["sd1"][0]["vae"].state_dict()["quant_conv.bias"] + 1
    assert torch.equal(model.parts()["vae"].state_dict()["quant_conv.bias"], wanted)


@pytest.mark.parametrize("place", ["vae", "."])
def test_another_vae_stands_in_for_the_bases_own(tiny_base: Path, folder: Path, place: str) -> None:
    model = open_model(f"{tiny_base}+{folder / place}", precision="fp32")
    assert "encoder.down_blocks.1.resnets.0.conv1.weight" in model.parts()["vae"].state_dict()
    assert len(model.parts()["vae"].state_dict()["quant_conv.bias"]) == 8


def test_a_folder_without_a_vae_is_told(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match="holds no VAE: .*Name a folder of one .config.json and .safetensors. behind the plus"
    ):
        open_model(f"{tiny_base}+{tmp_path}")


def test_flux_and_sd3_files_name_what_they_need(tmp_path: Path) -> None:
    flux = {"double_blocks.0.img_attn.norm.key_norm.scale": torch.zeros(1), "img_in.weight": torch.zeros(8, 64)}
    with pytest.raises(ModelError, match="holds no vae and text_encoder and text_encoder_2. Name a diffusers folder"):
        open_model(str(saved(flux, tmp_path / "flux.safetensors")))
    with pytest.raises(ModelError, match="made for editing: its input has 384 channels"):
        open_model(str(saved(flux | {"img_in.weight": torch.zeros(8, 384)}, tmp_path / "fill.safetensors")))


def test_sd3s_transformer_comes_from_the_file_and_all_else_from_the_folder(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    torch.manual_seed(3)
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=2, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=96, caption_projection_dim=32, pooled_projection_dim=80,
        pos_embed_max_size=8,
    )  # fmt: skip
    folder = tmp_path / "folder"
    shutil.copytree(bases["sd3"], folder)
    (folder / "transformer" / "config.json").write_text(transformer.to_json_string())
    file = saved(original_sd3(transformer), tmp_path / "sd3.safetensors")
    model = open_model(f"{file}+{folder}", precision="fp32")
    assert [encoder.key for encoder in model.encoders] == ["clip_l", "clip_g", "t5"]
    opened = model.parts()["transformer"].state_dict()
    assert all(torch.equal(opened[name], tensor) for name, tensor in transformer.state_dict().items())


def test_flux_takes_all_but_its_transformer_from_the_folder(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    small = FluxTransformer2DModel.from_pretrained(bases["flux"] / "transformer")

    def converted(file: str, **more: Any) -> Any:
        asked.append((file, more["subfolder"], more["config"]))
        return small  # diffusers converts FLUX at its full width alone

    monkeypatch.setattr(FluxTransformer2DModel, "from_single_file", converted)
    flux = {"double_blocks.0.img_attn.norm.key_norm.scale": torch.zeros(1), "img_in.weight": torch.zeros(8, 64)}
    file = saved(flux, tmp_path / "flux.safetensors")
    model = open_model(f"{file}+{bases['flux']}", precision="fp32")
    assert asked == [(str(file), "transformer", str(bases["flux"]))]
    assert [encoder.key for encoder in model.encoders] == ["clip_l", "t5"] and model.parts()["transformer"] is small
