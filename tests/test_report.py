"""The report: one page that stands by itself, says what the run folder holds, and is well-formed in a browser."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from neologism import plotting, progress, report
from neologism.errors import RunError
from neologism.history import history
from neologism.recipe import recipe
from neologism.thumbnails import address
from neologism.training import train

WORD = "<disc&co>"


@pytest.fixture(scope="module")
def finished(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a word whose name HTML would take for a tag."""
    shown, out = tmp_path_factory.mktemp("shown"), tmp_path_factory.mktemp("runs") / "run"
    for number, colour in enumerate(("gold", "navy")):
        Image.new("RGB", (40, 40), colour).save(shown / f"{number}.png")
    chosen: dict[str, Any] = {"steps": 8, "batch": 2, "probe_every": 2, "preview_every": 4, "checkpoint_every": 4}
    prompts = ("a {}", "a {} on a blue background")
    list(
        train(
            recipe(pictures=str(shown), words=WORD, base=str(tiny_base), like="cat", preview_prompts=prompts, **chosen),
            out,
        )
    )
    return out


class Page(HTMLParser):
    """What a page holds: tags with their attributes, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.told = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.told += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text("utf-8"))


def test_every_run_ends_with_a_report_that_stands_by_itself(finished: Path) -> None:
    page = page_of(finished)
    assert (finished / "report.html").stat().st_size < 5_000_000
    assert not {"script", "link", "iframe"} & ({tag for tag, _ in page.tags} - {"link"})
    assert all((each.get("href") or "").startswith("data:") for each in page.of("link"))
    images = page.of("img")
    assert len(images) >= 8 and all((image["src"] or "").startswith("data:image/") for image in images)
    assert all(image.get("alt") for image in images)
    assert all(svg.get("aria-label") for svg in page.of("svg")) and len(page.of("svg")) >= 5


def test_the_report_escapes_what_a_word_is_called(finished: Path) -> None:
    assert page_of(finished).of("h1") and WORD in page_of(finished).told
    assert "disc&co" not in {tag for tag, _ in page_of(finished).tags}


def test_the_report_tells_start_steps_proof_files_and_how_to_use_them(finished: Path) -> None:
    told = re.sub(r"\s+", " ", page_of(finished).told)
    for part in (
        "started from cat",
        "8 steps",
        "base unchanged",
        "tensors hash as before",
        "word.safetensors",
        "ComfyUI",
    ):
        assert part in told
    assert str(finished) not in told and "step 4" in told


def test_a_changed_tensor_is_told(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    proof = json.loads((copy / "base.json").read_text())
    proof["after"]["unet"][next(iter(proof["after"]["unet"]))] = "0" * 64
    (copy / "base.json").write_text(json.dumps(proof))
    report.report(copy)
    assert "Tensors of the base differ from before the run" in page_of(copy).told


def test_a_run_without_end_pictures_or_photos_has_a_report(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    text = (finished / "recipe.toml").read_text()
    (copy / "recipe.toml").write_text(re.sub(r"pictures = .*", 'pictures = ["/nowhere"]', text))
    lines = (finished / "events.jsonl").read_text().splitlines()
    (copy / "events.jsonl").write_text("\n".join(lines[:9]) + '\n{"event": "Step", "wo')
    report.report(copy)
    told = page_of(copy).told
    assert "Still learning: step" in told and "no longer where they were" in told


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run .there is no recipe.toml in it.. Give the folder that"):
        report.report(tmp_path)


def test_of_a_step_that_was_told_twice_the_later_holds(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    with open(tmp_path / "run/events.jsonl", "a") as out:
        line = next(t for t in (finished / "events.jsonl").read_text().splitlines() if '"Step"' in t)
        out.write(json.dumps(json.loads(line) | {"loss": 7.0}) + "\n")
    steps = history(tmp_path / "run").stories[0].steps
    assert [step["step"] for step in steps] == list(range(1, 9)) and steps[0]["loss"] == 7.0


def test_many_large_pictures_are_made_smaller_until_the_page_is_small(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    for file in (tmp_path / "run/pictures").iterdir():
        Image.effect_noise((300, 300), 90).convert("RGB").save(file)
    monkeypatch.setattr(report, "MOST", 400_000)
    report.report(tmp_path / "run")
    assert (tmp_path / "run/report.html").stat().st_size < 400_000


def test_a_filmstrip_is_spread_over_all_steps_with_both_ends() -> None:
    kept = progress.spread(list(range(0, 1000, 5)), report.FRAMES)
    assert len(kept) == report.FRAMES and kept[0] == 0 and kept[-1] == 995
    assert progress.spread([1, 2], report.FRAMES) == [1, 2]


def test_a_curve_ends_at_its_last_value_and_leaves_out_what_is_not_finite() -> None:
    drawn = plotting.curve("loss", [(1, 2.0), (2, float("nan")), (3, 1.0)], marked=3)
    assert 'aria-label="loss: from 2 to 1 over 3 steps"' in drawn and "nan" not in drawn and 'class="mark"' in drawn
    assert plotting.curve("loss", [(1, float("inf"))]) == "" and "<svg" in plotting.curve("flat", [(1, 0.0), (2, 0.0)])


def test_small_pictures_keep_every_pixel_in_the_page() -> None:
    assert address(Image.new("RGB", (64, 64), "red"), 256).startswith("data:image/png;base64,")
    assert address(Image.new("RGB", (640, 640), "red"), 256).startswith("data:image/jpeg;base64,")


def test_a_page_says_how_to_score_and_explain_where_that_was_not_done(finished: Path, tmp_path: Path) -> None:
    told = re.sub(r"\s+", " ", page_of(finished).told)
    assert "neologism score run" in told and f"neologism explain 'a {WORD}' --word run" in told
    shutil.copytree(finished, tmp_path / "run")
    Image.new("RGB", (40, 40)).save(tmp_path / "run/explained.png")
    (tmp_path / "run/explained.json").write_text('{"prompt": "a disc", "told": "It looks at the thing."}')
    (tmp_path / "run/score.json").write_text('{"metrics": [], "remarks": ["well"]}')
    report.report(tmp_path / "run")
    after = page_of(tmp_path / "run").told
    assert "It looks at the thing." in after and "neologism explain" not in after and "Not scored yet" not in after


def test_the_values_beside_a_curve_fit_and_what_is_never_negative_has_no_axis_below_zero() -> None:
    drawn = plotting.curve("gradient", [(1, 0.0), (2, 0.00956)])
    ticks = re.findall(r'text-anchor="end">([^<]+)<', drawn)
    assert (
        all(len(tick) <= 7 and not tick.startswith("-") for tick in ticks) and plotting.number(0.00956123) == "9.6e-03"
    )
