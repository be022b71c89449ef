"""One contract over the methods: they learn, go on bit for bit, leave the base as it was, and their files are used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from neologism import previewing
from neologism.errors import EmbeddingError, ModelError, RecipeError, WordError
from neologism.events import Event, Finished, Step
from neologism.families import open_model
from neologism.formats import load
from neologism.framing import Frame
from neologism.generation import generate
from neologism.latents import tensor_hashes
from neologism.methods import choosing, files, lora
from neologism.methods.identifier import identifier, rarest_first
from neologism.recipe import Recipe, recipe
from neologism.training import train
from neologism.verifying import verify

SHORT = {
    "steps": 8,
    "checkpoint_every": 3,
    "probe_every": 4,
    "batch": 4,
    "precision": "fp32",
    "device": "cpu",
    "preview_prompts": ("a {}",),
    "like": "cat",
}
OWN = {
    "inversion": {},
    "embedding": {"weights_rate": 0.3},
    "dreambooth": {"weights_rate": 2e-3, "class_pictures": 2},
    "lora": {"weights_rate": 2e-2, "word_first": 0.25, "text_encoder": True, "alpha": 4},
}
METHODS = pytest.mark.parametrize("method", OWN)
WEIGHTS = pytest.mark.parametrize("method", ["embedding", "dreambooth", "lora"])


def settings(base: Path, shown: Path, method: str, **more: Any) -> Recipe:
    """A short run on the tiny base."""
    given = {"pictures": str(shown), "words": "<disc>", "base": str(base), "method": method}
    return recipe(**given | SHORT | OWN[method] | more)


def finished(events: list[Event]) -> Finished:
    """The end of a run."""
    return next(event for event in events if isinstance(event, Finished))


def weights_file(folder: Path) -> Path | None:
    """What `generate` takes."""
    found = [folder / name for name in ("lora.safetensors", "difference.safetensors", "tuned.safetensors")]
    return next((file for file in found if file.exists()), None)


def word_file(folder: Path) -> list[Path]:
    """The word's file, if it has one."""
    file = folder / "word.safetensors"
    return [file] if file.exists() else []


@METHODS
def test_resumed_run_equals_an_uninterrupted_one(method: str, tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_base, pictures, method)
    whole = finished(list(train(chosen, tmp_path / "whole")))
    events = train(chosen, tmp_path / "cut")
    for event in events:
        if isinstance(event, Step) and event.step == 5:
            events.close()  # type: ignore[attr-defined]
    again = list(train(chosen, tmp_path / "cut"))
    assert next(event.step for event in again if isinstance(event, Step)) == 6
    for file in (whole.file, *whole.more):
        assert (tmp_path / "cut" / file.name).read_bytes() == file.read_bytes()
    assert whole.sheet and whole.sheet.read_bytes() == (tmp_path / "cut" / "sheet.png").read_bytes()


