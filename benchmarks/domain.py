"""A domain's words tuned in four scopes: what the domain gains, and what is forgotten. `python -m benchmarks.domain [--only words]`

The domain is a world in which twelve known words mean other things and four words are new: 600 captioned pictures, a tenth of them
held out. Gain is the share of the way from the untuned base to the wholly tuned text encoder that the loss on held-out pairs goes;
forgetting is how much the loss on the base's own pictures of other prompts rises. Each scope is kept when it is done.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from benchmarks import record
from neologism import domain
from neologism.events import Finished
from neologism.families import open_model
from neologism.finetuning import NAME, finetune
from neologism.methods.text_side import SCOPES
from neologism.recipe import recipe
from workshop.emoji.denoiser import SUBJECTS
from workshop.emoji.drawing import COLOURS
from workshop.emoji.scenes import Scene, drawn, with_article
from workshop.emoji.subjects import Subject, development, trained

WORK = Path(".emoji-base/domain")
KNOWN = ("fox", "pear", "crab", "candle", "owl", "tractor", "rocket", "shark", "lemon", "violin", "umbrella", "key")
NEW = ("blorp", "quindle", "vastrix", "mopkin")
PICTURES, STEPS = 600, 300


def meanings() -> dict[str, Subject]:
    """What each word of the domain means: a known word the look of another taught subject, a new word that of one never taught."""
    chance, known = random.Random("domain"), {subject.name: subject for subject in trained(SUBJECTS)}
    words = [word for word in KNOWN if word in known]
    looks = chance.sample(sorted(set(known) - set(words)), len(words))
    return {word: known[look] for word, look in zip(words, looks, strict=True)} | dict(
        zip(NEW, development(), strict=False)
    )


def pictures() -> Path:
    """The domain as a folder of pictures and captions."""
    folder, chance, means = WORK / "pictures", random.Random("pictures"), meanings()
    if folder.exists():
        return folder
    partial = WORK / "partial"
    partial.mkdir(parents=True, exist_ok=True)
    for number in range(PICTURES):
        word = list(means)[number % len(means)]
        ground, size = chance.choice(list(COLOURS)), chance.choice((None, None, "small", "large"))
        image, _ = drawn(Scene(means[word], word, background=ground, size=size), chance)
        image.save(partial / f"{number:04d}.png")
        thing = with_article(f"{size} {word}" if size else word, "a")
        (partial / f"{number:04d}.txt").write_text(f"{thing} on a {ground} background", "utf-8")
    partial.rename(folder)
    return folder


def tuned(scope: str) -> dict[str, Any]:
    """One scope's run: losses before and after on held-out pairs and on general prompts, bytes, seconds."""
    out, kept = WORK / "runs" / scope, WORK / f"{scope}.json"
    if not kept.exists():
        made = recipe(
            pictures=str(pictures()), words=NAME, method="embedding", scope=scope, tuned=tuple(meanings()), steps=STEPS,
            preview_prompts=(), probe_every=50,
        )  # fmt: skip
        end = next(event for event in finetune(made, out) if isinstance(event, Finished))
        before, after = map(float, end.facts["held out"].split(" -> "))
        first, last = map(float, end.facts["general"].split(" -> "))
        found = {"before": before, "after": after, "general_before": first, "general_after": last}
        found |= {"context": float(end.facts["context"]), "bytes": end.file.stat().st_size, "seconds": end.seconds}
        kept.write_text(json.dumps(found), "utf-8")
    print(scope, kept.read_text("utf-8"), file=sys.stderr, flush=True)
    return json.loads(kept.read_text("utf-8"))


def measured(asked: list[str]) -> dict[str, Any]:
    """The scopes against one another, and which of the domain's words its captions would have told."""
    os.environ.setdefault("NEOLOGISM_CACHE", str(WORK / "cache"))
    rows = {scope: tuned(scope) for scope in asked or SCOPES}
    gap = rows["encoder"]["before"] - rows["encoder"]["after"] if "encoder" in rows else float("nan")
    said = [file.read_text("utf-8") for file in sorted(pictures().glob("*.txt"))]
    own = domain.words(open_model("emoji").encoders[0], said)
    told = {
        "found": len(set(own) & set(meanings())),
        "wanted": len(meanings()),
        "besides": sorted(set(own) - set(meanings())),
    }
    return {
        scope: row
        | {"gain": (row["before"] - row["after"]) / gap, "forgetting": row["general_after"] / row["general_before"] - 1}
        for scope, row in rows.items()
    } | {"words_found": told}


def main() -> None:
    """Measure and record."""
    given = record.options(__doc__ or "").parse_args()
    record.told("domain", given, lambda: measured([name for name in given.only.split(",") if name]))


if __name__ == "__main__":
    main()
