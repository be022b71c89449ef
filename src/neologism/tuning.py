"""The command `finetune`: captioned pictures typed by a user, turned into one run and shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from neologism import screen
from neologism.errors import RecipeError
from neologism.recipe import recipe

EXAMPLE = "Example: neologism finetune scans --scope words --steps 500 --out tuned/scans"


def finetune(settings: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Tune what goes into the text encoder to a domain's captioned pictures; the denoiser stays as it is.
    PICTURES is a folder (NAME.txt beside each picture, or metadata.jsonl), .tar or .parquet shards, or a dataset's id."""
    from neologism.finetuning import NAME
    from neologism.finetuning import finetune as tune

    given = settings.pop("pictures", ())
    if len(given) != 1:
        raise RecipeError(f"Found {len(given)} sources of captioned pictures; give one after `neologism finetune`.")
    made = recipe(**{"preview_prompts": ()} | settings, pictures=tuple(given), words=(NAME,), method="embedding")
    console = Console(stderr=True)
    (finished,) = screen.follow(tune(made, out or Path("tuned") / Path(given[0]).name), console)
    told = finished.facts
    console.print(
        f"loss on held-out pairs {told['held out']}, on general prompts {told['general']}; "
        f"their contexts moved by {told['context']}\n"
        f"draw with it: neologism generate PROMPT --words {finished.file}\n"
        f"a folder for other tools: neologism merge {finished.file} --out FOLDER",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if as_json:
        facts = {"file": str(finished.file), "steps": finished.step, "seconds": finished.seconds} | dict(told)
        sys.stdout.write(json.dumps(facts) + "\n")
