"""Embedding fine-tuning: what goes into the text encoders, and what is in them, learns as differences; the denoiser stays frozen."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AddedToken

from neologism.embedding import Embedding
from neologism.families.model import Encoder, Model
from neologism.methods import Values, files
from neologism.methods.dreambooth import place

SCOPES = ("words", "table", "input", "encoder")
LEAST = 1e-3  # the unit of a tensor of zeros, as biases are


class RowsBeside(nn.Module):
    """A frozen table of tokens with differences added to some of its rows, and new rows behind it; all counted in `unit`."""

    def __init__(self, table: nn.Module, ids: Tensor, differences: Tensor, starts: Tensor, new: Tensor, unit: float):
        super().__init__()
        self.table, self.differences, self.starts, self.new, self.unit = table, differences, starts, new, unit
        places = torch.full((self.first,), len(ids), dtype=torch.long)
        places[ids] = torch.arange(len(ids))
        self.places = places.to(table.weight.device)  # type: ignore[arg-type]

    @property
    def weight(self) -> Tensor:
        """The frozen table [tokens, width], for those who ask its dtype or width."""
        return self.table.weight  # type: ignore[return-value]

    @property
    def first(self) -> int:
        """The id of the first new row."""
        return len(self.weight)

    @property
    def end(self) -> int:
        """The id behind the last."""
        return self.first + len(self.starts)

    def forward(self, ids: Tensor) -> Tensor:
        """Rows [..., width] of ids [...]."""
        new, known = ids >= self.first, ids.clamp(max=self.first - 1)
        padded = F.pad(self.differences, (0, 0, 0, 1))  # one row of zeros more, for all tokens that do not move
        # Not padded[...] nor added[...]: their backward pass sums in whatever order the threads come.
        rows = self.table(known) + (F.embedding(self.places[known], padded) * self.unit).to(self.weight.dtype)
        if not len(self.starts):
            return rows
        added = (self.starts + self.new * self.unit).to(rows.dtype)
        return torch.where(new.unsqueeze(-1), F.embedding((ids - self.first).clamp_min(0), added), rows)


@dataclass(frozen=True)
class Tuned:
    """Which tokens of an encoder move, and the new words it gets, in order."""

    tokens: tuple[int, ...]
    new: tuple[str, ...] = ()


class TextSide:
    """Differences of tokens' rows ("KEY.rows"), new words' rows ("KEY.new") and other tensors ("PART.NAME") from the base's.

    Each is counted in its tensor's own typical number (root mean square), so that one learning rate suits all of them. `spelled`
    is the known word that a new one stands for, "" where captions are learned from.
    """

    def __init__(
        self, model: Model, scope: str, tuned: Mapping[str, Tuned], starts: Mapping[str, Tensor], spelled: str = ""
    ):
        self.model, self.scope, self.tuned, self.starts, self.spelled = model, scope, tuned, starts, spelled
        self.inside = 0
        self.units = {e.key: typical(e.known_rows()) for e in model.encoders}
        device, encoders = model.machine.device, {e.key: e for e in model.encoders}
        self.weights: dict[str, nn.Parameter] = {}
        for key, which in tuned.items():
            shapes = {"rows": len(which.tokens), "new": len(which.new)}
            for name, count in shapes.items():
                if count:
                    self.weights[f"{key}.{name}"] = nn.Parameter(torch.zeros(count, encoders[key].width, device=device))
        self.others = {name: typical(tensor) for name, tensor in beside_the_table(model, scope)}
        for name, tensor in beside_the_table(model, scope):
            self.weights[name] = nn.Parameter(torch.zeros(tensor.shape, device=device))

    @contextlib.contextmanager
    def opened(self) -> Generator[None]:
        """Have the differences in the text encoders until the block ends; blocks within blocks add nothing."""
        self.inside += 1
        try:
            if self.inside > 1:
                yield
                return
            with contextlib.ExitStack() as undo:
                for encoder in self.model.encoders:
                    undo.enter_context(self.beside(encoder))
                for name in self.others:
                    undo.enter_context(self.shadowed(name))
                yield
        finally:
            self.inside -= 1

    @contextlib.contextmanager
    def beside(self, encoder: Encoder) -> Generator[None]:
        """Have an encoder's table with its differences and new words until the block ends."""
        which, table, module, known = self.tuned.get(encoder.key), encoder.table, encoder.module, encoder.taught
        if which is None:
            yield
            return
        none = torch.zeros(0, encoder.width, device=self.model.machine.device)
        rows, new = (self.weights.get(f"{encoder.key}.{name}", none) for name in ("rows", "new"))
        starts = torch.cat([none, *(self.starts[f"{encoder.key}.{word}"].to(none) for word in which.new)])
        beside = RowsBeside(
            table, torch.tensor(which.tokens, dtype=torch.long), rows, starts, new, self.units[encoder.key]
        )
        module.set_input_embeddings(beside)  # type: ignore[operator]
        encoder.taught = known | {word.lower(): (beside.first + number,) for number, word in enumerate(which.new)}
        try:
            yield
        finally:
            module.set_input_embeddings(table)  # type: ignore[operator]
            encoder.taught = known

    @contextlib.contextmanager
    def shadowed(self, name: str) -> Generator[None]:
        """Have a module compute with base + difference until the block ends: an attribute of its own hides the registered tensor."""
        (module, leaf), unit = place(self.model, name), self.others[name]
        base = dict(module.named_parameters(recurse=False))[leaf].detach()

        def before(*_: Any) -> None:
            module.__dict__[leaf] = (base.float() + self.weights[name] * unit).to(base.dtype)

        hook = module.register_forward_pre_hook(before)
        try:
            yield
        finally:
            hook.remove()
            module.__dict__.pop(leaf, None)

    def learned(self, key: str, values: Values) -> Tensor:
        """An encoder's new words' rows [n, width], float32, on the CPU."""
        starts = torch.cat([self.starts[f"{key}.{word}"].cpu() for word in self.tuned[key].new])
        return starts + values[f"{key}.new"].detach().cpu() * self.units[key]

    def save(self, values: Values, word: str, embedding: Embedding | None, folder: Path) -> list[Path]:
        """tuned.safetensors: of each table only the rows that moved, with their ids; new words' rows; other tensors' differences."""
        tensors, told = self.changed(values)
        return [files.written(tensors, told | {"word": word, "base": self.model.name}, folder / "tuned.safetensors")]

    def changed(self, values: Values) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What a file holds: differences in the base's own numbers, and what is told of them."""
        tensors = {name: values[name].cpu() * unit for name, unit in self.others.items()}
        tokens: dict[str, list[str]] = {}
        for encoder in self.model.encoders:
            which, key = self.tuned.get(encoder.key, Tuned(())), encoder.key
            if which.tokens:
                moved = (values[f"{key}.rows"] != 0).any(1).cpu()
                ids = torch.tensor(which.tokens)[moved]
                tensors |= {f"{key}.ids": ids, f"{key}.rows": values[f"{key}.rows"].cpu()[moved] * self.units[key]}
                tokens[key] = encoder.tokenizer.convert_ids_to_tokens(ids.tolist())
            if which.new:
                tensors[f"{key}.new"] = self.learned(key, values)
        new = {key: list(which.new) for key, which in self.tuned.items() if which.new}
        return tensors, {
            "method": "embedding",
            "scope": self.scope,
            "spelled": self.spelled,
            "tokens": json.dumps(tokens),
            "new": json.dumps(new),
        }


