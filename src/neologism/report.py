"""A run folder -> report.html: one page that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from neologism import formats, run
from neologism.cookbook import read
from neologism.errors import EmbeddingError, PhotosError, RunError
from neologism.framing import framed, picture
from neologism.photos import gather
from neologism.recipe import FIELDS, Recipe

TEMPLATE = Path(__file__).parent / "pages" / "report.html"
SHOWN = 256  # pixels: what is larger is reduced
MOST_STEPS, MOST_PHOTOS, POINTS = 8, 6, 300
WIDE, HIGH = 520, 160


@dataclass(frozen=True)
class Told:
    """What the events of one word tell.

    Attributes:
        steps: its Step events, in order. pictures: its previews' files by prompt and step.
        opened, started, finished: those events, or {} where there is none. warnings: what the user should know.
    """

    steps: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    pictures: dict[str, dict[int, Path]] = field(default_factory=dict[str, dict[int, Path]])
    opened: dict[str, Any] = field(default_factory=dict[str, Any])
    started: dict[str, Any] = field(default_factory=dict[str, Any])
    finished: dict[str, Any] = field(default_factory=dict[str, Any])
    warnings: list[str] = field(default_factory=list[str])


def report(folder: Path) -> list[Path]:
    """Write report.html for every word of a run; the files. A run that is not finished has one, too.

    Raises:
        RunError: the folder holds no run.
    """
    events = [run.parsed(line) for line in lines(folder / "events.jsonl")]
    settings = read(folder / "recipe.toml") if (folder / "recipe.toml").exists() else {}
    words = [str(word) for word in settings.get("words", ())]
    if not events or not words:
        raise RunError(f"{folder} holds no run (recipe.toml and events.jsonl). Give the folder that train wrote into.")
    files: list[Path] = []
    for number, word in enumerate(words):
        place = run.word_folder(folder, word, alone=len(words) == 1)
        page = rendered(folder, place, word, settings["pictures"][number], settings, told(events, word, place))
        run.write_whole(place / "report.html", page.encode())
        files.append(place / "report.html")
    return files


def lines(file: Path) -> list[str]:
    """A file's lines, none where it is missing."""
    return file.read_text("utf-8").splitlines() if file.exists() else []


def told(events: Sequence[Mapping[str, Any]], word: str, place: Path) -> Told:
    """What the events tell of one word."""
    found = Told()
    for event in events:
        kind = event.get("event")
        if kind == "Opened":
            found.opened.update(event)
        elif kind == "Warned":
            found.warnings.append(str(event["text"]))
        elif event.get("word") == word:
            note(found, str(kind), event, place)
    return found


def note(found: Told, kind: str, event: Mapping[str, Any], place: Path) -> None:
    """Take up one event of the word."""
    if kind == "Step":
        found.steps.append(dict(event))
    elif kind == "Picture":
        file = place / "pictures" / Path(str(event["path"])).name  # the folder may have been moved since
        found.pictures.setdefault(str(event["prompt"]), {})[int(event["step"])] = file
    elif kind in ("Started", "Finished"):
        getattr(found, kind.lower()).update(event)


def rendered(folder: Path, place: Path, word: str, source: str, settings: dict[str, Any], seen: Told) -> str:
    """The page of one word."""
    from jinja2 import Environment

    last = seen.steps[-1] if seen.steps else {}
    facts = {
        "word": word, "base": seen.opened.get("base", ""), "family": seen.opened.get("family", ""),
        "where": seen.opened.get("reason", ""), "start": seen.started.get("start", ""), "step": last.get("step", 0),
        "reason": seen.finished.get("reason", "not finished yet"), "seconds": seen.finished.get("seconds"),
        "nearest": last.get("nearest", ()), "cosine": last.get("cosine"), "norm": last.get("norm"),
        "method": settings.get("method", "inversion"), "warnings": seen.warnings,
        "real": real(source), "strips": strips(seen.pictures), "curves": curves(seen.steps),
        "proof": proof(folder), "files": files(place), "scores": scores(place),
        "settings": {name: value for name, value in settings.items() if value != usual(name)},
    }  # fmt: skip
    return Environment(autoescape=True).from_string(TEMPLATE.read_text("utf-8")).render(facts)


def usual(name: str) -> Any:
    """A setting's default, as a recipe file has it."""
    value = Recipe.model_fields[FIELDS[name]].get_default() if name in FIELDS else None
    return list(value) if isinstance(value, tuple) else value


