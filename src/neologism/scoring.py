"""How good a learned word is, in figures with their anchors: what `neologism score` measures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neologism import features, formats, report, run
from neologism.batches import generator
from neologism.cookbook import read
from neologism.embedding import Embedding
from neologism.errors import PhotosError, RunError
from neologism.families import Model, open_model
from neologism.generation import generate
from neologism.photos import gather, opened
from neologism.scores import EMOJI_JUDGE, Judge, open_judge
from neologism.vocabulary import nearest

PROMPTS = ("a {} on a blue background", "a small {} on a green background", "a red {}", "a {}, black and white")
GENERAL = ("a cat", "a house on a blue background", "a small red car", "a photo of a flower")
SEEDS, SCENE_SEEDS, RESAMPLED = tuple(range(8)), (0, 1), 1000


@dataclass(frozen=True)
class Row:
    """One figure: its key and name, its value, and a 95 % interval by bootstrap over the pictures where there is one."""

    key: str
    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Scored:
    """All figures of a word, and what they say in a sentence."""

    rows: list[Row]
    told: str


@dataclass(frozen=True)
class Subject:
    """What is scored: the word, its base, what it is one of, the pictures to compare with and those it learned from."""

    word: Embedding
    model: Model
    like: str
    photos: Sequence[Image.Image]
    given: Sequence[Image.Image]


def scored(
    target: Path,
    photos: Path,
    like: str | None = None,
    base: str | None = None,
    judge: Path | None = None,
    seen_by: Sequence[Path] = (),
) -> Scored:
    """Score a run or a word's file against photos; of a run the figures are kept in scores.json and shown in its report.

    Raises:
        RunError: the run is not finished or learned no word.
        NeologismError: the file, pictures, base or judge cannot be opened.
    """
    subject = opened_subject(target, photos, like, base)
    rows = figures(subject, open_judge(judge or EMOJI_JUDGE))
    rows += [by_features(subject, folder) for folder in seen_by]
    found = Scored(rows, told({row.key: row.value for row in rows}))
    if target.is_dir():
        kept = {
            "photos": str(photos),
            "judge": str(judge or "emoji"),
            "rows": [asdict(row) for row in rows],
            "told": found.told,
        }
        run.write_whole(target / "scores.json", json.dumps(kept, indent=1).encode())
        report.report(target)
    return found


def opened_subject(target: Path, photos: Path, like: str | None, base: str | None) -> Subject:
    """What is to be scored."""
    file = target / "word.safetensors" if target.is_dir() else target
    if not file.exists():
        raise RunError(f"There is no word at {file}. Give the folder of a finished run of one word, or a word's file.")
    word = formats.load(file)
    model = open_model(base or word.base or "emoji", precision="fp32")
    near = nearest(model.encoders[0], word.vectors[model.encoders[0].key].mean(0, keepdim=True))[0][0].word
    began = str(word.facts.get("start", ""))
    chosen = like or (began if began and "(" not in began else near)
    return Subject(word, model, chosen, pictures(photos), given_to(target))


def pictures(source: Path) -> list[Image.Image]:
    """The pictures of a folder."""
    return [opened(photo)[0] for photo in gather(source).photos]


def given_to(target: Path) -> list[Image.Image]:
    """The pictures that a run learned from; none for a file, or where they are no longer there."""
    try:
        return pictures(Path(read(target / "recipe.toml")["pictures"][0])) if target.is_dir() else []
    except (PhotosError, KeyError, IndexError):
        return []


def figures(subject: Subject, judge: Judge) -> list[Row]:
    """The figures by the judge."""
    real, own = judge.pictures(subject.photos), judge.pictures(drawn(subject, f"a {subject.word.word}"))
    encoder = subject.model.encoders[0]
    near = nearest(encoder, subject.word.vectors[encoder.key].mean(0, keepdim=True))[0][0].word
    anchors = {"start": subject.like, "nearest": near}
    rows = [interval("subject", "subject fidelity: the word to the pictures", own @ real.T)]
    for key, name in anchors.items():
        cosines = judge.pictures(drawn(subject, f"a {name}")) @ real.T
        rows.append(
            interval(
                key, f"anchor: {name!r} ({'what it is one of' if key == 'start' else 'nearest known word'})", cosines
            )
        )
    if len(real) > 1:
        rows.append(Row("real", "anchor: the pictures to one another", among(real)))
    rows.append(interval("prompt", "prompt fidelity: in other scenes, to the prompts", obeying(subject, judge)))
    rows.append(Row("diversity", "diversity: the word's pictures to one another", 1 - among(own)))
    if subject.given:
        gap = float((own @ judge.pictures(subject.given).T).mean() - (own @ real.T).mean())
        rows.append(Row("memorised", "memorisation gap: nearer to what it learned from by", gap))
    rows.append(Row("forgetting", "forgetting: other prompts' pictures that changed by a bit", forgotten(subject)))
    return rows


def drawn(subject: Subject, prompt: str, seeds: Sequence[int] = SEEDS) -> list[Image.Image]:
    """A prompt's pictures with the word known."""
    return generate(subject.model, prompt, [subject.word], seeds)


