"""What goes wrong while a word learns, told in plain language as soon as it shows, each thing once."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageOps

from neologism.events import Picture, Step

WINDOW = 20
"""Steps that must agree before something is said of the gradient or of movement."""
STILL = 0.995  # cosine to the start above which a word has not moved
FLAT = 1e-7  # gradient below which nothing pulls
LONG = 12.0
"""How many times the vocabulary's mean length a vector may have. The usual run ends at 4 to 6 times."""
RISEN = 0.01
"""Share of the first probe loss by which two probes in a row may lie above the lowest."""
DEAF = 0.35
"""Share of the start word's difference between scenes that must be left, for the prompt still to be heard."""
SAME = 10.0
"""Mean difference of values of 255 below which a preview is a training picture."""


@dataclass
class Diagnosis:
    """What was seen of one word so far, and what was said of it.

    `length` is the mean length of the vocabulary's rows, or None where no vectors learn; `photos` are the training pictures.
    """

    word: str
    length: float | None = None
    photos: Sequence[Image.Image] = ()
    said: set[str] = field(default_factory=set[str])
    gradients: deque[float] = field(default_factory=lambda: deque[float](maxlen=WINDOW))
    probes: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    begun: float | None = None

    def step(self, event: Step) -> list[str]:
        """What to say after a step: nothing, nearly always."""
        self.gradients.append(event.gradient)
        if event.probe is not None:
            self.probes.append((event.step, event.probe))
        found = [self.still(event), self.long(event), self.rising() if event.probe is not None else None]
        return [text for text in found if text]

    def still(self, event: Step) -> str | None:
        """Nothing is learned: no gradient, or no movement."""
        if len(self.gradients) < WINDOW:
            return None
        why = "Usual causes: a learning rate that is too low (--learning-rate), masks that hide all, or captions without the word."
        if max(self.gradients) < FLAT:
            return self.once("still", f"is not learning: its gradient was below {FLAT:g} for {WINDOW} steps. {why}")
        if self.length is not None and event.cosine > STILL:
            told = f"is not learning: after {event.step} steps it still is its start word (cosine {event.cosine:.4f})."
            return self.once("still", f"{told} {why}")
        return None

    def long(self, event: Step) -> str | None:
        """The vectors run away from the vocabulary."""
        if self.length is None or event.norm < LONG * self.length:
            return None
        times = event.norm / self.length
        return self.once(
            "long",
            f"runs away: its vectors are {times:.0f} times as long as those of known words, and will drown the rest of a prompt. "
            "Use --norm drawn or --norm fixed, a lower --learning-rate, or an earlier checkpoint.",
        )

    def rising(self) -> str | None:
        """The loss on the fixed probes rises again."""
        if len(self.probes) < 4:
            return None
        step, lowest = min(self.probes, key=lambda pair: pair[1])
        limit = lowest + RISEN * self.probes[0][1]
        if all(loss > limit for _, loss in self.probes[-2:]):
            told = f"is getting worse: its probe loss was lowest at step {step} and has risen since. "
            return self.once(
                "rising",
                told + "The checkpoint nearest to that step is kept; fewer --steps or --stop converged end there.",
            )
        return None

    def pictures(self, drawn: Sequence[Picture]) -> list[str]:
        """What to say after previews: whether scenes are still obeyed, and whether a training picture comes back."""
        own = [one.image for one in drawn if self.word in one.prompt]
        found = [self.deaf(own, drawn[0].step if drawn else 0), self.by_heart(own)]
        return [text for text in found if text]

    def deaf(self, own: Sequence[Image.Image], step: int) -> str | None:
        """All scenes look alike, which they did not at the start."""
        if len(own) < 2:
            return None
        apart = statistics.mean(difference(own[0], other) for other in own[1:])
        if step == 0 or self.begun is None:
            self.begun = apart if step == 0 else None
            return None
        if apart >= DEAF * self.begun:
            return None
        return self.once(
            "deaf",
            f"overpowers its prompts: scenes differ by {apart / max(self.begun, 1e-9):.0%} of what they did with the start word. "
            "Use fewer --vectors, --norm drawn, fewer --steps, or an earlier checkpoint.",
        )

    def by_heart(self, own: Sequence[Image.Image]) -> str | None:
        """A preview is nearly one of the pictures that were learned from."""
        if not any(difference(image, photo) < SAME for image in own for photo in self.photos):
            return None
        told = "draws a training picture nearly as it is: it is learning by heart. "
        return self.once("heart", told + "Give more, and more various, pictures, or fewer --steps.")

    def once(self, kind: str, text: str) -> str | None:
        """The sentence, the first time."""
        if kind in self.said:
            return None
        self.said.add(kind)
        return f"{self.word} {text}"


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures' values, 0 to 255, of their middle squares seen from afar."""
    a, b = (
        np.asarray(ImageOps.fit(i.convert("RGB"), (32, 32), Image.Resampling.BOX), np.float32) for i in (one, other)
    )
    return float(np.abs(a - b).mean())
