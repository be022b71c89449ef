"""Which method a recipe or a file of weights names."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path

from torch import Tensor, nn

from neologism.allowed import CAPTIONS
from neologism.errors import EmbeddingError, ModelError
from neologism.families import places
from neologism.families.model import Model
from neologism.methods import Method, dreambooth, files, lora, text_side
from neologism.methods.identifier import identifier, spelled
from neologism.methods.inversion import Inversion
from neologism.recipe import Recipe

RATES = {"dreambooth": 5e-6, "lora": 1e-4}
SHARES = {"words": 0.05, "table": 0.02, "input": 0.02, "encoder": 0.002}
"""Rates of embedding fine-tuning by scope, each as a share of a tensor's typical number."""


def method(model: Model, recipe: Recipe, like: str, said: Sequence[str]) -> Method:
    """The recipe's method at its start; `said` are the texts that an automatic identifier must not occur in.

    Raises:
        WordError: the tokenizer has no identifier.
        RecipeError: the recipe's targets are not in the model.
    """
    if recipe.method == "dreambooth":
        rare = identifier(model.encoders[0], recipe.identifier, [like, *said])
        return dreambooth.begun(model, recipe.scope or "cross", recipe.text_encoder, f"{rare} {like}")
    if recipe.method == "lora":
        chosen = lora.targets(model, recipe.scope or "attention", recipe.targets, recipe.text_encoder)
        return lora.Adapters(model, chosen, recipe.rank, recipe.alpha or recipe.rank, recipe.seed % 2**63)
    if recipe.method == "embedding":
        # Of one thing's pictures it is the class word that learns to mean them.
        spelled = "" if recipe.words == (CAPTIONS,) else like
        return text_side.begun(model, recipe.scope or "words", recipe.tuned or tuple(spelled.split()), spelled)
    return Inversion()


def weights_rate(recipe: Recipe) -> float:
    """The top learning rate of the recipe's weights: as given, as the base's own folder advises, or the usual one."""
    if recipe.method == "embedding":
        one_thing = recipe.words != (CAPTIONS,) and recipe.scope in (None, "words")
        return recipe.weights_rate or (recipe.learning_rate if one_thing else SHARES[recipe.scope or "words"])
    return recipe.weights_rate or places.advised(recipe.base).get(recipe.method) or RATES.get(recipe.method, 0.0)


def opened(model: Model, file: Path) -> tuple[Method, str]:
    """The method of a file of weights, filled, and its word.

    Raises:
        EmbeddingError: the file is missing or holds no weights of this package.
        ModelError: they do not fit the model.
    """
    tensors, told = files.read(file)
    check(model, tensors, file, told.get("method", ""))
    if told["method"] == "lora":
        return lora.loaded(model, tensors), told["word"]
    if told["method"] == "embedding":
        return text_side.loaded(model, tensors, told), told["word"]
    device = model.machine.device
    return dreambooth.Differences(model, {n: t.to(device) for n, t in tensors.items()}, told["spelled"]), told["word"]


def check(model: Model, tensors: dict[str, Tensor], file: Path, kind: str) -> None:
    """Refuse a file of another method or for another model."""
    adapters = kind == "lora" and any(name.endswith(".lora_A.weight") for name in tensors)
    if not adapters and kind not in ("dreambooth", "embedding"):
        raise EmbeddingError(
            f"{file} is of the method {kind!r}; dreambooth, lora and embedding can be used. Learn it again with one of these."
        )
    has = {f"{part}.{name}": t for part, network in model.parts().items() for name, t in network.named_parameters()}
    if kind == "embedding":
        check_rows(model, tensors, file)
    for name, tensor in tensors.items():
        if kind == "embedding" and name.rpartition(".")[2] in ("ids", "rows", "new"):
            continue
        base = has.get(re_based(name) if adapters else name)
        axis = 0 if ".lora_B." in name else 1
        if base is None or (tensor.shape[axis] != base.shape[axis] if adapters else tensor.shape != base.shape):
            raise unfit(model, file, name)


def check_rows(model: Model, tensors: dict[str, Tensor], file: Path) -> None:
    """Refuse rows of another model's tables."""
    for name, tensor in tensors.items():
        key, _, kind = name.rpartition(".")
        if kind in ("ids", "rows", "new"):
            known = next((e.known_rows() for e in model.encoders if e.key == key), None)
            wide = known is not None and (kind == "ids" or tensor.shape[1] == known.shape[1])
            if not wide or (kind == "ids" and len(tensor) and int(tensor.max()) >= len(known)):  # type: ignore[arg-type]
                raise unfit(model, file, name)


def unfit(model: Model, file: Path, name: str) -> ModelError:
    """The complaint about a file that is of another model."""
    return ModelError(f"{file} does not fit {model.name} (at {name}). Use the base model that it was learned on.")


def re_based(name: str) -> str:
    """The name of the base's tensor that an adapter stands beside."""
    return name.removesuffix(".lora_A.weight").removesuffix(".lora_B.weight") + ".weight"


@contextlib.contextmanager
def applied(model: Model, path: Path | None) -> Generator[None]:
    """Have a file's weights in the model, and the word it spells known, until the block ends; nothing where there is none."""
    if path is None:
        yield
        return
    found, word = opened(model, path)
    with spelled(model, word, found.spelled), found.opened():
        yield


def merge(model: Model, path: Path) -> str:
    """Write a file's weights into the model itself for good, which is then no longer frozen's base; what its word is spelled.

    Meant for a model that is saved and dropped afterwards.
    """
    found, _ = opened(model, path)
    if isinstance(found, lora.Adapters):
        for name, (plain, _) in found.layers.items():
            low, high = (found.weights[f"{name}.{s}.weight"].detach() for s in lora.SIDES)
            add(plain, "weight", high @ low)
    elif isinstance(found, text_side.TextSide):
        text_side.merge(found)
    elif isinstance(found, dreambooth.Differences):
        for name, (module, leaf) in found.places.items():
            add(module, leaf, found.weights[name].detach())
    return found.spelled


def add(module: nn.Module, leaf: str, difference: Tensor) -> None:
    """Base + difference in the base's place."""
    base = dict(module.named_parameters(recurse=False))[leaf]
    base.data = dreambooth.summed(base, difference)
