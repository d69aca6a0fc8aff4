"""Objectives against diffusers' schedulers: no model is needed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from mmtune.errors import ConfigError
from mmtune.image.diffusion.families.sd3 import StableDiffusion3
from mmtune.image.diffusion.objective import Diffusion, Flow, objective_of
from mmtune.image.image_options import ImageOptions
from mmtune.training.randomness import Draw

FAMILY: Any = StableDiffusion3.__new__(StableDiffusion3)  # only `mu` is asked for
STEPS = 40


def flow(**config: Any) -> tuple[Flow, FlowMatchEulerDiscreteScheduler]:
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    objective = objective_of(scheduler, FAMILY)
    assert isinstance(objective, Flow)
    return objective, scheduler


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"shift": 1.0}, 64),
        ({"shift": 3.0}, 64),
        ({"shift": 0.5}, 64),
        ({"use_dynamic_shifting": True}, 256),
        ({"use_dynamic_shifting": True}, 4096),
        ({"use_dynamic_shifting": True, "time_shift_type": "linear"}, 1024),
    ],
)
def test_the_noisiest_are_the_samplers_first_steps(
    config: dict[str, Any], tokens: int, share: float
) -> None:
    """A share of a sampler's steps, which it shifts: most of them lie near pure noise."""
    objective, scheduler = flow(**config)
    even = np.linspace(1, 1 / STEPS, STEPS)
    mu = FAMILY.mu(scheduler.config, tokens) if config.get("use_dynamic_shifting") else None
    scheduler.set_timesteps(sigmas=even.tolist(), mu=mu)
    found = objective.is_noisiest(scheduler.timesteps.double() + 1e-3, share, tokens)
    wanted = torch.from_numpy(even >= 1 - share - 1e-9) & (share > 0)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("tokens", [64, 1024])
def test_an_images_size_shifts_what_is_noisiest(tokens: int) -> None:
    objective, _ = flow(use_dynamic_shifting=True)
    limit = objective.shifted(0.5, tokens) * 1000
    steps = torch.tensor([limit - 1, limit, limit + 1], dtype=torch.float64)
    assert objective.is_noisiest(steps, 0.5, tokens).tolist() == [False, True, True]
    # With more tokens more noise is needed to hide an image as well.
    assert objective.shifted(0.5, tokens) < objective.shifted(0.5, 2 * tokens)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_last_share_of_a_diffusion_schedule(kind: str) -> None:
    objective = objective_of(DDPMScheduler(prediction_type=kind), FAMILY)
    assert isinstance(objective, Diffusion)
    steps = torch.arange(1000)
    for share, first in ((0.0, 1000), (0.25, 750), (1.0, 0), (0.0004, 1000), (0.001, 999)):
        assert torch.equal(objective.is_noisiest(steps, share, 64), steps >= first)
    assert objective.timestep_at(0.25) == 250


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_diffusers_finds_the_latents_by_the_target(kind: str) -> None:
    """DDIM's own step, given the target as the prediction, says that the latents are these."""
    objective = objective_of(DDPMScheduler(prediction_type=kind), FAMILY)
    assert objective.kind == kind
    ddim = DDIMScheduler(prediction_type=kind, clip_sample=False)
    ddim.set_timesteps(1000)
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(4, 3, 2, 2, generator=generator) for _ in range(2))
    timesteps = torch.tensor([30, 400, 700, 990])
    noisy = objective.add_noise(latents, noise, timesteps)
    target = objective.target(latents, noise, timesteps)
    for i, step in enumerate(timesteps):
        found = ddim.step(target[i], int(step), noisy[i]).pred_original_sample
        torch.testing.assert_close(found, latents[i], rtol=1e-3, atol=1e-3)


def test_min_snr_is_the_papers() -> None:
    """Hang et al. 2023, section 3.4: min(SNR, gamma) over SNR, SNR + 1 or 1."""
    steps = torch.tensor([0, 100, 500, 999])
    gamma = 5.0
    for kind in ("epsilon", "v_prediction", "sample"):
        scheduler = DDPMScheduler(prediction_type=kind)
        signal = scheduler.alphas_cumprod[steps].double()
        snr = signal / (1 - signal)
        over = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}[kind]
        found = Diffusion(scheduler, gamma).loss_weights(steps).double()
        torch.testing.assert_close(found, snr.clamp(max=gamma) / over, rtol=1e-4, atol=1e-6)
        assert torch.equal(Diffusion(scheduler, None).loss_weights(steps), torch.ones(4))
    assert math.isclose(float(flow()[0].loss_weights(steps).sum()), 4)


