"""What a word sees at a step is a pure function of its seed and the step."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from neologism.batches import counted, picked, spread


def test_every_picture_is_shown_once_before_any_is_shown_again() -> None:
    shown = [row for step in range(6) for row in picked(3, step, 2, 4)]
    assert all(Counter(shown[i : i + 4]) == Counter(range(4)) for i in range(0, 12, 4))


def test_a_batch_larger_than_the_set_repeats_evenly() -> None:
    assert Counter(picked(0, 0, 8, 4)) == dict.fromkeys(range(4), 2)


def test_times_fall_one_in_each_stratum_of_the_band() -> None:
    shares = spread(1, 5, 8, (0.3, 1.0)).sort().values
    strata = ((shares - 0.3) / 0.7 * 8).long()
    assert strata.tolist() == list(range(8))


@pytest.mark.parametrize("other", [(1, 2), (2, 1)])
def test_draws_depend_on_seed_and_step_alone(other: tuple[int, int]) -> None:
    assert torch.equal(spread(1, 1, 4, (0.0, 1.0)), spread(1, 1, 4, (0.0, 1.0)))
    assert not torch.equal(spread(1, 1, 4, (0.0, 1.0)), spread(*other, 4, (0.0, 1.0)))


def test_counted_numbers_are_fixed_for_good() -> None:
    assert counted(0, "noise", 1) == counted(0, "noise", 1) != counted(0, "noise", 2)
    assert 0 <= counted("anything") < 2**63
