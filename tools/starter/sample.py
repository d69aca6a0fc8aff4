"""DDIM in plain torch, as diffusers' DDIMScheduler does with `scheduler()`'s settings."""

from __future__ import annotations

import torch
from torch import Tensor
from train import Plan, alphas_cumprod
from unet import UNet


def scheduler(kind: str):
    """DDIM with a last step of pure noise, so that the prompt decides the layout."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type=kind,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def timesteps(steps: int) -> list[int]:
    return [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]


@torch.no_grad()
def sampled(
    unet: UNet,
    plan: Plan,
    states: Tensor,
    pooled: Tensor,
    noise: Tensor,
    steps: int = 20,
    guidance: float = 3.0,
) -> Tensor:
    """Latents (n, channels, size, size) for encoded captions, by classifier-free guidance."""
    alphas = alphas_cumprod().to(noise.device)
    x, one = noise, torch.ones((), device=noise.device)
    both = torch.cat([states, torch.zeros_like(states)])
    vectors = torch.cat([pooled, torch.zeros_like(pooled)])
    for t in timesteps(steps):
        at = torch.full((2 * len(x),), t, device=x.device)
        told, empty = unet(torch.cat([x, x]), at, both, vectors).float().chunk(2)
        out = empty + guidance * (told - empty)
        alpha = alphas[t]
        before = alphas[t - 1000 // steps] if t >= 1000 // steps else one
        if plan.kind == "v_prediction":
            clean = alpha.sqrt() * x - (1 - alpha).sqrt() * out
            direction = alpha.sqrt() * out + (1 - alpha).sqrt() * x
        else:
            clean = out
            direction = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        x = before.sqrt() * clean + (1 - before).sqrt() * direction
    return x
