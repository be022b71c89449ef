"""The promises: a word is learned, a resumed run is the uninterrupted one, and the base is untouched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from neologism import formats, run
from neologism.errors import ModelError, PhotosError, RunError, WordError
from neologism.events import Checkpoint, Event, Finished, Picture, Step, Warned
from neologism.recipe import Recipe, recipe
from neologism.training import train
from neologism.verifying import verify

SHORT = {
    "steps": 12,
    "checkpoint_every": 4,
    "probe_every": 4,
    "batch": 4,
    "precision": "fp32",
    "preview_prompts": ("a {}",),
}


def settings(base: Path, shown: Path, **more: Any) -> Recipe:
    """A short run on the tiny base."""
    return recipe(**{"pictures": str(shown), "words": "<disc>", "base": str(base), "like": "cat"} | SHORT | more)


def of(kind: type, events: list[Event]) -> list[Any]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def cut_after(events: Iterator[Event], step: int) -> None:
    """Go on until a step, then close the iterator."""
    for event in events:
        if isinstance(event, Step) and event.step == step:
            events.close()  # type: ignore[attr-defined]


def test_a_word_is_learned(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    events = list(train(settings(tiny_base, pictures, steps=40, learning_rate=2.0), tmp_path / "run"))
    finished = of(Finished, events)[0]
    steps = of(Step, events)
    journal = [json.loads(line) for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    probes = [line["probe"] for line in journal if line["event"] == "Step" and line["probe"]]
    assert probes[-1] < probes[0] * 0.9995
    assert finished.step == 40 and steps[-1].cosine < 0.99
    assert formats.load(finished.file).vectors["text"].shape == (1, 32)
    with Image.open(finished.sheet) as sheet:
        assert sheet.width > 100
    assert finished.embedding.facts["start"] == "cat"


def test_the_base_is_untouched(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    list(train(settings(tiny_base, pictures), tmp_path / "run"))
    verdict = verify(tmp_path / "run")
    assert verdict.untouched and verdict.tensors > 400 and verdict.pictures == 4


def test_a_changed_base_does_not_verify(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    list(train(settings(tiny_base, pictures), tmp_path / "run"))
    proof = json.loads((tmp_path / "run/base.json").read_text())
    name = next(iter(proof["before"]["unet"]))
    proof["before"]["unet"][name] = proof["after"]["unet"][name] = "0" * 64
    (tmp_path / "run/base.json").write_text(json.dumps(proof))
    assert verify(tmp_path / "run").changed == (f"unet.{name} differs on disk from what was trained on",)


def test_an_unfinished_run_does_not_verify(tmp_path: Path) -> None:
    with pytest.raises(
        RunError,
        match="holds no finished run .base.json is missing or not whole.. Finish it by typing its train command again.",
    ):
        verify(tmp_path)


def test_resumed_run_equals_an_uninterrupted_one(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_base, pictures)
    list(train(chosen, tmp_path / "whole"))
    cut_after(train(chosen, tmp_path / "cut"), 6)
    events = list(train(chosen, tmp_path / "cut"))
    assert of(Step, events)[0].step == 7
    assert (tmp_path / "cut/word.safetensors").read_bytes() == (tmp_path / "whole/word.safetensors").read_bytes()
    steps = [
        json.loads(line).get("step")
        for line in (tmp_path / "cut/events.jsonl").read_text().splitlines()
        if '"Step"' in line
    ]
    assert steps == list(range(1, 13))


def test_a_killed_run_ends_in_the_same_file(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_base, pictures, steps=60)
    list(train(chosen, tmp_path / "whole"))
    code = (
        "import json, sys; from pathlib import Path; from neologism.recipe import recipe; from neologism.training import train\n"
        "for event in train(recipe(**json.loads(sys.argv[1])), Path(sys.argv[2])): print(type(event).__name__, flush=True)"
    )
    told = json.dumps(chosen.model_dump(by_alias=True, mode="json", exclude={"start_from"}, exclude_none=True))
    out = tmp_path / "killed"
    child = subprocess.Popen([sys.executable, "-c", code, told, str(out)], stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 90
    while not run.whole_folders(out) and time.monotonic() < limit:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (out / "word.safetensors").exists()
    list(train(chosen, out))
    assert (out / "word.safetensors").read_bytes() == (tmp_path / "whole/word.safetensors").read_bytes()


def test_a_damaged_checkpoint_is_passed_over(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_base, pictures)
    list(train(chosen, tmp_path / "whole"))
    cut_after(train(chosen, tmp_path / "cut"), 9)
    newest = run.whole_folders(tmp_path / "cut")[-1]
    (newest / "state.safetensors").write_bytes(b"spoilt")
    events = list(train(chosen, tmp_path / "cut"))
    assert of(Warned, events)[0].text == f"The checkpoint {newest} is damaged; going on from the one before it."
    assert (tmp_path / "cut/word.safetensors").read_bytes() == (tmp_path / "whole/word.safetensors").read_bytes()


def test_a_word_learned_in_company_equals_the_word_learned_alone(
    tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for number in range(3):
        Image.radial_gradient("L").convert("RGB").rotate(30 * number).save(other / f"{number}.png")
    alone = list(train(settings(tiny_base, pictures), tmp_path / "alone"))
    together = settings(tiny_base, pictures, pictures=(str(pictures), str(other)), words=("<disc>", "<glow>"))
    events = list(train(together, tmp_path / "together"))
    one, two = (of(Finished, some)[0].embedding.vectors["text"] for some in (alone, events))
    assert torch.nn.functional.cosine_similarity(one, two).min() > 0.9999
    assert {event.file.parent.name for event in of(Finished, events)} == {"disc", "glow"}
    assert verify(tmp_path / "together").words == ("<disc>", "<glow>")


def test_checkpoints_are_pruned_and_whole(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    events = list(train(settings(tiny_base, pictures, checkpoint_every=2), tmp_path / "run"))
    assert len(of(Checkpoint, events)) == 6
    assert [path.name for path in run.whole_folders(tmp_path / "run")] == ["000008", "000010", "000012"]
    assert not list((tmp_path / "run").rglob("*.partial"))


def test_a_run_goes_on_from_an_earlier_word(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    first = of(Finished, list(train(settings(tiny_base, pictures), tmp_path / "first")))[0]
    more = settings(tiny_base, pictures, **{"from": str(first.file), "steps": 1, "learning_rate": 1e-6})
    second = of(Finished, list(train(more, tmp_path / "second")))[0]
    assert torch.allclose(first.embedding.vectors["text"], second.embedding.vectors["text"], atol=1e-5)


def test_nan_falls_back_once_and_then_stops_with_the_reason(
    tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neologism import objective

    real, calls = objective.loss, iter(range(1000))
    broken = {30, 40}  # calls after the start's probe: the first breakdown, and a later one
    monkeypatch.setattr(objective, "loss", lambda *a: real(*a) * (float("nan") if next(calls) in broken else 1.0))
    events: list[Event] = []
    with pytest.raises(
        RunError, match=r"Learning <disc> broke down twice at step \d+ .loss nan, gradient nan.. Lower --learning-rate"
    ):
        for event in train(settings(tiny_base, pictures, steps=80), tmp_path / "run"):
            events.append(event)
    assert "back to step 28 with 0.3 of the learning rate" in of(Warned, events)[0].text
    assert run.whole_folders(tmp_path / "run")


def test_other_settings_do_not_mix_with_a_run(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    list(train(settings(tiny_base, pictures), tmp_path / "run"))
    with pytest.raises(
        RunError, match=r"holds a run with other settings .seed.. Type the same command to go on with that run"
    ):
        list(train(settings(tiny_base, pictures, seed=1), tmp_path / "run"))


def test_a_run_from_before_a_setting_was_known_goes_on_and_may_change_who_follows_it(
    tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    whole = of(Finished, list(train(settings(tiny_base, pictures), tmp_path / "whole")))[0]
    events = train(settings(tiny_base, pictures), tmp_path / "run")
    next(event for event in events if isinstance(event, Step) and event.step == 8)
    events.close()  # type: ignore[attr-defined]
    kept = (tmp_path / "run/recipe.toml").read_text("utf-8")
    (tmp_path / "run/recipe.toml").write_text("".join(x for x in kept.splitlines(True) if "average" not in x), "utf-8")
    resumed = of(Finished, list(train(settings(tiny_base, pictures, preview_every=9), tmp_path / "run")))[0]
    assert resumed.file.read_bytes() == whole.file.read_bytes()
    assert "preview_every = 9" in (tmp_path / "run/recipe.toml").read_text("utf-8")


def test_two_runs_do_not_share_a_folder(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_base, pictures)
    events = train(chosen, tmp_path / "run")
    next(events)
    with pytest.raises(RunError, match="Another run is working in"):
        list(train(chosen, tmp_path / "run"))
    events.close()  # type: ignore[attr-defined]


def test_previews_are_drawn_from_step_0_on(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    events = list(train(settings(tiny_base, pictures, preview_every=6), tmp_path / "run"))
    word = [event.step for event in of(Picture, events) if "<disc>" in event.prompt]
    without = [event.step for event in of(Picture, events) if "<disc>" not in event.prompt]
    assert word == [0, 6, 12] and without == [0]
    assert all(event.path.exists() for event in of(Picture, events))


def test_previews_change_nothing_of_what_is_learned(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    words = [
        of(Finished, list(train(settings(tiny_base, pictures, preview_every=every), tmp_path / str(every))))[
            0
        ].embedding
        for every in (0, 5)
    ]
    assert torch.equal(words[0].vectors["text"], words[1].vectors["text"])


def test_several_vectors_masks_mirrors_and_rules_train(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    Image.new("L", (48, 48), 255).save(pictures / "0.mask.png")
    more = {"vectors": 3, "mirror": True, "norm": "fixed", "weighting": "min_snr", "accumulate": 2, "like": "normal"}
    finished = of(Finished, list(train(settings(tiny_base, pictures, **more), tmp_path / "run")))[0]
    rows = finished.embedding.vectors["text"]
    assert rows.shape == (3, 32)
    assert torch.allclose(rows.norm(dim=1), rows.norm(dim=1)[:1].expand(3), rtol=1e-4)


def test_a_converged_word_stops_early(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    more = {"stop": "converged", "steps": 100, "probe_every": 2, "patience": 2, "learning_rate": 1e-5}
    finished = of(Finished, list(train(settings(tiny_base, pictures, **more), tmp_path / "run")))[0]
    assert finished.step < 100 and finished.reason.startswith("converged: the last 2 probes brought less than 2.0%")


def test_a_known_word_is_refused_before_anything_is_written(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(WordError, match="The model already has a word 'cat'.*Choose another, such as <my-cat>."):
        list(train(settings(tiny_base, pictures, words="cat"), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_bare_word_that_breaks_into_known_pieces_is_warned_of(
    tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    events = list(train(settings(tiny_base, pictures, words="catdog"), tmp_path / "run"))
    assert "'catdog' still means something to the model" in of(Warned, events)[0].text


def test_an_empty_folder_is_told_before_the_model_is_opened(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(PhotosError):
        list(train(settings(tmp_path / "no-base", tmp_path / "none"), tmp_path / "run"))


def test_a_base_missing_parts_is_told(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half/model_index.json").write_text((tiny_base / "model_index.json").read_text())
    with pytest.raises(
        ModelError, match="lacks scheduler, text_encoder, tokenizer, unet, vae, which its model_index.json names"
    ):
        list(train(settings(tmp_path / "half", pictures), tmp_path / "run"))


def test_an_unwritable_folder_is_told(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written: Not a directory. Give --out a folder you may write to."):
        list(train(settings(tiny_base, pictures), tmp_path / "file/run"))


def test_a_full_disk_leaves_nothing_half_written(
    tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def full(handle: int) -> None:
        if "state" in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="could not be written: No space left on device. Free some space"):
        list(train(settings(tiny_base, pictures), tmp_path / "run"))
    assert not run.whole_folders(tmp_path / "run") and not list((tmp_path / "run").rglob("*.partial/*.partial"))


def test_epochs_end_a_run_when_every_picture_was_shown_so_often(
    tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    finished = of(Finished, list(train(settings(tiny_base, pictures, epochs=5), tmp_path / "run")))[0]
    assert finished.step == 5 and finished.reason == "all 5 steps done"


def test_own_templates_are_what_is_said(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    one, two = (
        of(Finished, list(train(settings(tiny_base, pictures, templates=t), tmp_path / t)))[0].embedding.vectors["text"]
        for t in ("a red {}", "the house of {}")
    )
    assert not torch.equal(one, two)


def test_gradient_checkpointing_learns_the_same(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    one, two = (
        of(Finished, list(train(settings(tiny_base, pictures, gradient_checkpointing=saved), tmp_path / str(saved))))[0]
        for saved in (False, True)
    )
    assert torch.allclose(one.embedding.vectors["text"], two.embedding.vectors["text"], atol=1e-4)


def test_every_event_is_in_the_journal_in_its_order(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "broken.png").write_bytes(b"no picture")
    events = list(train(settings(tiny_base, pictures), tmp_path / "run"))
    lines = [json.loads(line)["event"] for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    assert lines == [type(event).__name__ for event in events]
    assert lines[:2] == ["Opened", "Warned"]
