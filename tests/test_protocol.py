"""The comparison over a folder of subjects: prompts of both forms, resuming, the table, the page, paired intervals."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from neologism import protocol
from neologism.errors import RunError
from neologism.events import Step
from neologism.families import open_model
from neologism.metrics import networks
from neologism.protocol import Row

PUBLISHED = """subject_name,class
mug,cup
rex,dog
Object Prompts
prompt_list = [
 'a {0} {1} in a drawer'.format(unique_token, class_token),
 'a cube shaped {0} {1}'.format(unique_token, class_token)
]
Live Subject Prompts
prompt_list = [
 'a {0} {1} with a hat'.format(unique_token, class_token),
]
"""


@pytest.mark.parametrize("name", ["usual.toml", "emoji.toml"])
def test_the_prompts_that_ship_are_25_a_kind_and_all_differ(name: str) -> None:
    told = protocol.asked(protocol.PROMPTS / name, "emoji")
    assert set(told.prompts) <= {"object", "live"}
    assert all(len(set(some)) == 25 for some in told.prompts.values())


def test_the_published_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(PUBLISHED)
    told = protocol.asked(tmp_path / "prompts.txt", "emoji")
    assert told.of("mug") == ("cup", "object", ["a {} in a drawer", "a cube shaped {}"])
    assert told.of("rex") == ("dog", "live", ["a {} with a hat"])
    assert told.of("grey_sloth")[0] == "grey sloth"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('object = ["a cat"]', "found 'a cat', which has no place for the word. Write {} where it goes."),
        ("object = []", "holds no prompts. Write them under object"),
        ("object = [", "cannot be read"),
    ],
)
def test_prompts_that_cannot_be_used_are_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(RunError, match=told):
        protocol.asked(tmp_path / "p.toml", "emoji")


def test_a_folder_without_subjects_is_told(pictures: Path) -> None:
    with pytest.raises(
        RunError, match="has no subfolder with pictures. Give a folder with a folder of pictures for each"
    ):
        protocol.subjects(pictures)


def test_a_comparison_goes_on_where_it_stopped_and_ends_in_a_table_and_a_page(tiny_base: Path, tmp_path: Path) -> None:
    for name, colour in (("cat", "gold"), ("red_car", "navy")):
        (tmp_path / "subjects" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (40, 40), colour).rotate(number).save(tmp_path / "subjects" / name / f"{number}.png")
    model, seeing = open_model(str(tiny_base), "cpu", "fp32"), networks("auto", "emoji")
    settings: dict[str, Any] = {"base": str(tiny_base), "steps": 2, "batch": 2}
    told = protocol.Asked({"object": ["a {}", "a red {}"]})

    def done() -> tuple[list[Row], int]:
        found = list(
            protocol.benchmarked(model, tmp_path / "subjects", told, seeing, settings, (0, 1), 1, tmp_path / "out")
        )
        return [row for some in found if isinstance(some, list) for row in some], sum(
            isinstance(e, Step) for e in found
        )

    rows, steps = done()
    again, none = done()
    assert steps == 4 and none == 0 and again == rows
    assert {(row.subject, row.named) for row in rows} == {("cat", "cat"), ("red_car", "red car")}
    table, page = protocol.written(rows, tmp_path / "out")
    with open(table, newline="") as lines:
        assert len(list(csv.DictReader(lines))) == 6 == len(rows)
    assert "2 subjects" in page.read_text() and page.read_text().count("<img") == 8


def test_totals_pair_each_subject_with_itself() -> None:
    rows = [Row(f"s{i}", "c", "object", "CLIP", "subject fidelity", i + 0.1, float(i), None) for i in range(8)]
    total = protocol.totals(rows)[0]
    assert total.low == pytest.approx(0.1, abs=1e-5) and total.high == pytest.approx(
        0.1, abs=1e-5
    )  # though subjects differ
