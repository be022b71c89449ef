"""Every setting of a Recipe as an option of the command line."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from neologism.cookbook import read
from neologism.errors import RecipeError
from neologism.recipe import FIELDS, Recipe, recipe

Json = Annotated[bool, typer.Option("--json", help="Print facts as one JSON object on the last line.")]
SPELLED = {
    "pictures": "PICTURES",
    "words": "--word",
    "start_from": "--from",
    "preview_prompts": "--preview-prompt",
    "templates": "--template",
}


def with_settings(
    command: Callable[..., None], own: Sequence[inspect.Parameter], without: Sequence[str] = ()
) -> Callable[..., None]:
    """Give a command (settings, **own) an option for every setting but those left out, and --recipe FILE; options win."""
    settings = [name for name in FIELDS.values() if name not in without]
    parameters = [*map(parameter, settings), recipe_parameter(), *own]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        file = given.pop("recipe_file")
        said = {name: given.pop(name) for name in settings}
        command(over_file(file, {n: v for n, v in said.items() if v not in (None, [], ())}), **given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def with_recipe(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command (recipe, out, as_json) an option for every setting, and --recipe FILE."""

    @functools.wraps(command)
    def of_one(settings: dict[str, Any], out: Path | None, as_json: bool) -> None:
        made = recipe(**settings)
        if not made.pictures:
            raise RecipeError(
                "No pictures were given. Type a folder of pictures after `neologism train`, and its --word."
            )
        command(made, out, as_json)

    out = typer.Option("--out", "-o", help="The run folder; words/NAME where not given.")
    return with_settings(of_one, [keyword("out", Annotated[Path | None, out], None), json_parameter()])


OF_WORDS = (
    "words", "like", "start_from", "kind", "method", "vectors", "encoders", "identifier", "text_encoder", "rank", "alpha", "targets",
    "word_first", "class_pictures", "prior_weight", "captions", "templates", "drop_caption", "learning_rate", "norm", "preview_prompts",
    "preview_every", "contrastive", "half_weights", "quantised", "streamed",
)  # fmt: skip
"""Settings that say nothing where no word is learned from pictures of one thing."""


def with_pairs(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command (settings, out, as_json) an option for every setting of embedding fine-tuning."""
    out = typer.Option("--out", "-o", help="The run folder; tuned/NAME where not given.")
    own = [keyword("out", Annotated[Path | None, out], None), json_parameter()]
    return with_settings(command, own, without=OF_WORDS)


def with_manifest(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command (manifest, settings, out, together, as_json) an option for every setting that many words can share."""

    @functools.wraps(command)
    def of_many(settings: dict[str, Any], manifest: Path, out: Path, together: int, as_json: bool) -> None:
        command(manifest, settings, out, together, as_json)

    table = typer.Argument(help="A CSV file, JSON lines, or a folder with a folder of pictures for each word.")
    places = typer.Option("--together", min=1, help="How many words fill a batch.")
    own = [
        keyword("manifest", Annotated[Path, table], inspect.Parameter.empty),
        keyword(
            "out",
            Annotated[Path, typer.Option("--out", "-o", help="A run folder for each word goes here.")],
            Path("words"),
        ),
        keyword("together", Annotated[int, places], 8),
        json_parameter(),
    ]
    return with_settings(of_many, own, without=("pictures", "words", "start_from"))


def over_file(file: Path | None, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a recipe file, and these over them, by the names a recipe file has."""
    aliases = {name: alias for alias, name in FIELDS.items()}
    said = {aliases[name]: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    return (read(file) if file else {}) | said


def recipe_parameter() -> inspect.Parameter:
    """--recipe FILE."""
    option = typer.Option(
        "--recipe", help="A TOML file of settings, or the name of a recipe that ships; options win over it."
    )
    return keyword("recipe_file", Annotated[Path | None, option], None)


def json_parameter() -> inspect.Parameter:
    """--json."""
    option = typer.Option("--json", help="Print facts as one JSON object on the last line.")
    return keyword("as_json", Annotated[bool, option], False)


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
