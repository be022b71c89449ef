"""A learned word against photos: how like them, how true to prompts, how various; always beside anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neologism.batches import counted
from neologism.embedding import Embedding
from neologism.families import Model
from neologism.generation import generate
from neologism.metrics import Network, Shown
from neologism.verifying import PROMPTS as GENERAL
from neologism.vocabulary import nearest

SCENES = ("a {} on a blue background", "a small {} on a green background", "a red {}", "a {}, black and white")
ITSELF = "a {}"
SEEDS = 4
"""Pictures of every prompt."""
STEPS = 10
"""Sampling steps of a picture that is scored."""
RESAMPLED = 2000
MOST_WORDS = 2000
"""Vocabularies up to this size are tried as a whole for the nearest word."""


@dataclass(frozen=True)
class Subject:
    """A learned word as it is scored.

    Attributes:
        word: as written in prompts. embeddings: its vectors; none where weights alone learned.
        weights: a file of learned weights, or None. start: the known word it began from, "" where it was none.
        given: the photos it learned from; unseen: photos it did not learn from. Either may be empty, not both.
    """

    word: str
    embeddings: Sequence[Embedding]
    weights: Path | None
    start: str
    given: Sequence[Shown]
    unseen: Sequence[Shown]

    @property
    def photos(self) -> Sequence[Shown]:
        """What the word is compared with: photos it never saw, where there are such."""
        return self.unseen or self.given


@dataclass(frozen=True)
class Metric:
    """One figure of a word with its anchors.

    `own` is the word's, from `low` to `high` in 95 % of the resamples of its pictures, where it is a mean over them.
    `anchors` are the same figure of other things, by what they are. `network` is who compared.
    """

    name: str
    about: str
    own: float
    anchors: dict[str, float]
    network: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Scored:
    """A word's metrics, the anchors' words, and what the numbers mean in plain language."""

    word: str
    start: str
    near: str
    metrics: list[Metric]
    remarks: list[str] = field(default_factory=list[str])

    def as_dict(self) -> dict[str, Any]:
        """The score as score.json holds it, with bars to draw."""
        told = asdict(self)
        for metric in told["metrics"]:
            pairs = [("this word", metric["own"]), *metric["anchors"].items()]
            top = max(1e-9, *(value for _, value in pairs))
            metric["bars"] = [
                {"name": name, "value": value, "share": max(0.0, value / top), "own": not place}
                for place, (name, value) in enumerate(pairs)
            ]
        return told


@dataclass(frozen=True)
class Drawing:
    """What was drawn to score a subject: the word itself, in scenes, and the anchors' words likewise."""

    own: dict[str, list[Shown]]
    scenes: dict[str, list[Shown]]
    asked: dict[str, list[str]]
    prompts: int


def score(
    model: Model,
    subject: Subject,
    networks: Sequence[Network],
    seeds: Sequence[int] = (0, 1, 2, 3),
    prompts: Sequence[str] = SCENES,
    steps: int = STEPS,
) -> Scored:
    """Score a word: subject fidelity, prompt fidelity, diversity, forgetting, and the gap between seen and unseen photos.

    Every network compares pictures; those that read compare them with prompts as well, the word replaced by what it began from.
    """
    near = nearest_word(model, subject, networks)
    drawing = drawn(model, subject, near, seeds, prompts, steps)
    metrics = [metric for network in networks for metric in of_network(network, subject, drawing, near)]
    metrics.append(forgetting(model, subject, networks[0], steps))
    return Scored(subject.word, subject.start, near, metrics, remarks(metrics, subject))