@pytest.mark.parametrize(
    ("config", "shift"),
    [({}, 1.0), ({"shift": 3.0}, 3.0), ({"flow_shift": 5.0}, 5.0)],
)
def test_a_schedule_shifts_by_what_its_config_says(config: dict[str, Any], shift: float) -> None:
    """Schedulers of other kinds call it `flow_shift`, and some name no dynamic shifting."""
    objective = Flow(config, FAMILY, None)
    for sigma in (0.1, 0.5, 1.0):
        wanted = shift * sigma / (1 + (shift - 1) * sigma)
        assert objective.shifted(sigma, 64) == pytest.approx(wanted)
    assert objective.steps == 1000
    assert (objective.density, objective.mean, objective.std) == ("logit_normal", 0.0, 1.0)


def test_flow_matching_is_told_by_name_or_by_what_is_predicted() -> None:
    other = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    objective = objective_of(other, FAMILY)
    assert objective.kind == "flow"
    other.set_timesteps(10)
    even = np.linspace(1, 1 / 1000, 11)[:-1]
    ours = [1000 * objective.shifted(float(s), 64) for s in even]  # type: ignore[union-attr]
    np.testing.assert_allclose(other.timesteps.numpy(), ours, atol=2)
    assert objective_of(FlowMatchEulerDiscreteScheduler(), FAMILY).kind == "flow"
    assert objective_of(UniPCMultistepScheduler(), FAMILY).kind == "epsilon"
    turned = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    with pytest.raises(ConfigError, match="inverts its sigmas"):
        objective_of(turned, FAMILY)
    strange = DDPMScheduler()
    strange.register_to_config(prediction_type="noise")
    with pytest.raises(ConfigError, match="prediction_type 'noise'"):
        objective_of(strange, FAMILY)


@pytest.mark.parametrize("density", ["uniform", "mode", "logit_normal"])
def test_each_draw_is_the_formula_of_its_density(density: str) -> None:
    """Of diffusers' `compute_density_for_timestep_sampling`, on the row's own random number."""
    options = ImageOptions(timesteps=density, logit_mean=0.5, logit_std=0.8)  # type: ignore[arg-type]
    objective = Flow({"shift": 3.0}, FAMILY, options)
    seen = set()
    for i in range(200):
        draw = Draw(0, 0, str(i))
        if density == "logit_normal":
            normal = draw.normal("timestep", (1,))
            u = float(torch.sigmoid(0.5 + 0.8 * normal))
        else:
            u = draw.uniform("timestep")
            if density == "mode":
                u = 1 - u - 1.29 * (math.cos(math.pi * u / 2) ** 2 - 1 + u)
        place = min(int(u * 1000), 999)  # of the scheduler's list, which begins with pure noise
        sigma = 1 - place / 1000
        assert objective.draw_timestep(draw, 64) == pytest.approx(
            1000 * 3 * sigma / (1 + 2 * sigma)
        )
        seen.add(place)
    assert len(seen) > 100


def test_a_diffusion_timestep_is_any_of_the_schedules() -> None:
    objective = Diffusion(DDPMScheduler(num_train_timesteps=7), None)
    drawn = {objective.draw_timestep(Draw(0, 0, str(i)), 64) for i in range(200)}
    assert drawn == set(range(7))
    assert objective.timestep_at(1.0) == 7


def test_a_level_is_a_share_of_the_timesteps() -> None:
    objective = Flow({"num_train_timesteps": 500}, FAMILY, None)
    assert [objective.timestep_at(level) for level in (0.0, 0.25, 1.0)] == [0, 125, 500]


@pytest.mark.parametrize("logit", [-60.0, 60.0])
def test_the_cleanest_draw_still_has_noise(logit: float) -> None:
    """Far from 0 the logistic function is 0 or 1 exactly; the timestep is one of the schedule."""

    class Far:
        def normal(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
            return torch.full(shape, logit)

    found = Flow({}, FAMILY, None).draw_timestep(Far(), 64)  # type: ignore[arg-type]
    assert found == (1000 if logit < 0 else pytest.approx(1))
