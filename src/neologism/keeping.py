"""Which step of a run to keep: the words in its checkpoints, scored side by side from the same seeds."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from neologism import formats, run, scoring
from neologism.embedding import Embedding
from neologism.errors import RunError
from neologism.families import Model, open_model
from neologism.generation import generate
from neologism.history import history
from neologism.learned import Source, sources
from neologism.metrics import Network, Shown, networks
from neologism.recipe import recipe
from neologism.scoring import ITSELF, Subject, interval

FLATTERS = " The photos are those it learned from, which favours late steps; give --photos with others."


@dataclass(frozen=True)
class Step:
    """The word as a checkpoint has it, and what was found of it.

    Attributes:
        step: when it was kept. probe: the last loss on the fixed probes before that, None where none was taken.
        subject: mean cosine to the photos. prompt: that of scenes to their prompts, None of a network that does not read.
        gain: what both together are above the last step's, mean over seeds, each paired; from `low` to `high` in 95 % of the
        resamples of seeds, None where there is one seed.
    """

    step: int
    probe: float | None
    subject: float
    prompt: float | None
    gain: float = 0.0
    low: float | None = None
    high: float | None = None

    @property
    def sure(self) -> bool:
        """Whether it is better than the last step by more than luck."""
        return self.low is not None and self.low > 0


@dataclass(frozen=True)
class Choice:
    """The steps of a word, oldest first, the best of them, what to do in plain language, and the file of the best where written."""

    word: str
    steps: Sequence[Step]
    best: int
    advice: str
    file: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """What steps.json holds."""
        return asdict(self) | {"file": self.file.name if self.file else None}


def choose(
    run_folder: Path | str, photos: Path | str | None = None, metrics: str = "auto", prompts: Sequence[str] = scoring.SCENES,
    seeds: int = scoring.SEEDS, steps: int = scoring.STEPS, base: str | None = None, device: str = "auto",
) -> list[Choice]:  # fmt: skip
    """Score the checkpoints that a finished run kept of its words; the best word is written beside the last where it is surely better.

    Arguments are those of `score`; of several networks the first judges.

    Raises:
        RunError: fewer than two checkpoints of a word are there, or weights learned beside it. See `score` for others.
    """
    if not Path(run_folder).is_dir():
        raise RunError(
            f"{run_folder} is no run's folder, and checkpoints are kept in one. Give the folder that train wrote."
        )
    found = sources(Path(run_folder), None if photos is None else Path(photos), base)
    network, model = networks(metrics, found[0].base)[0], open_model(found[0].base, device, "fp32")
    norm = recipe(**history(Path(run_folder)).recipe).norm
    return [chosen(model, one, norm, network, range(seeds), prompts, steps) for one in found]


def chosen(
    model: Model, source: Source, norm: str, network: Network, seeds: Sequence[int], prompts: Sequence[str], steps: int
) -> Choice:
    """The best step of one word, kept."""
    assert source.folder is not None  # a run's words have one
    words = checkpoints(source, model.name, norm)
    drawn = [judged(model, source.subject, word, network, seeds, prompts, steps) for _, word in words.values()]
    told = compared([(step, probe) for step, (probe, _) in words.items()], drawn)
    best = max(told, key=lambda one: one.gain)
    file = None
    if best.sure:
        file = formats.save(words[best.step][1], source.folder / f"word-{best.step:06d}.safetensors")
    text = advice(best, told[-1], file) + ("" if source.subject.unseen else FLATTERS)
    choice = Choice(source.subject.word, told, best.step, text, file)
    run.write_whole(source.folder / "steps.json", json.dumps(choice.as_dict(), ensure_ascii=False).encode())
    return choice


def checkpoints(source: Source, base: str, norm: str) -> dict[int, tuple[float | None, Embedding]]:
    """The words of the checkpoints that read back, each with the last loss on its probes, by step."""
    assert source.folder is not None
    if source.subject.weights is not None or not source.subject.embeddings:
        raise RunError(f"{source.folder} holds weights that learned; the checkpoints of words alone are compared.")
    found: dict[int, tuple[float | None, Embedding]] = {}
    for state in filter(None, map(run.read_back, run.whole_folders(source.folder))):
        numbers = state["numbers"]
        facts = dict(source.subject.embeddings[0].facts) | {"step": str(numbers["step"])}
        probe = float(numbers["probes"][-1]) if numbers["probes"] else None
        word = Embedding(source.subject.word, vectors(state, source.subject.embeddings[0].vectors, norm), base, facts)
        found[int(numbers["step"])] = (probe, word)
    if len(found) < 2:
        raise RunError(
            f"{source.folder} keeps {len(found)} checkpoint(s), and there is nothing to choose from. "
            "Train with a smaller --checkpoint-every; the last three and the best by probe are kept."
        )
    return found


def vectors(state: dict[str, Any], keys: Collection[str], norm: str) -> dict[str, Tensor]:
    """The word's vectors at a checkpoint: the moving averages, at the rows' length where a norm rule fixed that."""
    found: dict[str, Tensor] = {key: state["tensors"][f"{key}.mean"].clone() for key in keys}
    for key, mean in found.items():
        if norm == "fixed":
            mean.mul_(state["tensors"][f"{key}.rows"].norm(dim=1, keepdim=True) / mean.norm(dim=1, keepdim=True))
    return found


def judged(
    model: Model, subject: Subject, word: Embedding, network: Network, seeds: Sequence[int], prompts: Sequence[str], steps: int
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """For every seed [n] the mean cosine to the photos, and that of the scenes to their prompts."""
    asked = [prompt.replace("{}", word.word) for prompt in (ITSELF, *prompts)]
    rows = network.pictures([Shown(image) for image in generate(model, asked, [word], seeds, steps)])
    rows = rows.view(len(asked), len(seeds), -1)
    like = (rows[0] @ network.pictures(subject.photos).T).mean(1)
    if not network.reads or not prompts:
        return like, None
    meant = network.texts([prompt.replace("{}", subject.start or word.word) for prompt in prompts])
    return like, (rows[1:] * meant.unsqueeze(1)).sum(-1).mean(0)


def compared(known: Sequence[tuple[int, float | None]], drawn: Sequence[tuple[Tensor, Tensor | None]]) -> list[Step]:
    """Each step against the last, paired by seed."""
    totals = [like if obeyed is None else like + obeyed for like, obeyed in drawn]
    found: list[Step] = []
    for (step, probe), (like, obeyed), total in zip(known, drawn, totals, strict=True):
        gains = total - totals[-1]
        prompt = None if obeyed is None else float(obeyed.mean())
        found.append(Step(step, probe, float(like.mean()), prompt, float(gains.mean()), *interval(gains)))
    return found


def advice(best: Step, last: Step, file: Path | None) -> str:
    """What to do."""
    if best.step == last.step:
        return f"The last step, {last.step}, scores best: keep it."
    ahead = f"Step {best.step} scores {best.gain:+.3f} against the last"
    if file is None:
        return f"{ahead}, which may be luck: keep the last, or look again with more --seeds."
    return f"{ahead} ({best.low:+.3f} to {best.high:+.3f}): its word is {file.name}."
