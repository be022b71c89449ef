"""The commands card and push: words typed by a user, turned into one call each and shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from neologism.options import Json
from neologism.screen import plain, printed

console = Console(stderr=True)
Run = Annotated[Path, typer.Argument(help="The folder of a finished run.")]


def register(app: typer.Typer) -> None:
    """Give the app these commands."""
    app.command(epilog="Example: neologism card words/my-mug --license cc-by-4.0")(card)
    app.command(epilog="Example: neologism push words/my-mug --to me/my-mug")(push)


def card(
    run: Run,
    license: Annotated[
        str | None, typer.Option("--license", help="Under which terms you share it, such as cc-by-4.0; never guessed.")
    ] = None,
    license_name: Annotated[str, typer.Option(help="Its name, where the license is other.")] = "",
    license_link: Annotated[str, typer.Option(help="Where its text is.")] = "",
    as_json: Json = False,
) -> None:
    """Write a model card in the hub's form (README.md) into a run's folder, with samples of what the word draws."""
    from neologism import sharing

    if license is None and sys.stdin.isatty():
        console.print(f"Licenses: {', '.join(sharing.LICENSES)}", highlight=False)
        license = typer.prompt("license", err=True)
    made = sharing.card(run, license, license_name, license_link)
    for text in made.warnings:
        console.print(f"[yellow]note:[/] {plain(text)}", highlight=False, soft_wrap=True)
    console.print(f"[green]wrote[/] {made.file}", highlight=False, soft_wrap=True)
    if as_json:
        printed({"card": made.file, "samples": made.samples})


def push(
    run: Run,
    to: Annotated[str, typer.Option(help="The repository on the hub: OWNER/NAME.")],
    also: Annotated[
        list[Path] | None, typer.Option(help="Another file to push, such as RUN/report.html; may be repeated.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Make the repository public; private where not given.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Push; without it the list is shown, and you are asked.")] = False,
    as_json: Json = False,
) -> None:
    """Push a run's results to the hub: exactly the files it lists, private where not said otherwise, your pictures only by name."""
    from neologism import sharing

    plan = sharing.planned(run, to, also or [], public)
    shown(plan)
    if not yes and not (sys.stdin.isatty() and typer.confirm("Push these?", err=True)):
        console.print("Nothing was pushed. Add --yes to push these files.")
        facts: dict[str, Any] = {"pushed": False}
    else:
        url = sharing.push(plan)
        console.print(f"[green]pushed[/] {plain(url)}", highlight=False, soft_wrap=True)
        facts = {"pushed": True, "url": url}
    if as_json:
        printed(facts | {"to": to, "private": plan.private, "files": [name for _, name in plan.files]})


def shown(plan: Any) -> None:
    """The list of what would be sent."""
    table = Table("file", "bytes", box=None)
    for file, name in plan.files:
        table.add_row(plain(name), f"{file.stat().st_size:,}")
    console.print(table)
    kind = "private" if plan.private else "public"
    console.print(
        f"{len(plan.files)} files, {plan.bytes:,} bytes, to {plain(plan.repository)} ({kind})", highlight=False
    )
