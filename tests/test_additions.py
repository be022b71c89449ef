"""What is added to the loss: true gradients, exact masks, falling curves, for every method alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model

from neologism.additions import Additions, added, contrast, distances, perceptual
from neologism.batches import Batch, draw
from neologism.errors import ModelError, RecipeError
from neologism.events import Step
from neologism.families import EMOJI, Model, open_model
from neologism.features import VGG_WIDTHS, features
from neologism.formats import load
from neologism.latents import cached
from neologism.noise import DiscreteNoise, FlowNoise
from neologism.photos import gather
from neologism.recipe import recipe
from neologism.training import train
from tests.test_methods import settings

TERMS = {
    "l1": Additions(pixel=1.0, distance="l1", low_noise=1.0),
    "l2": Additions(pixel=1.0, low_noise=1.0),
    "huber": Additions(pixel=1.0, distance="huber", low_noise=1.0),
    "perceptual": Additions(perceptual=1.0, low_noise=1.0),
    "contrastive": Additions(contrastive=1.0, low_noise=1.0),
}
EVERY = pytest.mark.parametrize("name", TERMS)


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> Model:
    """The tiny base, its VAE in float64, so that finite differences can be trusted."""
    opened = open_model(str(tiny_base), "cpu", "fp32")
    opened.parts()["vae"].double()
    return opened


def batch(times: tuple[int, ...] = (100, 300)) -> Batch:
    """Two samples, the first masked on its left half."""
    chance = torch.Generator().manual_seed(1)
    clean, noise = (torch.randn(2, 4, 8, 8, generator=chance, dtype=torch.float64) for _ in range(2))
    masks = torch.ones(2, 1, 8, 8, dtype=torch.float64)
    masks[0, :, :, :4] = 0
    frames = (None, None)
    return Batch(clean, noise, torch.tensor(times), masks, ("a", "b"), frames)  # type: ignore[arg-type]


def others() -> torch.Tensor:
    """Latents of pictures of the class."""
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def guessed() -> torch.Tensor:
    """An answer of the denoiser."""
    made = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return made.requires_grad_(True)


def total(model: Model, guess: torch.Tensor, terms: Additions, samples: Batch | None = None) -> torch.Tensor:
    """The sum of what is added, in float64."""
    from neologism.additions import compared

    found = samples or batch()
    foreseen = model.noise.clean(model.noise.add(found.clean, found.noise, found.times), guess, found.times)
    whole = foreseen * found.masks + found.clean * (1 - found.masks)
    return compared(model, whole, found.clean, found.masks, terms, others()).sum()


@EVERY
def test_the_gradient_is_that_of_finite_differences(model: Model, name: str) -> None:
    guess, way = guessed(), torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(total(model, guess, TERMS[name]), guess)
    step = 1e-6
    with torch.no_grad():
        slope = (total(model, guess + step * way, TERMS[name]) - total(model, guess - step * way, TERMS[name])) / (
            2 * step
        )
    assert float((gradient * way).sum()) == pytest.approx(float(slope), rel=1e-4)


@EVERY
def test_nothing_outside_a_mask_has_a_gradient(model: Model, name: str) -> None:
    guess = guessed()
    added(model, batch(), guess, TERMS[name], others()).sum().backward()
    assert guess.grad is not None
    assert not guess.grad[0, :, :, :4].any()
    assert guess.grad[0, :, :, 4:].any() and guess.grad[1].any()


@EVERY
def test_what_outside_a_mask_is_predicted_changes_nothing(model: Model, name: str) -> None:
    guess = guessed().detach()
    other = guess.clone()
    other[0, :, :, :4] += 1
    first, second = (added(model, batch(), one, TERMS[name], others()) for one in (guess, other))
    assert torch.equal(first, second)


def test_samples_of_much_noise_get_nothing(model: Model) -> None:
    guess = guessed()
    each = added(model, batch((100, 950)), guess, replace(TERMS["l2"], low_noise=0.6))
    assert each[0] > 0 and each[1] == 0
    none = added(model, batch((950, 950)), guess, replace(TERMS["l2"], low_noise=0.6))
    none.sum().backward()
    assert not none.any() and guess.grad is not None and not guess.grad.any()


@pytest.mark.parametrize(
    "noise",
    [
        DiscreteNoise(torch.linspace(0.99, 0.01, 1000), "epsilon"),
        DiscreteNoise(torch.linspace(0.99, 0.01, 1000), "v_prediction"),
        FlowNoise(),
    ],
    ids=["epsilon", "v", "flow"],
)
def test_a_perfect_answer_foresees_the_clean_picture(noise: Any) -> None:
    found = batch()
    times = noise.times(torch.tensor([0.2, 0.7]))
    noisy, target = (act(found.clean, found.noise, times) for act in (noise.add, noise.target))
    assert torch.allclose(noise.clean(noisy, target, times), found.clean, atol=1e-5)


def test_distances_of_pixels_by_hand() -> None:
    one, two = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5)
    assert [float(distances(one, two, kind)) for kind in ("l1", "l2", "huber")] == pytest.approx([0.5, 0.25, 0.045])


def test_contrast_is_small_near_the_own_picture_and_large_near_others() -> None:
    anchor, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert float(contrast(anchor, anchor, other)) < 1e-3 < 5 < float(contrast(anchor, other, anchor))


@pytest.mark.parametrize("network", ["vae", str(EMOJI.parent / "judge")])
def test_following_the_perceptual_gradient_lowers_it(network: str) -> None:
    model = open_model("emoji", "cpu", "fp32")
    chance = torch.Generator().manual_seed(1)
    clean, noise, guess = (torch.randn(1, 8, 8, 8, generator=chance) for _ in range(3))
    found = Batch(clean, noise, torch.tensor([200]), torch.ones(1, 1, 8, 8), ("a",), (None,))  # type: ignore[arg-type]
    terms = Additions(perceptual=1.0, network=network, low_noise=1.0)
    guess.requires_grad_(True)
    told = []
    mover = torch.optim.Adam([guess], lr=0.05)
    for _ in range(6):
        mover.zero_grad()
        now = added(model, found, guess, terms).sum()
        now.backward()
        mover.step()
        told.append(float(now.detach()))
    assert told[-1] < told[0]


@pytest.mark.parametrize("method", ["inversion", "embedding", "dreambooth", "lora"])
def test_every_method_learns_with_every_addition(method: str, tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    more = {"pixel": 1.0, "perceptual": 0.5, "contrastive": 0.1, "class_pictures": 2, "preview_prompts": ()}
    chosen = settings(tiny_base, pictures, method, steps=3, times=(0.0, 0.5), **more)
    steps = [event for event in train(chosen, tmp_path / "run") if isinstance(event, Step)]
    plain = settings(tiny_base, pictures, method, steps=3, times=(0.0, 0.5), class_pictures=2, preview_prompts=())
    before = [event for event in train(plain, tmp_path / "plain") if isinstance(event, Step)]
    assert len(steps) == 3 and steps[0].loss > before[0].loss


def test_a_folder_of_no_vision_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError,
        match="^features: .* holds no vision model that can be used .*Give the folder of a CLIP or DINOv2 model",
    ):
        features(torch.zeros(1, 3, 8, 8), str(tmp_path))


def network(kind: str, folder: Path) -> str:
    """A tiny frozen network of a kind, as its users have it on disk."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28, "patch_size": 7}
    if kind == "vgg":
        save_file(vgg_state(), folder / "vgg16.safetensors")
        return str(folder / "vgg16.safetensors")
    made = (
        CLIPVisionModel(CLIPVisionConfig(intermediate_size=32, **small))
        if kind == "clip"
        else Dinov2Model(Dinov2Config(**small))
    )
    made.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    return str(folder)


