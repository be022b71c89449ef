"""The run folder's own parts: names, whole writes, the journal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neologism import run
from neologism.errors import RunError
from neologism.events import Step, Warned


@pytest.mark.parametrize(
    ("word", "name"), [("<my-mug>", "my-mug"), ("<A b/c>", "a-b-c"), ("猫", "猫"), ("..", run.slug(".."))]
)
def test_a_word_has_a_safe_file_name(word: str, name: str) -> None:
    assert run.slug(word) == name and "/" not in name and name.strip(".")


def test_a_whole_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    run.write_whole(tmp_path / "new/file", b"one")
    run.write_whole(tmp_path / "new/file", b"two")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "new").iterdir()] == [("file", b"two")]


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_whole(tmp_path / "file", b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        RunError, match=r"could not be written: No space left on device\. Free some space or give --out"
    ):
        run.write_whole(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_bytes() == b"old"


def test_the_journal_drops_steps_behind_the_checkpoint_and_torn_lines(tmp_path: Path) -> None:
    journal = run.Journal(tmp_path, {})
    for number in (1, 2, 3):
        journal.tell(Step("<a>", number, 9, 0.5, 0.1, 1.0, 0.4, 0.9, ("cat",), None, 1.0))
    journal.tell(Warned("careful"))
    with open(tmp_path / "events.jsonl", "a") as out:
        out.write('{"event": "St')
    run.Journal(tmp_path, {"<a>": 2})
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line.get("step") for line in lines] == [1, 2, None]
    assert lines[-1] == {"event": "Warned", "text": "careful"}
