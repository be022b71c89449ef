"""Which things the emoji world holds, what they are called, and which of them the base never sees.

Names and keywords are Unicode CLDR annotations, groups are CLDR character labels (Debian: unicode-cldr-core).
"""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CLDR = Path("/usr/share/unicode/cldr/common")
GROUPS = ("Animals & Nature", "Food & Drink", "Travel & Places", "Objects", "Activities")
DROPPED_LABELS = {
    "time",  # two dozen clock faces
    "place-map",
    "person-sport",
    "money",
    "arts & crafts",  # the masks are faces
    "music",  # notes, which are signs rather than things
}
# Faces, people, hands, letters, or a whole scene with a background of its own.
DROPPED_NAMES = {
    "moon",
    "sun",
    "statue",
    "liberty",
    "dolls",
    "santa",
    "game die",
    "mahjong",
    "joker",
    "flower playing cards",
    "card",
    "suit",
    "night",
    "sunrise",
    "sunset",
    "cityscape",
    "bridge",
    "milky",
    "foggy",
    "wave",
    "park",
    "photo",
    "fireworks",
    "sparkler",
    "carp",
    "ceremony",
    "calendar",
    "face",
    "wind",
    "rainbow",
    "hole",
    "mute",
    "speaker",
    "bell with",
    "chart",
    "envelope",
    "stop",
    "motorway",
    "track",
    "pawn",
    "bar chart",
    "graph",
    "microbe",
    "lips",
    "dango",
    "camping",
    "sparkles",
    "dizzy",
    "cyclone",
    "desert",
    "island",
    "beach",
    "umbrella on",
    "admission",
    "landing",
    "departure",
    "picture",
    "people",
    "skier",
    "bed",
    "office",
    "spiral",
    "tear",
    "railway car",
}
HELD_OUT, DEVELOPMENT = 64, 24
# Keywords that do not say what a thing is.
VAGUE = {"face", "zodiac", "celebration", "bar", "light", "breakfast", "oncoming", "animals", "nature"}
KINDS = {
    "animal": ("animal",),
    "animal-bird": ("bird",),
    "plant": ("plant",),
    "plant-flower": ("flower",),
    "food": ("food",),
    "food-fruit": ("fruit",),
    "food-vegetable": ("vegetable",),
    "drink": ("drink",),
    "place-building": ("building",),
    "transport": ("vehicle",),
    "tool": ("tool",),
}


@dataclass(frozen=True)
class Subject:
    """One thing of the world: its character, its name, and the general words that fit it (such as bird for an owl)."""

    character: str
    name: str
    keywords: tuple[str, ...]
    group: str

    @property
    def code(self) -> str:
        """The code point in hexadecimal, such as "1f989"."""
        return f"{ord(self.character):x}"

    @property
    def rank(self) -> str:
        """A fixed hash of the code point: orders subjects in a way nobody chose."""
        return hashlib.sha256(f"neologism emoji {self.code}".encode()).hexdigest()


def characters(unicode_set: str) -> list[str]:
    """The characters of a CLDR set such as "[🐀-🐈🐎]"."""
    body = unicode_set.strip().strip("[]")
    found: list[str] = []
    for first, last in re.findall(r"(.)(?:-(.))?", body):
        found += [chr(c) for c in range(ord(first), ord(last or first) + 1)]
    return found


@cache
def labels() -> dict[str, tuple[str, str]]:
    """Each character's CLDR group and subgroup."""
    result: dict[str, tuple[str, str]] = {}
    for line in (CLDR / "properties/labels.txt").read_text("utf-8").splitlines():
        fields = [field.strip() for field in line.split(";")]
        if len(fields) >= 3 and fields[0].startswith("[") and fields[1] in GROUPS:
            result |= {c: (fields[1], fields[2]) for c in characters(fields[0])}
    return result


@cache
def annotations() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Each character's English name and keywords."""
    names: dict[str, str] = {}
    keywords: dict[str, tuple[str, ...]] = {}
    for node in ElementTree.parse(CLDR / "annotations/en.xml").iter("annotation"):
        character, text = node.attrib["cp"], (node.text or "").lower()
        if node.attrib.get("type") == "tts":
            names[character] = text
        else:
            keywords[character] = tuple(word.strip() for word in text.split("|"))
    return {c: (name, keywords.get(c, ())) for c, name in names.items()}


def fits(name: str, label: str) -> bool:
    """Whether a character of this name and CLDR label is a thing with a plain short name."""
    plain = re.fullmatch(r"[a-z]+( [a-z]+){0,2}", name) is not None
    dropped = any(re.search(rf"\b{word}\b", name) for word in DROPPED_NAMES)
    return plain and not dropped and label not in DROPPED_LABELS


def kinds(label: str) -> tuple[str, ...]:
    """The general words of a CLDR label such as "animal-bird"."""
    return KINDS.get(label.split("-")[0], ()) + (KINDS.get(label, ()) if "-" in label else ())


@cache
def pool() -> tuple[Subject, ...]:
    """Every subject of the world, in the order of its fixed hash."""
    found = [
        Subject(c, annotations()[c][0], (*annotations()[c][1], *kinds(label)), group)
        for c, (group, label) in labels().items()
        if c in annotations() and fits(annotations()[c][0], label)
    ]
    return tuple(sorted(found, key=lambda subject: subject.rank))


def held_out() -> tuple[Subject, ...]:
    """The 64 subjects that never enter any training of the base: 24 for development, then 40 for the final measurement."""
    return pool()[:HELD_OUT]


def development() -> tuple[Subject, ...]:
    """The 24 held-out subjects on which the project may measure itself."""
    return pool()[:DEVELOPMENT]


def trained(count: int) -> tuple[Subject, ...]:
    """The `count` subjects the base is taught."""
    return pool()[HELD_OUT : HELD_OUT + count]


def general_words(subjects: tuple[Subject, ...], at_least: int = 4) -> dict[Subject, tuple[str, ...]]:
    """For each subject the one-word keywords it has in common with at least `at_least - 1` others."""
    counts = Counter(word for subject in subjects for word in set(subject.keywords))
    names = {subject.name for subject in subjects}
    return {
        subject: tuple(
            word
            for word in dict.fromkeys(subject.keywords)
            if counts[word] >= at_least and re.fullmatch("[a-z]{3,}", word) and word not in names | VAGUE
        )
        for subject in subjects
    }
