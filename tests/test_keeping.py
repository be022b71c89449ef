"""Which step of a run to keep: checkpoints hold the word that the run would have ended with there, and luck is no reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from neologism import formats, keeping, run
from neologism.errors import RunError
from neologism.events import Finished
from neologism.generation import generate
from neologism.knowing import report
from neologism.recipe import recipe
from neologism.training import train


def learned(base: Path, shown: Path, out: Path, **more: Any) -> Finished:
    """A short run's end."""
    usual: dict[str, Any] = {
        "steps": 9, "batch": 2, "probe_every": 3, "checkpoint_every": 3, "preview_prompts": (), "like": "cat", "precision": "fp32",
        "schedule": "constant", "learning_rate": 1.0,
    }  # fmt: skip
    settings = recipe(**{"pictures": str(shown), "words": "<disc>", "base": str(base)} | usual | more)
    return next(event for event in train(settings, out) if isinstance(event, Finished))


def metric(base: Path) -> str:
    """A network that compares pictures: the judge that ships."""
    from neologism.scores import EMOJI_JUDGE

    return str(EMOJI_JUDGE)


@pytest.mark.parametrize("norm", ["free", "fixed"])
def test_a_checkpoint_holds_the_word_that_a_run_to_there_ends_with(
    tiny_base: Path, pictures: Path, tmp_path: Path, norm: str
) -> None:
    learned(tiny_base, pictures, tmp_path / "long", norm=norm)
    short = learned(tiny_base, pictures, tmp_path / "short", steps=6, norm=norm)
    (source,) = keeping.sources(tmp_path / "long", None)
    found = keeping.checkpoints(source, "base", norm)
    assert list(found) == [3, 6, 9] and short.embedding and found[6][1].facts == short.embedding.facts
    assert torch.allclose(found[6][1].vectors["text"], short.embedding.vectors["text"], atol=1e-6)
    last = formats.load(tmp_path / "long/word.safetensors")
    assert torch.allclose(found[9][1].vectors["text"], last.vectors["text"], atol=1e-6)


def test_every_checkpoint_is_scored_and_the_last_is_its_own_measure(
    tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    learned(tiny_base, pictures, tmp_path / "run")
    (choice,) = keeping.choose(tmp_path / "run", metrics=metric(tiny_base), seeds=2, steps=1, prompts=("a red {}",))
    assert [one.step for one in choice.steps] == [3, 6, 9]
    last = choice.steps[-1]
    assert (last.gain, last.low, last.high) == (0.0, 0.0, 0.0) and last.prompt is not None and last.probe is not None
    for one in choice.steps:
        assert one.prompt is not None and one.gain == pytest.approx(
            one.subject + one.prompt - last.subject - last.prompt, abs=1e-5
        )
    kept = tmp_path / f"run/word-{choice.best:06d}.safetensors"
    assert kept.exists() == (choice.file is not None) == (choice.best != 9 and choice.steps[choice.best // 3 - 1].sure)
    report(tmp_path / "run")
    page = (tmp_path / "run/report.html").read_text("utf-8")
    assert "Which step to keep" in page and choice.advice.split(":")[0] in page


def test_a_step_that_is_surely_better_is_written_beside_the_last_and_draws(
    tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned(tiny_base, pictures, tmp_path / "run")
    shares = iter([0.1, 0.9, 0.5])
    monkeypatch.setattr(keeping, "judged", lambda *_: (torch.tensor([0.0, 0.01]) + next(shares), None))
    (choice,) = keeping.choose(tmp_path / "run", metrics=metric(tiny_base))
    assert choice.best == 6 and choice.file == tmp_path / "run/word-000006.safetensors"
    assert choice.advice.startswith("Step 6 scores +0.400 against the last") and "word-000006" in choice.advice
    word = formats.load(choice.file)
    assert word.facts["step"] == "6" and word.word == "<disc>"
    (source,) = keeping.sources(tmp_path / "run", None)
    model = keeping.open_model(str(tiny_base), "cpu", "fp32")
    same = [
        generate(model, "a <disc>", [one], steps=1)[0] for one in (word, keeping.checkpoints(source, "", "free")[6][1])
    ]
    assert same[0].tobytes() == same[1].tobytes()


def test_a_lead_that_may_be_luck_writes_nothing(
    tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned(tiny_base, pictures, tmp_path / "run")
    drawn = iter([torch.tensor([0.0, 0.0]), torch.tensor([0.9, 0.1]), torch.tensor([0.4, 0.5])])
    monkeypatch.setattr(keeping, "judged", lambda *_: (next(drawn), None))
    (choice,) = keeping.choose(tmp_path / "run", metrics=metric(tiny_base))
    assert choice.best == 6 and choice.file is None and "may be luck: keep the last" in choice.advice
    assert not list((tmp_path / "run").glob("word-*"))


def test_what_cannot_be_compared_is_told(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    learned(tiny_base, pictures, tmp_path / "one", checkpoint_every=100)
    with pytest.raises(
        RunError, match=r"keeps 1 checkpoint.s., and there is nothing to choose from. Train with a smaller"
    ):
        keeping.choose(tmp_path / "one", metrics=metric(tiny_base))
    learned(tiny_base, pictures, tmp_path / "lora", method="lora", word_first=0.0)
    with pytest.raises(RunError, match="holds weights that learned; the checkpoints of words alone are compared"):
        keeping.choose(tmp_path / "lora", metrics=metric(tiny_base))
    with pytest.raises(RunError, match="is no run's folder"):
        keeping.choose(tmp_path / "one/word.safetensors")


def test_a_damaged_checkpoint_is_left_out(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    learned(tiny_base, pictures, tmp_path / "run")
    (run.whole_folders(tmp_path / "run")[0] / "state.safetensors").write_bytes(b"cut")
    (source,) = keeping.sources(tmp_path / "run", None)
    assert list(keeping.checkpoints(source, "base", "free")) == [6, 9]