@METHODS
def test_the_loss_falls_and_the_base_is_restored(method: str, tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    more = {"learning_rate": 2.0} if method == "inversion" else {"class_pictures": 0}
    events = list(train(settings(tiny_base, pictures, method, steps=24, probe_every=8, **more), tmp_path / "run"))
    lines = [json.loads(line) for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    probes = [line["probe"] for line in lines if line["event"] == "Step" and line["probe"]]
    assert probes[-1] < probes[0]
    assert finished(events).file.exists()
    assert verify(tmp_path / "run").untouched


@WEIGHTS
def test_the_file_draws_what_the_run_drew_and_leaves_the_model_alone(
    method: str, tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    list(train(settings(tiny_base, pictures, method), tmp_path / "run"))
    model = open_model(str(tiny_base), "cpu", "fp32")
    before = {name: (tensor_hashes(part), list(part.state_dict())) for name, part in model.parts().items()}
    plain = generate(model, "a cat", steps=3)[0]
    file, words = weights_file(tmp_path / "run"), word_file(tmp_path / "run")
    drawn = generate(model, "a <disc>", words, steps=previewing.STEPS, weights=file)[0]
    run_drew = tmp_path / "run/pictures/000008-a-disc-0.png"
    from PIL import Image

    with Image.open(run_drew) as shown:
        assert difference(shown, drawn) <= 1
    assert {name: (tensor_hashes(part), list(part.state_dict())) for name, part in model.parts().items()} == before
    assert generate(model, "a cat", steps=3)[0].tobytes() == plain.tobytes()


def difference(one: Any, two: Any) -> int:
    """The largest difference of two pictures, in 0..255."""
    from PIL import ImageChops

    return max(high for _, high in ImageChops.difference(one.convert("RGB"), two.convert("RGB")).getextrema())


def plain_picture(pipe: Any, prompt: str, model: Any) -> Any:
    """What plain diffusers draws, as our own pipeline does but for the words and weights."""
    pipe.set_progress_bar_config(disable=True)
    made = pipe(prompt, generator=torch.Generator().manual_seed(0), num_inference_steps=4, guidance_scale=5.0)
    return made.images[0]


@WEIGHTS
def test_plain_diffusers_draws_the_same_picture(method: str, tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    from neologism.merging import merge

    list(train(settings(tiny_base, pictures, method, class_pictures=0), tmp_path / "run"))
    file, words = weights_file(tmp_path / "run"), word_file(tmp_path / "run")
    assert file
    model = open_model(str(tiny_base), "cpu", "fp32")
    ours = generate(model, "a <disc>", words, steps=4, weights=file)[0]
    assert difference(ours, generate(model, "a cat", words, steps=4)[0]) > 1
    spelled = merge(file, str(tiny_base), tmp_path / "merged")
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "merged", safety_checker=None)
    for word in words:
        pipe.load_textual_inversion(word, token="<disc>")
    assert difference(ours, plain_picture(pipe, f"a {spelled or '<disc>'}", model)) <= 1


@pytest.mark.parametrize("name", ["lora.safetensors", "lora-kohya.safetensors"])
def test_plain_diffusers_loads_each_layout_of_a_lora(
    name: str, tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    from diffusers import StableDiffusionPipeline

    list(train(settings(tiny_base, pictures, "lora"), tmp_path / "run"))
    model = open_model(str(tiny_base), "cpu", "fp32")
    words = word_file(tmp_path / "run")
    ours = generate(model, "a <disc>", words, steps=4, weights=tmp_path / "run/lora.safetensors")[0]
    pipe = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    weights = load_file(tmp_path / "run" / name)
    bundled = {
        key: weights.pop(key) for key in list(weights) if key.startswith("bundle_emb.")
    }  # which diffusers refuses
    if name == "lora-kohya.safetensors":
        assert torch.equal(bundled["bundle_emb.disc.string_to_param.*"], load(words[0]).vectors["text"])
        assert any(key.startswith("lora_te_text_model_encoder_layers_0_self_attn_q_proj.") for key in weights)
        pipe.load_lora_weights(weights)
    else:
        pipe.load_lora_weights(tmp_path / "run", weight_name=name)
    pipe.load_textual_inversion(words[0], token="<disc>")
    assert difference(ours, plain_picture(pipe, "a <disc>", model)) <= 1


def test_the_automatic_identifier_is_one_rare_token_that_no_text_holds(tiny_base: Path) -> None:
    encoder = open_model("emoji", "cpu", "fp32").encoders[0]
    found = identifier(encoder, "auto", ["a photo of a dog"])
    assert len(encoder.pieces(found)) == 1 and not set(found) & set("aeiouy")
    assert identifier(encoder, "auto", [f"a photo of {found}"]) != found
    assert identifier(encoder, "sks", []) == "sks"
    assert len(set(rarest_first(encoder))) == len(rarest_first(encoder))


def test_an_identifier_of_nothing_is_refused(tiny_base: Path) -> None:
    encoder = open_model(str(tiny_base), "cpu", "fp32").encoders[0]
    with pytest.raises(
        WordError, match="^The identifier '' is empty or has spaces around it. Choose one such as sks, or auto.$"
    ):
        identifier(encoder, "", [])
    with pytest.raises(
        WordError, match="^The tokenizer has no token that is no word. Name one by --identifier, such as sks.$"
    ):
        identifier(encoder, "auto", [" ".join(rarest_first(encoder))])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"words": ("<a>", "<b>"), "pictures": ("a", "b")},
            "found 2 words with method 'lora', which learns one at a time; give one word.",
        ),
        (
            {"quantised": "int8"},
            "method 'lora' learns weights, which must be whole and at hand; leave out quantised and streamed.",
        ),
        (
            {"class_pictures": 4},
            "found like = 'auto'; method 'lora' needs the word of the pictures' class here; give like, such as dog.",
        ),
        (
            {"method": "dreambooth", "like": "dog", "from": "w.safetensors"},
            "method 'dreambooth' learns no vectors, so there is nothing to go on from; leave out from.",
        ),
    ],
)
def test_what_a_method_cannot_do_is_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(**{"words": "<a>", "pictures": "a", "method": "lora"} | given)
    assert text in str(caught.value)


def test_many_words_together_learn_by_inversion_alone() -> None:
    from neologism.many import check_shared

    with pytest.raises(RecipeError, match="many words learn by 'inversion' alone. Use neologism train for each word."):
        check_shared([recipe(words="<a>", pictures="a", method="lora")])


def test_targets_that_are_not_there_are_refused(tiny_base: Path) -> None:
    model = open_model(str(tiny_base), "cpu", "fp32")
    with pytest.raises(
        RecipeError, match="^targets: found 'to_x'; the model has to_k, to_out, to_q, to_v. Name some.$"
    ):
        lora.targets(model, "cross", ["to_x"], False)
    only = lora.targets(model, "cross", ["to_v"], False)["unet"]
    assert only and all(name.endswith("attn2.to_v") for name in only)


