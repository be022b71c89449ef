"""The noise rule against diffusers' own."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from neologism.errors import ModelError
from neologism.noise import discrete_noise, flow_noise
from neologism.optimizer import keep_length, rate
from neologism.stopping import converged, gained, reason_to_stop


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_and_target_are_as_diffusers_has_them(prediction: str) -> None:
    scheduler = DDPMScheduler(prediction_type=prediction)
    rule = discrete_noise(scheduler)
    latents, noise, times = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 500, 999])
    assert torch.allclose(rule.add(latents, noise, times), scheduler.add_noise(latents, noise, times), atol=1e-6)
    target = noise if prediction == "epsilon" else scheduler.get_velocity(latents, noise, times)
    assert torch.allclose(rule.target(latents, noise, times), target, atol=1e-6)


def test_shares_of_the_noise_scale_become_timesteps() -> None:
    rule = discrete_noise(DDPMScheduler())
    assert rule.times(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0, 500, 999]


def test_min_snr_weights_are_those_of_the_paper() -> None:
    scheduler = DDPMScheduler(prediction_type="epsilon")
    times = torch.tensor([10, 400, 900])
    ratio = scheduler.alphas_cumprod[times] / (1 - scheduler.alphas_cumprod[times])
    assert torch.allclose(discrete_noise(scheduler).min_snr(times), ratio.clamp(max=5) / ratio, rtol=1e-4)


def test_weights_are_finite_where_no_signal_is_left() -> None:
    for prediction in ("epsilon", "v_prediction"):
        scheduler = DDIMScheduler(prediction_type=prediction, rescale_betas_zero_snr=True)
        assert torch.isfinite(discrete_noise(scheduler).min_snr(torch.tensor([999]))).all()


def test_a_scheduler_that_predicts_the_sample_is_refused() -> None:
    with pytest.raises(
        ModelError, match="The model's scheduler predicts 'sample'; epsilon and v_prediction can be trained."
    ):
        discrete_noise(DDPMScheduler(prediction_type="sample"))


def test_the_rate_is_hot_then_cold() -> None:
    hot = [rate("hot_then_cold", p) for p in (0, 0.3, 0.6, 1.0)]
    assert hot[0] == hot[1] == 1.0 and hot[1] > hot[2] > hot[3] == pytest.approx(0.05)
    assert rate("constant", 0.9) == 1.0
    assert rate("cosine", 1.0) == pytest.approx(0.05)


def test_norm_rules() -> None:
    rows = torch.tensor([[3.0, 4.0]])
    keep_length(rows, "fixed", 1.0, 0.1)
    assert rows.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]
    keep_length(rows, "drawn", 2.0, 0.05)
    assert float(rows.norm()) == pytest.approx(1.5)
    keep_length(rows, "free", 9.0, 1.0)
    assert float(rows.norm()) == pytest.approx(1.5)


def test_a_word_stops_when_probes_fall_no_more() -> None:
    falling = [1.0, 0.8, 0.6, 0.5, 0.4, 0.3]
    assert not converged(falling, 2)
    assert not converged([*falling, 0.27, 0.2799], 2)
    assert converged([*falling, 0.285, 0.2999], 2)
    assert gained(falling) == pytest.approx(0.7)
    assert reason_to_stop("similar", falling, 3, 0.5) == "similar enough: 70% of the start word's probe loss is gone"
    assert reason_to_stop("steps", falling, 3, 0.5) is None


def test_straight_paths_are_as_diffusers_has_them() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    rule = flow_noise(scheduler)
    shares = torch.tensor([0.25, 0.5, 1.0])
    moved = 3 * shares / (1 + 2 * shares)
    assert torch.allclose(rule.times(shares), moved)
    latents, noise = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    theirs = scheduler.scale_noise(latents, scheduler.timesteps[[100, 500, 900]], noise)
    times = scheduler.sigmas[[100, 500, 900]]
    assert torch.allclose(rule.add(latents, noise, times), theirs, atol=1e-5)
    step = rule.add(latents, noise, times) + (0 - times).view(-1, 1, 1, 1) * rule.target(latents, noise, times)
    assert torch.allclose(step, latents, atol=1e-5)  # a step along the target to time 0 ends at the picture
    assert flow_noise(FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)).shift == 1.0