def vgg_state() -> dict[str, torch.Tensor]:
    """VGG-16's convolutions under their usual names, with random weights."""
    found, before = dict[str, torch.Tensor](), 3
    for place, wide in zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), [w for w in VGG_WIDTHS if w], strict=True):
        found[f"features.{place}.weight"] = torch.randn(wide, before, 3, 3) / (3 * before**0.5)
        found[f"features.{place}.bias"] = torch.randn(wide) / 10
        before = wide
    return found


@pytest.mark.parametrize("kind", ["vgg", "clip", "dinov2"])
def test_features_of_networks_by_path_have_true_gradients(kind: str, tiny_base: Path, tmp_path: Path) -> None:
    path, chance = network(kind, tmp_path), torch.Generator().manual_seed(5)
    pixels, way = (torch.randn(2, 3, 32, 32, generator=chance).clamp(-1, 1) for _ in range(2))
    true = features(pixels.flip(0), path)
    pixels.requires_grad_(True)
    seen = features(pixels, path)
    assert len(seen.layers) == (5 if kind == "vgg" else 4) and seen.pooled.shape[0] == 2
    (gradient,) = torch.autograd.grad(perceptual(seen, true).sum(), pixels)
    with torch.no_grad():
        high, low = (float(perceptual(features(pixels + s * way, path), true).sum()) for s in (1e-2, -1e-2))
    assert float((gradient * way).sum()) == pytest.approx((high - low) / 2e-2, rel=0.05, abs=1e-3)


