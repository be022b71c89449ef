"""Write docs/recipe.md: every setting of a run, from its own docstring. Run by `make docs`."""

from __future__ import annotations

from pathlib import Path

from neologism.cookbook import literal
from neologism.recipe import FIELDS, Recipe

HEAD = """# The recipe: every setting of a run

Written by `make docs` from `src/neologism/recipe.py`; change it there. Each setting is an option of `neologism train`
(`learning_rate` is `--learning-rate`) and a line of a TOML file for `--recipe FILE`. `neologism recipe` prints them
all.

| setting | default | what it does |
|---|---|---|
"""


def row(setting: str, name: str) -> str:
    """One setting as a row of the table."""
    field = Recipe.model_fields[name]
    default = field.get_default(call_default_factory=True)
    shown = "" if default in (None, ()) else f"`{literal(list(default) if isinstance(default, tuple) else default)}`"
    text = (
        " ".join((field.description or "").split()).replace("|", "\\|").replace("<", "&lt;")
    )  # a bare <word> would count as HTML
    return f"| `{setting}` | {shown} | {text} |\n"


def page() -> str:
    """The whole page."""
    return HEAD + "".join(row(setting, name) for setting, name in FIELDS.items())


if __name__ == "__main__":
    Path(__file__).with_name("recipe.md").write_text(page(), "utf-8")
