"""The commands as a user types them: what they print, what they write, how they fail."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from neologism import cli, screen
from neologism.cookbook import read
from neologism.recipe import recipe
from neologism.run import whole_folders


def typed(*words: object) -> int:
    """Type a command; its exit code."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    return int(end.value.code or 0)


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.fixture
def learned(tiny_base: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A run folder, made by the train command."""
    short = ("--steps", 4, "--batch", 2, "--like", "cat", "--preview-prompt", "a {}", "--precision", "fp32")
    code = typed(
        "train", pictures, "--word", "<disc>", "--base", tiny_base, "--out", tmp_path / "run", "--json", *short
    )
    assert code == 0
    facts = last_line(capsys)
    assert facts["words"][0]["steps"] == 4  # type: ignore[index]
    return tmp_path / "run"


def test_a_word_is_trained_inspected_drawn_and_verified(
    learned: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("inspect", learned / "word.safetensors", "--json") == 0
    facts = last_line(capsys)
    assert facts["word"] == "<disc>" and facts["base"] == str(tiny_base)
    assert facts["vectors"]["text"]["shape"] == [1, 32]  # type: ignore[index]
    assert len(facts["vectors"]["text"]["nearest"][0]) == 3  # type: ignore[index]
    draw = ("generate", "a <disc>", "--word", learned / "word.safetensors", "--base", tiny_base, "-n", 2, "--steps", 2)
    assert typed(*draw, "--out", tmp_path / "drawn") == 0
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["a-disc-0.png", "a-disc-1.png"]
    assert typed(*draw, "--out", tmp_path / "sheet.png") == 0
    assert (tmp_path / "sheet.png").exists()
    assert typed(*draw, "--out", tmp_path / "wide", "--size", "48x32") == 0
    with Image.open(next((tmp_path / "wide").glob("*.png"))) as drawn:
        assert drawn.size == (48, 32)
    assert typed(*draw, "--size", "large") == 8
    assert "--size: found 'large'; WIDTHxHEIGHT in pixels is allowed, such as 768x512" in capsys.readouterr().err
    assert typed("verify", learned, "--json") == 0
    assert last_line(capsys)["untouched"] is True


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (name for names in cli.PANELS.values() for name in names):
        assert typed(command, "--help") == 0
        assert "Example: neologism" in capsys.readouterr().out


def test_help_shows_every_command_once_in_its_panel(capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("--help") == 0
    shown = capsys.readouterr().out
    starts = [line.split()[1] for line in shown.splitlines() if line.startswith("│ ") and line[2] not in " -"]
    assert starts == [name for names in cli.PANELS.values() for name in names]
    assert all(panel in shown for panel in cli.PANELS)


def test_train_offers_every_setting(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    typed("train", "--help")
    shown = capsys.readouterr().out
    for option in (
        "--word",
        "--like",
        "--from",
        "--vectors",
        "--learning-rate",
        "--checkpoint-every",
        "--mirror",
        "--recipe",
    ):
        assert option in shown


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("train", "nowhere", "--word", "<a>"), 3, "nowhere"),
        (
            ("train", ".", "--word", "<a>", "--vectors", "99"),
            2,
            "vectors: input should be less than or equal to 64 (found 99).",
        ),
        (("train",), 2, "No pictures were given."),
        (
            ("train", ".", "--word", "<a>", "--word", "<b>"),
            2,
            "found 1 folder of pictures and 2 words; give each folder its word, such as <my-mug>",
        ),
        (("train", ".", "--word", "<a>", "--recipe", "none.toml"), 2, "There is no recipe at none.toml."),
        (("generate", "a cat", "--base", "./none"), 4, "There is no folder ./none."),
        (("generate", "a cat", "--word", "none.safetensors"), 5, "none.safetensors"),
        (("inspect", "none.safetensors"), 5, "none.safetensors"),
        (("verify", "none"), 8, "none holds no finished run"),
        (("generate", "a cat", "--out", "a.jpg"), 8, "pictures are written as .png, or into a folder."),
        (("demo", "--subject", "nobody"), 3, "There is no example subject 'nobody'."),
    ],
)
def test_a_mistake_is_told_in_words_with_its_exit_code(
    words: tuple[str, ...],
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed(*words) == code
    shown = " ".join(capsys.readouterr().err.split())
    assert told in shown and "Traceback" not in shown


def test_an_unknown_key_in_a_recipe_file_is_told(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mug.toml").write_text("learning_rat = 1.0\n")
    assert typed("train", pictures, "--word", "<a>", "--recipe", tmp_path / "mug.toml") == 2
    assert "There is no setting 'learning_rat'. Did you mean 'learning_rate'?" in " ".join(
        capsys.readouterr().err.split()
    )


def test_the_printed_recipe_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("recipe") == 0
    (tmp_path / "all.toml").write_text(capsys.readouterr().out)
    assert recipe(**read(tmp_path / "all.toml")) == recipe()


def test_the_first_interrupt_saves_and_the_second_aborts() -> None:
    interrupted = screen.Interrupted()
    interrupted()
    assert interrupted.asked
    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_ctrl_c_saves_and_the_same_command_goes_on(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", pictures, "--word", "<disc>", "--base", tiny_base, "--like", "cat", "--steps", 5000, "--out", out]
    command = [
        sys.executable,
        "-m",
        "neologism",
        *map(str, words),
        "--preview-prompt",
        "{}",
        "--checkpoint-every",
        "10",
    ]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 90
    while not whole_folders(out) and time.monotonic() < limit:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    told = child.communicate(timeout=60)[1]
    assert child.returncode == 130 and "stopped and saved" in told
    assert whole_folders(out) and not (out / "word.safetensors").exists()
    assert not list(out.rglob("*.partial"))
