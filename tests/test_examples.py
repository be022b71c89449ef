"""The examples: short, and they run."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import neologism

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_uses_public_names_only(example: Path) -> None:
    text = example.read_text("utf-8")
    assert len(text.splitlines()) <= 40
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "neologism"
    }
    assert used and used <= set(neologism.__all__)


@pytest.mark.slow
def test_a_word_is_learned_drawn_and_scored_by_the_examples(tmp_path: Path) -> None:
    photos = ROOT / "src/neologism/emoji/photos/rabbit"
    word = tmp_path / "words/mine/word.safetensors"
    for words in (
        ["learn_a_word.py", photos],
        ["draw_with_words.py", word],
        ["score_a_word.py", word, photos / "unseen"],
    ):
        command = [sys.executable, str(ROOT / "examples" / words[0]), *map(str, words[1:])]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("mine-*.png"))) == 4
    assert "Subject fidelity, emoji judge: " in done.stdout and "real against real" in done.stdout
