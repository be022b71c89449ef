"""Recipes as TOML: read, written, and those that ship."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from neologism.errors import RecipeError
from neologism.recipe import Recipe


def shipped() -> dict[str, Path]:
    """The recipes that ship, by name: FAMILY-KIND-MEMORY, such as sd15-object-8gb."""
    return {file.stem: file for file in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}


def chosen(name: str) -> Path:
    """The file of a recipe that ships.

    Raises:
        RecipeError: there is none of that name.
    """
    if name not in shipped():
        near = difflib.get_close_matches(name, shipped(), n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(shipped())}."
        raise RecipeError(f"No recipe {name!r} ships. {hint}")
    return shipped()[name]


def read(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, or in a recipe that ships, by its name.

    Raises:
        RecipeError: there is none, or it is not TOML.
    """
    file = path if path.exists() else shipped().get(str(path), path)
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            f"There is no recipe at {path}. Give --recipe a TOML file of settings, or one of {', '.join(shipped())}."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"{path} is not TOML: {error}. Mend that line; `neologism recipe` prints a complete example."
        ) from None


def written(settings: Recipe) -> str:
    """The recipe as TOML that `read` takes back; settings that are None are left out."""
    return (
        "\n".join(
            f"{name} = {literal(value)}"
            for name, value in settings.model_dump(by_alias=True, mode="json").items()
            if value is not None
        )
        + "\n"
    )


def literal(value: Any) -> str:
    """A text, number, truth value or list as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(literal(part) for part in value) + "]"  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, str):
        escaped = "".join(
            f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c
            for c in value.replace("\\", "\\\\").replace('"', '\\"')
        )
        return f'"{escaped}"'
    return repr(value)
