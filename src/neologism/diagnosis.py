"""What goes wrong while a word is learned, in plain language and once for each word; it looks at events alone."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from neologism.events import Event, Step, Warned

SETTLED = 25  # steps before which nothing is said
STILL = 0.001  # a share by which rows that learn have turned and grown by then, at the least
FAR = 10.0  # times the vocabulary's mean length; words learned well at the defaults come to 2 to 5 times
RISING, WORSE = 3, 1.02  # probes in a row that rise, and how far above the best


@dataclass
class Watch:
    """What was seen of one word. `length` is the mean length of the vocabulary's rows."""

    length: float
    first: float | None = None
    probes: list[float] = field(default_factory=list[float])
    told: set[str] = field(default_factory=set[str])

    def found(self, step: Step) -> Iterator[Warned]:
        """What is new to be told after this step."""
        self.first = step.norm if self.first is None else self.first
        if step.probe is not None:
            self.probes.append(step.probe)
        for name, text in (
            ("still", self.still(step)),
            ("far", self.far(step)),
            ("rising", self.rising(step)),
        ):
            if text and name not in self.told:
                self.told.add(name)
                yield Warned(text)

    def still(self, step: Step) -> str | None:
        """Not learning."""
        grown = abs(step.norm / (self.first or 1.0) - 1)
        if step.step < SETTLED or not step.nearest or 1 - step.cosine > STILL or grown > STILL:
            return None
        return (
            f"{step.word} has hardly moved in {step.step} steps (gradient {step.gradient:.2g}). Usual causes: --learning-rate is "
            "too low, masks hide the whole picture, or it goes on from a word that has learned these pictures already."
        )

    def far(self, step: Step) -> str | None:
        """Its length runs away."""
        if not step.nearest or step.norm < FAR * self.length:
            return None
        return (
            f"The vectors of {step.word} are {step.norm / self.length:.0f} times as long as other words' and may drown the rest of "
            "a prompt. Lower --learning-rate, or give --norm drawn or --norm fixed."
        )

    def rising(self, step: Step) -> str | None:
        """The loss on the probes goes up."""
        last = self.probes[-RISING - 1 :]
        if step.probe is None or len(last) <= RISING or any(b <= a for a, b in itertools.pairwise(last)):
            return None
        if last[-1] < WORSE * min(self.probes):
            return None
        return (
            f"The loss of {step.word} on fixed probes has risen {RISING} times in a row, to {last[-1] / min(self.probes) - 1:.0%} "
            "above its best: it was better before. Give fewer --steps, --stop converged, or a lower --learning-rate."
        )


def watched(events: Generator[Event] | Iterator[Event], length: float) -> Iterator[Event]:
    """The events, each warning right after the step that gave rise to it."""
    watches: dict[str, Watch] = {}
    with contextlib.ExitStack() as closing:
        if isinstance(events, Generator):
            closing.enter_context(contextlib.closing(events))
        for event in events:
            yield event
            if isinstance(event, Step):
                yield from watches.setdefault(event.word, Watch(length)).found(event)