def real(source: str) -> list[str]:
    """The first of the user's pictures as training saw them; none where they are no longer there."""
    try:
        photos = gather(Path(source)).photos[:MOST_PHOTOS]
        return [
            embedded(picture(framed(photo, SHOWN if min(photo.size) > SHOWN else min(photo.size)).pixels))
            for photo in photos
        ]
    except PhotosError:
        return []


def strips(pictures: Mapping[str, Mapping[int, Path]]) -> list[dict[str, Any]]:
    """Each prompt's previews over the steps, at most so many, the first and the last among them."""
    found: list[dict[str, Any]] = []
    for prompt, by_step in pictures.items():
        steps = sorted(step for step, file in by_step.items() if file.exists())
        if len(steps) > MOST_STEPS:
            steps = sorted({steps[round(i * (len(steps) - 1) / (MOST_STEPS - 1))] for i in range(MOST_STEPS)})
        shots = [{"step": step, "image": embedded(opened(by_step[step]))} for step in steps]
        found += [{"prompt": prompt, "shots": shots}] if shots else []
    return found


def opened(file: Path) -> Image.Image:
    """A picture in memory."""
    with Image.open(file) as image:
        return image.convert("RGB")


def embedded(image: Image.Image) -> str:
    """A picture as a data URI: small ones without loss, large ones reduced."""
    content, small = io.BytesIO(), max(image.size) <= 128
    image.thumbnail((SHOWN, SHOWN))
    image.save(content, "PNG" if small else "JPEG", **({} if small else {"quality": 85}))
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(content.getvalue()).decode()}"


def curves(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """What changed over the steps, as SVG polylines with their ranges."""
    found: list[dict[str, str]] = []
    for name, title in (
        ("probe", "Loss on fixed probes"), ("loss", "Loss of each step, averaged"), ("norm", "Length of the vectors"),
        ("cosine", "Cosine to the start"),
    ):  # fmt: skip
        known = [(float(s["step"]), float(s[name])) for s in steps if isinstance(s.get(name), int | float)]
        shown = averaged(known) if name == "loss" else known
        if len(shown) > 1:
            low, high = min(y for _, y in shown), max(y for _, y in shown)
            found.append(
                {
                    "title": title,
                    "low": f"{low:.4g}",
                    "high": f"{high:.4g}",
                    "end": f"{shown[-1][1]:.4g}",
                    "points": line(shown, low, high),
                }
            )
    return found


def averaged(points: Sequence[tuple[float, float]], keep: float = 0.9) -> list[tuple[float, float]]:
    """A moving average, for single steps say little."""
    found, mean = list[tuple[float, float]](), points[0][1] if points else 0.0
    for x, y in points:
        mean = keep * mean + (1 - keep) * y
        found.append((x, mean))
    return found


def line(points: Sequence[tuple[float, float]], low: float, high: float) -> str:
    """Points of a polyline within the picture; of very many every n-th."""
    some = [*points[:: max(1, len(points) // POINTS)], points[-1]]
    wide, tall = max(points[-1][0] - points[0][0], 1e-9), max(high - low, 1e-9)
    return " ".join(f"{(x - points[0][0]) / wide * WIDE:.1f},{(1 - (y - low) / tall) * HIGH:.1f}" for x, y in some)


def proof(folder: Path) -> dict[str, Any]:
    """Whether every tensor of the base is what it was before, by the hashes the run wrote down."""
    file = folder / "base.json"
    if not file.exists():
        return {}
    kept = json.loads(file.read_text("utf-8"))
    return {"same": kept["before"] == kept["after"], "tensors": sum(len(part) for part in kept["after"].values())}


def files(place: Path) -> list[dict[str, Any]]:
    """The files that came of it, and how other tools use the word's."""
    found: list[dict[str, Any]] = []
    for file in sorted(place.glob("*.safetensors")):
        use: list[str] = []
        if file.name == "word.safetensors":
            try:
                use = formats.how_to_use(formats.load(file), file)
            except EmbeddingError as error:
                use = [html.escape(str(error))]
        found.append({"name": file.name, "bytes": f"{file.stat().st_size:,}", "use": use})
    return found


def scores(place: Path) -> list[dict[str, Any]]:
    """What `neologism score` found, where it ran."""
    file = place / "scores.json"
    return list(json.loads(file.read_text("utf-8"))["rows"]) if file.exists() else []
