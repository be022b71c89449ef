"""The score: networks of every kind, masks, anchors, intervals, forgetting by bits, photos that were held out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tokenizer_folder
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    GPT2Config,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTModel,
)

from neologism import formats, learned, scoring
from neologism.embedding import Embedding
from neologism.errors import ModelError, PhotosError, RunError
from neologism.families import Model, open_model
from neologism.metrics import Network, Shown, networks, opened
from neologism.photos import gather, parted
from neologism.recipe import recipe
from neologism.scores import open_judge
from neologism.scoring import Metric
from neologism.training import train

SMALL: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
}  # fmt: skip
SEEN: dict[str, Any] = SMALL | {"image_size": 16, "patch_size": 8}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny networks of every kind."""
    place = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder(place / "made"))
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    text = SMALL | ends | {"vocab_size": len(tokenizer), "max_position_embeddings": 24}
    made = {
        "clip": CLIPModel(CLIPConfig(text_config=text, vision_config=SEEN, projection_dim=8)),
        "siglip": SiglipModel(SiglipConfig(text_config=text, vision_config=SEEN)),
        "vit": ViTModel(ViTConfig(**SEEN), add_pooling_layer=False),
        "dinov2": Dinov2Model(Dinov2Config(**SEEN)),
    }
    for name, model in made.items():
        model.save_pretrained(place / name)
        if name in ("clip", "siglip"):
            tokenizer.save_pretrained(place / name)
    GPT2Config().save_pretrained(place / "gpt2")
    return {name: place / name for name in (*made, "gpt2")}


@pytest.fixture(scope="module")
def clip(folders: dict[str, Path]) -> Network:
    return opened(str(folders["clip"]))


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> Model:
    return open_model(str(tiny_base), "cpu", "fp32")


def shown(*colours: str) -> list[Shown]:
    return [Shown(Image.new("RGB", (20, 20), colour)) for colour in colours]


@pytest.mark.parametrize("kind", ["clip", "siglip", "vit", "dinov2"])
def test_a_network_of_every_kind_sees_pictures_as_unit_rows(folders: dict[str, Path], kind: str) -> None:
    network = opened(str(folders[kind]))
    rows = network.pictures(shown("red", "blue"))
    assert rows.shape[0] == 2 and torch.allclose(rows.norm(dim=1), torch.ones(2))
    assert network.reads == (kind in ("clip", "siglip")) and len(network.revision) == 64
    if network.reads:
        assert network.texts(["a red cat", "a dog"]).shape == rows.shape


def test_the_metrics_agree_with_the_judge_on_square_pictures(folders: dict[str, Path], clip: Network) -> None:
    images = [one.image for one in shown("red", "green")]
    theirs = open_judge(folders["clip"]).pictures(images)
    assert torch.allclose(clip.pictures(shown("red", "green")), theirs, atol=1e-5)


