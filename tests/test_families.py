"""One contract for every family, on tiny random models of each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import TextualInversionLoaderMixin

from neologism import formats, latents, photos, run
from neologism.embedding import Embedding
from neologism.errors import ModelError, RecipeError, WordError
from neologism.events import Finished, Step
from neologism.families import open_model
from neologism.families.flux import Flux, packed, unpacked
from neologism.families.sdxl import six_sizes
from neologism.framing import Frame
from neologism.generation import generate
from neologism.recipe import recipe
from neologism.training import train
from neologism.verifying import verify
from neologism.vocabulary import taught

FAMILIES = ("sd", "sd-v", "sdxl", "sd3", "flux")
WHOLE = Frame((0, 0, 64, 64), (64, 64), (32, 32), False)


@pytest.fixture(params=FAMILIES)
def base(request: pytest.FixtureRequest, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each family's tiny model in turn. FLUX's side stands in no config, only in its pipeline's class: 1024."""
    monkeypatch.setattr(Flux, "size", 32)
    return bases[request.param]


def word(model: Any, count: int = 2, seed: int = 0) -> Embedding:
    """A word of random rows for each of the model's encoders."""
    chance = torch.Generator().manual_seed(seed)
    return Embedding("<disc>", {e.key: torch.randn(count, e.width, generator=chance) * 0.3 for e in model.encoders})


def test_a_family_opens_frozen_and_knows_its_end_token(base: Path) -> None:
    model = open_model(str(base), precision="fp32")
    assert not any(p.requires_grad for part in model.parts().values() for p in part.parameters())
    for encoder in model.encoders:
        assert encoder.module.config.eos_token_id == encoder.tokenizer.eos_token_id
    assert model.size == 32 and model.multiple in (4, 8)


