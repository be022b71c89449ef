"""What the benchmarks work out from what they measure, and that the plain writing of the published algorithm is plain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from benchmarks import asides, curves, reference, step, time_to_quality


def curve(*points: tuple[int, float, float, float]) -> time_to_quality.Curve:
    """A curve of (step, seconds, fidelity, prompt)."""
    named = [
        dict(zip(("step", "seconds", "fidelity", "prompt"), point, strict=True)) | {"top5": 0.5} for point in points
    ]
    return time_to_quality.Curve({"fidelity": 0.1, "prompt": 0.5}, named)


def test_t95_is_the_time_to_95_percent_of_the_references_gain_with_its_prompt_fidelity() -> None:
    theirs = curve((0, 0.0, 0.1, 0.5), (3000, 200.0, 0.5, 0.4))
    ours = curve((0, 2.0, 0.1, 0.5), (40, 5.0, 0.49, 0.3), (60, 8.0, 0.49, 0.45), (80, 10.0, 0.47, 0.5))
    found = time_to_quality.compared(ours, theirs)
    assert found["t95_ratio"] == pytest.approx(8.0 / 200.0)
    assert found["fidelity_gain"] == pytest.approx(-0.03) and found["prompt_gain"] == pytest.approx(0.1)
    assert found["t95_ratio_of_fidelity_alone"] == pytest.approx(5.0 / 200.0)
    assert time_to_quality.compared(curve((0, 1.0, 0.2, 0.5)), theirs)["t95_ratio"] == float("inf")


def pipe(tiny_base: Path) -> Any:
    return StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)


def images() -> list[Image.Image]:
    return [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "navy")]


def test_the_published_algorithm_moves_the_words_row_and_puts_every_other_back(tiny_base: Path) -> None:
    state = reference.Reference(pipe(tiny_base), "<thing>", "cat")
    before = state.tables[0].detach().clone()
    marks = list(reference.learned(state, images(), 32, "object", 0, (0, 2, 5)))
    assert [step for step, _, _ in marks] == [0, 2, 5] and marks[1][1] < marks[2][1]
    assert torch.equal(marks[0][2][0], before[state.row]) and not torch.equal(marks[2][2], marks[0][2])
    others = torch.arange(len(before)) != state.row
    assert torch.equal(state.tables[0].detach()[others], before[others])
    assert set(state.seconds) == {"vae", "text", "unet", "backward", "rows"}


def test_the_published_algorithm_shows_each_picture_as_often_half_of_them_mirrored() -> None:
    shown = reference.pictures_and_prompts(images(), 32, "<thing>", "object", 4, 0)
    pixels = torch.cat([next(shown)[0] for _ in range(75)])
    assert pixels.shape == (300, 3, 32, 32) and pixels.min() >= -1 and pixels.max() <= 1
    firsts = {tuple(p[:, 0, 0].tolist()): 0 for p in pixels}
    for p in pixels:
        firsts[tuple(p[:, 0, 0].tolist())] += 1
    assert sorted(firsts.values()) == [100, 100, 100]


def test_the_references_loss_is_the_denoising_loss_of_ours(tiny_base: Path) -> None:
    """The same latents, noise, times and words give the same loss in both writings."""
    from neologism import objective
    from neologism.batches import Batch
    from neologism.families import open_model

    state = reference.Reference(pipe(tiny_base), "<thing>", "cat")
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    torch.manual_seed(5)
    theirs = state.step(pixels, ["a photo of a <thing>"] * 2)
    model = open_model(str(tiny_base), precision="fp32")
    torch.manual_seed(5)
    with torch.no_grad():
        posterior = model.pipe.vae.encode(pixels).latent_dist  # type: ignore[attr-defined]
        clean = model.scale(posterior.sample())
    noise = torch.randn_like(clean)
    times = torch.randint(0, 1000, (2,))
    batch = Batch(clean, noise, times, torch.ones_like(clean[:, :1]), ("a photo of a cat",) * 2, ())
    assert float(objective.loss(model, batch).mean()) == pytest.approx(theirs, rel=1e-4)


def test_curves_are_drawn_as_one_whole_picture() -> None:
    import xml.etree.ElementTree as ElementTree

    one, two = [(0.5, 0.1), (10.0, 0.4)], [(2.0, 0.1), (30.0, 0.6), (300.0, 0.7)]
    assert curves.middle([one, two]) == [(1.25, 0.1), (20.0, 0.5)]
    drawn = ElementTree.fromstring(curves.drawn("Quality", "log scale", {"ours": [one], "reference": [two]}))
    lines = [part for part in drawn if part.tag.endswith("polyline")]
    assert len(lines) == 4 and all(len(line.attrib["points"].split()) in (2, 3) for line in lines)


def test_ratios_of_a_step_are_told_as_far_as_both_sides_were_measured() -> None:
    seconds = {"ours fp32": 6.0, "reference fp32": 10.0, "ours bf16": 3.0, "reference bf16": 5.0}
    memory = {"ours fp32": 9, "thrifty fp32": 6, "reference fp32": 10, "thrifty bf16": 4, "reference bf16": 8}
    found = step.ratios(seconds, memory)
    assert (found["ratio"], found["ratio_bf16"], found["ratio_bf16_to_fp32"]) == (0.6, 0.6, 0.3)
    assert found["memory_ratio"] == 0.6 and found["memory_ratios"]["thrifty bf16"] == 0.5
    assert step.ratios({"ours fp32": 6.0}, {"ours fp32": 6}) == {}


def test_a_curve_is_there_once_its_end_is_measured_and_the_best_step_is_the_first_that_the_judge_cannot_tell_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asides, "WORK", tmp_path)
    monkeypatch.setattr(time_to_quality, "WORK", tmp_path)
    steps, seconds = torch.tensor([0, 10, 20]), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    made = asides.Asides("cat", steps, seconds, torch.randn(3, 1, 4), torch.zeros(0, 2, dtype=torch.float64))
    made.save(asides.kept("fox", 0, "ours"))
    again = asides.load(asides.kept("fox", 0, "ours"))
    assert again.start == "cat" and torch.equal(again.rows, made.rows) and torch.equal(again.seconds, seconds)
    file = time_to_quality.points_file("fox", 0, "ours")
    file.parent.mkdir()
    points = {str(s): {"step": float(s), "fidelity": f, "prompt": 0.2} for s, f in ((0, 0.1), (10, 0.395))}
    file.write_text(json.dumps(points | {"start": {}}))
    assert time_to_quality.curve("fox", 0, "ours") is None
    file.write_text(json.dumps(points | {"20": {"step": 20.0, "fidelity": 0.4, "prompt": 0.2}, "start": {}}))
    found = time_to_quality.curve("fox", 0, "ours")
    assert found and [point["step"] for point in found.points] == [0, 10, 20] and found.end["fidelity"] == 0.4
    assert time_to_quality.best_step(found.points) == 10
