"""Every setting of a Recipe as an option of the command line."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from neologism.errors import RecipeError
from neologism.recipe import FIELDS, Recipe, read, recipe

SPELLED = {
    "pictures": "PICTURES",
    "words": "--word",
    "start_from": "--from",
    "preview_prompts": "--preview-prompt",
    "templates": "--template",
}


def with_recipe(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command (recipe, out, as_json) an option for every setting, and --recipe FILE; options win over the file."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        out, as_json, file = given.pop("out"), given.pop("as_json"), given.pop("recipe_file")
        settings = {name: value for name, value in given.items() if value not in (None, [], ())}
        command(merged(file, settings), out, as_json)

    parameters = [parameter(name) for name in FIELDS.values()]
    run.__signature__ = inspect.Signature([*parameters, *own_parameters()])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in [*parameters, *own_parameters()]}
    return run


def merged(file: Path | None, settings: dict[str, Any]) -> Recipe:
    """The recipe of a file with these settings over it."""
    kept = read(file) if file else {}
    aliases = {name: alias for alias, name in FIELDS.items()}
    made = recipe(**kept | {aliases[name]: tuple(v) if isinstance(v, list) else v for name, v in settings.items()})
    if not made.pictures:
        raise RecipeError("No pictures were given. Type a folder of pictures after `neologism train`, and its --word.")
    return made


def own_parameters() -> list[inspect.Parameter]:
    """The options of `train` that are no settings of the recipe."""
    wanted = (
        (
            "recipe_file",
            Path | None,
            None,
            typer.Option("--recipe", help="A TOML file of settings; options win over it."),
        ),
        ("out", Path | None, None, typer.Option("--out", "-o", help="The run folder; words/NAME where not given.")),
        ("as_json", bool, False, typer.Option("--json", help="Print facts as one JSON object on the last line.")),
    )
    return [keyword(name, Annotated[kind, option], default) for name, kind, default, option in wanted]


def keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A keyword parameter."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def parameter(name: str) -> inspect.Parameter:
    """A setting as a parameter that is None unless given, with the field's docstring as help."""
    field = Recipe.model_fields[name]
    default = field.get_default()
    shown = f" \\[{default}]" if default not in (None, (), "") else ""
    help_text = f"{field.description}{shown}"
    if name == "pictures":
        return keyword(
            name, Annotated[list[str] | None, typer.Argument(help=field.description, show_default=False)], None
        )
    spelled = SPELLED.get(name, "--" + name.replace("_", "-"))
    kind = option_type(field.annotation)
    flags = (spelled, f"--no-{spelled[2:]}") if kind is bool else (spelled,)
    option = typer.Option("/".join(flags), help=help_text, show_default=False)
    return keyword(name, Annotated[kind | None, option], None)


def option_type(annotation: Any) -> Any:
    """What typer should read for a setting of this type; pydantic does the checking."""
    origin: Any = typing.get_origin(annotation)
    parts = [part for part in typing.get_args(annotation) if part is not type(None)]
    if isinstance(annotation, types.UnionType) and len(parts) == 1:
        return option_type(parts[0])
    if origin is Literal:
        return str
    if origin is tuple:
        return list[str] if parts[-1] is Ellipsis else tuple[float, float]
    return annotation
