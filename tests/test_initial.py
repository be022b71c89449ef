"""The start search: one gradient ranks the vocabulary, and the best of it is what trying all of it finds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neologism import captions, initial, photos
from neologism.errors import WordError
from neologism.families import open_model
from neologism.latents import cached
from neologism.lessons import probe_batch
from neologism.recipe import recipe

PHOTOS = Path(initial.__file__).parent / "emoji" / "photos"


@pytest.mark.parametrize("subject", ["rabbit", "hammer"])
def test_the_word_found_is_nearly_the_best_of_the_whole_vocabulary(subject: str) -> None:
    model = open_model("emoji", precision="fp32")
    made = recipe(pictures=str(PHOTOS / subject), words="<x>")
    latents = cached(model, photos.gather(PHOTOS / subject, 64).photos, 64, mirror=False, masks=True)
    probes = probe_batch(model, latents, captions.OBJECT_TEMPLATES[0], made)
    ranked, found = initial.promising(model, probes), initial.best_word(model, probes)
    assert sorted(ranked) == sorted(model.encoders[0].word_ids) and found in ranked[:48]
    some = initial.part_of(probes, slice(0, 4))
    others = initial.word_losses(model, ranked[::12], some)
    assert (others < initial.word_losses(model, [found], some)).float().mean() < 0.05
    assert all(encoder.taught == {} for encoder in model.encoders)


def test_ranking_sums_what_every_encoder_says_and_leaves_no_gradient(tiny_base: Path) -> None:
    model = open_model(str(tiny_base), precision="fp32")
    encoder = model.encoders[0]
    latents = torch.randn(2, 4, model.size // model.multiple, model.size // model.multiple)
    from neologism.framing import Frame
    from neologism.latents import Latents

    frames = (Frame((0, 0, 32, 32), (32, 32), (32, 32), False),) * 2
    made = recipe(pictures="none", words="<x>")
    held = Latents(latents, latents.abs() * 0.1, torch.ones(2, 1, *latents.shape[2:]), frames, (0, 1), 0)
    probes = probe_batch(model, held, "a {}", made)
    table = encoder.known_rows()[list(encoder.word_ids.values())]
    slope = initial.slopes(model, probes, [table])[0]
    near = table.mean(0) + 1e-2 * slope / slope.norm()
    change = initial.rows_loss(model, {encoder.key: near.unsqueeze(0)}, probes) - initial.rows_loss(
        model, {encoder.key: table.mean(0, keepdim=True)}, probes
    )
    assert change == pytest.approx(1e-2 * float(slope.norm()), rel=0.05)


def test_a_vocabulary_without_whole_words_is_told(tiny_base: Path) -> None:
    model = open_model(str(tiny_base), precision="fp32")
    model.encoders[0].__dict__["whole_words"] = []
    with pytest.raises(WordError, match="no whole words to start from"):
        initial.promising(model, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2])
def test_a_phrase_of_other_length_than_the_word_starts_at_its_mean(tiny_base: Path, count: int) -> None:
    encoder = open_model(str(tiny_base), "cpu", "fp32").encoders[0]
    rows = initial.of_phrase(encoder, "small red cat", count, 0)
    assert rows.shape == (count, 32)
