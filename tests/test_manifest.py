"""A table of many words: every row its recipe, every mistake told with where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from neologism.errors import RecipeError
from neologism.manifest import recipes


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, "utf-8")
    return file


def test_a_csv_row_is_a_recipe_with_its_own_settings(tmp_path: Path) -> None:
    text = 'pictures,word,like,seed,times\nmug,<mug>,cup,3,0.2 0.9\n"my, dog",<dog>,,,\n'
    mug, dog = recipes(written(tmp_path, "words.csv", text), {"steps": 7})
    assert mug.pictures == (str(tmp_path / "mug"),) and mug.words == ("<mug>",)
    assert (mug.like, mug.seed, mug.times, mug.steps) == (("cup",), 3, (0.2, 0.9), 7)
    assert dog.pictures == (str(tmp_path / "my, dog"),) and dog.like == ("auto",) and dog.seed == 0


def test_json_lines_and_folders_are_manifests_too(tmp_path: Path) -> None:
    lines = '{"pictures": "/far/mug", "word": "<mug>", "vectors": 2}\n\n{"pictures": "dog", "word": "<dog>"}\n'
    mug, dog = recipes(written(tmp_path, "words.jsonl", lines), {})
    assert mug.pictures == ("/far/mug",) and mug.vectors == 2 and dog.pictures == (str(tmp_path / "dog"),)
    for name in ("Cat", "dog", ".hidden"):
        (tmp_path / "set" / name).mkdir(parents=True)
    cat, other = recipes(tmp_path / "set", {})
    assert cat.words == ("<cat>",) and cat.pictures == (str(tmp_path / "set" / "Cat"),) and other.words == ("<dog>",)


def test_all_mistakes_of_a_manifest_are_told_with_their_lines(tmp_path: Path) -> None:
    text = "pictures,word,lik,batch\na,,,\nb,<b>,1,\nc,<c>,,4\nd,<d>,,\ne,<D>,,\n"
    with pytest.raises(RecipeError) as told:
        recipes(written(tmp_path, "words.csv", text), {})
    lines = str(told.value).splitlines()
    assert lines[0].endswith("words.csv, line 2: a row without word; every row needs its pictures and its word")
    assert "line 3: There is no setting 'lik'. Did you mean 'like'?" in lines[1]
    assert "line 4: batch cannot differ from word to word, since words share a batch" in lines[2]
    assert lines[3] == 'The word "<d>" stands in 2 rows; words that learn together must differ (case does not count).'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no word. Give every row its pictures and its word."),
        ("pictures,word\na,b,c\n", "line 2 has more cells than the first line names."),
        ('{"pictures": "a"\n', "line 1 is not JSON"),
        ('{"pictures": "a", "word": "<a>"}\n[1]\n', "line 2 is no JSON object. Write one object a line."),
    ],
)
def test_a_manifest_that_cannot_be_read_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        recipes(written(tmp_path, "words.csv", text), {})


def test_a_missing_manifest_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="none.csv cannot be read: No such file or directory. Give a CSV file"):
        recipes(tmp_path / "none.csv", {})
