"""Where a word looks: on every family, without a trace in what is drawn, and told in plain language."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.transformers import transformer_flux
from PIL import Image, ImageDraw, ImageOps
from torch.nn import functional as F

from neologism import attending, explaining, learned
from neologism.attending import Pointed
from neologism.embedding import Embedding
from neologism.errors import WordError
from neologism.explaining import Token
from neologism.families import Model, open_model
from neologism.generation import generate
from neologism.photos import Photo, gather
from neologism.saliency import subject
from neologism.vocabulary import taught

EMOJI_PHOTOS = Path(attending.__file__).parent / "emoji" / "photos"
PROMPT = "a <disc> on a blue background"


def word_for(model: Model, count: int = 1) -> Embedding:
    chance = torch.Generator().manual_seed(0)
    return Embedding(
        "<disc>", {e.key: torch.randn(count, e.width, generator=chance) for e in model.encoders}, model.name
    )


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux"])
def test_the_attention_of_a_word_is_a_share_of_every_level_and_time(bases: dict[str, Path], family: str) -> None:
    model = open_model(str(bases[family]), "cpu", "fp32")
    looks = explaining.explain(model, PROMPT, [word_for(model, 2)], "<disc>", steps=3)
    assert all(heat.shape == (side, side) for side, heat in looks.levels.items())
    assert all(
        float(heat.sum()) == pytest.approx(1, abs=1e-4) and bool((heat >= 0).all()) for heat in looks.levels.values()
    )
    assert set(looks.phases) <= set(explaining.PHASES) and looks.phases
    own = [token for token in looks.tokens[model.encoders[0].key] if token.learned]
    assert len(own) == 2 and own[0].written == "<disc>"


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux"])
def test_looking_changes_nothing_of_what_is_drawn(bases: dict[str, Path], family: str) -> None:
    model = open_model(str(bases[family]), "cpu", "fp32")
    looks = explaining.explain(model, PROMPT, [word_for(model)], "<disc>", seed=3, steps=2)
    assert looks.image.tobytes() == generate(model, PROMPT, [word_for(model)], (3,), 2)[0].tobytes()
    denoiser = model.pipe.transformer if hasattr(model.pipe, "transformer") else model.pipe.unet
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in denoiser.modules())


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_the_share_in_joint_attention_is_that_of_the_products_the_layers_compute(
    bases: dict[str, Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layers' own queries and keys, taken where they are multiplied, and the word's columns of their softmax."""
    model = open_model(str(bases[family]), "cpu", "fp32")
    products: list[tuple[torch.Tensor, torch.Tensor]] = []
    where, name = (
        (F, "scaled_dot_product_attention") if family == "sd3" else (transformer_flux, "dispatch_attention_fn")
    )
    real = getattr(where, name)

    def multiplied(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *more: Any, **named: Any) -> Any:
        aside = (1, 2) if family == "flux" else (0, 0)  # FLUX has heads behind the sequence
        products.append((query[-1:].transpose(*aside)[0], key[-1:].transpose(*aside)[0]))
        return real(query, key, value, *more, **named)

    with taught(model, [word_for(model, 2)]):
        found = attending.positions(model, PROMPT, "<disc>")
        told, seen = model.condition([PROMPT]), attending.Seen(found)
        latents = torch.randn(1, model.pipe.vae.config.latent_channels, 8, 8)
        with attending.watched(model, seen), monkeypatch.context() as patched:
            patched.setattr(where, name, multiplied)
            model.predict(latents, torch.tensor([0.7]), told)
    (maps,) = seen.maps.values()
    texts, layers = told.context.shape[1], [pair for pair in products if pair[0].shape[1] > told.context.shape[1]]
    assert len(maps) == len(layers) > 1
    for heat, (queries, keys) in zip(maps, layers, strict=True):
        whole = (queries @ keys.transpose(1, 2) * queries.shape[-1] ** -0.5).softmax(-1).mean(0)
        places = whole.shape[0] - texts
        own = whole[:places, [places + p for p in found]] if family == "sd3" else whole[texts:][:, found]
        assert torch.allclose(heat.flatten(), own.sum(-1), atol=1e-6)


def test_a_pass_for_a_negative_prompt_is_not_looked_at(bases: dict[str, Path]) -> None:
    model = open_model(str(bases["flux"]), "cpu", "fp32")
    counts: list[int] = []
    for negative in ("", "a car"):
        with taught(model, [word_for(model)]):
            seen = attending.Seen(attending.positions(model, PROMPT, "<disc>"))
            with attending.watched(model, seen):
                model.draw([PROMPT], [negative], [0], 2, 5.0)
        counts.append(len(next(iter(seen.maps.values()))))
    assert counts[0] == counts[1] > 0


def test_a_words_tokens_are_found_behind_one_another_where_several_encoders_are_heard(bases: dict[str, Path]) -> None:
    model = open_model(str(bases["sd3"]), "cpu", "fp32")
    clip, _, t5 = model.encoders
    with taught(model, [word_for(model, 2)]):
        found = attending.positions(model, PROMPT, "<disc>")
        assert found[:2] == attending.places(clip, PROMPT, "<disc>") and len(found) == 4
        assert [place - clip.limit for place in found[2:]] == attending.places(t5, PROMPT, "<disc>")
        assert model.condition([PROMPT]).context.shape[1] == clip.limit + t5.limit


def test_a_word_that_is_not_in_the_prompt_is_told(tiny_base: Path) -> None:
    model = open_model(str(tiny_base), "cpu", "fp32")
    with pytest.raises(
        WordError, match="<disc> is not in the prompt 'a cat'. Write it there, or name one that is by --of."
    ):
        explaining.explain(model, "a cat", [word_for(model)], "<disc>")
    assert attending.places(model.encoders[0], "a red cat", "cat") == [3]


