"""The command `compare`: words typed by a user, turned into one comparison and shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from neologism import screen

if TYPE_CHECKING:
    from neologism.events import Event
    from neologism.outcomes import Figures

EXAMPLE = "Example: neologism compare photos/dog --word '<my-dog>' --like dog --methods inversion,lora"


def compare(
    pictures: Annotated[Path, typer.Argument(help="Folder of pictures; a quarter is held out to compare with.")],
    word: Annotated[str, typer.Option(help="The new word, such as <my-dog>.")],
    like: Annotated[str, typer.Option(help="The word of the pictures' class, such as dog.")],
    methods: Annotated[
        str | None, typer.Option(help="Which, separated by commas; all four where nothing else is compared.")
    ] = None,
    of: Annotated[
        list[Path] | None,
        typer.Option(
            "--of", help="Also a recipe (.toml), a finished run, or a file of a word or weights; may be repeated."
        ),
    ] = None,
    budget: Annotated[str, typer.Option(help="What each gets: 500steps, or 120s.")] = "150steps",
    dreambooth_rate: Annotated[float | None, typer.Option(min=0, help="DreamBooth's top learning rate.")] = None,
    lora_rate: Annotated[float | None, typer.Option(min=0, help="The LoRA's top learning rate.")] = None,
    base: Annotated[str, typer.Option(help="The base model.")] = "emoji",
    judge: Annotated[Path | None, typer.Option(help="Folder of the CLIP model that judges; a small one ships.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The runs and index.html go here.")] = Path("comparison"),
    as_json: Annotated[bool, typer.Option("--json", help="Print facts as one JSON object on the last line.")] = False,
) -> None:
    """Compare the methods on the same pictures, held-out pictures, prompts and seeds. Type the same again to go on."""
    from neologism import comparing, versus
    from neologism.outcomes import Figures
    from neologism.scores import EMOJI_JUDGE, open_judge

    asked = (methods or ("" if of else ",".join(comparing.METHODS))).split(",")
    names = [name.strip() for name in asked if name.strip()]
    comparing.check_methods(names, like, bool(of))
    steps, seconds = comparing.budgeted(budget)
    given, unseen = comparing.split(pictures, out)
    rates = {name: rate for name, rate in (("dreambooth", dreambooth_rate), ("lora", lora_rate)) if rate}
    task = comparing.Task(given, unseen, word, like, {"base": base} | steps, rates, seconds)
    console, found = Console(stderr=True), dict[str, Figures]()

    def told() -> Iterator[Event]:
        for event in comparing.compare(task, names, open_judge(judge or EMOJI_JUDGE), out, of or []):
            if isinstance(event, tuple):
                found[event[0]] = event[1]
            else:
                yield event

    screen.follow(told(), console)
    shown(found, console)
    file = versus.page(found, out, unseen, word)
    console.print(f"{versus.recommended(found)}\n[green]wrote[/] {file}", highlight=False, soft_wrap=True)
    if as_json:
        facts: dict[str, Any] = {name: one.as_dict() for name, one in found.items()}
        sys.stdout.write(json.dumps(facts | {"page": str(file)}) + "\n")


def shown(found: dict[str, Figures], console: Console) -> None:
    """The figures as a table."""
    from neologism.versus import sized

    names = ("method", "like it", "loss", "prompts", "diverse", "forgets", "drifts", "file", "time")
    table = Table(*names, box=None, padding=(0, 1, 0, 0))
    for name, one in found.items():
        numbers = (one.fidelity, one.loss, one.prompt, one.diversity, one.forgetting, one.class_drift)
        table.add_row(name, *(f"{number:.3f}" for number in numbers), sized(one.bytes), f"{one.seconds:.0f} s")
    console.print(table)
