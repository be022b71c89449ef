"""A finished run -> a model card in the hub's form, and a list of files to push there; never a training picture that is not named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from neologism import formats, run
from neologism.contact import contact_sheet
from neologism.errors import RecipeError, RunError
from neologism.families import hub
from neologism.history import History, Story, history
from neologism.report import environment, kept_json, settings

LICENSES = (
    "creativeml-openrail-m", "openrail", "openrail++", "bigscience-openrail-m", "apache-2.0", "mit", "cc0-1.0", "cc-by-4.0",
    "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "unlicense", "other",
)  # fmt: skip
"""Identifiers that the hub knows and that weights and words are usually under."""
RESULTS = (
    "word.safetensors",
    "lora.safetensors",
    "lora-kohya.safetensors",
    "difference.safetensors",
    "tuned.safetensors",
)
TAGS = {
    "inversion": ["textual_inversion"],
    "embedding": ["embedding-fine-tuning"],
    "dreambooth": ["dreambooth"],
    "lora": ["lora", "textual_inversion"],
}
CARD, SAMPLES = "README.md", "samples.png"
SHOWN = 8
"""Generated pictures on the sheet of samples."""


@dataclass(frozen=True)
class Card:
    """A card that was written: its file, the sheet of samples beside it if there is one, and what to mind."""

    file: Path
    samples: Path | None
    warnings: list[str]


@dataclass(frozen=True)
class Plan:
    """What would be pushed: the repository, whether it is private, and the files with their names there."""

    repository: str
    private: bool
    files: list[tuple[Path, str]]

    @property
    def bytes(self) -> int:
        """How much that is."""
        return sum(file.stat().st_size for file, _ in self.files)


def card(folder: Path, license: str | None, license_name: str = "", license_link: str = "") -> Card:
    """Write README.md, and samples.png of what the word drew, into the folder of a finished run of one word.

    Raises:
        RecipeError: no license is given, or none that the hub knows; it is never guessed.
        RunError: the folder holds no finished run, or one of several words.
    """
    told = history(folder)
    story = only(told)
    if license not in LICENSES:
        raise RecipeError(
            f"license: found {license or 'none'}; {', '.join(LICENSES)} are allowed. Give --license: it is yours to choose, and "
            "must go with that of the base and of your pictures."
        )
    if license == "other" and not license_name:
        raise RecipeError(
            "license: found other without a name. Give --license-name, and --license-link where its text is."
        )
    samples = sheet(story)
    if samples:
        run.keep_image(samples, folder / SAMPLES)
    terms = {"license": license, "license_name": license_name or None, "license_link": license_link or None}
    text = rendered(told, story, terms, samples is not None)
    run.write_whole(folder / CARD, text.encode())
    warnings = (
        []
        if of_hub(told)
        else [f"{told.recipe.get('base', 'emoji')} is no model of the hub, so the card names no base_model."]
    )
    return Card(folder / CARD, folder / SAMPLES if samples else None, warnings)


def only(told: History) -> Story:
    """The one finished word of a run.

    Raises:
        RunError: there are several, or it is not finished.
    """
    if len(told.stories) != 1:
        raise RunError(
            f"{told.folder} holds {len(told.stories)} words; a card is about one. Give the folder of a run of one word."
        )
    if told.stories[0].finished is None:
        raise RunError(f"{told.folder} holds a run that is not finished. Type its train command again, then share it.")
    return told.stories[0]


def of_hub(told: History) -> str | None:
    """The base's id on the hub, without its commit, or None."""
    base = str(told.opened.get("base") or told.recipe.get("base", ""))
    found = hub.ID.fullmatch(base) if hub.is_id(base) and not Path(base).exists() else None
    return found["name"] if found else None


def sheet(story: Story) -> Image.Image | None:
    """The last pictures that the word drew: none of the user's own."""
    shown = story.newest[:SHOWN]
    images = [run.image_at(one.path) for one in shown]
    prompts = ", ".join(one.prompt for one in shown)
    return contact_sheet([(prompts, images)]) if images else None


def rendered(told: History, story: Story, terms: dict[str, Any], samples: bool) -> str:
    """The card's text: metadata as the hub wants it, then what a reader wants to know."""
    from huggingface_hub import ModelCardData

    method = str(told.recipe.get("method", "inversion"))
    base = of_hub(told)
    tags = ["diffusers", "text-to-image", *TAGS[method], "neologism"]
    data = ModelCardData(
        base_model=base, library_name="diffusers", pipeline_tag="text-to-image", tags=tags, instance_prompt=f"a {story.word}",
        **{name: value for name, value in terms.items() if value},
    )  # fmt: skip
    facts: dict[str, Any] = {
        "data": data.to_yaml(), "word": story.word, "method": method, "base": base or told.opened.get("base", "emoji"),
        "start": story.start, "pictures": story.pictures, "finished": story.finished, "samples": SAMPLES if samples else "",
        "files": [file.name for file in results(told.folder)], "uses": uses(told.folder),
        "scores": (kept_json(told.folder / "score.json") or {}).get("metrics", []), "changed": changed(told),
        "unchanged": method == "inversion",
    }  # fmt: skip
    return plain_templates().get_template("card.md").render(**facts)


