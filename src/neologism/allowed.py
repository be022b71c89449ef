"""What values settings may have, where more than a type and a range must be said."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neologism.recipe import Recipe

Words = tuple[str, ...]
CAPTIONS = "<captions>"
"""What stands in the place of a word where captioned pictures of a domain are learned from; no prompt holds it."""


def counted(things: Words, name: str) -> str:
    """How many there are, in words: "no folder", "1 folder", "2 folders"."""
    return f"{len(things) or 'no'} {name}{'s' if len(things) > 1 else ''}"


def memory(value: str) -> str:
    """A number of gigabytes, or "auto".

    Raises:
        ValueError: it is something else.
    """
    if value not in ("", "auto") and not re.fullmatch(r"\d+(\.\d+)?gb", value):
        raise ValueError(f"found {value!r}; auto, or gigabytes such as 8gb are allowed")
    return value


def counts(value: Words) -> Words:
    """Names of encoders, or each with a number of vectors.

    Raises:
        ValueError: one is something else.
    """
    for text in value:
        name, sign, count = text.partition("=")
        if not name or (sign and not (count.isdecimal() and 1 <= int(count) <= 64)):
            raise ValueError(f"found {text!r}; write an encoder's name, or NAME=N with N in 1..64")
    return value


def places(value: Words) -> Words:
    """Prompts with a place for the word.

    Raises:
        ValueError: one has none.
    """
    without = [prompt for prompt in value if "{}" not in prompt]
    if without:
        raise ValueError(f"found {without[0]!r} without {{}}; write {{}} where the word goes")
    return value


def check_words(recipe: Recipe) -> None:
    """Refuse a number of pictures, words or starts that do not go together.

    Raises:
        ValueError: with what is wrong.
    """
    if len(recipe.pictures) != len(recipe.words):
        raise ValueError(
            f"found {counted(recipe.pictures, 'folder')} of pictures and {counted(recipe.words, 'word')}; "
            "give each folder its word, such as <my-mug>"
        )
    if len({word.lower() for word in recipe.words}) < len(recipe.words):
        raise ValueError("two words are the same; case does not tell words apart")
    for name, given in (("like", recipe.like), ("from", recipe.start_from)):
        if len(given) not in (0, 1, len(recipe.words)):
            raise ValueError(
                f"found {len(given)} of {name!r} for {len(recipe.words)} words; give one for all or one for each"
            )


def check_method(recipe: Recipe) -> None:
    """Refuse what a method that learns weights cannot do.

    Raises:
        ValueError: with what is wrong.
    """
    method = recipe.method
    if recipe.contrastive and (len(recipe.words) > 1 or not recipe.prior):
        raise ValueError(
            f"found contrastive = {recipe.contrastive:g}, which sets one word against pictures of its class; "
            "give one word, its class as like, and class_pictures"
        )
    vague = [like for like in recipe.like if like in ("auto", "normal", "uniform")]
    of_class = method == "dreambooth" or (method == "embedding" and recipe.words != (CAPTIONS,))
    if vague and recipe.words and (of_class or recipe.prior):
        raise ValueError(
            f"found like = {vague[0]!r}; method {method!r} needs the word of the pictures' class here; give like, such as dog"
        )
    check_scope(recipe)
    if method == "inversion":
        return
    if len(recipe.words) > 1:
        raise ValueError(
            f"found {len(recipe.words)} words with method {method!r}, which learns one at a time; give one word"
        )
    if recipe.quantised != "none" or recipe.streamed:
        raise ValueError(
            f"method {method!r} learns weights, which must be whole and at hand; leave out quantised and streamed"
        )
    if method in ("dreambooth", "embedding") and recipe.half_weights:
        raise ValueError(f"method {method!r} learns weights, which must not be rounded; leave out half_weights")
    if method == "dreambooth" and recipe.start_from:
        raise ValueError("method 'dreambooth' learns no vectors, so there is nothing to go on from; leave out from")


OF_TEXT, OF_DENOISER = ("words", "table", "input", "encoder"), ("cross", "attention", "denoiser")
SCOPES = {"embedding": OF_TEXT, "dreambooth": OF_DENOISER, "lora": OF_DENOISER}


def check_scope(recipe: Recipe) -> None:
    """Refuse a scope of another method.

    Raises:
        ValueError: with what is allowed.
    """
    known = SCOPES.get(recipe.method, ())
    if recipe.scope and known and recipe.scope not in known:
        raise ValueError(f"found scope {recipe.scope!r} with method {recipe.method!r}; {', '.join(known)} are allowed")


def check_weights(recipe: Recipe) -> None:
    """Refuse more than one way to store frozen weights, and weights at rest where weights learn.

    Raises:
        ValueError: with what is wrong.
    """
    others = ["streamed"] if recipe.streamed else []
    others += ["quantised"] if recipe.quantised != "none" else []
    others += [f"method {recipe.method!r}"] if recipe.method != "inversion" else []
    if recipe.half_weights and others:
        raise ValueError(
            f"found half_weights with {others[-1]}; weights are kept in one way only, so leave one of them out"
        )


def unknown_setting(name: str, known: list[str]) -> str:
    """What is said of a setting nobody knows."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known are: {', '.join(known)}."
    return f"There is no setting {name!r}. {hint}"


def told(mistake: Any) -> str:
    """One of pydantic's complaints as a sentence."""
    name = ".".join(str(part) for part in mistake["loc"]) or "recipe"
    text = str(mistake["msg"]).removeprefix("Value error, ")
    return f"{name}: {text[0].lower()}{text[1:]}" + (f" (found {mistake['input']!r})." if mistake["loc"] else ".")
