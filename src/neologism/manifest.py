"""Many words at once: a table of pictures, words and their own settings, read into a recipe for each word."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from neologism.cookbook import literal
from neologism.errors import RecipeError
from neologism.recipe import FIELDS, SHARED, Recipe, recipe

ONE_EACH = {"word": "words", "template": "templates", "preview_prompt": "preview_prompts"}
"""How a row may spell a setting that holds a list."""
Row = tuple[str, dict[str, Any]]  # where it stands, and what it says


def recipes(manifest: Path, common: dict[str, Any]) -> list[Recipe]:
    """The recipe of every word of a manifest: the settings common to all, and over them those of its row.

    A manifest is a CSV file, a file of JSON lines, or a folder with a folder of pictures for each word (named after it).
    Paths in a file are relative to it.

    Raises:
        RecipeError: there is no such manifest, it holds no word, or a row is wrong; all mistakes at once.
    """
    found, mistakes = list[Recipe](), list[str]()
    for place, row in rows(manifest):
        try:
            found.append(of_row(row, common, manifest if manifest.is_dir() else manifest.parent))
        except RecipeError as error:
            mistakes.append(f"{place}: {error}")
    mistakes += repeated(found)
    if mistakes:
        raise RecipeError("\n".join(mistakes))
    if not found:
        raise RecipeError(f"{manifest} holds no word. Give every row its pictures and its word.")
    return found


def rows(manifest: Path) -> Iterable[Row]:
    """The rows of a manifest, each with where it stands."""
    if manifest.is_dir():
        inside = sorted(folder for folder in manifest.iterdir() if folder.is_dir() and folder.name[0] not in "._")
        return [(str(folder), {"pictures": folder.name, "word": f"<{folder.name.lower()}>"}) for folder in inside]
    try:
        lines = manifest.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RecipeError(
            f"The manifest {manifest} cannot be read: {reason}. Give a CSV file, JSON lines, or a folder of folders."
        ) from None
    first = next((line for line in lines if line.strip()), "")
    return json_rows(manifest, lines) if first.lstrip().startswith("{") else csv_rows(manifest, lines)


def json_rows(manifest: Path, lines: list[str]) -> Iterable[Row]:
    """Rows of JSON lines."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise RecipeError(f"{manifest}, line {number} is not JSON: {error}. Write one object a line.") from None
        if not isinstance(row, dict):
            raise RecipeError(f"{manifest}, line {number} is no JSON object. Write one object a line.")
        yield f"{manifest}, line {number}", row


def csv_rows(manifest: Path, lines: list[str]) -> Iterable[Row]:
    """Rows of a CSV file with a line of column names; empty cells say nothing."""
    table = csv.DictReader(lines)
    for row in table:
        place = f"{manifest}, line {table.line_num}"
        if None in row:
            raise RecipeError(f"{place} has more cells than the first line names. Put quotes around cells with commas.")
        yield place, {name: typed(name, text) for name, text in row.items() if text}


def typed(name: str, text: str) -> Any:
    """A cell's text as its setting wants it: pydantic reads numbers, but not tuples or truth values spelled in words."""
    return tuple(text.split()) if FIELDS.get(name) == "times" else text


def of_row(row: dict[str, Any], common: dict[str, Any], beside: Path) -> Recipe:
    """The recipe of one row.

    Raises:
        RecipeError: it lacks pictures or a word, or sets what all words must share.
    """
    own = {ONE_EACH.get(name, name): value for name, value in row.items()}
    missing = [name for name, field in (("pictures", "pictures"), ("word", "words")) if not own.get(field)]
    if missing:
        raise RecipeError(f"a row without {' and '.join(missing)}; every row needs its pictures and its word")
    shared = [name for name in own if name in SHARED]
    if shared:
        raise RecipeError(
            f"{', '.join(shared)} cannot differ from word to word, since words share a batch; give it once, as an option"
        )
    made = recipe(**common | own | {"pictures": str(beside / str(own["pictures"]))})
    if len(made.words) != 1:
        raise RecipeError(f"found {len(made.words)} words in a row; one is allowed")
    return made


def repeated(found: list[Recipe]) -> list[str]:
    """What is said of words that stand in several rows."""
    counts = Counter(made.words[0].lower() for made in found)
    return [
        f"The word {literal(word)} stands in {count} rows; words that learn together must differ (case does not count)."
        for word, count in counts.items()
        if count > 1
    ]
