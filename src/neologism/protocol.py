"""The usual comparison (DreamBench: Ruiz et al. 2023, section 4.2) over a folder of subjects: every prompt, four seeds, resumable.

Each subject is a subfolder of pictures. A quarter of four or more pictures is held out; the word learns from the others, is drawn
for every prompt and seed, and so is its class word. What is drawn and what is measured is kept at once.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import statistics
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from neologism import learned, run
from neologism.batches import counted
from neologism.errors import RunError
from neologism.events import Event, Finished
from neologism.families import Model
from neologism.generation import generate
from neologism.metrics import Network, Shown
from neologism.recipe import Recipe, recipe
from neologism.scoring import RESAMPLED, among
from neologism.sources import is_picture
from neologism.training import train

PROMPTS = Path(__file__).parent / "prompts"
COLUMNS = ("subject", "class", "kind", "network", "metric", "word", "class_word", "real")


@dataclass(frozen=True)
class Asked:
    """What is drawn: prompts by kind ("object", "live"), {} for the word; and the class and kind of subjects, where it is told."""

    prompts: Mapping[str, Sequence[str]]
    classes: Mapping[str, str] = field(default_factory=dict[str, str])
    kinds: Mapping[str, str] = field(default_factory=dict[str, str])

    def of(self, subject: str) -> tuple[str, str, Sequence[str]]:
        """A subject's class word, kind and prompts; a class that nobody tells is what its folder is called."""
        name = self.classes.get(subject, subject.replace("_", " ").replace("-", " "))
        kind = self.kinds.get(subject) or ("live" if name in ("cat", "dog") and "live" in self.prompts else "object")
        return name, kind, self.prompts.get(kind) or next(iter(self.prompts.values()))


@dataclass(frozen=True)
class Row:
    """One figure of one subject: the word's, its class word's in its place, and the real pictures', where there is such."""

    subject: str
    named: str
    kind: str
    network: str
    metric: str
    word: float
    class_word: float
    real: float | None


def asked(file: Path | None, base: str) -> Asked:
    """The prompts in a file: TOML (object = [...], live = [...], [classes], [kinds]), or the published DreamBench text file.

    Without a file, those that ship: for the emoji base only what it knows.

    Raises:
        RunError: the file holds no prompts with a place for the word.
    """
    source = file or PROMPTS / ("emoji.toml" if base == "emoji" else "usual.toml")
    try:
        text = source.read_text("utf-8")
        found = of_toml(text) if source.suffix == ".toml" else of_dreambench(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError, AttributeError) as error:
        raise RunError(
            f"The prompts in {source} cannot be read: {error}. Give a TOML file such as {PROMPTS / 'usual.toml'}."
        ) from None
    bad = [prompt for some in found.prompts.values() for prompt in some if "{}" not in prompt]
    if bad:
        raise RunError(f"{source}: found {bad[0]!r}, which has no place for the word. Write {{}} where it goes.")
    if not any(found.prompts.values()):
        raise RunError(f"{source} holds no prompts. Write them under object = [...], {{}} for the word.")
    return found


def of_toml(text: str) -> Asked:
    """Our own form."""
    told = tomllib.loads(text)
    lists = {kind: list(map(str, some)) for kind, some in told.items() if isinstance(some, list)}
    return Asked(lists, dict(told.get("classes", {})), dict(told.get("kinds", {})))


def of_dreambench(text: str) -> Asked:
    """The published form: lines "subject,class", then Python lists of 'a {0} {1} ...'.format(...) for objects and for the living."""
    classes = dict(re.findall(r"^(\w+),\s*([\w ]+?)\s*$", text, re.MULTILINE))
    classes.pop("subject_name", None)
    prompts: dict[str, list[str]] = {}
    kind = "object"
    for line in text.splitlines():
        if re.match(r"\s*(live|object)\b.*prompts", line, re.IGNORECASE):
            kind = line.split()[0].lower()
        literal = re.match(r"\s*('[^']*'|\"[^\"]*\")\s*\.format", line)
        if literal:
            prompt = str(ast.literal_eval(literal[1])).replace("{0} {1}", "{}").replace("{0}", "{}").replace("{1}", "")
            prompts.setdefault(kind, []).append(" ".join(prompt.split()))
    return Asked(prompts, classes)


def subjects(folder: Path) -> list[Path]:
    """The subfolders that hold pictures.

    Raises:
        RunError: there is none.
    """
    found = [
        place
        for place in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if place.is_dir() and any(is_picture(file.name) for file in place.iterdir())
    ]
    if not found:
        raise RunError(
            f"{folder} has no subfolder with pictures. Give a folder with a folder of pictures for each subject."
        )
    return found


def benchmarked(
    model: Model, folder: Path, told: Asked, networks: Sequence[Network], settings: Mapping[str, Any], seeds: Sequence[int],
    steps: int, out: Path,
) -> Iterator[Event | list[Row]]:  # fmt: skip
    """Every event of every subject's run, and its rows once it is measured; a subject that was measured before gives its rows."""
    for place in subjects(folder):
        name, kind, prompts = told.of(place.name)
        file = out / place.name / "rows.json"
        wanted = fingerprint(settings, prompts, seeds, steps, networks)
        kept: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        if kept.get("of") != wanted:
            own = dict(settings) | {
                "pictures": str(place),
                "words": f"<{run.slug(place.name)}>",
                "like": name,
                "hold_out": "auto",
            }
            yield from finished_run(recipe(**{"preview_prompts": ()} | own), out / place.name / "run")
            rows = measured(model, out / place.name, (place.name, name, kind), prompts, networks, seeds, steps)
            kept = {"of": wanted, "rows": [vars(row) for row in rows]}
            run.write_whole(file, json.dumps(kept).encode())
        yield [Row(**row) for row in kept["rows"]]