def drawn(
    model: Model, subject: Subject, near: str, seeds: Sequence[int], prompts: Sequence[str], steps: int
) -> Drawing:
    """The pictures of the word and of the anchors' words."""
    own: dict[str, list[Shown]] = {}
    scenes: dict[str, list[Shown]] = {}
    asked: dict[str, list[str]] = {}
    for name in dict.fromkeys((subject.word, subject.start, near)):
        if not name:
            continue
        learned = name == subject.word
        words, weights = (subject.embeddings, subject.weights) if learned else ((), None)
        told = [ITSELF, *prompts] if name != near or near == subject.start else [ITSELF]
        images = generate(model, [t.replace("{}", name) for t in told], words, seeds, steps, weights=weights)
        own[name] = [Shown(image) for image in images[: len(seeds)]]
        scenes[name] = [Shown(image) for image in images[len(seeds) :]]
        meant = subject.start or near if learned else name
        asked[name] = [prompt.replace("{}", meant) for prompt in prompts for _ in seeds] if scenes[name] else []
    return Drawing(own, scenes, asked, len(prompts))


def of_network(network: Network, subject: Subject, drawing: Drawing, near: str) -> list[Metric]:
    """What one network says."""
    rows = {name: network.pictures(images) for name, images in drawing.own.items()}
    given, unseen = ((network.pictures(some) if some else None) for some in (subject.given, subject.unseen))
    compared = unseen if unseen is not None else given
    assert compared is not None  # a Subject has photos
    others = {f"start word {subject.start!r}": subject.start, f"nearest word {near!r}": near}
    each = (rows[subject.word] @ compared.T).mean(1)
    anchors = {told: float((rows[name] @ compared.T).mean()) for told, name in others.items() if name in rows}
    real = (given @ compared.T).mean() if given is not None and unseen is not None else among(compared)
    anchors |= {} if real is None else {"real against real": float(real)}
    photos_told = "photos it never saw" if subject.unseen else "its own training photos"
    found = [
        Metric(
            f"Subject fidelity, {network.called}",
            f"Mean cosine of what it draws to {photos_told}." + gained(each, rows.get(subject.start), compared),
            float(each.mean()),
            anchors,
            network.told,
            *interval(each),
        ),
        diversity(network, subject, rows, compared),
    ]
    if given is not None and unseen is not None:
        found.append(gap(network, rows[subject.word], given, unseen))
    return [*found, prompt_fidelity(network, subject, drawing)] if network.reads and drawing.prompts else found


def diversity(network: Network, subject: Subject, rows: dict[str, Tensor], compared: Tensor) -> Metric:
    """How far pictures of one prompt lie apart (1 - cosine)."""
    anchors: dict[str, float] = {}
    for told, some in (("start word", rows.get(subject.start)), ("real photos", compared)):
        alike = None if some is None else among(some)
        anchors |= {} if alike is None else {told: 1 - float(alike)}
    own = among(rows[subject.word])
    value = 0.0 if own is None else 1 - float(own)
    return Metric(
        f"Diversity, {network.called}", "Mean distance between pictures of one prompt.", value, anchors, network.told
    )


def gained(each: Tensor, begun: Tensor | None, photos: Tensor) -> str:
    """How much each picture gains on that of the start word from the same seed, which tells more than two means."""
    if begun is None or len(each) < 2:
        return ""
    gains = each - (begun @ photos.T).mean(1)
    low, high = interval(gains)
    return f" Paired by seed it is {float(gains.mean()):+.3f} from its start word ({low:+.3f} to {high:+.3f})."


def gap(network: Network, own: Tensor, given: Tensor, unseen: Tensor) -> Metric:
    """How much more like the photos it learned from than like the others (positive: by heart)."""
    value = float((own @ given.T).mean() - (own @ unseen.T).mean())
    alike = among(given)
    anchors = {} if alike is None else {"real photos": float(alike) - float((given @ unseen.T).mean())}
    about = "Likeness to the photos it learned from, less that to unseen ones. Well above the real photos' own: learned by heart."
    return Metric(f"Memorisation gap, {network.called}", about, value, anchors, network.told)


def prompt_fidelity(network: Network, subject: Subject, drawing: Drawing) -> Metric:
    """How like its prompts the word's pictures in scenes are, the class word in the word's place."""
    each = {
        name: (network.pictures(images) * network.texts(drawing.asked[name])).sum(1)
        for name, images in drawing.scenes.items()
        if images
    }
    own = each.pop(subject.word)
    name = {"clip": "CLIP-T"}.get(network.kind, network.called)
    anchors = {f"start word {other!r}": float(values.mean()) for other, values in each.items()}
    meant = subject.start or "the nearest word"
    about = f"Mean cosine of {drawing.prompts} scenes to their prompts, {meant!r} standing for the word."
    return Metric(f"Prompt fidelity, {name}", about, float(own.mean()), anchors, network.told, *interval(own))


