"""What is said about a photo at a step: a template, or the photo's own caption, always with the word in it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Literal

from neologism.errors import PhotosError
from neologism.photos import Photo

Kind = Literal["object", "style"]
Source = Literal["auto", "templates", "files"]

OBJECT_TEMPLATES = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the small {}",
    "a photo of the weird {}",
    "a photo of the large {}",
    "a photo of a cool {}",
    "a photo of a small {}",
)
"""The templates of the paper's own code for a thing, each once."""

STYLE_TEMPLATES = (
    "a painting in the style of {}",
    "a rendering in the style of {}",
    "a cropped painting in the style of {}",
    "the painting in the style of {}",
    "a clean painting in the style of {}",
    "a dirty painting in the style of {}",
    "a dark painting in the style of {}",
    "a picture in the style of {}",
    "a cool painting in the style of {}",
    "a close-up painting in the style of {}",
    "a bright painting in the style of {}",
    "a good painting in the style of {}",
    "a rendition in the style of {}",
    "a nice painting in the style of {}",
    "a small painting in the style of {}",
    "a weird painting in the style of {}",
    "a large painting in the style of {}",
)
"""The same for a style."""

TEMPLATES = {"object": OBJECT_TEMPLATES, "style": STYLE_TEMPLATES}


def prompt(
    word: str,
    kind: Kind,
    own: str | None,
    source: Source,
    drop: float,
    chance: random.Random,
    templates: Sequence[str] = (),
) -> str:
    """The prompt for one sample.

    Args:
        word: the word being learned.
        kind: which templates are meant.
        own: the photo's own caption, if it has one.
        source: "templates" never uses `own`, "auto" does where there is one, "files" must.
        drop: the share of prompts that are the word alone.
        chance: where the choices come from.
        templates: prompts with {} for the word, instead of those of the kind.

    Raises:
        PhotosError: the source is "files" and there is no caption (`check_captions` tells which photo).
    """
    if source == "files" and own is None:
        raise PhotosError('A picture has no caption, and captions = "files" allows no other. Write one, or use "auto".')
    if chance.random() < drop:
        return word
    if own is None or source == "templates":
        return chance.choice(templates or TEMPLATES[kind]).replace("{}", word)
    return with_word(own, word)


def with_word(caption: str, word: str) -> str:
    """The caption with the word in it: as it is, in place of {}, or added at the end."""
    if "{}" in caption:
        return caption.replace("{}", word)
    return caption if says(caption, word) else f"{caption.rstrip(' ,.')}, {word}"


def says(caption: str, word: str) -> bool:
    """Whether a caption holds the word, whatever the case; "cat" is not in "concatenate"."""
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", word) else ""
    return re.search(before + re.escape(word) + after, caption, re.IGNORECASE) is not None


def check_captions(photos: Sequence[Photo], word: str, source: Source) -> list[str]:
    """What the user should know of the photos' captions, in sentences.

    Raises:
        PhotosError: the source is "files" and a photo has no caption; it names the file that is missing.
    """
    own = [photo for photo in photos if photo.caption is not None]
    bare = [photo for photo in photos if photo.caption is None]
    if source == "templates":
        return [f'The captions of {names(own)} are not used, since captions = "templates".'] if own else []
    if source == "files" and bare:
        missing = bare[0].path.with_suffix(".txt")
        others = f" (nor beside {len(bare) - 1} more)" if len(bare) > 1 else ""
        raise PhotosError(
            f'captions = "files" needs a text file beside every picture, but {missing} is missing or empty{others}. '
            'Write it, or set captions to "auto".'
        )
    mute = [photo for photo in own if "{}" not in str(photo.caption) and not says(str(photo.caption), word)]
    said = [f"{word} is added at the end of the captions of {names(mute)}; write {{}} where it goes."] if mute else []
    return said + ([f"No caption beside {names(bare)}; templates are used there."] if own and bare else [])


def names(photos: Sequence[Photo]) -> str:
    """The photos' file names, the first three by name."""
    shown = [photo.path.name for photo in photos[:3]]
    if len(photos) > 3:
        return f"{', '.join(shown)} and {len(photos) - 3} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