def fingerprint(
    settings: Mapping[str, Any], prompts: Sequence[str], seeds: Sequence[int], steps: int, networks: Sequence[Network]
) -> str:
    """What decides a subject's rows, in a line."""
    facts = [sorted(settings.items()), list(prompts), list(seeds), steps, [network.revision for network in networks]]
    return f"{counted(json.dumps(facts, default=str)):x}"


def finished_run(chosen: Recipe, place: Path) -> Iterator[Event]:
    """A run's events, or none where it is finished."""
    if not (place / "base.json").is_file():
        for event in train(chosen, place):
            if not isinstance(event, Finished):
                yield event


def measured(
    model: Model, out: Path, about: tuple[str, str, str], prompts: Sequence[str], networks: Sequence[Network],
    seeds: Sequence[int], steps: int,
) -> list[Row]:  # fmt: skip
    """One subject's rows."""
    subject, named, kind = about
    found = learned.sources(out / "run", None)[0].subject
    images = {
        which: pictures(model, out / "pictures" / which, [p.replace("{}", name) for p in prompts], whose, seeds, steps)
        for which, name, whose in (("word", found.word, found), ("class", named, None))
    }
    meant = [prompt.replace("{}", named) for prompt in prompts for _ in seeds]
    rows: list[Row] = []
    for network in networks:
        seen = {which: network.pictures([Shown(image) for image in some]) for which, some in images.items()}
        real = network.pictures(found.photos)
        alike = (network.pictures(found.given) @ real.T).mean() if found.unseen and found.given else among(real)
        like = {which: float((some @ real.T).mean()) for which, some in seen.items()}
        apart = {
            which: statistics.mean(
                1 - float(value) for part in some.split(len(seeds)) if (value := among(part)) is not None
            )
            for which, some in seen.items()
            if len(seeds) > 1
        }
        facts = (subject, named, kind, network.called)
        rows.append(
            Row(*facts, "subject fidelity", like["word"], like["class"], None if alike is None else float(alike))
        )
        if apart:
            rows.append(Row(*facts, "diversity", apart["word"], apart["class"], None))
        if network.reads:
            texts = network.texts(meant)
            told = {which: float((some * texts).sum(1).mean()) for which, some in seen.items()}
            rows.append(Row(*facts, "prompt fidelity", told["word"], told["class"], None))
    return rows


def pictures(
    model: Model, folder: Path, prompts: Sequence[str], subject: Any, seeds: Sequence[int], steps: int
) -> list[Image.Image]:
    """The pictures of the prompts, prompt by prompt; those on disk are taken from there."""
    words, weights = (subject.embeddings, subject.weights) if subject else ((), None)
    found: list[Image.Image] = []
    for number, prompt in enumerate(prompts):
        files = [folder / f"{number:03d}-{run.slug(prompt)[:40]}-{seed}-{steps}.png" for seed in seeds]
        if not all(file.is_file() for file in files):
            for image, file in zip(generate(model, prompt, words, seeds, steps, weights=weights), files, strict=True):
                run.keep_image(image, file)
        found += [run.image_at(file) for file in files]
    return found


@dataclass(frozen=True)
class Total:
    """A metric over all subjects: means, and where 95 % of the resamples of subjects put word minus class word."""

    network: str
    metric: str
    subjects: int
    word: float
    class_word: float
    real: float | None
    low: float
    high: float


def totals(rows: Sequence[Row]) -> list[Total]:
    """The means over subjects, with paired bootstrap: a subject is drawn with both of its figures."""
    found: list[Total] = []
    for network, metric in dict.fromkeys((row.network, row.metric) for row in rows):
        some = [row for row in rows if (row.network, row.metric) == (network, metric)]
        apart = torch.tensor([row.word - row.class_word for row in some])
        picked = torch.randint(
            len(some), (RESAMPLED, len(some)), generator=torch.Generator().manual_seed(counted("paired"))
        )
        low, high = apart[picked].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
        real = [row.real for row in some if row.real is not None]
        means = (statistics.mean(row.word for row in some), statistics.mean(row.class_word for row in some))
        found.append(Total(network, metric, len(some), *means, statistics.mean(real) if real else None, low, high))
    return found


def written(rows: Sequence[Row], out: Path) -> tuple[Path, Path]:
    """benchmark.csv with a row for each subject and metric, and index.html with the means and pictures."""
    from neologism.report import environment
    from neologism.thumbnails import address

    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    writer.writerows([*vars(row).values()] for row in rows)
    run.write_whole(out / "benchmark.csv", table.getvalue().encode())
    shown = {
        name: [address(run.image_at(file), 96) for file in sorted((out / name / "pictures" / "word").glob("*.png"))[:8]]
        for name in dict.fromkeys(row.subject for row in rows)
    }
    page = environment().get_template("benchmark.html").render(totals=totals(rows), rows=rows, shown=shown)
    run.write_whole(out / "index.html", page.encode())
    return out / "benchmark.csv", out / "index.html"
