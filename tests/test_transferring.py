"""A word is carried to another family by a map that is honest about what it finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from neologism import cli, formats, transferring
from neologism.embedding import Embedding
from neologism.errors import ModelError, WordError
from neologism.families import open_model
from neologism.families.tables import Table, tables
from neologism.transferring import FEWEST, fitted, transfer
from tests.originals import original, parts, saved

NAMES = [f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(600)]


def table(rows: torch.Tensor, names: list[str] = NAMES) -> Table:
    """A vocabulary whose words stand in another order than their names."""
    places = torch.randperm(len(rows), generator=torch.Generator().manual_seed(len(names))).tolist()
    return Table(rows[torch.tensor(places).argsort()], dict(zip(names, places, strict=True)))


def vocabularies(noise: float) -> tuple[Table, Table, torch.Tensor]:
    """Two vocabularies of the same 600 words, the second a linear function of the first, blurred; and that function."""
    chance = torch.Generator().manual_seed(0)
    first, way = torch.randn(600, 24, generator=chance) + 3, torch.randn(24, 40, generator=chance) / 5
    second = first @ way - 1 + noise * torch.randn(600, 40, generator=chance)
    return table(first), table(second), way


def test_a_linear_relation_is_found() -> None:
    ours, theirs, way = vocabularies(noise=0.0)
    made, fit = fitted(ours, theirs, "clip_l", "t5")
    rows = torch.randn(3, 24)
    assert torch.allclose(made(rows).float(), rows @ way - 1, atol=1e-2)
    assert fit.cosine > 0.999 and fit.rank == 1 and fit.first == 1.0 and (fit.shared, fit.left_out) == (600, 60)


def test_where_nothing_is_shared_but_names_the_fit_says_so() -> None:
    ours, _, _ = vocabularies(0.0)
    theirs = table(torch.randn(600, 40, generator=torch.Generator().manual_seed(9)))
    _, fit = fitted(ours, theirs, "clip_l", "t5")
    assert abs(fit.cosine) < 0.1 and fit.rank > 150 and fit.first < 0.1


def test_a_blurred_relation_is_found_in_part() -> None:
    clear, blurred = (fitted(*vocabularies(noise)[:2], "clip_l", "t5")[1] for noise in (0.3, 3.0))
    assert clear.cosine > 0.9 > blurred.cosine > 0.05


def test_too_few_shared_words_are_told() -> None:
    ours, theirs, _ = vocabularies(0.0)
    few = Table(theirs.rows, dict(list(theirs.words.items())[: FEWEST - 1]))
    with pytest.raises(WordError, match="The vocabularies of clip_l and t5 share 49 words and at least 50 are needed"):
        fitted(ours, few, "clip_l", "t5")


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux"])
def test_tables_are_those_of_the_opened_model(bases: dict[str, Path], family: str) -> None:
    name, found = tables(str(bases[family]))
    model = open_model(str(bases[family]), precision="fp32")
    assert name == model.name and list(found) == [encoder.key for encoder in model.encoders]
    for encoder in model.encoders:
        assert torch.equal(found[encoder.key].rows, encoder.known_rows())
        vocabulary = encoder.tokenizer.get_vocab()
        place = vocabulary["cat</w>"] if "cat</w>" in vocabulary else vocabulary["\u2581cat"]
        assert found[encoder.key].words["cat"] == place


def test_tables_of_a_single_file_are_read_with_clips_own_words(tmp_path: Path) -> None:
    networks = parts("sd1")
    _, found = tables(str(saved(original("sd1", networks), tmp_path / "a.safetensors")))
    assert found["text"].words["cat"] == 2368 and found["text"].rows.shape == (49408, 32)


def test_a_word_is_carried_from_the_emoji_base_to_one_like_it_and_back_into_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, emoji = tables("emoji")
    wide = {"clip_l": Table(emoji["text"].rows @ torch.randn(192, 64) / 8, emoji["text"].words)}
    monkeypatch.setattr(transferring, "tables", lambda name: (name, wide if name == "wide" else emoji))
    cat = emoji["text"].rows[emoji["text"].words["cat"]]
    file = formats.save(Embedding("<mug>", {"text": cat[None].repeat(2, 1)}, "emoji"), tmp_path / "mug")
    carried, fits = transfer(formats.load(file), "wide")
    assert carried.base == "wide" and carried.vectors["clip_l"].shape == (2, 64)
    assert carried.facts["start"] == "carried from emoji" and fits[0].told() == carried.facts["fit clip_l"]
    wanted = wide["clip_l"].rows[emoji["text"].words["cat"]]
    assert torch.nn.functional.cosine_similarity(carried.vectors["clip_l"][0], wanted, dim=0) > 0.9


def test_the_command_says_the_fit_and_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs, _ = vocabularies(0.0)
    known = {"small": {"clip_l": ours}, "large": {"t5": theirs, "clip_g": ours}}
    monkeypatch.setattr(transferring, "tables", lambda name: (name, known[name]))
    file = formats.save(Embedding("<mug>", {"clip_l": torch.randn(2, 24)}), tmp_path / "mug")
    with pytest.raises(SystemExit) as left:
        cli.main(["transfer", str(file), "--to", "large", "--from", "small", "--json"])
    assert left.value.code == 0
    shown = capsys.readouterr()
    assert "t5 from clip_l: of 60 left-out words, mean cosine 1.00, median rank 1 of 600, 100% found first" in shown.err
    assert "This is a start, not a learned word: how it draws was not looked at." in shown.err
    assert f"--base 'large' --from {tmp_path / 'mug-start.safetensors'}" in shown.err
    told: dict[str, Any] = json.loads(shown.out)
    assert [fit["encoder"] for fit in told["fits"]] == ["t5", "clip_g"]
    carried = formats.load(tmp_path / "mug-start.safetensors")
    assert {key: tuple(rows.shape) for key, rows in carried.vectors.items()} == {"t5": (2, 40), "clip_g": (2, 24)}
    assert torch.allclose(carried.vectors["clip_g"], formats.load(file).vectors["clip_l"], atol=0.05)


def test_the_bases_few_words_are_too_few(bases: dict[str, Path]) -> None:
    with pytest.raises(WordError, match="share 14 words and at least 50 are needed"):
        transfer(Embedding("<mug>", {"text": torch.ones(1, 32)}, str(bases["sd"])), str(bases["flux"]))


def test_an_unknown_base_is_told(bases: dict[str, Path]) -> None:
    with pytest.raises(
        WordError, match="The file of '<mug>' does not say what base it was learned on. Name it with --from"
    ):
        transfer(Embedding("<mug>", {"text": torch.ones(1, 32)}), "emoji")
    with pytest.raises(
        WordError, match="has vectors for text of width 32; emoji has text of width 192. Name the base it was"
    ):
        transfer(Embedding("<mug>", {"text": torch.ones(1, 32)}, "emoji"), str(bases["sd"]))


def test_a_folder_without_its_tables_is_told(bases: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(bases["sd"], tmp_path / "base")
    (tmp_path / "base" / "tokenizer" / "tokenizer_config.json").write_text("{}")
    for file in (tmp_path / "base" / "tokenizer").glob("*"):
        file.unlink()
    with pytest.raises(
        ModelError, match="tokenizer holds no tokenizer: .*Give --from and --to whole diffusers folders"
    ):
        tables(str(tmp_path / "base"))
    for file in (tmp_path / "base" / "text_encoder").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ModelError, match="text_encoder holds no table of token embeddings. Give --from and --to whole"):
        tables(str(tmp_path / "base"))


def test_a_file_without_text_encoders_names_what_it_needs(tmp_path: Path) -> None:
    flux = {"double_blocks.0.img_attn.norm.key_norm.scale": torch.zeros(1), "img_in.weight": torch.zeros(8, 64)}
    with pytest.raises(
        ModelError, match="is a FluxPipeline and holds no vocabulary of its own. Name a diffusers folder behind"
    ):
        tables(str(saved(flux, tmp_path / "flux.safetensors")))
