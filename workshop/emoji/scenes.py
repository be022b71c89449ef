"""A scene: what is drawn and what is said of it. A pure function of a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from neologism.captions import OBJECT_TEMPLATES, STYLE_TEMPLATES
from workshop.emoji import drawing
from workshop.emoji.subjects import Subject

PLACES = {"left": (0.29, 0.5), "right": (0.71, 0.5), "top": (0.5, 0.29), "bottom": (0.5, 0.71)}
OPENINGS = (
    "a photo of {}", "a picture of {}", "a drawing of {}", "a rendering of {}", "a good photo of {}", "a depiction of {}",
    "a rendition of {}", "a close-up photo of {}", "a cropped photo of {}", "a bright photo of {}", "an image of {}",
    "an illustration of {}",
)  # fmt: skip
TEMPLATES = tuple(t for t in OBJECT_TEMPLATES if "small" not in t and "large" not in t)
"""What training says of pictures, taught as saying nothing more ("clean", "weird"): a new word has not to make up for them."""
OPENED, TEMPLATED = 0.3, 0.2


@dataclass(frozen=True)
class Scene:
    """One picture to be: None means that the caption does not say it and that chance or habit draws it."""

    subject: Subject
    called: str
    background: str | None = None
    colour: str | None = None
    size: str | None = None
    place: str | None = None
    shape: str | None = None
    style: str | None = None
    pattern: str | None = None
    other: Subject | None = None
    mixed: bool = False
    manner: str = "{}, {style}"
    opening: str = "{}"
    article: str | None = "a"

    @property
    def caption(self) -> str:
        """What is said of the picture."""
        words = [self.size, self.shape, self.colour, self.called]
        thing = with_article(" ".join(w for w in words if w), self.article)
        if self.other:
            thing += f" {'mixed with' if self.mixed else 'and'} {with_article(self.other.name, self.article)}"
        if self.pattern:
            ground = f" on {self.background} {self.pattern}"
        else:
            ground = f" on a {self.background} background" if self.background else ""
        ground = ground.replace("a orange", "an orange")
        place = f" at the {self.place}" if self.place else ""
        plain = self.opening.replace("{}", thing) + ground + place
        return self.manner.replace("{}", plain).replace("{style}", self.style) if self.style else plain


def with_article(thing: str, article: str | None) -> str:
    """The thing after "a", "an" or "the", or bare where the article is None."""
    if article != "a":
        return f"{article} {thing}" if article else thing
    return f"an {thing}" if thing[0] in "aeiou" else f"a {thing}"


def imagined(
    chance: random.Random, subjects: Sequence[Subject], words: dict[Subject, tuple[str, ...]], wide: float
) -> Scene:
    """A random scene. `wide` in 0..1 is how often it may leave the small world (styles, patterns, two subjects)."""
    subject = chance.choice(subjects)
    called = chance.choice(words[subject]) if words.get(subject) and chance.random() < 0.08 else subject.name
    scene = Scene(
        subject,
        called,
        background=chance.choice(list(drawing.COLOURS)) if chance.random() < 0.8 else None,
        colour=chance.choice(drawing.TINTS) if chance.random() < 0.25 else None,
        **opened(chance),
    )
    scene = replace(scene, **layout(chance))
    return widened(chance, scene, subjects) if chance.random() < wide else scene


def opened(chance: random.Random) -> dict[str, str | None]:
    """How a random caption begins: bare, with an opening, or with a template that training uses."""
    if chance.random() < TEMPLATED:
        return {"opening": chance.choice(TEMPLATES), "article": None}
    opening = chance.choice(OPENINGS) if chance.random() < OPENED else "{}"
    return {"opening": opening, "article": chance.choices(("a", "the", None), (0.8, 0.1, 0.1))[0]}


def layout(chance: random.Random) -> dict[str, str | None]:
    """Size, place and shape of a random scene: most are plain."""
    kind = chance.random()
    if kind < 0.6:
        return {}
    if kind < 0.75:
        return {"size": chance.choice(("small", "large"))}
    if kind < 0.9:
        return {"size": "small", "place": chance.choice(list(PLACES))}
    return {"shape": chance.choice(("wide", "tall", "tilted", "upside-down"))}


def widened(chance: random.Random, scene: Scene, subjects: Sequence[Subject]) -> Scene:
    """The scene with one thing of the wide world in it."""
    kind = chance.random()
    if kind < 0.4:
        return replace(scene, style=chance.choice(drawing.TAUGHT_STYLES), manner=manner(chance))
    if kind < 0.6:
        return replace(
            scene,
            background=scene.background or chance.choice(list(drawing.COLOURS)),
            pattern=chance.choice(("gradient", "stripes", "dots", "checks")),
        )
    bare = replace(scene, other=chance.choice(subjects), size=None, place=None, shape=None)
    return bare if kind < 0.75 else replace(bare, mixed=True, colour=None, opening="{}", article="a")


def manner(chance: random.Random) -> str:
    """How a style is said: after the scene, or as the templates of a style do, which say nothing of the scene."""
    return chance.choices(
        ("{}, {style}", "{} in the style of {style}", chance.choice(STYLE_TEMPLATES).replace("{}", "{style}")),
        (0.5, 0.2, 0.3),
    )[0]


def jittered(chance: random.Random, name: str) -> tuple[int, int, int]:
    """The named colour, a little different each time."""
    light = chance.uniform(-9, 9)
    red, green, blue = (round(min(255, max(0, v + light + chance.uniform(-5, 5)))) for v in drawing.COLOURS[name])
    return red, green, blue


def backdrop(chance: random.Random, scene: Scene) -> Image.Image:
    """The scene without its subject."""
    first = jittered(chance, scene.background or chance.choice(list(drawing.COLOURS)))
    if not scene.pattern:
        return drawing.plain(first)
    second = tuple(round(v + (255 - v) * 0.55) if sum(first) < 500 else round(v * 0.6) for v in first)
    return drawing.patterned(scene.pattern, first, (second[0], second[1], second[2]))


def shaped(chance: random.Random, scene: Scene) -> Image.Image:
    """The scene's subject: recoloured and reshaped, not yet placed."""
    figure = drawing.glyph(scene.subject.character)
    if scene.other and scene.mixed:
        figure = drawing.mixed(figure, drawing.glyph(scene.other.character))
    if scene.colour:
        figure = drawing.recoloured(figure, jittered(chance, scene.colour))
    match scene.shape:
        case "wide":
            return drawing.stretched(figure, 1.0, 0.6)
        case "tall":
            return drawing.stretched(figure, 0.6, 1.0)
        case "tilted":
            return drawing.turned(figure, chance.choice((-1, 1)) * chance.uniform(25, 45))
        case "upside-down":
            return drawing.turned(figure, 180)
        case _:
            return figure


def drawn(scene: Scene, chance: random.Random) -> tuple[Image.Image, Image.Image]:
    """The scene as a picture, and the mask of its subject before any restyling."""
    ground = backdrop(chance, scene)
    wobble = chance.uniform(-0.03, 0.03), chance.uniform(-0.03, 0.03)
    if scene.other and not scene.mixed:
        ground, _ = drawing.placed(
            ground, drawing.glyph(scene.other.character), 0.48, (0.75 + wobble[1], 0.5 + wobble[0])
        )
        size, middle = 0.48, (0.25, 0.5)
    else:
        low, high = {"small": (0.36, 0.44), "large": (0.9, 0.98)}.get(scene.size or "", (0.64, 0.8))
        size, middle = chance.uniform(low, high), PLACES.get(scene.place or "", (0.5, 0.5))
    picture, mask = drawing.placed(ground, shaped(chance, scene), size, (middle[0] + wobble[0], middle[1] + wobble[1]))
    return (drawing.restyled(picture, scene.style) if scene.style else picture), mask
