"""Where a word looks: on every U-Net family, without a trace in what is drawn, and told in plain language."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps

from neologism import attending, explaining, learned
from neologism.attending import Pointed
from neologism.embedding import Embedding
from neologism.errors import ModelError, WordError
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


@pytest.mark.parametrize("family", ["sd", "sdxl"])
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


def test_looking_changes_nothing_of_what_is_drawn(tiny_base: Path) -> None:
    model = open_model(str(tiny_base), "cpu", "fp32")
    looks = explaining.explain(model, PROMPT, [word_for(model)], "<disc>", seed=3, steps=3)
    assert looks.image.tobytes() == generate(model, PROMPT, [word_for(model)], (3,), 3)[0].tobytes()
    assert not any(layer._forward_hooks for layer in model.pipe.unet.modules())


def test_the_recorded_attention_is_that_of_the_layer(tiny_base: Path) -> None:
    """All tokens of a prompt together get the whole of the attention."""
    model = open_model(str(tiny_base), "cpu", "fp32")
    seen = explaining.Seen(list(range(model.encoders[0].limit)))
    with explaining.watched(model, seen):
        model.draw([PROMPT], [""], [0], 1, 5.0)
    assert all(torch.allclose(heat, torch.ones_like(heat), atol=1e-5) for maps in seen.maps.values() for heat in maps)


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_a_family_without_cross_attention_is_told(bases: dict[str, Path], family: str) -> None:
    model = open_model(str(bases[family]), "cpu", "fp32")
    with pytest.raises(
        ModelError, match="mixes text and picture in one attention.*Use explain with a Stable Diffusion 1, 2 or XL"
    ):
        explaining.explain(model, PROMPT, [word_for(model)], "<disc>", steps=1)


def test_a_word_that_is_not_in_the_prompt_is_told(tiny_base: Path) -> None:
    model = open_model(str(tiny_base), "cpu", "fp32")
    with pytest.raises(
        WordError, match="<disc> is not in the prompt 'a cat'. Write it there, or name one that is by --of."
    ):
        explaining.explain(model, "a cat", [word_for(model)], "<disc>")
    assert explaining.places(model.encoders[0], "a red cat", "cat") == [3]


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
