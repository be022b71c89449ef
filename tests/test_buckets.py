"""Pictures of several shapes: each is brought to the nearest bucket, seen as often as others, and learned from by every family."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from neologism import objective
from neologism.batches import Batch, draw, joined, of_one_shape, part_of, picked
from neologism.errors import PhotosError, RecipeError
from neologism.events import Event, Finished, Step, Warned
from neologism.families import open_model
from neologism.families.flux import Flux
from neologism.families.sdxl import six_sizes
from neologism.finetuning import finetune
from neologism.framing import FRAMING, Frame, buckets, central, framed
from neologism.latents import aim, cached, fingerprint
from neologism.many import train_many
from neologism.methods import files
from neologism.photos import gather
from neologism.recipe import Recipe, recipe
from neologism.training import train

SHAPES = ((48, 48), (100, 50), (52, 98), (80, 48))
SHORT: dict[str, Any] = {
    "steps": 3, "checkpoint_every": 2, "probe_every": 3, "batch": 4, "precision": "fp32", "device": "cpu", "preview_prompts": (),
    "crop": "bucket", "words": "<disc>", "like": "cat",
}  # fmt: skip
SIDES, GRIDS = st.integers(16, 1200), st.sampled_from([8, 16, 32, 64])
PICTURES = st.tuples(st.integers(16, 3000), st.integers(16, 3000))


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """Four pictures of three shapes: a yellow disc at the left end."""
    folder = tmp_path / "wide"
    folder.mkdir()
    for number, (size, ground) in enumerate(zip(SHAPES, ("white", "navy", "green", "pink"), strict=True)):
        image = Image.new("RGB", size, ground)
        ImageDraw.Draw(image).ellipse((4, 4, 40, 40), fill="gold")
        image.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a photo of a <disc>")
    return folder


def settings(base: Path, shown: Path, **more: Any) -> Recipe:
    """A short run in buckets."""
    return recipe(**SHORT | {"pictures": str(shown), "base": str(base)} | more)


def finished(events: Any) -> Finished:
    """The end of a run."""
    return next(event for event in events if isinstance(event, Finished))


def of(kind: type, events: list[Event]) -> list[Any]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


@given(SIDES, GRIDS)
def test_buckets_are_multiples_of_the_grid_of_about_the_area_and_within_the_ratios(side: int, grid: int) -> None:
    assume(side >= grid)
    sizes = buckets(side, grid).sizes
    assert ((side // grid * grid,) * 2) in sizes and len(set(sizes)) == len(sizes)
    for width, height in sizes:
        assert width % grid == height % grid == 0 and (height, width) in sizes
        assert width * height <= side * side and 0.5 <= width / height <= 2
        assert width == height or width * height >= 0.7 * side * side


@given(SIDES, GRIDS, PICTURES)
def test_the_bucket_of_a_photo_cuts_off_less_than_any_other(side: int, grid: int, size: tuple[int, int]) -> None:
    assume(side >= grid)
    found, ratio = buckets(side, grid), size[0] / size[1]
    kept = {(w, h): min(ratio / (w / h), (w / h) / ratio) for w, h in found.sizes}
    assert kept[found.nearest(size)] >= max(kept.values()) - 1e-9


@given(PICTURES, st.sampled_from([(64, 64), (48, 80), (96, 64), (704, 352)]))
def test_a_frame_is_central_whole_along_one_side_and_of_the_buckets_shape(
    size: tuple[int, int], side: tuple[int, int]
) -> None:
    left, top, width, height = central(size, side, False).crop
    assert width == size[0] or height == size[1]
    assert abs(2 * left + width - size[0]) <= 1 and abs(2 * top + height - size[1]) <= 1
    assert min(abs(width - height * side[0] / side[1]), abs(height - width * side[1] / side[0])) <= 0.501


def test_the_usual_bases_have_the_fields_buckets() -> None:
    assert set(buckets(512, 64).sizes) == {(512, 512), (448, 576), (384, 640), (320, 640)} | {
        (576, 448), (640, 384), (640, 320)
    }  # fmt: skip
    assert {(1024, 1024), (1152, 896), (1216, 832), (1344, 768), (832, 1216)} <= set(buckets(1024, 64).sizes)
    assert max(max(size) for size in buckets(1024, 16, longest=1152).sizes) == 1152


def test_a_side_below_the_grid_is_refused() -> None:
    with pytest.raises(
        RecipeError,
        match="Found crop = 'bucket' with a side of 48 pixels; pictures of this base have sides that are multiples of 64. "
        "Give a side of at least 64, or crop = 'square'.",
    ):
        buckets(48, 64)


def test_a_mask_that_the_square_would_miss_is_kept_and_one_outside_the_bucket_is_told(tmp_path: Path) -> None:
    mask = Image.new("L", (100, 50))
    mask.paste(255, (0, 0, 30, 50))
    for name, size in (("a", (100, 50)), ("b", (200, 50))):
        halves = Image.new("RGB", size, "red")
        halves.save(tmp_path / f"{name}.png")
        mask.resize(size, Image.Resampling.NEAREST).save(tmp_path / f"{name}.mask.png")
    one, long = gather(tmp_path).photos
    shown = framed(one, buckets(96, 32))
    assert shown.pixels.shape == (3, 64, 128) and shown.mask is not None
    assert shown.mask[0, :, :37].min() > 0.99 and shown.mask[0, :, 40:].max() < 0.01
    assert framed(long, buckets(96, 32)).frame == Frame((50, 0, 100, 50), (200, 50), (128, 64), False)
    narrow = Image.new("L", (200, 50))
    narrow.paste(255, (0, 0, 20, 50))
    narrow.save(tmp_path / "b.mask.png")
    with pytest.raises(
        PhotosError, match="is empty inside its middle of 100 x 50 pixels, which is all that is used of a picture. Crop"
    ):
        framed(gather(tmp_path).photos[1], buckets(96, 32))


def test_sdxl_is_told_the_true_size_the_crop_and_the_bucket() -> None:
    wide = central((1000, 480), (832, 448), False)
    assert wide.crop == (54, 0, 891, 480)
    assert six_sizes(wide) == (480, 1000, 0, 50, 448, 832)
    tall = central((500, 1200), (320, 640), False)
    assert six_sizes(tall) == (1200, 500, 64, 0, 640, 320)


# batches


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(1, 9), st.integers(0, 5))
def test_every_picture_is_shown_once_a_round_whatever_the_shapes(shapes: list[str], count: int, seed: int) -> None:
    some = len(shapes)
    steps = -(-3 * some // count)
    shown = [row for step in range(steps) for row in picked(seed, step, count, some, shapes)]
    assert all(Counter(shown[i : i + some]) == Counter(range(some)) for i in (0, some, 2 * some))


def test_batches_are_of_one_shape_where_pictures_suffice() -> None:
    shapes = ["wide"] * 40 + ["tall"] * 20 + ["square"] * 10
    steps = [picked(0, step, 8, 70, shapes) for step in range(35)]  # four rounds, the last three shifted
    mixed = [rows for rows in steps if len({shapes[row] for row in rows}) > 1]
    assert len(mixed) <= 10
    assert [picked(0, step, 8, 70) for step in range(35)] == [
        picked(0, step, 8, 70, ["one"] * 70) for step in range(35)
    ]


def test_samples_of_several_shapes_keep_order_and_losses(tiny_base: Path, wide: Path) -> None:
    model, made = open_model(str(tiny_base), "cpu", "fp32"), settings(tiny_base, wide)
    found = cached(model, gather(wide).photos, aim(model, made), False, True)
    assert found.sizes == ((8, 8), (6, 10), (10, 6), (6, 10)) and found.mean.isnan().any()
    batch = draw(model, found, lambda _, __: "a cat", 0, 0, 4, (0.2, 0.9))
    parts = of_one_shape(joined([part_of(batch, slice(0, 1)), part_of(batch, slice(1, 4))]))
    assert sorted(row for rows, _ in parts for row in rows) == [0, 1, 2, 3] and len(parts) == 3
    assert not any(part.clean.isnan().any() for _, part in parts)
    with torch.no_grad():
        losses = objective.loss(model, batch)
        for rows, part in parts:
            alone = torch.cat([objective.loss(model, part_of(part, slice(i, i + 1))) for i in range(len(rows))])
            assert torch.allclose(losses[rows], alone, rtol=1e-4)
    assert losses.shape == (4,) and losses.isfinite().all()


# nothing changes for squares


def test_square_crops_are_what_they_were(
    tiny_base: Path, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEOLOGISM_CACHE", str(tmp_path / "cache"))
    model = open_model(str(tiny_base), "cpu", "fp32")
    shown, vae = gather(wide).photos, fingerprint(model.parts()["vae"])
    found = cached(model, shown, 32, False, False)
    for photo in shown:  # the key as it was before there were buckets
        key = f"{photo.sha256} {FRAMING} 32 False {vae} cpu"
        assert (tmp_path / "cache/latents" / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors").is_file()
    assert found.sizes == () and found.mean.shape == (4, 4, 8, 8) and not found.mean.isnan().any()
    again = cached(model, shown, aim(model, settings(tiny_base, wide)), False, False)
    assert again.found == 0, "a bucket's picture is another one for the cache"
    batch = draw(model, found, lambda _, __: "a cat", 0, 0, 4, (0.2, 0.9))
    assert batch.sizes == () and of_one_shape(batch)[0][1] is batch
    assert joined([batch, batch]).sizes == ()
    with torch.no_grad():
        assert torch.equal(objective.loss(model, batch), objective.at_once(model, batch, "even"))


# runs


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux"])
def test_every_family_learns_from_several_shapes_and_goes_on_exactly(
    family: str, bases: dict[str, Path], wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Flux, "size", 32)
    made = settings(bases[family], wide, mirror=True)
    whole = list(train(made, tmp_path / "whole"))
    assert all(math.isfinite(step.loss) and step.gradient > 0 for step in of(Step, whole))
    events = train(made, tmp_path / "cut")
    for event in events:
        if isinstance(event, Step) and event.step == 2:
            events.close()  # type: ignore[attr-defined]
            break
    resumed = finished(train(made, tmp_path / "cut"))
    assert resumed.file.read_bytes() == finished(whole).file.read_bytes()


@pytest.mark.parametrize(
    "more",
    [
        {"method": "dreambooth", "class_pictures": 2},
        {"method": "lora", "class_pictures": 2, "word_first": 0.0},
        {"pixel": 1.0, "perceptual": 1.0, "contrastive": 1.0, "class_pictures": 2, "low_noise": 1.0},
        {"like": "auto", "accumulate": 2, "at_once": 3, "hold_out": "auto"},
    ],
    ids=["dreambooth", "lora", "additions", "automatic start"],
)
def test_every_method_and_addition_learns_from_several_shapes(
    more: dict[str, Any], tiny_base: Path, wide: Path, tmp_path: Path
) -> None:
    steps = of(Step, list(train(settings(tiny_base, wide, **more), tmp_path / "run")))
    assert len(steps) == 3 and all(math.isfinite(step.loss) and step.gradient > 0 for step in steps)
    assert steps[-1].probe is not None and math.isfinite(steps[-1].probe)


def test_words_of_many_shapes_are_what_they_are_alone(
    tiny_base: Path, wide: Path, pictures: Path, tmp_path: Path
) -> None:
    made = [settings(tiny_base, wide), settings(tiny_base, pictures, words="<other>", crop="square", seed=1)]
    many = {event.word: event for event in of(Finished, list(train_many(made, tmp_path / "many")))}
    for number, one in enumerate(made):
        alone = finished(train(one, tmp_path / str(number))).embedding
        together = many[one.words[0]].embedding
        assert (
            alone
            and torch.nn.functional.cosine_similarity(alone.vectors["text"], together.vectors["text"]).min() > 0.9999
        )


@pytest.mark.slow
def test_captioned_pictures_of_several_shapes_tune_words_and_go_on_exactly(tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", SHAPES[number % 4], (10 * number, 200, 90)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a photo of a {'cat' if number % 2 else 'zorblax'}")
    made = settings(
        tiny_base, folder, words="<captions>", method="embedding", scope="words", tuned=("cat", "zorblax"), like="auto"
    )
    whole = finished(finetune(made, tmp_path / "whole"))
    assert all(math.isfinite(float(number)) for number in whole.facts["held out"].split(" -> "))
    events = finetune(made, tmp_path / "cut")
    for event in events:
        if isinstance(event, Step) and event.step == 2:
            events.close()  # type: ignore[attr-defined]
            break
    one, two = (files.read(end.file)[0] for end in (whole, finished(finetune(made, tmp_path / "cut"))))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_side_that_leaves_only_squares_is_told(tiny_base: Path, wide: Path, tmp_path: Path) -> None:
    events = list(train(settings(tiny_base, wide, side=16, steps=1), tmp_path / "run"))
    texts = [event.text for event in of(Warned, events)]
    assert (
        "crop = 'bucket' finds no shape but the square at a side of 16 pixels, for sides must be multiples of 8 here: "
        "pictures are cropped to squares. A side of 24 or more has other shapes."
    ) in texts


def test_a_masked_part_is_all_that_is_learned_in_a_bucket(tiny_base: Path) -> None:
    model, chance = open_model(str(tiny_base), "cpu", "fp32"), torch.Generator().manual_seed(0)
    masks = torch.ones(1, 1, 6, 10)
    masks[..., 4:] = 0
    clean, noise = (torch.randn(1, 4, 6, 10, generator=chance) for _ in range(2))
    sizes = {"times": torch.tensor([300]), "prompts": ("a cat",), "frames": ()}
    first = Batch(clean, noise, masks=masks, **sizes)
    other = Batch(torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), masks=torch.ones(1, 1, 8, 8), **sizes)
    guess = model.predict(
        model.noise.add(clean, noise, first.times), first.times, model.condition(first.prompts, first.frames)
    )
    wanted = ((guess - model.noise.target(clean, noise, first.times)) ** 2)[..., :4].mean()
    assert torch.allclose(objective.loss(model, joined([first, other]))[0], wanted, rtol=1e-4)
