"""Commands about pictures before a run: words typed by a user, turned into one call each and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from neologism import screen
from neologism.options import Json
from neologism.screen import printed

console = Console(stderr=True)
Pictures = Annotated[Path, typer.Argument(help="Folder, archive or picture.")]
Base = Annotated[str, typer.Option(help="The base that would be trained; it decides the side.")]
Side = Annotated[
    int | None, typer.Option(min=16, help="Side of the training pictures in pixels; the base's own where not given.")
]


def register(app: typer.Typer) -> None:
    """Give the app these commands."""
    app.command(epilog="Example: neologism check photos/mug")(check)
    app.command(epilog="Example: neologism prepare photos/mug --out photos/mug-ready")(prepare)


def check(
    pictures: Pictures,
    base: Base = "emoji",
    side: Side = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the pictures as training would see them into this PNG.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what training would see of the pictures, which are unfit and why, and what is wrong with them as teachers."""
    from neologism import checking
    from neologism.families import native_side

    checked = checking.check(pictures, side or native_side(base), out)
    screen.show_checked(checked, out, console)
    if as_json:
        printed(checking.as_json(checked))


def prepare(
    pictures: Pictures,
    out: Annotated[Path, typer.Option("--out", "-o", help="The new folder; it must not be there yet.")],
    base: Base = "emoji",
    side: Side = None,
    around: Annotated[
        Literal["auto", "mask", "face", "saliency", "middle"],
        typer.Option(help="What to crop around; auto takes a mask, or what stands out from a plain ground."),
    ] = "auto",
    masks: Annotated[
        Literal["keep", "rembg", "none"],
        typer.Option(help="Keep masks that are there, make the others, or write none."),
    ] = "keep",
    captioner: Annotated[
        Path | None, typer.Option(help="Folder of a captioning model (BLIP, GIT) for pictures without a caption.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a new folder of the pictures: upright, in sRGB, cropped around the subject, with masks and captions."""
    from neologism import preparing
    from neologism.families import native_side

    say = None
    if captioner:
        from neologism.captioning import captioner as opened

        say = opened(captioner)
    found = preparing.prepare(pictures, out, side or native_side(base), around, masks, say)
    screen.show_prepared(found, console)
    if as_json:
        made = [
            {"path": one.path, "source": one.source, "side": one.side, "cropped": one.cropped} for one in found.made
        ]
        printed({"folder": found.folder, "made": made, "unfit": [vars(one) for one in found.unfit]})