def typical(tensor: Tensor) -> float:
    """The root mean square of a tensor's numbers."""
    return max(float(tensor.detach().float().pow(2).mean().sqrt()), LEAST)


def beside_the_table(model: Model, scope: str) -> list[tuple[str, Tensor]]:
    """What else learns with a scope, by "PART.NAME": with "input" position embeddings, with "encoder" all but the tables."""
    if scope not in ("input", "encoder"):
        return []
    found: list[tuple[str, Tensor]] = []
    for part, network in model.parts().items():
        if part.startswith("text_encoder"):
            table: Any = network.get_input_embeddings()  # type: ignore[operator]
            while hasattr(table, "table"):
                table = table.table
            own = [(f"{part}.{n}", t) for n, t in network.named_parameters() if t is not table.weight]
            found += [(n, t) for n, t in own if scope == "encoder" or "position_embedding" in n]
    return found


def begun(model: Model, scope: str, words: Sequence[str], spelled: str = "") -> TextSide:
    """Fine-tuning at its start: every difference is zero, and a new word is the mean of the pieces it was written with."""
    tuned: dict[str, Tuned] = {}
    starts: dict[str, Tensor] = {}
    for encoder in model.encoders:
        pieces = {word: encoder.pieces(word) for word in words}
        new = tuple(word for word, ids in pieces.items() if len(ids) != 1)
        starts |= {f"{encoder.key}.{w}": encoder.known_rows()[pieces[w]].mean(0, keepdim=True).cpu() for w in new}
        known = sorted({ids[0] for ids in pieces.values() if len(ids) == 1})
        every = range(len(encoder.known_rows())) if scope != "words" else known
        tuned[encoder.key] = Tuned(tuple(every), new)
    return TextSide(model, scope, tuned, starts, spelled)


