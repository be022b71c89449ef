"""A network that rests in a file computes what it computed in memory, and takes none while it rests."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from neologism.device import Limits
from neologism.families import open_model, pipelines, shelf, thrift
from neologism.generation import generate
from neologism.latents import fingerprint


def resident(file: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    blocks = Path("/proc/self/smaps").read_text("utf-8").split(str(file))[1:]
    return sum(int(re.search(r"Rss:\s+(\d+) kB", block)[1]) * 1024 for block in blocks)  # type: ignore[index]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's list of mapped files")
def test_a_shelved_network_takes_no_memory_until_it_computes_and_answers_the_same() -> None:
    network = nn.Sequential(nn.Linear(512, 512), nn.LayerNorm(512), nn.Linear(512, 512, dtype=torch.float32))
    network.requires_grad_(False)
    given = torch.randn(3, 512)
    expected = network(given)
    for _ in range(2):
        shelf.shelve(network)
        file = shelf.FILES[network][0]
        assert resident(file) == 0
        assert torch.equal(network(given), expected) and resident(file) >= 2 * 512 * 512 * 4
    del network
    gc.collect()
    assert not file.exists()


def test_a_network_whose_weights_were_halved_since_is_shelved_anew() -> None:
    network = nn.Sequential(nn.Linear(8, 8)).requires_grad_(False)
    shelf.shelve(network)
    first = shelf.FILES[network][0]
    thrift.rest([network])
    expected = network(torch.ones(1, 8))
    shelf.shelve(network)
    assert shelf.FILES[network][0] != first and torch.equal(network(torch.ones(1, 8)), expected)


@pytest.mark.parametrize("halved", [False, True])
def test_a_model_whose_vae_rests_in_a_file_is_and_draws_the_same(tiny_base: Path, halved: bool) -> None:
    models = [
        open_model(str(tiny_base), "cpu", "fp32", limits=Limits(vae_away=away, half_weights=halved))
        for away in (False, True)
    ]
    shelved = models[1].parts()["vae"]
    assert shelved in shelf.FILES and models[0].parts()["vae"] not in shelf.FILES
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    assert all(torch.equal(a, b) for a, b in zip(*(model.encode(pixels) for model in models), strict=True))
    pictures = [generate(model, "a cat", steps=2)[0].tobytes() for model in models]
    assert pictures[0] == pictures[1]
    assert fingerprint(models[0].parts()["vae"]) == fingerprint(shelved)
    pipelines.put_away(shelved, models[1].machine)