def obeying(subject: Subject, judge: Judge) -> Tensor:
    """Cosines [n, 1] of the word in other scenes to the prompts, what it is one of in its place."""
    images = generate(subject.model, [p.replace("{}", subject.word.word) for p in PROMPTS], [subject.word], SCENE_SEEDS)
    asked = [prompt.replace("{}", subject.like) for prompt in PROMPTS for _ in SCENE_SEEDS]
    return (judge.pictures(images) * judge.texts(asked)).sum(1, keepdim=True)


def forgotten(subject: Subject) -> float:
    """The share of pictures of other prompts that differ by any bit once the word is known."""
    plain, known = (generate(subject.model, GENERAL, words) for words in ([], [subject.word]))
    return float(np.mean([a.tobytes() != b.tobytes() for a, b in zip(plain, known, strict=True)]))


def by_features(subject: Subject, folder: Path) -> Row:
    """Subject fidelity as a vision model sees it (DINO, DINOv2, CLIP)."""
    real, own = (seen(images, folder) for images in (subject.photos, drawn(subject, f"a {subject.word.word}")))
    return interval(f"subject by {folder.name}", f"subject fidelity by {folder.name}", own @ real.T)


@torch.no_grad()
def seen(images: Sequence[Image.Image], folder: Path) -> Tensor:
    """Unit rows [n, d] of images by a vision model."""
    rows: list[Tensor] = []
    for image in images:
        pixels = torch.from_numpy(np.array(image.convert("RGB"), np.float32)).permute(2, 0, 1).unsqueeze(0) / 127.5 - 1
        rows.append(features.features(pixels, str(folder)).pooled)
    return torch.nn.functional.normalize(torch.cat(rows), dim=1)


def among(rows: Tensor) -> float:
    """The mean cosine of unit rows [n, d] to one another; 1 for one alone."""
    others = len(rows) * (len(rows) - 1)
    return float(((rows @ rows.T).sum() - len(rows)) / others) if others else 1.0


def interval(key: str, name: str, cosines: Tensor) -> Row:
    """The mean of cosines [drawn, pictures], with a percentile bootstrap over both (Efron 1979)."""
    chance, (n, m) = generator("bootstrap", key), cosines.shape
    rows, columns = (
        torch.randint(n, (RESAMPLED, n), generator=chance),
        torch.randint(m, (RESAMPLED, m), generator=chance),
    )
    means = torch.stack([cosines[r][:, c].mean() for r, c in zip(rows, columns, strict=True)]).sort().values
    low, high = float(means[int(0.025 * RESAMPLED)]), float(means[int(0.975 * RESAMPLED)])
    return Row(key, name, float(cosines.mean()), low, high)


def told(found: dict[str, float]) -> str:
    """What the figures say."""
    way = (found["subject"] - found["start"]) / max(found.get("real", 1.0) - found["start"], 1e-6)
    texts = [f"The word goes {way:.0%} of the way from what it is one of to the real pictures."]
    if found["nearest"] >= found["subject"]:
        texts.append("Its nearest known word draws them as well: the word may not be worth having yet.")
    if found.get("memorised", 0.0) > 0.1:
        texts.append("It is much nearer to what it learned from than to the others: it knows those pictures by heart.")
    texts.append(
        "Nothing else changed." if found["forgetting"] == 0 else "Other prompts' pictures changed: please report this."
    )
    return " ".join(texts)