def loaded(model: Model, tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> TextSide:
    """What a file holds, filled in."""
    new: dict[str, list[str]] = json.loads(told.get("new", "{}"))
    tuned = {
        e.key: Tuned(
            tuple(tensors[f"{e.key}.ids"].tolist()) if f"{e.key}.ids" in tensors else (), tuple(new.get(e.key, ()))
        )
        for e in model.encoders
    }
    starts = {f"{k}.{w}": tensors[f"{k}.new"][n : n + 1] for k, words in new.items() for n, w in enumerate(words)}
    made = TextSide(model, told["scope"], tuned, starts, told.get("spelled", ""))
    with torch.no_grad():
        for name, weight in made.weights.items():
            if not name.endswith(".new"):  # whose starts are the learned rows
                unit = (
                    made.units[name.removesuffix(".rows")]
                    if name in {f"{k}.rows" for k in made.units}
                    else made.others[name]
                )
                weight.copy_(tensors[name] / unit)
    return made


def merge(made: TextSide) -> None:
    """Write the differences into the model itself for good; new words become tokens of its tokenizers."""
    for name, unit in made.others.items():
        module, leaf = place(made.model, name)
        base = dict(module.named_parameters(recurse=False))[leaf]
        base.data = (base.float() + made.weights[name].detach() * unit).to(base.dtype)
    for encoder in made.model.encoders:
        which, weight = made.tuned.get(encoder.key, Tuned(())), made.weights.get(f"{encoder.key}.rows")
        if weight is not None:
            table: Any = encoder.table
            table.weight.data[list(which.tokens)] += weight.detach() * made.units[encoder.key]
        for number, word in enumerate(which.new):
            add_token(encoder, word, made.learned(encoder.key, made.weights)[number])


def add_token(encoder: Encoder, word: str, row: Tensor) -> None:
    """Give a tokenizer a word and its table the row [width]."""
    module: Any = encoder.module
    # Whole words only, so that it does not match inside longer ones; in whatever case the tokenizer reads.
    encoder.tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True)])
    number = encoder.tokenizer.convert_tokens_to_ids(word)
    if number >= len(encoder.known_rows()):
        module.resize_token_embeddings(number + 1, mean_resizing=False)
    table: Any = encoder.table
    table.weight.data[number] = row.to(table.weight.dtype)
