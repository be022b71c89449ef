"""Words in prompts: expansion by token, exact undoing, gradients that stay apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neologism import objective
from neologism.batches import draw, joined
from neologism.embedding import Embedding
from neologism.errors import ModelError, WordError
from neologism.families import Model, open_model
from neologism.framing import Frame
from neologism.latents import Latents
from neologism.methods.text_side import RowsBeside
from neologism.verifying import hashes
from neologism.vocabulary import SplicedTable, nearest, taught


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> Model:
    return open_model(str(tiny_base), "cpu", "fp32")


def word(name: str, count: int = 1, seed: int = 0) -> Embedding:
    return Embedding(name, {"text": torch.randn(count, 32, generator=torch.Generator().manual_seed(seed)) * 0.1})


def test_a_word_of_three_vectors_is_three_tokens(model: Model) -> None:
    encoder = model.encoders[0]
    plain = encoder.tokens("a cat on the car")
    with taught(model, [word("<disc>", 3)]):
        assert len(encoder.tokens("a cat on the car <disc>")) == len(plain) + 3
        assert encoder.tokens("a cat on the car") == plain


def test_case_does_not_matter_and_a_word_never_matches_inside_another(model: Model) -> None:
    encoder = model.encoders[0]
    with taught(model, [word("<cat>"), word("<cat2>", 1, 1), word("zorb", 1, 2)]):
        one, two, bare = (encoder.tokens(name) for name in ("<cat>", "<cat2>", "zorb"))
        assert encoder.tokens("<CAT>") == one and len(one) == len(two) == len(bare) == 1
        assert len({*one, *two, *bare}) == 3
        assert bare[0] not in encoder.tokens("zorbs")


def test_teaching_is_undone_to_the_bit(model: Model) -> None:
    before, table = hashes(model), model.encoders[0].table
    prompts = model.condition(["a red cat"], []).context
    with taught(model, [word("<disc>")]):
        assert torch.equal(model.condition(["a red cat"], []).context, prompts)
        with taught(model, [word("<inner>", 2)]):
            assert torch.equal(model.condition(["a red cat"], []).context, prompts)
        assert "<inner>" not in model.encoders[0].taught
    assert model.encoders[0].table is table and not model.encoders[0].taught
    assert hashes(model) == before


def test_a_prompt_that_is_too_long_says_how_many_tokens_fit(model: Model) -> None:
    with (
        taught(model, [word("<disc>", 20)]),
        pytest.raises(
            WordError,
            match=r"The prompt 'a <disc> red car' has 23 tokens and 22 fit .a taught word counts one for each vector.. Leave out about 1",
        ),
    ):
        model.condition(["a <disc> red car"], [])


def test_vectors_of_another_width_are_refused(model: Model) -> None:
    with (
        pytest.raises(
            ModelError, match="has vectors for text of width 16; .* has text of width 32. Use the base model"
        ),
        taught(model, [Embedding("<disc>", {"text": torch.ones(1, 16)})]),
    ):
        pass


@pytest.mark.parametrize("name", ["", " ", " <disc>"])
def test_an_empty_word_is_refused(model: Model, name: str) -> None:
    with (
        pytest.raises(WordError, match="is empty or has spaces around it. Choose one such as <my-mug>."),
        taught(model, [word(name)]),
    ):
        pass


def test_a_words_gradient_is_exactly_zero_from_other_words_samples(model: Model) -> None:
    one = torch.nn.Parameter(torch.randn(1, 32))
    two = torch.nn.Parameter(torch.randn(1, 32))
    frame = Frame((0, 0, 32, 32), (32, 32), (32, 32), False)
    latents = Latents(
        torch.randn(2, 4, 8, 8), torch.ones(2, 4, 8, 8), torch.ones(2, 1, 8, 8), (frame, frame), (0, 1), 0
    )
    batches = [draw(model, latents, lambda _, __, w=w: f"a {w}", 0, 0, 2, (0.3, 1.0)) for w in ("<one>", "<two>")]
    with taught(model, {"<one>": {"text": one}, "<two>": {"text": two}}):
        losses = objective.loss(model, joined(batches))
        losses[:2].mean().backward()
    assert one.grad is not None and one.grad.abs().sum() > 0
    assert two.grad is None or two.grad.abs().sum() == 0
    assert all(parameter.grad is None for part in model.parts().values() for parameter in part.parameters())


@pytest.mark.parametrize("kind", ["a new word", "a known word", "a new word beside known ones"])
def test_a_rows_gradient_is_the_same_to_the_bit_however_many_threads_sum_it(kind: str) -> None:
    torch.manual_seed(0)
    table, pull = torch.nn.Embedding(64, 768), torch.randn(4, 77, 768)
    row, none = torch.zeros(1, 768, requires_grad=True), torch.zeros(0, 768)
    tables = {
        "a new word": SplicedTable(table, 64, [row]),
        "a known word": RowsBeside(table, torch.tensor([9]), row, none, none, 1.0),
        "a new word beside known ones": RowsBeside(
            table, torch.tensor([], dtype=torch.long), none, torch.zeros(1, 768), row, 1.0
        ),
    }
    ids = torch.full((4, 77), 9 if kind == "a known word" else 64)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = {torch.autograd.grad((tables[kind](ids) * pull).sum(), row)[0].numpy().tobytes() for _ in range(40)}
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


def test_the_nearest_word_to_a_words_row_is_itself(model: Model) -> None:
    encoder = model.encoders[0]
    row = encoder.table.weight[encoder.pieces("flower")].detach()  # type: ignore[union-attr,index]
    assert nearest(encoder, row)[0][0].word == "flower"
    assert nearest(encoder, row)[0][0].cosine == pytest.approx(1.0, abs=1e-5)


def test_the_end_token_is_set_from_the_tokenizer(model: Model) -> None:
    assert model.encoders[0].module.config.eos_token_id == model.encoders[0].tokenizer.eos_token_id  # type: ignore[union-attr]