def plain_templates() -> Any:
    """The templates for text that is no HTML; what users write stands there as code, where Markdown leaves it alone."""
    found = environment()
    found.autoescape = False
    found.filters["code"] = as_code
    return found


def as_code(text: object) -> str:
    """Text as Markdown's code: between more backticks than it has itself."""
    plain = " ".join(str(text).split())
    fence = "`" * (max((len(part) for part in re.findall("`+", plain)), default=0) + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def results(folder: Path) -> list[Path]:
    """What the run made for use elsewhere."""
    return [folder / name for name in RESULTS if (folder / name).is_file()]


def uses(folder: Path) -> list[str]:
    """How each tool takes the word's file."""
    file = folder / "word.safetensors"
    if not file.is_file():
        return []
    told = formats.how_to_use(formats.load(file), Path(file.name))
    return [f"{tool}: {as_code(how)}" for tool, _, how in (line.partition(": ") for line in told)]


def changed(told: History) -> dict[str, Any]:
    """The settings that differ from the defaults, but for those that tell of the user's own machine."""
    private = ("pictures", "words", "from", "device", "memory", "base")
    return {row["name"]: row["value"] for row in settings(told.recipe) if row["changed"] and row["name"] not in private}


# pushing


def planned(folder: Path, repository: str, also: Sequence[Path] = (), public: bool = False) -> Plan:
    """What a push would send: the card, its samples, the results, and files that are named; nothing is sent.

    Raises:
        RunError: there is no card, nothing to push, or a named file is not there. RecipeError: the name is none of the hub's.
    """
    if not hub.ID.fullmatch(repository) or "@" in repository:
        raise RecipeError(
            f"to: found {repository!r}; OWNER/NAME of the hub is allowed, such as me/my-mug. Give --to so."
        )
    if not (folder / CARD).is_file():
        raise RunError(f"{folder} has no card. Type neologism card {folder} --license LICENSE first.")
    missing = [file for file in also if not file.is_file()]
    if missing:
        raise RunError(f"There is no file {missing[0]}. Name files that are there by --also, or leave it out.")
    own = [folder / CARD, *([folder / SAMPLES] if (folder / SAMPLES).is_file() else []), *results(folder)]
    if len(own) < 2 or not results(folder):
        raise RunError(f"{folder} holds no word and no weights to push. Give the folder of a finished run.")
    named = [file for file in also if file not in own]
    files = [(file, file.name) for file in [*own, *named]]
    twice = sorted({name for _, name in files if [n for _, n in files].count(name) > 1})
    if twice:
        raise RunError(f"Two files are called {twice[0]}. Name one of them otherwise.")
    return Plan(repository, not public, files)


def push(plan: Plan, endpoint: str | None = None) -> str:
    """Send a plan's files in one commit, and answer where they are. The token is that of the hub library's own login.

    Raises:
        RunError: nobody is logged in, the repository is public where it should not be, or the hub refuses or is out of reach.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if not get_token():
        raise RunError("Nobody is logged in at the hub on this machine. Type hf auth login, then push again.")
    api = HfApi(endpoint=endpoint)
    try:
        api.create_repo(plan.repository, private=plan.private, exist_ok=True)
        if plan.private and not api.repo_info(plan.repository).private:
            raise RunError(
                f"{plan.repository} is there already and is public. Give --public to push to it so, or --to another name."
            )
        adds = [CommitOperationAdd(name, str(file)) for file, name in plan.files]
        word = plan.files[-1][1]
        done = api.create_commit(plan.repository, adds, commit_message=f"{len(adds)} files, {word} among them")
    except OfflineModeIsEnabled:
        raise RunError(
            "The hub library is set to work offline (HF_HUB_OFFLINE). Unset that, then push again."
        ) from None
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:  # RuntimeError: one file could not be sent
        first = " ".join(str(one).strip().partition("\n")[0] for one in (error, error.__cause__) if one)
        raise RunError(
            f"The hub did not take it: {first} Nothing of the commit is there; mend that, then push again."
        ) from None
    return str(done.commit_url)