def test_a_class_word_that_learned_a_thing_is_what_the_word_draws(
    tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    plain = {"pictures": str(pictures), "words": "<disc>", "base": str(tiny_base), "method": "embedding"}
    made = recipe(**plain | SHORT | {"learning_rate": 5.0})
    end = finished(list(train(made, tmp_path / "run")))
    model = open_model(str(tiny_base), "cpu", "fp32")
    drawn = [
        generate(model, p, steps=2, weights=w)[0].tobytes()
        for p, w in (("a <disc>", end.file), ("a cat", end.file), ("a cat", None))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_files_that_hold_no_weights_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    model = open_model(str(tiny_base), "cpu", "fp32")
    with pytest.raises(
        EmbeddingError,
        match="There is no file .*none. Give --weights a file that train --method dreambooth or lora wrote.",
    ):
        choosing.opened(model, tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"12345678")
    with pytest.raises(
        EmbeddingError, match="bad holds no weights of this package .SafetensorError.. Give --weights a file"
    ):
        choosing.opened(model, tmp_path / "bad")
    other = files.written({"unet.x": torch.zeros(1, 1)}, {"method": "magic"}, tmp_path / "m")
    with pytest.raises(
        EmbeddingError, match="m is of the method 'magic'; dreambooth, lora and embedding can be used. Learn it again"
    ):
        choosing.opened(model, other)
    unfit = files.written(
        {"unet.x": torch.zeros(1, 1)}, {"method": "dreambooth", "word": "<a>", "spelled": "x"}, tmp_path / "u"
    )
    with pytest.raises(ModelError, match="u does not fit .* .at unet.x.. Use the base model that it was learned on."):
        choosing.opened(model, unfit)


def test_weights_that_cannot_be_written_say_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        EmbeddingError, match="cannot be written: .*. Give a folder that can be written to, with [0-9,]+ bytes free."
    ):
        files.written({"a": torch.zeros(1)}, {}, tmp_path / "file" / "x.safetensors")


def test_a_merged_folder_must_be_new(tmp_path: Path) -> None:
    from neologism.merging import merge

    with pytest.raises(ModelError, match="is there already. Give --out a folder that is not."):
        merge(tmp_path / "x", "emoji", tmp_path)


def test_class_pictures_are_drawn_once(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neologism import prior

    model = open_model(str(tiny_base), "cpu", "fp32")
    folder = prior.drawn(model, "a bird", 2)
    assert len(list(folder.glob("*.png"))) == 2
    monkeypatch.setattr(prior, "generate", lambda *_, **__: pytest.fail("drawn again"))
    assert prior.drawn(model, "a bird", 2) == folder


def test_embedding_is_not_held_back_by_pictures_of_the_class_word_which_is_what_learns(
    tiny_base: Path, pictures: Path
) -> None:
    kept = {
        method: settings(tiny_base, pictures, method, class_pictures=2).prior
        for method in ("inversion", "embedding", "dreambooth", "lora")
    }
    assert kept == {"inversion": 0, "embedding": 0, "dreambooth": 2, "lora": 2}
    contrasted = settings(tiny_base, pictures, "embedding", class_pictures=2, contrastive=1.0)
    assert contrasted.prior == 2 and not contrasted.preserving


@WEIGHTS
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["sd-v", "sdxl", "sd3", "flux"])
def test_every_family_takes_every_method_and_is_left_as_it_was(
    method: str, precision: str, family: str, bases: dict[str, Path]
) -> None:
    model = open_model(str(bases[family]), "cpu", precision)
    before = {name: (tensor_hashes(part), list(part.state_dict())) for name, part in model.parts().items()}
    given = {"words": "<disc>", "pictures": "x", "like": "cat", "text_encoder": True, "method": method}
    given |= {"scope": "encoder"} if method == "embedding" else {}
    made = choosing.method(model, recipe(**given), "cat", [])
    channels = model.pipe.vae.config.latent_channels
    frame = [Frame((0, 0, 32, 32), (32, 32), (32, 32), False)]
    noisy, times = torch.randn(1, channels, 8, 8), model.noise.times(torch.tensor([0.5]))
    with made.opened(), made.opened():
        model.predict(noisy, times, model.condition(["a cat"], frame)).pow(2).mean().backward()
    moved = [name for name, weight in made.weights.items() if weight.grad is not None and weight.grad.any()]
    if method == "embedding":
        assert {f"{encoder.key}.rows" for encoder in model.encoders} <= set(moved)
    assert any(name.startswith(("unet", "transformer")) for name in moved) == (method != "embedding")
    assert any(name.startswith("text_encoder") for name in made.weights)
    assert {name: (tensor_hashes(part), list(part.state_dict())) for name, part in model.parts().items()} == before