@pytest.mark.parametrize("name", ["pixel", "perceptual", "contrastive"])
def test_each_objective_alone_falls_while_a_word_learns(
    name: str, tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    """The same samples at the start and at the end, with what is added and without the denoising loss."""
    from neologism import additions, objective
    from neologism.vocabulary import taught

    more = {name: 100.0, "low_noise": 1.0, "times": (0.0, 0.5), "preview_prompts": (), "class_pictures": 2}
    chosen = settings(tiny_base, pictures, "inversion", steps=30, learning_rate=2.0, average=0.0, **more)
    list(train(chosen, tmp_path / "run"))
    opened, word = open_model(str(tiny_base), "cpu", "fp32"), load(tmp_path / "run/word.safetensors")
    found = cached(opened, gather(pictures).photos, 32, False, False)
    samples = draw(opened, found, lambda _, __: "a photo of a <disc>", 1, 0, 8, (0.0, 0.5))
    terms, strangers = additions.additions(chosen), opened.scale(found.mean.flip(3))

    def extra(vectors: Any) -> float:
        each = lambda batch, guess: added(opened, batch, guess, terms, strangers)  # noqa: E731
        with torch.no_grad(), taught(opened, {"<disc>": vectors}):
            return float((objective.loss(opened, samples, more=each) - objective.loss(opened, samples)).sum())

    with torch.no_grad():
        begun = {"text": opened.encoders[0].known_rows()[opened.encoders[0].tokens("cat")]}
    assert extra(word.vectors) < extra(begun)


def test_contrast_needs_one_word_and_its_class() -> None:
    with pytest.raises(
        RecipeError,
        match="found contrastive = 1, which sets one word against pictures of its class; give one word, its class",
    ):
        recipe(words="<a>", pictures="a", contrastive=1.0)
    from neologism.many import check_shared

    with pytest.raises(
        RecipeError,
        match="^Found contrastive, which sets one word against its class. Use neologism train for each word.$",
    ):
        check_shared([recipe(words="<a>", pictures="a", contrastive=1.0, class_pictures=2, like="cat")])


def test_vgg_is_read_by_its_usual_names_and_another_file_is_refused(tmp_path: Path) -> None:
    save_file(vgg_state(), tmp_path / "vgg.safetensors")
    pixels = (torch.rand(2, 3, 32, 32) * 2 - 1).requires_grad_()
    seen = features(pixels, str(tmp_path / "vgg.safetensors"))
    assert [layer.shape[1:] for layer in seen.layers] == [
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
        (512, 2, 2),
    ]
    seen.pooled.sum().backward()
    assert pixels.grad is not None and pixels.grad.abs().sum() > 0
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="does not hold VGG-16"):
        features(pixels, str(tmp_path / "other.safetensors"))
