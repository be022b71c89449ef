"""The commands `report` and `score`: what was learned, as a page and as figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

REPORT = "Example: neologism report words/my-mug"
SCORE = "Example: neologism score words/my-mug --photos photos/mug-unseen --like mug"
Json = Annotated[bool, typer.Option("--json", help="Print facts as one JSON object on the last line.")]


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run, finished or not.")], as_json: Json = False
) -> None:
    """Write report.html of a run anew: pictures over the steps, curves, proof, files and how to use them, on one page."""
    from neologism.report import report as write

    files = write(run)
    for file in files:
        Console(stderr=True).print(f"[green]wrote[/] {file}", highlight=False, soft_wrap=True)
    if as_json:
        sys.stdout.write(json.dumps({"files": [str(file) for file in files]}) + "\n")


def score(
    word: Annotated[Path, typer.Argument(help="The folder of a finished run, or a word's file.")],
    photos: Annotated[Path, typer.Option(help="Pictures to compare with; best such that were not learned from.")],
    like: Annotated[
        str | None, typer.Option(help="What the word is one of, for prompts; what it began as where not given.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base model; the one named in the word's file where not given.")
    ] = None,
    judge: Annotated[
        Path | None, typer.Option(help="Folder of the CLIP model that judges; a small one of emoji ships.")
    ] = None,
    features: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a DINO, DINOv2 or CLIP model to measure subject fidelity by as well."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how true a word is to pictures and to prompts, between its anchors: start word, nearest word, real pictures."""
    from neologism.scoring import scored

    found = scored(word, photos, like, base, judge, features or [])
    table = Table("", "value", "95 % interval", box=None)
    for row in found.rows:
        between = f"{row.low:.3f} to {row.high:.3f}" if row.low is not None else ""
        table.add_row(row.name, f"{row.value:.3f}", between)
    console = Console(stderr=True)
    console.print(table)
    console.print(found.told, highlight=False, soft_wrap=True)
    if as_json:
        sys.stdout.write(json.dumps({row.key: row.value for row in found.rows} | {"told": found.told}) + "\n")