def among(rows: Tensor) -> Tensor | None:
    """The mean cosine of different rows to one another, or None of fewer than two."""
    count = len(rows)
    return ((rows @ rows.T).sum() - count) / (count * (count - 1)) if count > 1 else None


def interval(each: Tensor) -> tuple[float | None, float | None]:
    """Where 95 % of the means of resamples of the values lie, the same every time; nowhere for a single value."""
    if len(each) < 2:
        return None, None
    chance = torch.Generator().manual_seed(counted("bootstrap"))
    picked = torch.randint(len(each), (RESAMPLED, len(each)), generator=chance)
    low, high = each.cpu()[picked].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def forgetting(model: Model, subject: Subject, network: Network, steps: int) -> Metric:
    """How far pictures of prompts without the word have moved: 0 where they are the same bit for bit."""
    before = generate(model, GENERAL, steps=steps)
    after = generate(model, GENERAL, subject.embeddings, steps=steps, weights=subject.weights)
    same = all(a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True))
    told = f"{len(GENERAL)} pictures without the word are " + (
        "the same bit for bit." if same else "compared with those of the base."
    )
    moved = 0.0
    if not same:
        rows = [network.pictures([Shown(image) for image in images]) for images in (before, after)]
        moved = float((1 - (rows[0] * rows[1]).sum(1)).mean().clamp_min(0))
    return Metric("Forgetting", told, moved, {}, network.told)


def nearest_word(model: Model, subject: Subject, networks: Sequence[Network]) -> str:
    """The known word that a network that reads finds most like the photos; without one, the nearest to the word's vectors."""
    encoder = model.encoders[0]
    own = [
        word.vectors[encoder.key].mean(0, keepdim=True) for word in subject.embeddings if encoder.key in word.vectors
    ]
    names = list(encoder.word_ids)
    reader = next((network for network in networks if network.reads), None)
    if reader is None or not names:
        return nearest(encoder, own[0], 1)[0][0].word if own and names else subject.start
    if len(names) > MOST_WORDS:
        begun = encoder.known_rows()[encoder.tokens(subject.start)].mean(0, keepdim=True) if subject.start else None
        names = [n.word for rows in (*own, begun) if rows is not None for n in nearest(encoder, rows, 256)[0]]
    told = torch.cat(
        [reader.texts([ITSELF.replace("{}", name) for name in names[i : i + 256]]) for i in range(0, len(names), 256)]
    )
    return names[int((reader.pictures(subject.photos).mean(0) @ told.T).argmax())]


def remarks(metrics: Sequence[Metric], subject: Subject) -> list[str]:
    """What the figures mean in plain language."""
    said: list[str] = []
    for metric in metrics:
        start = next((value for name, value in metric.anchors.items() if name.startswith("start word")), None)
        real = metric.anchors.get("real against real")
        if metric.name.startswith("Subject") and start is not None and real is not None and real > start:
            share = (metric.own - start) / (real - start)
            said.append(f"{metric.name}: {share:.0%} of the way from the start word to the real photos.")
        near = next(((k, v) for k, v in metric.anchors.items() if k.startswith("nearest word")), ("", metric.own))
        if metric.name.startswith("Subject") and near[1] > metric.own:
            said.append(
                f"{metric.name}: the {near[0]}, which the model knew before, is nearer to the photos than the word. "
                "Teach it longer, or start it from that word (--like)."
            )
        if metric.name.startswith("Prompt") and start is not None and metric.own < 0.8 * start:
            said.append(
                f"{metric.name} is well below the start word's: the word overpowers its prompts. "
                "An earlier checkpoint or fewer vectors may obey better."
            )
    if not subject.unseen:
        said.append(
            "No photo was held out, so likeness is to photos it learned from, which flatters. Give --photos with others."
        )
    return said