def test_the_vae_is_float32_whatever_the_rest_is_and_a_broken_one_is_told(
    base: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(str(base), precision="bf16")
    assert {p.dtype for p in model.parts()["vae"].parameters()} == {torch.float32}
    bad = torch.full((1, 4, 8, 8), float("nan"))
    monkeypatch.setattr(type(model), "encode", lambda *_: (bad, bad))
    with pytest.raises(
        ModelError, match="answers NaN or infinity for .*0.png. Its VAE computes in float32 already, .*BASE.FOLDER"
    ):
        latents.cached(model, photos.gather(pictures, 31).photos, 31, False, False)


def test_the_gradient_reaches_every_row_that_trains(base: Path) -> None:
    model = open_model(str(base), precision="fp32")
    rows = {key: torch.nn.Parameter(rows) for key, rows in word(model).vectors.items()}
    with taught(model, {"<disc>": rows}):
        told = model.condition(["a <disc>", "a cat"], [WHOLE, WHOLE])
        noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        answer = model.predict(noisy, model.noise.times(torch.tensor([0.5, 0.5])), told)
        answer[0].pow(2).sum().backward()
    assert answer.shape == (2, 4, 8, 8) and answer.dtype == torch.float32
    for key, parameter in rows.items():
        assert parameter.grad is not None and (parameter.grad.abs().sum(1) > 0).all(), key


def plain_pipe(base: Path, **parts: None) -> Any:
    """Plain diffusers' pipeline of a folder, these parts being missing."""
    pipe: Any = DiffusionPipeline.from_pretrained(base, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def with_word(pipe: Any, base: Path, made: Embedding, parts: dict[str, str], tmp_path: Path) -> Any:
    """The pipeline once plain diffusers has loaded the word, encoder by encoder, through its own loader."""
    for key, ending in parts.items():
        file = formats.save(Embedding("<disc>", {key: made.vectors[key]}), tmp_path / key, "diffusers")
        part, kind = getattr(pipe, f"text_encoder{ending}"), type(getattr(pipe, f"tokenizer{ending}"))
        tokenizer = kind.from_pretrained(base / f"tokenizer{ending}")
        setattr(pipe, f"tokenizer{ending}", tokenizer)
        told = safetensors.torch.load_file(file)
        if not isinstance(pipe, TextualInversionLoaderMixin):  # StableDiffusion3Pipeline lacks it
            pipe.__class__ = type(type(pipe).__name__, (type(pipe), TextualInversionLoaderMixin), {})
        pipe.load_textual_inversion(told, token="<disc>", text_encoder=part, tokenizer=tokenizer)
        for inner in part.modules():  # else transformers pools at the highest id, which is the new word's
            if hasattr(inner, "eos_token_id"):
                inner.eos_token_id = tokenizer.eos_token_id
    return pipe


PARTS = {
    "stable-diffusion": {"text": ""},
    "stable-diffusion-xl": {"clip_l": "", "clip_g": "_2"},
    "stable-diffusion-3": {"clip_l": "", "clip_g": "_2", "t5": "_3"},
    "flux": {"clip_l": "", "t5": "_2"},
}


def test_plain_diffusers_draws_the_same_picture(base: Path, tmp_path: Path) -> None:
    model = open_model(str(base), precision="fp32")
    made = word(model, count=1)
    ours = generate(model, "a <disc> on the car", [made], [7], steps=4)[0]
    pipe = with_word(plain_pipe(base), base, made, PARTS[model.family], tmp_path)
    lengths = {"max_sequence_length": model.encoders[-1].limit} if model.encoders[-1].key == "t5" else {}
    theirs = pipe(
        "a <disc> on the car", generator=torch.Generator().manual_seed(7), num_inference_steps=4, guidance_scale=5.0,
        height=32, width=32, **lengths,
    ).images[0]  # fmt: skip
    plain = generate(model, "a cat on the car", [], [7], steps=4)[0]
    assert np.abs(np.asarray(ours, float) - np.asarray(theirs, float)).mean() < 1
    assert np.asarray(plain).tobytes() != np.asarray(ours).tobytes()


def test_a_negative_prompt_is_drawn_as_plain_diffusers_draws_it(base: Path) -> None:
    model = open_model(str(base), precision="fp32")
    ours = generate(model, "a red cat", seeds=[3], steps=3, negative="a blue house")[0]
    more = {"true_cfg_scale": 5.0} if model.family == "flux" else {}
    lengths = {"max_sequence_length": model.encoders[-1].limit} if model.encoders[-1].key == "t5" else {}
    theirs = plain_pipe(base)(
        "a red cat", negative_prompt="a blue house", generator=torch.Generator().manual_seed(3), height=32, width=32,
        num_inference_steps=3, guidance_scale=5.0, **more, **lengths,
    ).images[0]  # fmt: skip
    assert np.abs(np.asarray(ours, float) - np.asarray(theirs, float)).mean() < 1


@pytest.mark.parametrize("size", [(48, 32), (32, 48)])
def test_a_picture_that_is_not_square_is_that_of_plain_diffusers(base: Path, size: tuple[int, int]) -> None:
    model = open_model(str(base), precision="fp32")
    ours = generate(model, "a red cat", seeds=[5], steps=3, size=size)[0]
    lengths = {"max_sequence_length": model.encoders[-1].limit} if model.encoders[-1].key == "t5" else {}
    theirs = plain_pipe(base)(
        "a red cat", generator=torch.Generator().manual_seed(5), width=size[0], height=size[1], num_inference_steps=3,
        guidance_scale=5.0, **lengths,
    ).images[0]  # fmt: skip
    assert ours.size == size and np.abs(np.asarray(ours, float) - np.asarray(theirs, float)).mean() < 1


def test_the_native_size_is_the_one_drawn_without_a_size_and_others_are_told(base: Path) -> None:
    model = open_model(str(base), precision="fp32")
    drawn = [generate(model, "a cat", steps=2, size=size)[0].tobytes() for size in (None, (model.size, model.size))]
    assert drawn[0] == drawn[1]
    with pytest.raises(
        WordError, match=r"size: found 33x7; sides that are multiples of \d+ pixels.* are allowed, such as 32x"
    ):
        generate(model, "a cat", size=(33, 7))


def test_fifty_steps_make_the_probe_fall_and_leave_the_base_untouched(
    base: Path, pictures: Path, tmp_path: Path
) -> None:
    made = recipe(
        pictures=str(pictures), words="<disc>", base=str(base), like="cat", precision="fp32", steps=50, batch=4,
        probe_every=10, learning_rate=1.0, preview_prompts=("a {}",),
    )  # fmt: skip
    events = list(train(made, tmp_path / "run"))
    probes = [event.probe for event in events if isinstance(event, Step) and event.probe]
    assert probes[-1] < probes[0]
    *_, finished = (event for event in events if isinstance(event, Finished))
    again = formats.load(finished.file)
    assert all(torch.equal(again.vectors[key], rows) for key, rows in finished.embedding.vectors.items())
    assert verify(tmp_path / "run").untouched


def test_the_pooled_vector_of_sdxl_follows_the_prompt_and_not_the_new_words_place(bases: dict[str, Path]) -> None:
    model: Any = open_model(str(bases["sdxl"]), precision="fp32")
    with taught(model, [word(model)]):
        one, two = (model.told([prompt])[1] for prompt in ("<disc> cat", "<disc> dog"))
    assert not torch.allclose(one, two)  # pooled at the highest id, they would be the same


def test_sdxl_is_told_what_the_frame_shows() -> None:
    wide = Frame((100, 0, 200, 200), (400, 200), (50, 50), False)
    assert six_sizes(wide) == (200, 400, 0, 25, 50, 50)
    assert six_sizes(Frame((0, 0, 200, 200), (400, 200), (50, 50), True)) == (200, 400, 0, 50, 50, 50)


def renamed(folder: Path, base: Path, kind: str) -> Path:
    """A copy of a model folder that names another pipeline class."""
    shutil.copytree(base, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": kind}))
    return folder


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("StableDiffusionInpaintPipeline", "an inpainting model: its U-Net expects a mask"),
        ("StableDiffusionXLImg2ImgPipeline", "a refiner: it goes on from another model's picture"),
        (
            "KandinskyPipeline",
            "is a KandinskyPipeline; StableDiffusionPipeline, StableDiffusionXLPipeline, ",
        ),
    ],
)
def test_models_of_other_kinds_are_refused_by_name(
    bases: dict[str, Path], tmp_path: Path, kind: str, told: str
) -> None:
    with pytest.raises(ModelError, match=told):
        open_model(str(renamed(tmp_path / "base", bases["sd"], kind)))


def test_an_inpainting_unet_under_an_ordinary_name_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    folder = renamed(tmp_path / "base", bases["sd"], "StableDiffusionPipeline")
    config = dict(UNet2DConditionModel.load_config(folder / "unet"))
    unet = UNet2DConditionModel.from_config(config | {"in_channels": 9})
    unet.save_pretrained(folder / "unet")
    with pytest.raises(ModelError, match="takes 9 channels and its VAE makes 4: it is made for inpainting or editing"):
        open_model(str(folder))


def test_fluxs_packing_is_that_of_its_pipeline() -> None:
    from diffusers import FluxPipeline

    latents = torch.randn(2, 4, 6, 8)
    assert torch.equal(packed(latents), FluxPipeline._pack_latents(latents, 2, 4, 6, 8))
    assert torch.equal(unpacked(packed(latents), 6, 8), latents)


def test_sd3_without_t5_is_opened(bases: dict[str, Path], tmp_path: Path) -> None:
    pipe = plain_pipe(bases["sd3"])
    type(pipe)(**pipe.components | {"text_encoder_3": None, "tokenizer_3": None}).save_pretrained(tmp_path / "base")
    model = open_model(str(tmp_path / "base"), precision="fp32")
    assert [encoder.key for encoder in model.encoders] == ["clip_l", "clip_g"]
    ours = generate(model, "a red cat", seeds=[3], steps=2)[0]
    theirs = plain_pipe(tmp_path / "base", text_encoder_3=None, tokenizer_3=None)(
        "a red cat",
        generator=torch.Generator().manual_seed(3),
        height=32,
        width=32,
        num_inference_steps=2,
        guidance_scale=5.0,
    ).images[0]
    assert np.abs(np.asarray(ours, float) - np.asarray(theirs, float)).mean() < 1


def test_one_encoder_learns_and_the_others_keep_their_start(
    bases: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    made = recipe(
        pictures=str(pictures), words="<disc>", base=str(bases["sd3"]), like="cat", precision="fp32", steps=3, batch=2,
        encoders=("clip_g=3",), vectors=2, preview_prompts=("a {}",),
    )  # fmt: skip
    *_, finished = (event for event in train(made, tmp_path / "run") if isinstance(event, Finished))
    rows = finished.embedding.vectors
    assert {key: len(tensor) for key, tensor in rows.items()} == {"clip_l": 2, "clip_g": 3, "t5": 2}
    state = run.newest(tmp_path / "run")[0]
    assert state is not None
    moved = {key: not torch.equal(rows[key], state["tensors"][f"{key}.start"]) for key in rows}
    assert moved == {"clip_l": False, "clip_g": True, "t5": False}


def test_encoders_of_very_different_rows_learn_at_one_relative_rate(
    bases: dict[str, Path], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neologism.families.model import Encoder

    real = Encoder.known_rows
    monkeypatch.setattr(Encoder, "known_rows", lambda self: real(self) * (1000 if self.key == "t5" else 1))
    made = recipe(
        pictures=str(pictures), words="<disc>", base=str(bases["sd3"]), like="normal", precision="fp32", steps=1, batch=2,
        learning_rate=0.5, preview_prompts=("a {}",),
    )  # fmt: skip
    *_, finished = (event for event in train(made, tmp_path / "run") if isinstance(event, Finished))
    state = run.newest(tmp_path / "run")[0]
    assert state is not None
    model = open_model(str(bases["sd3"]), precision="fp32")
    for encoder in model.encoders:
        step = (finished.embedding.vectors[encoder.key] - state["tensors"][f"{encoder.key}.start"]).abs().max()
        assert float(step) == pytest.approx(0.5 * float(encoder.known_rows().pow(2).mean().sqrt()), rel=0.05)


@pytest.mark.parametrize(
    ("named", "told"), [("clip_h", "found 'clip_h'; the model has text"), ("text=0", "NAME=N with N in 1..64")]
)
def test_an_encoder_that_is_not_there_is_told(
    tiny_base: Path, pictures: Path, tmp_path: Path, named: str, told: str
) -> None:
    with pytest.raises(RecipeError, match=told):
        list(train(recipe(pictures=str(pictures), words="<a>", base=str(tiny_base), encoders=named), tmp_path / "run"))
