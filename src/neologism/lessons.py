"""One word being learned: its rows, what it sees, its own seed, optimizer, step and stop."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neologism import batches, initial, objective, optimizer, stopping
from neologism.additions import added, additions
from neologism.batches import Batch, Said
from neologism.embedding import Embedding
from neologism.errors import RunError
from neologism.events import Step, Warned
from neologism.families.model import Model
from neologism.latents import Latents
from neologism.methods import Method, inversion
from neologism.methods.choosing import weights_rate
from neologism.methods.identifier import spelled
from neologism.methods.learner import Learner
from neologism.recipe import Recipe
from neologism.vocabulary import nearest, taught

PROBES = 32  # fixed samples for the start search; the first 16 of them tell when to stop
COOLER = 0.3  # the rate after a breakdown, as a share of that before


@dataclass
class Lesson:
    """The whole state of one word's learning. What `state` returns is all that a resumed run needs."""

    word: str
    latents: Latents
    said: Said
    recipe: Recipe
    model: Model
    start: initial.Start
    template: str
    method: Method = field(default_factory=inversion.Inversion)
    prior: tuple[Latents, str] | None = None
    step: int = 0
    done: str | None = None
    failed: bool = False
    cooled: float = 1.0
    probes: list[float] = field(default_factory=list[float])
    rows: dict[str, nn.Parameter] = field(default_factory=dict[str, nn.Parameter])
    mean: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def __post_init__(self) -> None:
        learning = self.recipe.learning([encoder.key for encoder in self.model.encoders])
        self.rows = inversion.rows(self.start.vectors, learning)
        self.mean = {key: tensor.detach().clone() for key, tensor in self.rows.items()}
        self.adamw = optimizer.adamw({k: r for k, r in self.rows.items() if r.requires_grad}, self.recipe.weight_decay)
        self.lengths = {e.key: float(e.known_rows().norm(dim=1).mean()) for e in self.model.encoders}
        # One relative rate suits encoders whose rows differ a thousandfold, such as CLIP's and T5's.
        self.units = {e.key: float(e.known_rows().pow(2).mean().sqrt()) for e in self.model.encoders}
        self.learner = Learner(self.method.weights, self.recipe.weight_decay, self.recipe.average)
        self.steps = self.recipe.steps_for(len(self.latents))
        self.good = self.state()

    @contextlib.contextmanager
    def opened(self) -> Generator[None]:
        """Have the method's weights in the model, and the word spelled if it stands for known ones, until the block ends."""
        with spelled(self.model, self.word, self.method.spelled), self.method.opened():
            yield

    @contextlib.contextmanager
    def shown(self) -> Generator[None]:
        """Have everything as it would be saved now in the model until the block ends: the word is not taught by it."""
        with self.opened(), self.learner.shown():
            yield

    def beside(self, part: int) -> Batch | None:
        """The class's pictures to keep in mind at this step (Ruiz et al. 2023, eq. 2), if any."""
        if self.prior is None or not self.recipe.preserving:
            return None
        latents, said = self.prior
        number, seed = self.step * self.recipe.accumulate + part, batches.counted(self.recipe.seed, "prior")
        return batches.draw(self.model, latents, lambda _, __: said, seed, number, self.recipe.batch, self.recipe.times)

    def more(self) -> objective.More | None:
        """What the recipe adds to the denoising loss, if anything."""
        terms = additions(self.recipe)
        if not terms.any:
            return None
        others = self.model.scale(self.prior[0].mean) if self.prior else None
        return lambda batch, guess: added(self.model, batch, guess, terms, others)

    def forget(self) -> None:
        """Drop the gradients of a step that was cut short."""
        self.adamw.zero_grad()
        self.learner.forget()

    def weights_rate(self) -> float:
        """The learning rate of the method's weights at this step; 0 as long as the word learns first."""
        first = round(self.recipe.word_first * self.steps) if self.rows else 0
        if self.step < first:
            return 0.0
        progress = (self.step - first) / max(1, self.steps - first)
        return weights_rate(self.recipe) * optimizer.rate(self.recipe.schedule, progress) * self.cooled

    def batch(self, part: int) -> Batch:
        """What the word sees in this step, part by part where gradients are summed."""
        number = self.step * self.recipe.accumulate + part
        return batches.draw(
            self.model, self.latents, self.said, self.recipe.seed, number, self.recipe.batch, self.recipe.times
        )

    def rate(self) -> float:
        """The learning rate of this step, as a share of an encoder's typical number."""
        schedule = self.recipe.schedule if self.recipe.stop == "steps" else "constant"
        return self.recipe.learning_rate * optimizer.rate(schedule, self.step / self.steps) * self.cooled

    def update(self, loss: float) -> Step | Warned:
        """Move the rows by their gradients, and tell what happened."""
        rows, rate = list(self.rows.values()), self.rate()
        gradient = math.hypot(optimizer.gradient_norm(rows), self.learner.gradient())
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            return self.fall_back(f"loss {loss}, gradient {gradient}")
        optimizer.shorten_gradient(rows, optimizer.gradient_norm(rows), self.recipe.clip)
        for group in self.adamw.param_groups:
            group["lr"] = rate * self.units.get(group["key"], 0.0)
        self.adamw.step()
        self.adamw.zero_grad()
        for key, tensor in self.rows.items():
            if tensor.requires_grad:
                optimizer.keep_length(tensor, self.recipe.norm, self.lengths[key], rate)
        self.learner.step(self.weights_rate(), self.recipe.clip)
        if not (all(bool(torch.isfinite(tensor).all()) for tensor in rows) and self.learner.finite()):
            return self.fall_back("rows that are not finite" if self.rows else "weights that are not finite")
        self.step += 1
        for key, tensor in self.rows.items():
            optimizer.move_mean(self.mean[key], tensor.detach(), self.recipe.average, self.step)
        return self.told(loss, rate, gradient)

    def fall_back(self, found: str) -> Warned:
        """Go back to the last good state with a lower rate; the second time, give up.

        Raises:
            RunError: it broke down again.
        """
        if self.cooled < 1.0:
            raise RunError(
                f"Learning {self.word} broke down twice at step {self.step} ({found}). "
                "Lower --learning-rate, or use --precision fp32; the last checkpoint is kept."
            )
        broken = self.step
        self.load(self.good)
        self.cooled = COOLER
        return Warned(
            f"{self.word}: {found} at step {broken}; back to step {self.step} with {COOLER:g} of the learning rate."
        )

    def told(self, loss: float, rate: float, gradient: float) -> Step:
        """This step as an event; the probe is taken when due."""
        probe = self.probe() if self.step % self.recipe.probe_every == 0 or self.step >= self.steps else None
        self.decide()
        if not self.rows:
            norm = math.sqrt(sum(float(weight.detach().pow(2).sum()) for weight in self.learner.weights.values()))
            return Step(self.word, self.step, self.steps, loss, self.learner.rate, gradient, norm, 1.0, (), probe, 0.0)
        key, rows = next((k, r) for k, r in self.rows.items() if r.requires_grad)
        encoder = next(e for e in self.model.encoders if e.key == key)
        middle = rows.detach().mean(0)
        near = nearest(encoder, middle.unsqueeze(0))[0]
        cosine = torch.nn.functional.cosine_similarity(middle, self.start.vectors[key].mean(0), dim=0)
        norm = float(rows.detach().norm(dim=1).mean())
        names = tuple(neighbour.word for neighbour in near)
        return Step(self.word, self.step, self.steps, loss, rate, gradient, norm, float(cosine), names, probe, 0.0)

    def probe(self) -> float:
        """The loss on the fixed probes, remembered."""
        if self.learner.weights:
            with torch.no_grad(), self.shown(), taught(self.model, {self.word: self.vectors()}):
                self.probes.append(float(objective.loss(self.model, initial.worded(self.fixed, self.word)).mean()))
        else:
            self.probes.append(initial.rows_loss(self.model, self.vectors(), self.fixed))
        return self.probes[-1]

    @functools.cached_property
    def fixed(self) -> Batch:
        """Samples of the word's pictures to probe with, the same at every step of every run of this seed."""
        return initial.first_of(probe_batch(self.model, self.latents, self.template, self.recipe), PROBES // 2)

    def decide(self) -> None:
        """Set `done` where the word is learned."""
        if self.step >= self.steps:
            self.done = f"all {self.steps} steps done"
        else:
            rule, patience, wanted = self.recipe.stop, self.recipe.patience, self.recipe.gain_wanted
            self.done = stopping.reason_to_stop(rule, self.probes, patience, wanted)

    def vectors(self) -> dict[str, Tensor]:
        """What the word is by now: the moving average of its rows, apart from the graph, at the norm rule's length."""
        found = {key: tensor.clone() for key, tensor in self.mean.items()}
        for key, tensor in found.items():
            if self.rows[key].requires_grad and self.recipe.norm == "fixed":
                optimizer.keep_length(tensor, "fixed", self.lengths[key], 0.0)
        return found

    def embedding(self) -> Embedding | None:
        """The word as it is now, with where it came from; nothing in it depends on the clock. None where it has no rows."""
        if not self.rows:
            return None
        return Embedding(self.word, self.vectors(), self.model.name, self.facts())

    def facts(self) -> dict[str, str]:
        """Where what is learned comes from."""
        return {"start": self.start.told, "step": str(self.step), "seed": str(self.recipe.seed)}

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next."""
        moments = {
            f"{key}.{name}": value.clone()
            for key, tensor in self.rows.items()
            for name, value in self.adamw.state[tensor].items()
        }
        rows = {f"{key}.rows": tensor.detach().clone() for key, tensor in self.rows.items()}
        starts = {f"{key}.start": tensor.clone() for key, tensor in self.start.vectors.items()}
        means = {f"{key}.mean": tensor.clone() for key, tensor in self.mean.items()}
        numbers = {
            "step": self.step,
            "cooled": self.cooled,
            "probes": list(self.probes),
            "told": self.start.told,
            "done": self.done,
        }
        return {"tensors": rows | means | starts | moments | self.learner.state(), "numbers": numbers}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        tensors, numbers = state["tensors"], state["numbers"]
        self.start = initial.Start({key: tensors[f"{key}.start"] for key in self.rows}, numbers["told"])
        self.adamw.state.clear()
        for key, tensor in self.rows.items():
            tensor.copy_(tensors[f"{key}.rows"])
            self.mean[key] = tensors[f"{key}.mean"].clone()
            tensor.grad = None
            kept = {
                name: tensors[f"{key}.{name}"].clone()
                for name in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}.{name}" in tensors
            }
            if kept:
                self.adamw.state[tensor] = kept
        self.learner.load(tensors)
        self.step, self.cooled, self.done = numbers["step"], numbers["cooled"], numbers["done"]
        self.probes = list(numbers["probes"])
        self.good = state


def probe_batch(model: Model, latents: Latents, template: str, recipe: Recipe) -> Batch:
    """Fixed samples of a word's pictures, spread over times, the prompt's word left open."""
    drawn = [
        batches.draw(
            model, latents, lambda _, __: template, batches.counted(recipe.seed, "probes"), part, 2, recipe.times
        )
        for part in range(PROBES // 2)
    ]
    return batches.joined(drawn)