def test_a_word_that_looks_at_the_background_is_told_in_plain_language() -> None:
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((16, 16, 48, 48), fill="navy")
    mask = subject(image)
    assert mask is not None
    inside = torch.from_numpy(np.asarray(mask.resize((8, 8)), np.float32) / 255)
    assert explaining.lifted((inside + 0.1) / (inside + 0.1).sum(), mask) > 5
    away = explaining.lifted((1.1 - inside) / (1.1 - inside).sum(), mask)
    tokens = {"text": [Token("a", 1.0, False), Token("<disc>", 4.0, True)]}
    said = explaining.in_words("<disc>", away, tokens)
    assert "<disc> looks at the background rather than at the thing" in said and "4.0 times as long" in said
    assert "looks at the thing" in explaining.in_words("<disc>", 2.0, {}) and "not plain" in explaining.in_words(
        "<disc>", None, {}
    )


def test_photos_with_masks_decide_whether_a_word_looks_at_the_thing() -> None:
    image, heat = Image.new("RGB", (8, 8)), torch.full((8, 8), 1 / 64)
    seen = [Pointed(f"{n}.png", image, heat, lift, True) for n, lift in enumerate((0.5, 0.6))]
    said = explaining.in_words("<disc>", 3.0, {}, seen)
    assert said.startswith("<disc> looks at the background rather than at the thing: 0.55 times")
    assert "in 2 of its photos, by their masks" in said and "give pictures on various grounds" in said
    assert "It is 3.00 times in the picture that was drawn." in said
    well = explaining.in_words("<disc>", None, {}, [Pointed("0.png", image, heat, 2.0, False)])
    assert well.startswith("<disc> looks at the thing: 2.00 times") and "in a photo of it, by its plain ground" in well


@pytest.fixture(scope="module")
def emoji() -> Model:
    return open_model("emoji", "cpu", "fp32")


def photo_with(mask: Image.Image | None, folder: Path) -> Photo:
    """A shipped picture, beside it a mask."""
    shutil.copy(EMOJI_PHOTOS / "hammer" / "0.png", folder / "0.png")
    if mask:
        mask.save(folder / "0.mask.png")
    return gather(folder).photos[0]


def test_a_word_that_looks_at_the_background_of_its_photos_is_told_and_one_that_does_not_is_not(
    emoji: Model, tmp_path: Path
) -> None:
    """One and the same word, as what it is for is inside the mask, or outside."""
    with Image.open(EMOJI_PHOTOS / "hammer" / "0.png") as image:
        inside = subject(image.convert("RGB"))
    assert inside is not None
    encoder = emoji.encoders[0]
    tool = Embedding("<disc>", {encoder.key: encoder.known_rows()[encoder.tokens("tool")].clone()}, "emoji")
    told: list[str] = []
    for mask in (inside, ImageOps.invert(inside)):
        photo = photo_with(mask, tmp_path)
        looks = explaining.explain(emoji, PROMPT, [tool], "<disc>", steps=1, photos=[photo])
        assert looks.photos[0].masked
        told.append(looks.told)
    assert told[0].startswith("<disc> looks at the thing") and "in a photo of it, by its mask" in told[0]
    assert told[1].startswith("<disc> looks at the background rather than at the thing")


def test_without_a_mask_a_plain_ground_tells_the_subject_and_a_busy_one_does_not(emoji: Model, tmp_path: Path) -> None:
    encoder = emoji.encoders[0]
    tool = Embedding("<disc>", {encoder.key: encoder.known_rows()[encoder.tokens("tool")].clone()}, "emoji")
    with taught(emoji, [tool]):
        plain = attending.pointed(emoji, photo_with(None, tmp_path), "a <disc>", "<disc>")
        again = attending.pointed(emoji, photo_with(None, tmp_path), "a <disc>", "<disc>")
        Image.effect_noise((64, 64), 200).save(tmp_path / "0.png")
        busy = attending.pointed(emoji, gather(tmp_path).photos[0], "a <disc>", "<disc>")
    assert plain and not plain.masked and plain.lift > 1 and busy is None
    assert again and torch.equal(plain.heat, again.heat)


def test_a_runs_own_photos_are_looked_in(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.toml").write_text(f'words = ["<disc>"]\npictures = ["{pictures}"]\n')
    assert len(learned.photos_of("<Disc>", [tmp_path / "run"], None)) == len(gather(pictures).photos)
    assert learned.photos_of("<other>", [tmp_path / "run"], None) == [] == learned.photos_of("<a>", [tmp_path], None)
    assert len(learned.photos_of("<other>", [], pictures)) == len(gather(pictures).photos)


def test_a_subject_is_found_on_a_plain_ground_and_on_no_other() -> None:
    image = Image.new("RGB", (100, 80), "pink")
    ImageDraw.Draw(image).rectangle((30, 20, 69, 59), fill="black")
    mask = subject(image)
    assert mask is not None and mask.size == (100, 80) and np.asarray(mask).mean() / 255 == pytest.approx(0.2, abs=0.02)
    assert subject(Image.effect_noise((100, 100), 200).convert("RGB")) is None
    assert subject(Image.new("RGB", (50, 50), "red")) is None


def test_what_was_seen_is_kept_for_the_report(tiny_base: Path, tmp_path: Path) -> None:
    model = open_model(str(tiny_base), "cpu", "fp32")
    looks = explaining.explain(model, PROMPT, [word_for(model)], "<disc>", steps=2)
    file = explaining.kept(looks, PROMPT, "<disc>", tmp_path)
    with Image.open(file) as image:
        assert image.width > 400
    assert json.loads((tmp_path / "explained.json").read_text())["told"] == looks.told
