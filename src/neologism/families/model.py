"""What every family of models answers, and its text encoders."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from neologism.device import Machine
from neologism.errors import WordError
from neologism.framing import Frame
from neologism.noise import Noise


@dataclass
class Encoder:
    """One text encoder with its tokenizer, and the words it has been taught for a while.

    Attributes:
        key: its name in files and in `Embedding.vectors`, such as "clip_l".
        width: how many numbers a token's row has.
        taught: ids of each taught word, by its lower-case writing; set by `vocabulary.taught` alone.
        most: how many tokens a prompt may have where the tokenizer does not know it.
    """

    key: str
    tokenizer: Any
    module: nn.Module
    width: int
    taught: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    most: int | None = None

    @functools.cached_property
    def whole_words(self) -> list[int]:
        """Ids of the tokens that are words of three or more plain letters by themselves."""
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        return sorted(i for token, i in vocabulary.items() if len(bare(token)) >= 3 and is_whole(token))

    @functools.cached_property
    def word_ids(self) -> dict[str, int]:
        """The id of each whole word, by its plain writing."""
        names: list[str] = self.tokenizer.convert_ids_to_tokens(self.whole_words)
        return {bare(name): i for name, i in zip(names, self.whole_words, strict=True)}

    @functools.cached_property
    def directions(self) -> Tensor:
        """The rows of the whole words at length 1: [words, width], float32, on the CPU. The table is frozen, so they last."""
        return torch.nn.functional.normalize(self.known_rows()[self.whole_words].cpu(), dim=1)

    def known_rows(self) -> Tensor:
        """The frozen table [tokens, width], float32, without any taught word."""
        table: Any = self.table
        while hasattr(table, "table"):
            table = table.table
        return table.weight.detach().float()

    @property
    def limit(self) -> int:
        """How many tokens a prompt may have, start and end included."""
        return self.most or int(self.tokenizer.model_max_length)

    @property
    def first(self) -> list[int]:
        """What every prompt begins with: CLIP's start token; T5 has none."""
        start = self.tokenizer.bos_token_id
        return [] if start is None else [start]

    @property
    def table(self) -> nn.Module:
        """The token embedding table, by the one address that all versions of transformers share."""
        return self.module.get_input_embeddings()  # type: ignore[operator]

    def pieces(self, text: str) -> list[int]:
        """The ids of a text that holds no taught word, without start and end."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text.strip() else []

    def tokens(self, prompt: str) -> list[int]:
        """The ids of a prompt, each taught word in place, without start and end."""
        if not self.taught:
            return self.pieces(prompt)
        ids: list[int] = []
        for part in split_at_words(prompt, self.taught):
            ids += self.taught.get(part.lower(), ()) or self.pieces(part)
        return ids

    def ids(self, prompts: Sequence[str]) -> Tensor:
        """Token ids [n, limit], int64, of the prompts, framed by start and end and padded.

        Raises:
            WordError: a prompt has more tokens than fit.
        """
        return torch.tensor([self.framed(prompt) for prompt in prompts])

    def framed(self, prompt: str) -> list[int]:
        """The ids of one prompt with start, end and padding."""
        ids, room = self.tokens(prompt), self.limit - len(self.first) - 1
        if len(ids) > room:
            raise WordError(
                f"The prompt {shortened(prompt)!r} has {len(ids)} tokens and {room} fit (a taught word counts one for each vector). "
                f"Leave out about {len(ids) - room}, or use a word of fewer vectors."
            )
        end = self.tokenizer.eos_token_id
        padding = end if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        return [*self.first, *ids, end] + [padding] * (room - len(ids))


def bare(token: str) -> str:
    """A token of CLIP's BPE or of SentencePiece without its mark of a word's end or start."""
    return token.removesuffix("</w>").lstrip("\u2581")


def is_whole(token: str) -> bool:
    """Whether a token is a whole plain word."""
    return bare(token) != token and bare(token).isascii() and bare(token).isalpha()


def split_at_words(prompt: str, words: Iterable[str]) -> list[str]:
    """The prompt cut around the words, whatever their case; a word never matches inside a longer one."""
    longest_first = sorted(words, key=len, reverse=True)
    patterns = (rf"(?<!\w){re.escape(w)}(?!\w)" if w[0].isalnum() else re.escape(w) for w in longest_first)
    return re.split(f"({'|'.join(patterns)})", prompt, flags=re.IGNORECASE)


def shortened(text: str, most: int = 60) -> str:
    """The text, cut where it is long."""
    return text if len(text) <= most else text[: most - 3] + "..."


@dataclass(frozen=True)
class Conditioning:
    """What a denoiser is told: `context` [n, tokens, width], and what else the family needs."""

    context: Tensor
    more: Any = None


class Model(Protocol):
    """A text-to-image model, frozen: facts and acts, the same for every family."""

    @property
    def name(self) -> str:
        """What the user called it: "emoji", a folder, a hub id."""
        ...

    @property
    def family(self) -> str:
        """The family's name, such as "stable-diffusion"."""
        ...

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """Its text encoders."""
        ...

    @property
    def noise(self) -> Noise:
        """Its rule of noise."""
        ...

    @property
    def size(self) -> int:
        """The native side of its pictures, in pixels."""
        ...

    @property
    def multiple(self) -> int:
        """The number of pixels that a side must be a multiple of."""
        ...

    @property
    def grid(self) -> int:
        """The number of pixels that both sides of a picture of any shape are multiples of, so that no level of the denoiser is cut."""
        ...

    @property
    def longest(self) -> int | None:
        """The longest side in pixels that the denoiser takes, if there is one."""
        ...

    @property
    def machine(self) -> Machine:
        """Where it computes."""
        ...

    @property
    def pipe(self) -> Any:
        """The diffusers pipeline that holds its parts."""
        ...

    @property
    def spoken(self) -> tuple[Encoder, ...]:
        """The encoders whose tokens the denoiser is told, one after another."""
        ...

    def parts(self) -> dict[str, nn.Module]:
        """Its frozen networks by name."""
        ...

    def save_memory(self, lightly: bool = False) -> None:
        """From now on, compute activations twice instead of keeping them for the backward pass: all, or those quick to make."""
        ...

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and deviation [n, c, h, w] of pixels [n, 3, h, w] in -1..1."""
        ...

    def scale(self, sample: Tensor) -> Tensor:
        """A posterior sample as the latents the denoiser works on."""
        ...

    def condition(self, prompts: Sequence[str], frames: Sequence[Frame]) -> Conditioning:
        """What the denoiser is told of the prompts; gradients reach the rows of taught words."""
        ...

    def predict(self, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        """The denoiser's answer [n, c, h, w], float32."""
        ...

    def draw(
        self, prompts: Sequence[str], negatives: Sequence[str], seeds: Sequence[int], steps: int, guidance: float,
        size: tuple[int, int] | None = None,
    ) -> list[Any]:  # fmt: skip
        """One PIL picture a prompt, by the family's own diffusers pipeline; each from its own seed.

        `size` is width and height in pixels, multiples of `multiple`; the native square where not given.
        """
        ...
