"""The brand's colours on the base's layout, and what a prediction means, beside diffusers."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from mmtune.image.diffusion.objective import Diffusion, objective_of
from mmtune.image.diffusion.recolour import fit_recolour
from tests.image import tiny


def test_a_linear_map_is_found_again() -> None:
    noise = torch.Generator().manual_seed(0)
    given = torch.randn(6, 3, 8, 8, generator=noise)
    weight, bias = torch.randn(3, 3, generator=noise), torch.tensor([1.0, -2.0, 0.5])
    wanted = torch.einsum("oc,rchw->rohw", weight, given) + bias[:, None, None]
    found = fit_recolour([(given[:2], wanted[:2], None), (given[2:], wanted[2:], None)])
    torch.testing.assert_close(found(given), wanted, rtol=0.01, atol=0.02)
    # Where a mask is black, anything may be.
    mask = torch.ones(6, 1, 8, 8)
    mask[:, :, :3] = 0
    spoiled = torch.where(mask.bool(), wanted, torch.tensor(99.0))
    again = fit_recolour([(given, spoiled, mask)])
    torch.testing.assert_close(again.weight, found.weight, rtol=0.01, atol=0.02)
    torch.testing.assert_close(again.bias, found.bias, rtol=0.01, atol=0.02)


def test_a_figure_that_stands_elsewhere_keeps_its_contrast_on_the_wanted_ground() -> None:
    given, wanted = torch.ones(8, 1, 16, 16), torch.full((8, 1, 16, 16), -2.0)
    for i in range(8):
        given[i, :, 4:12, i : i + 8] = 0.0  # dark on light
        wanted[i, :, 7:15, 4:12] = 1.0  # light on dark, mostly elsewhere
    found = fit_recolour([(given, wanted, None)])
    mapped = found(given)
    ground, figure = mapped[0, 0, 0, 0], mapped[0, 0, 5, 1]
    assert abs(ground + 2) < 0.6
    assert figure > ground + 0.5
    assert float(mapped.var()) == pytest.approx(float(given.var()), rel=0.01)
    flat = fit_recolour([(torch.zeros(2, 4, 3, 3), torch.ones(2, 4, 3, 3), None)])
    torch.testing.assert_close(flat(torch.zeros(1, 4, 2, 2)), torch.ones(1, 4, 2, 2))


@pytest.mark.parametrize("mask", [None, torch.zeros(1, 1, 2, 2)])
def test_nothing_to_fit_to(mask: torch.Tensor | None) -> None:
    pairs = [] if mask is None else [(torch.ones(1, 4, 2, 2), torch.ones(1, 4, 2, 2), mask)]
    with pytest.raises(ValueError, match="no latents"):
        fit_recolour(pairs)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("step", [3, 400, 990])
def test_what_a_prediction_means_is_what_diffusers_says(kind: str, step: int) -> None:
    scheduler = DDPMScheduler(prediction_type=kind, clip_sample=False)
    objective = Diffusion(scheduler, None)
    noise = torch.Generator().manual_seed(0)
    noisy, predicted = (torch.randn(2, 4, 3, 3, generator=noise) for _ in range(2))
    steps = torch.tensor([step, step])
    clean = objective.clean_latents(predicted, noisy, steps)
    theirs = scheduler.step(predicted, step, noisy, generator=noise).pred_original_sample
    torch.testing.assert_close(clean, theirs, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        objective.prediction_of(clean, noisy, steps), predicted, atol=1e-2, rtol=0
    )


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd3", "flux-dev"])
def test_a_target_means_its_latents(kind: str) -> None:
    base = tiny.loaded(kind)
    objective = objective_of(base.pipeline.scheduler, base.family)
    noise = torch.Generator().manual_seed(0)
    latents, added = (torch.randn(3, 4, 6, 6, generator=noise) for _ in range(2))
    steps = torch.tensor([50, 400, 900])
    noisy = objective.add_noise(latents, added, steps)
    target = objective.target(latents, added, steps)
    torch.testing.assert_close(
        objective.clean_latents(target, noisy, steps), latents, rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(
        objective.prediction_of(latents, noisy, steps), target, rtol=1e-3, atol=1e-3
    )
