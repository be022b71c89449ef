"""A run's page tells what was learned, needs nothing beside it, and escapes what it is given."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from neologism.cli import main
from neologism.errors import RunError
from neologism.events import Finished
from neologism.finetuning import finetune
from neologism.recipe import recipe
from neologism.report import averaged, line, report
from neologism.scores import EMOJI_JUDGE
from neologism.scoring import scored
from neologism.training import train

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def finished_run(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps with previews on the way, of a word that looks like a tag."""
    folder = tmp_path_factory.mktemp("run")
    shown = folder / "pictures"
    shown.mkdir()
    for number in range(3):
        Image.new("RGB", (40, 40), (90 * number, 40, 40)).save(shown / f"{number}.png")
    made = recipe(
        pictures=str(shown), words="<script>", base=str(tiny_base), like="cat", steps=4, preview_every=2, probe_every=2, batch=2,
        precision="fp32", device="cpu", preview_prompts=("a {}", "a red {}"),
    )  # fmt: skip
    events = list(train(made, folder / "run"))
    assert isinstance(events[-1], Finished)
    return folder / "run"


def test_a_run_ends_with_its_page(finished_run: Path) -> None:
    text = (finished_run / "report.html").read_text("utf-8")
    assert "all 4 steps done" in text and "step 0" in text and "step 2" in text and "step 4" in text
    assert '<span class="good">Unchanged</span>' in text and "load_textual_inversion" in text
    assert all(title in text for title in ("Loss on fixed probes", "Length of the vectors", "Cosine to the start"))
    assert "preview_every" in text and "learning_rate" not in text  # only what is not usual


def test_the_page_asks_for_nothing_and_every_picture_says_what_it_is(finished_run: Path) -> None:
    text = (finished_run / "report.html").read_text("utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:)""", text) and "@import" not in text and "url(" not in text
    pictures = re.findall(r"<img [^>]*>", text)
    assert len(pictures) == 3 + 2 * 3 and all(re.search(r'alt="[^"]+"', picture) for picture in pictures)
    assert "<script>" not in text and "&lt;script&gt;" in text and len(text) < 5_000_000


def test_a_moved_run_without_its_pictures_has_a_page_too(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "moved")
    settings = (tmp_path / "moved" / "recipe.toml").read_text("utf-8")
    (tmp_path / "moved" / "recipe.toml").write_text(re.sub(r"pictures = .*", 'pictures = ["/gone"]', settings), "utf-8")
    (file,) = report(tmp_path / "moved")
    text = file.read_text("utf-8")
    assert "Your pictures" not in text and text.count("<img") == 2 * 3


def test_an_unfinished_run_says_so(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "half")
    for name in ("base.json", "word.safetensors"):
        (tmp_path / "half" / name).unlink()
    events = (tmp_path / "half" / "events.jsonl").read_text("utf-8").splitlines()
    (tmp_path / "half" / "events.jsonl").write_text("\n".join([*events[:-1], '{"cut']), "utf-8")
    text = report(tmp_path / "half")[0].read_text("utf-8")
    assert "not finished yet" in text and "Not proved yet" in text


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run .* Give the folder that train wrote into"):
        report(tmp_path)


def test_curves_stay_within_their_frame() -> None:
    points = [tuple(map(float, pair.split(","))) for pair in line([(0, 2.0), (5, 1.0), (10, 3.0)], 1.0, 3.0).split()]
    assert points[0] == (0.0, 80.0) and points[1] == (260.0, 160.0) and points[-1] == (520.0, 0.0)
    assert averaged([(0, 1.0), (1, 1.0), (2, 0.0)], keep=0.5) == [(0, 1.0), (1, 1.0), (2, 0.5)]


def test_a_score_has_anchors_and_goes_into_the_page(finished_run: Path, tmp_path: Path) -> None:
    unseen = tmp_path / "unseen"
    unseen.mkdir()
    for number in range(2):
        Image.new("RGB", (40, 40), (10, 200 * number, 40)).save(unseen / f"{number}.png")
    found = scored(finished_run, unseen)
    values: dict[str, Any] = {row.key: row for row in found.rows}
    assert set(values) >= {"subject", "start", "nearest", "real", "prompt", "diversity", "memorised", "forgetting"}
    assert (
        values["forgetting"].value == 0 and values["subject"].low <= values["subject"].value <= values["subject"].high
    )
    assert "Nothing else changed." in found.told and "anchor" in (finished_run / "report.html").read_text("utf-8")
    again = scored(finished_run / "word.safetensors", unseen)
    assert {row.key for row in again.rows} == set(values) - {"memorised"}
    assert again.rows[0] == found.rows[0]
    assert json.loads((finished_run / "scores.json").read_text("utf-8"))["judge"] == "emoji"


def test_a_score_of_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no word at .* Give the folder of a finished run of one word"):
        scored(tmp_path, EMOJI_JUDGE)


def test_the_commands_tell_where_the_page_is(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", str(finished_run), "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["files"] == [str(finished_run / "report.html")]


def test_finetuning_has_a_page_too(tiny_base: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    for number in range(4):
        Image.new("RGB", (32, 32), (60 * number, 9, 9)).save(shown / f"{number}.png")
        (shown / f"{number}.txt").write_text("a cat")
    made = recipe(
        pictures=str(shown), words="<captions>", method="embedding", tuned=("cat",), base=str(tiny_base), steps=2, batch=2,
        precision="fp32", device="cpu", preview_prompts=(),
    )  # fmt: skip
    list(finetune(made, tmp_path / "run"))
    assert "tuned.safetensors" in (tmp_path / "run" / "report.html").read_text("utf-8")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_a_complaint(finished_run: Path, tmp_path: Path, width: int) -> None:
    shot = tmp_path / "shot.png"
    plain = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--window-size={width},900",
    ]
    told = subprocess.run(
        [*plain, f"--screenshot={shot}", (finished_run / "report.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "CONSOLE" not in told.stderr
    with Image.open(shot) as seen:
        assert seen.size[0] == width
