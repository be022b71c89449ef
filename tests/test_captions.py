"""What captions.py promises: every prompt holds the word, and what is odd about captions is said."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from neologism.captions import OBJECT_TEMPLATES, STYLE_TEMPLATES, Kind, Source, check_captions, prompt
from neologism.errors import PhotosError
from neologism.photos import Photo


def photo(name: str, caption: str | None) -> Photo:
    return Photo(Path("/p") / name, (64, 64), caption, None, False, "")


def said(own: str | None, source: Source = "auto", word: str = "<cat>", kind: Kind = "object", drop: float = 0) -> str:
    return prompt(word, kind, own, source, drop, random.Random(0))


@pytest.mark.parametrize(("kind", "templates"), [("object", OBJECT_TEMPLATES), ("style", STYLE_TEMPLATES)])
def test_every_template_is_drawn_and_holds_the_word(kind: Kind, templates: tuple[str, ...]) -> None:
    chance = random.Random(1)
    drawn = {prompt("<cat>", kind, None, "auto", 0, chance) for _ in range(1000)}
    assert drawn == {template.format("<cat>") for template in templates}
    assert len(templates) == len(set(templates)) and all(template.count("{}") == 1 for template in templates)


def test_the_same_chance_gives_the_same_prompt() -> None:
    assert said(None) == said(None)


@pytest.mark.parametrize(
    ("own", "prompted"),
    [
        ("a {} on {grass}", "a <cat> on {grass}"),
        ("My <CAT> asleep", "My <CAT> asleep"),
        ("asleep on grass.", "asleep on grass, <cat>"),
        ("a <cat2> asleep", "a <cat2> asleep, <cat>"),
    ],
)
def test_an_own_caption_always_comes_to_hold_the_word(own: str, prompted: str) -> None:
    assert said(own) == prompted == said(own, "files")


def test_a_plain_word_is_not_found_inside_another() -> None:
    assert said("to concatenate", word="cat") == "to concatenate, cat"
    assert said("the cat's bed", word="cat") == "the cat's bed"


def test_templates_only_never_uses_an_own_caption() -> None:
    assert said("my own {}", "templates") in {template.format("<cat>") for template in OBJECT_TEMPLATES}


def test_a_dropped_caption_leaves_the_word_alone_as_often_as_asked() -> None:
    chance = random.Random(2)
    alone = sum(prompt("<cat>", "object", "a {}", "auto", 0.25, chance) == "<cat>" for _ in range(4000))
    assert 900 < alone < 1100
    assert said("a {}", drop=1) == "<cat>" and said("a {}", drop=0) == "a <cat>"


def test_files_only_without_a_caption_is_an_error() -> None:
    with pytest.raises(PhotosError) as caught:
        said(None, "files")
    assert str(caught.value) == (
        'A picture has no caption, and captions = "files" allows no other. Write one, or use "auto".'
    )


@pytest.mark.parametrize(("bare", "others"), [(1, ""), (3, " (nor beside 2 more)")])
def test_files_only_names_the_file_that_is_missing(bare: int, others: str) -> None:
    photos = [photo("a.png", "a {}"), *(photo(f"b{i}.png", None) for i in range(bare))]
    with pytest.raises(PhotosError) as caught:
        check_captions(photos, "<cat>", "files")
    assert str(caught.value) == (
        f'captions = "files" needs a text file beside every picture, but /p/b0.txt is missing or empty{others}. '
        'Write it, or set captions to "auto".'
    )


def test_captions_without_the_word_are_named() -> None:
    photos = [photo("a.png", "a dog"), photo("b.png", "a <CAT>"), photo("c.png", "a {}"), photo("d.png", "x")]
    assert check_captions(photos, "<cat>", "auto") == [
        "<cat> is added at the end of the captions of a.png and d.png; write {} where it goes."
    ]


def test_photos_without_a_caption_among_others_are_named() -> None:
    photos = [photo("a.png", "a {}"), *(photo(f"b{i}.png", None) for i in range(5))]
    assert check_captions(photos, "<cat>", "auto") == [
        "No caption beside b0.png, b1.png, b2.png and 2 more; templates are used there."
    ]


def test_captions_that_are_not_used_are_told() -> None:
    assert check_captions([photo("a.png", "a {}")], "<cat>", "templates") == [
        'The captions of a.png are not used, since captions = "templates".'
    ]


@pytest.mark.parametrize("source", ["auto", "templates"])
def test_no_captions_at_all_need_no_words(source: Source) -> None:
    assert check_captions([photo("a.png", None)], "<cat>", source) == []
