"""Many words at once: each is what it would be alone, places are refilled, and one bad folder harms nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from neologism import formats, lessons, loop, objective
from neologism.batches import Batch, joined
from neologism.errors import RecipeError
from neologism.events import Event, Failed, Finished, Step
from neologism.families import open_model
from neologism.many import train_many
from neologism.recipe import Recipe, recipe
from neologism.training import train
from neologism.verifying import verify
from neologism.vocabulary import taught

SHORT = {"steps": 10, "checkpoint_every": 4, "probe_every": 5, "batch": 3, "precision": "fp32", "like": "cat"}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Five sets of pictures, each of another colour."""
    made = [tmp_path / "pictures" / str(number) for number in range(5)]
    for number, folder in enumerate(made):
        folder.mkdir(parents=True)
        for turn in range(3):
            shade = Image.radial_gradient("L").rotate(30 * turn)
            Image.merge("RGB", [shade.point(lambda v, k=(number + c) % 5: v * k // 4) for c in range(3)]).save(
                folder / f"{turn}.png"
            )
    return made


def recipes(base: Path, folders: list[Path], **more: Any) -> list[Recipe]:
    """A short recipe for each folder, every seed another."""
    common = SHORT | {"base": str(base), "preview_prompts": ()} | more
    return [
        recipe(**common | {"pictures": str(folder), "words": f"<w{number}>", "seed": number})
        for number, folder in enumerate(folders)
    ]


def of(kind: type, events: list[Event]) -> list[Any]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def test_every_word_of_many_equals_the_word_learned_alone(tiny_base: Path, folders: list[Path], tmp_path: Path) -> None:
    made = recipes(tiny_base, folders)
    many = of(Finished, list(train_many(made, tmp_path / "many", together=2)))
    assert {event.word for event in many} == {f"<w{n}>" for n in range(5)}
    for event in many:
        number = int(event.word[2:-1])
        alone = of(Finished, list(train(made[number], tmp_path / f"alone-{number}")))[0]
        one, two = event.embedding.vectors["text"], alone.embedding.vectors["text"]
        assert torch.nn.functional.cosine_similarity(one, two).min() > 0.9999
        assert verify(event.file.parent).untouched


def test_a_finished_words_place_goes_to_the_next(tiny_base: Path, folders: list[Path], tmp_path: Path) -> None:
    made = recipes(tiny_base, folders)
    made[0] = made[0].model_copy(update={"steps": 3})
    steps = [(event.word, event.step) for event in of(Step, list(train_many(made, tmp_path / "many", together=2)))]
    assert steps[:7] == [("<w0>", 1), ("<w1>", 1), ("<w0>", 2), ("<w1>", 2), ("<w0>", 3), ("<w1>", 3), ("<w1>", 4)]
    assert steps[7] == ("<w2>", 1)
    assert len(steps) == 3 + 4 * 10


def test_one_bad_folder_harms_nobody(tiny_base: Path, folders: list[Path], tmp_path: Path) -> None:
    for file in folders[1].iterdir():
        file.write_bytes(b"no picture")
    made = recipes(tiny_base, folders)
    made[3] = made[3].model_copy(update={"words": ("cat",)})
    events = list(train_many(made, tmp_path / "many", together=2))
    failed = of(Failed, events)
    assert [(event.word, event.code) for event in failed] == [("<w1>", 3), ("cat", 6)]
    assert "The model already has a word 'cat'" in failed[1].reason
    assert {event.word for event in of(Finished, events)} == {"<w0>", "<w2>", "<w4>"}


def test_a_word_that_breaks_down_leaves_the_others_alone(
    tiny_base: Path, folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipes(tiny_base, folders[:2])
    whole = of(Finished, list(train_many(made, tmp_path / "whole")))
    real = objective.loss

    def broken(model: Any, batch: Batch, *more: Any) -> torch.Tensor:
        factors = [float("nan") if "<w0>" in prompt else 1.0 for prompt in batch.prompts]
        return real(model, batch, *more) * torch.tensor(factors)

    monkeypatch.setattr(objective, "loss", broken)
    events = list(train_many(made, tmp_path / "broken"))
    assert [event.word for event in of(Failed, events)] == ["<w0>"]
    assert "broke down twice at step 0" in of(Failed, events)[0].reason
    kept = of(Finished, events)[0].embedding.vectors["text"]
    same = next(event for event in whole if event.word == "<w1>").embedding.vectors["text"]
    assert torch.nn.functional.cosine_similarity(kept, same).min() > 0.9999
    assert not (tmp_path / "broken/w0/word.safetensors").exists()


def test_many_words_resume_where_each_stopped(tiny_base: Path, folders: list[Path], tmp_path: Path) -> None:
    made = recipes(tiny_base, folders[:3])
    whole = {e.word: e for e in of(Finished, list(train_many(made, tmp_path / "whole", together=2)))}
    events = train_many(made, tmp_path / "cut", together=2)
    for event in events:
        if isinstance(event, Step) and (event.word, event.step) == ("<w2>", 6):
            events.close()  # type: ignore[attr-defined]
    rest = list(train_many(made, tmp_path / "cut", together=2))
    assert [(event.word, event.reason) for event in of(Finished, rest)][:2] == [
        ("<w0>", "learned before"),
        ("<w1>", "learned before"),
    ]
    assert of(Step, rest)[0].step == 7 and of(Step, rest)[0].word == "<w2>"
    for word, event in whole.items():
        again = formats.load(tmp_path / "cut" / word.strip("<>") / "word.safetensors")
        assert torch.allclose(again.vectors["text"], event.embedding.vectors["text"], atol=1e-5)
        assert verify(tmp_path / "cut" / word.strip("<>")).untouched


def test_a_word_cut_short_before_its_file_was_written_gets_it(
    tiny_base: Path, folders: list[Path], tmp_path: Path
) -> None:
    made = recipes(tiny_base, folders[:2])
    list(train_many(made, tmp_path))
    content = (tmp_path / "w0/word.safetensors").read_bytes()
    (tmp_path / "w0/word.safetensors").unlink()
    events = list(train_many(made, tmp_path))
    assert [event.word for event in of(Finished, events)] == ["<w0>", "<w1>"]
    assert not of(Step, events) and (tmp_path / "w0/word.safetensors").read_bytes() == content


def test_a_full_disk_of_one_word_harms_no_other(
    tiny_base: Path, folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    real = os.fsync

    def full(handle: int) -> None:
        if "/w0/checkpoints" in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    events = list(train_many(recipes(tiny_base, folders[:2]), tmp_path))
    assert [(event.word, event.code) for event in of(Failed, events)] == [("<w0>", 8)]
    assert [event.word for event in of(Finished, events)] == ["<w1>"]


def test_a_words_gradient_is_exactly_zero_from_other_words_samples(tiny_base: Path, folders: list[Path]) -> None:
    from neologism import initial, photos
    from neologism.latents import cached
    from neologism.training import sayer

    model, made = open_model(str(tiny_base), precision="fp32"), recipes(tiny_base, folders[:2])
    pupils: list[lessons.Lesson] = []
    for one in made:
        shown = photos.gather(Path(one.pictures[0]), model.size).photos
        latents = cached(model, shown, model.size, False, False)
        first = initial.start(model, "cat", one.count, 0, lessons.probe_batch(model, latents, "a {}", one))
        pupils.append(lessons.Lesson(one.words[0], latents, sayer(one.words[0], shown, one), one, model, first, "a {}"))
    with taught(model, {pupil.word: pupil.rows for pupil in pupils}):
        each = objective.loss(model, joined([pupil.batch(0) for pupil in pupils]))
        first, second = (next(iter(pupil.rows.values())) for pupil in pupils)
        of_second = torch.autograd.grad(each[3:].sum(), [first, second], allow_unused=True)
    assert of_second[0] is None or not of_second[0].any()
    assert of_second[1].abs().sum() > 0


def test_recipes_that_cannot_share_a_batch_are_refused(tiny_base: Path, folders: list[Path], tmp_path: Path) -> None:
    made = recipes(tiny_base, folders[:2])
    with pytest.raises(
        RecipeError, match="Words that learn together share 'batch'; found 3 and 4. Give them one value."
    ):
        list(train_many([made[0], made[1].model_copy(update={"batch": 4})], tmp_path))
    with pytest.raises(RecipeError, match="Two recipes have the same word"):
        list(train_many([made[0], made[0]], tmp_path))
    with pytest.raises(RecipeError, match="Found 0 words together; at least 1 is allowed"):
        list(train_many(made, tmp_path, together=0))


def test_the_loop_asks_for_a_lesson_only_when_there_is_a_place(tiny_base: Path) -> None:
    assert list(loop.loop(open_model(str(tiny_base), precision="fp32"), iter(()), 4)) == []
