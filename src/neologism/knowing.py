"""Commands that tell what was learned: words typed by a user, turned into one call each and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(stderr=True)
Run = Annotated[Path, typer.Argument(help="The folder of a run.")]


def register(app: typer.Typer) -> None:
    """Give the app these commands."""
    app.command(epilog="Example: neologism report words/my-mug")(report)


def wrote(file: Path) -> None:
    """Say which file was written."""
    console.print(f"[green]wrote[/] {file}", highlight=False, soft_wrap=True)


def report(run: Run) -> None:
    """Write report.html anew: what was learned, on one page that stands by itself. Every run writes it at its end."""
    from neologism.report import report as told

    wrote(told(run))
