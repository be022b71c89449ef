"""Settings: what is allowed, what is said of the rest, and TOML that comes back as it was."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neologism.cookbook import chosen, read, shipped, written
from neologism.errors import RecipeError
from neologism.recipe import Recipe, recipe

NUMBERS = st.floats(1e-9, 1e9)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "base": st.text(max_size=20),
        "preview_prompts": st.lists(st.text(max_size=20).map(lambda text: text + "{}"), max_size=3),
        "from": st.lists(st.text(max_size=20), max_size=1),
        "like": st.text(max_size=20),
        "kind": st.sampled_from(["object", "style"]),
        "vectors": st.integers(1, 64),
        "side": st.none() | st.integers(16, 4096),
        "mirror": st.booleans(),
        "drop_caption": st.floats(0, 1),
        "learning_rate": NUMBERS,
        "clip": st.none() | NUMBERS,
        "times": st.tuples(st.floats(0, 0.4), st.floats(0.5, 1)),
        "seed": st.integers(0, 2**63 - 1),
    },
)


def refused(*texts: str, **settings: Any) -> None:
    """The settings are refused, and all of these are said."""
    with pytest.raises(RecipeError) as caught:
        recipe(**settings)
    for text in texts:
        assert text in str(caught.value)


@given(settings=SETTINGS)
def test_a_written_recipe_is_read_as_it_was(settings: dict[str, Any]) -> None:
    first = recipe(**settings)
    again = tomllib.loads(written(first))
    # TOML has no null: what is None is left out, so it must be the default or be told again
    again |= {name: None for name, value in settings.items() if value is None}
    assert recipe(**again) == first


@given(words=st.lists(st.text(max_size=9), max_size=4, unique_by=str.lower))
def test_words_and_pictures_of_any_text_come_back(words: list[str]) -> None:
    first = recipe(words=words, pictures=[word[::-1] for word in words])
    assert recipe(**tomllib.loads(written(first))) == first


def test_no_settings_are_the_defaults() -> None:
    assert recipe() == Recipe()


def test_a_single_text_counts_as_one() -> None:
    one = recipe(words="<a>", pictures="folder", like="cat")
    assert (one.words, one.pictures, one.starts) == (("<a>",), ("folder",), ("cat",))


def test_one_like_serves_every_word() -> None:
    assert recipe(words=["<a>", "<b>"], pictures=["a", "b"], like="cat").starts == ("cat", "cat")


def test_from_may_be_said_as_the_field_or_as_the_option() -> None:
    given_as = {"words": "<a>", "pictures": "a"}
    assert recipe(**given_as, start_from="x.safetensors") == recipe(**given_as, **{"from": "x.safetensors"})


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        recipe().steps = 5  # type: ignore[misc]


def test_every_field_has_its_help() -> None:
    assert [name for name, field in Recipe.model_fields.items() if not field.description] == []


def test_an_unknown_setting_gets_the_nearest_known_one() -> None:
    refused("There is no setting 'lerning_rate'. Did you mean 'learning_rate'?", lerning_rate=1)


def test_an_unknown_setting_far_from_all_gets_the_list() -> None:
    refused("There is no setting 'zzzzzz'. Known are: pictures, words, like, from, base", zzzzzz=1)


def test_all_unknown_settings_are_told_at_once() -> None:
    refused("no setting 'seeds'. Did you mean 'seed'?", "no setting 'stepz'. Did you mean 'steps'?", seeds=1, stepz=2)


def test_all_values_out_of_range_are_told_at_once() -> None:
    refused("steps: input should be greater than or equal to 1 (found 0).", "(found -1).", steps=0, seed=-1)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("kind", "thing", "kind: input should be 'object' or 'style' (found 'thing')."),
        ("vectors", 65, "vectors: input should be less than or equal to 64 (found 65)."),
        ("drop_caption", 2, "drop_caption: input should be less than or equal to 1 (found 2)."),
        ("learning_rate", 0, "learning_rate: input should be greater than 0 (found 0)."),
        ("learning_rate", "fast", "learning_rate: input should be a valid number"),
        ("side", 8, "side: input should be greater than or equal to 16 (found 8)."),
        ("times", (0.5, 0.2), "times: found 0.5 to 0.2; two numbers in 0..1 are allowed, the lower first"),
        ("times", (-0.5, 0.2), "times: found -0.5 to 0.2; two numbers in 0..1 are allowed, the lower first"),
        ("stop", "never", "stop: input should be 'steps', 'converged' or 'similar' (found 'never')."),
        ("gain_wanted", 1, "gain_wanted: input should be less than 1 (found 1)."),
    ],
)
def test_a_value_out_of_range_is_told(name: str, value: object, text: str) -> None:
    refused(text, **{name: value})


def test_words_without_folders_are_told() -> None:
    refused(
        "found 1 folder of pictures and 2 words; give each folder its word, such as <my-mug>",
        words=["<a>", "<b>"],
        pictures="a",
    )


def test_words_that_differ_by_case_only_are_told() -> None:
    refused("two words are the same; case does not tell words apart", words=["<a>", "<A>"], pictures=["a", "b"])


@pytest.mark.parametrize("name", ["like", "from"])
def test_a_wrong_number_of_starts_is_told(name: str) -> None:
    words = {"words": ["<a>", "<b>", "<c>"], "pictures": ["a", "b", "c"]}
    refused(f"found 2 of '{name}' for 3 words; give one for all or one for each", **words, **{name: ["x", "y"]})


def test_a_missing_recipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"There is no recipe at .*none\.toml\. Give --recipe a TOML file"):
        read(tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"steps = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(RecipeError, match=r"bad\.toml is not TOML: .*`neologism recipe` prints a complete example"):
        read(tmp_path / "bad.toml")


def test_a_template_without_a_place_for_the_word_is_refused() -> None:
    with pytest.raises(
        RecipeError,
        match=r"templates: found 'a photo' without \{\}; write \{\} where the word goes \(found 'a photo'\).",
    ):
        recipe(templates="a photo")


def test_twenty_recipes_ship_and_each_says_where_it_is_from() -> None:
    found = shipped()
    assert len(found) == 20
    for name, file in found.items():
        family, kind, memory = name.split("-")
        made = recipe(**read(Path(name)))
        head = [line for line in file.read_text("utf-8").splitlines() if line.startswith("#")]
        assert family in ("sd15", "sd21", "sdxl", "sd35", "flux") and made.kind == kind and made.memory == memory
        assert (
            f"--recipe {name}" in head[0] and "From published figures" in head[1] and "Not measured on real" in head[2]
        )


def test_a_recipe_that_does_not_ship_is_told() -> None:
    with pytest.raises(RecipeError, match="No recipe 'sd15-object-8g' ships. Did you mean 'sd15-object-8gb'?"):
        chosen("sd15-object-8g")


@pytest.mark.parametrize(("other", "value"), [("streamed", True), ("quantised", "int8")])
def test_weights_are_kept_in_one_way(other: str, value: object) -> None:
    refused(f"found half_weights with {other}; weights are kept in one way only", half_weights=True, **{other: value})