def test_only_the_foreground_is_seen_where_there_is_a_mask(clip: Network) -> None:
    mask = Image.new("L", (20, 20), 0)
    mask.paste(255, (5, 5, 15, 15))
    pictures = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    for picture in pictures:
        picture.paste("gold", (5, 5, 15, 15))
    masked = clip.pictures([Shown(picture, mask) for picture in pictures])
    plain = clip.pictures([Shown(picture) for picture in pictures])
    assert torch.equal(masked[0], masked[1]) and not torch.allclose(plain[0], plain[1])


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("gpt2", "cannot be used: it is a gpt2 model Give a folder or hub id of CLIP, SigLIP, DINO or DINOv2."),
        ("nothing here!", "is no folder, and cannot be fetched from the hub .HFValidationError."),
        (" , ", "metrics: found no network. Name folders or hub ids"),
    ],
)
def test_what_is_no_network_is_told(folders: dict[str, Path], named: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        networks(str(folders.get(named, named)), "emoji")


def subject(model: Model, given: int, unseen: int) -> scoring.Subject:
    """A word of random rows, with one-coloured photos."""
    rows = torch.randn(1, 32, generator=torch.Generator().manual_seed(1)) * 0.5
    word = Embedding("<disc>", {"text": rows}, model.name, {"start": "cat"})
    colours = ("red", "gold", "navy", "pink")
    return scoring.Subject("<disc>", [word], None, "cat", shown(*colours[:given]), shown(*colours[4 - unseen :]))


def test_a_score_has_its_three_anchors_an_interval_and_forgets_nothing(model: Model, clip: Network) -> None:
    told = scoring.score(model, subject(model, 2, 2), [clip], (0, 1), ("a red {}",), 2)
    names = [metric.name for metric in told.metrics]
    assert names == [
        "Subject fidelity, CLIP",
        "Diversity, CLIP",
        "Memorisation gap, CLIP",
        "Prompt fidelity, CLIP-T",
        "Forgetting",
    ]
    fidelity = told.metrics[0]
    assert [name.split()[0] for name in fidelity.anchors] == ["start", "nearest", "real"]
    assert fidelity.low is not None and fidelity.high is not None and fidelity.low <= fidelity.own <= fidelity.high
    assert told.metrics[-1].own == 0.0 and "bit for bit" in told.metrics[-1].about
    assert told.near and told.as_dict()["metrics"][0]["bars"][0]["own"] is True


def test_the_start_word_scores_as_its_own_anchor(model: Model, clip: Network) -> None:
    encoder = model.encoders[0]
    rows = encoder.known_rows()[encoder.tokens("cat")].cpu()
    same = Embedding("<disc>", {encoder.key: rows}, model.name, {"start": "cat"})
    told = scoring.score(
        model, scoring.Subject("<disc>", [same], None, "cat", [], shown("red")), [clip], (0, 1), ("a red {}",), 2
    )
    assert told.metrics[0].own == pytest.approx(told.metrics[0].anchors["start word 'cat'"], abs=1e-5)
    prompts = next(metric for metric in told.metrics if metric.name.startswith("Prompt"))
    assert prompts.own == pytest.approx(prompts.anchors["start word 'cat'"], abs=1e-5)


def test_a_network_that_does_not_read_gives_no_prompt_fidelity(model: Model, folders: dict[str, Path]) -> None:
    told = scoring.score(model, subject(model, 0, 2), [opened(str(folders["vit"]))], (0,), ("a red {}",), 1)
    assert [metric.name.split(",")[0] for metric in told.metrics] == ["Subject fidelity", "Diversity", "Forgetting"]


def test_without_held_out_photos_the_score_says_that_it_flatters(model: Model, clip: Network) -> None:
    told = scoring.score(model, subject(model, 2, 0), [clip], (0,), (), 1)
    assert "own training photos" in told.metrics[0].about and any("which flatters" in text for text in told.remarks)


def test_remarks_say_how_far_it_came_and_when_the_word_overpowers_its_prompts() -> None:
    anchors = {"start word 'cat'": 0.2, "real against real": 0.6}
    metrics = [
        scoring.Metric("Subject fidelity, CLIP", "", 0.5, anchors, ""),
        scoring.Metric("Prompt fidelity, CLIP-T", "", 0.1, {"start word 'cat'": 0.3}, ""),
    ]
    told = scoring.remarks(metrics, scoring.Subject("<a>", [], None, "cat", [], shown("red")))
    assert "75% of the way from the start word to the real photos" in told[0] and "overpowers its prompts" in told[1]
    fair = [metrics[0], scoring.Metric("Prompt fidelity, CLIP-T", "", 0.29, {"start word 'cat'": 0.3}, "")]
    assert len(scoring.remarks(fair, scoring.Subject("<a>", [], None, "cat", [], shown("red")))) == 1


def test_an_interval_holds_the_mean_and_one_value_has_none() -> None:
    low, high = scoring.interval(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert low is not None and high is not None and 0.1 <= low < 0.25 < high <= 0.4
    assert scoring.interval(torch.tensor([0.3])) == (None, None)
    assert scoring.interval(torch.tensor([0.1, 0.4])) == scoring.interval(torch.tensor([0.1, 0.4]))


def test_a_quarter_of_the_pictures_is_held_out_by_content(pictures: Path, tmp_path: Path) -> None:
    kept, unseen = parted(gather(pictures), "auto")
    assert len(kept.photos) == 3 and len(unseen) == 1 and "held out: not learned from" in kept.warnings[-1]
    (pictures / "3.png").rename(pictures / "a-new-name.png")
    assert parted(gather(pictures), "auto")[1][0].sha256 == unseen[0].sha256
    assert parted(gather(pictures), "none") == (gather(pictures), [])


def test_a_run_with_hold_out_is_scored_on_what_it_never_saw(
    tiny_base: Path, pictures: Path, tmp_path: Path, model: Model, clip: Network
) -> None:
    chosen: dict[str, Any] = {"steps": 2, "batch": 2, "preview_prompts": (), "hold_out": "auto"}
    list(
        train(
            recipe(pictures=str(pictures), words="<disc>", base=str(tiny_base), like="cat", **chosen), tmp_path / "run"
        )
    )
    found = learned.sources(tmp_path / "run", None)
    assert len(found[0].subject.given) == 3 and len(found[0].subject.unseen) == 1
    told = learned.score(tmp_path / "run", metrics=clip.name, prompts=(), seeds=1, steps=1)
    assert [one.word for one in told] == ["<disc>"]
    kept = json.loads((tmp_path / "run/score.json").read_text())
    assert kept["word"] == "<disc>" and kept["metrics"][0]["name"] == "Subject fidelity, CLIP"
    again = learned.sources(tmp_path / "run", pictures)  # photos it learned from do not count as unseen ones
    assert len(again[0].subject.unseen) == 1


def test_an_embedding_runs_tuned_rows_are_what_is_scored(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"method": "embedding", "steps": 2, "batch": 2, "preview_prompts": ()}
    made = recipe(pictures=str(pictures), words="<disc>", base=str(tiny_base), like="cat", **chosen)
    list(train(made, tmp_path / "run"))
    (found,) = learned.sources(tmp_path / "run", None)
    assert found.subject.weights == tmp_path / "run/tuned.safetensors" and found.subject.embeddings == []


def test_a_words_file_needs_photos(tmp_path: Path) -> None:
    file = formats.save(Embedding("<a>", {"clip_l": torch.ones(1, 768)}), tmp_path / "a.safetensors")
    with pytest.raises(PhotosError, match="which does not hold its pictures. Give --photos a folder of some."):
        learned.sources(file, None)


def test_an_unfinished_run_is_not_scored(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('words = ["<a>"]\npictures = ["x"]\n')
    with pytest.raises(RunError, match="holds a run that is not finished. Finish it by typing its train command again"):
        learned.sources(tmp_path, None)


def test_prompts_are_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("# mine\n\na {} on the beach\na red {}\n")
    assert learned.prompts_in(tmp_path / "p.txt") == ["a {} on the beach", "a red {}"]
    (tmp_path / "p.txt").write_text("a cat\n")
    with pytest.raises(RunError, match="found 'a cat'; every line needs {} where the word goes"):
        learned.prompts_in(tmp_path / "p.txt")
    with pytest.raises(RunError, match="cannot be read as text. Give --prompts a file with a prompt a line"):
        learned.prompts_in(tmp_path)


def test_a_word_that_a_known_one_beats_is_told_and_one_that_leads_is_not() -> None:
    lost = Metric("Subject fidelity, CLIP", "", 0.4, {"nearest word 'mouse'": 0.5}, "clip")
    plain = scoring.Subject("<disc>", [], None, "", [], shown("red"))
    told = (
        "the nearest word 'mouse', which the model knew before, is nearer to the photos than the word. Teach it longer"
    )
    assert told in " ".join(scoring.remarks([lost], plain)) and not scoring.remarks([replace(lost, own=0.6)], plain)


def test_the_gain_on_the_start_word_is_paired_by_seed() -> None:
    own, begun, photos = torch.eye(2) * 0.5 + 0.1, torch.eye(2) * 0.5, torch.eye(2)
    said = scoring.gained((own @ photos.T).mean(1), begun, photos)
    assert said == " Paired by seed it is +0.100 from its start word (+0.100 to +0.100)."
    assert scoring.gained(torch.ones(2), None, photos) == ""
