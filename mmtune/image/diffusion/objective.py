"""Training objectives of diffusion models: noisy latents, targets, and weights of timesteps.

The objective is chosen from the base's own scheduler. All randomness comes from the row's `Draw`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from mmtune.errors import ConfigError
from mmtune.training.randomness import Draw

if TYPE_CHECKING:
    from mmtune.image.diffusion.families import Family
    from mmtune.image.image_options import ImageOptions

MODE_SCALE = 1.29  # s of arXiv 2403.03206, eq. 20, as in diffusers' scripts


class Objective(Protocol):
    """A training objective, implemented by `Diffusion` and `Flow`.

    Shapes: timesteps are [rows]; latents, noise and predictions are [rows, channels, h, w].

    Attributes:
        kind: what the denoiser predicts: "epsilon", "v_prediction", "sample" or "flow".
    """

    kind: str

    def draw_timestep(self, draw: Draw, tokens: int) -> float:
        """Draw a row's timestep, for an image of so many tokens of the denoiser."""
        ...

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Mix latents with noise as the schedule does at these timesteps."""
        ...

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Compute what the denoiser should predict."""
        ...

    def loss_weights(self, timesteps: Tensor) -> Tensor:
        """Compute the weight of each row's loss, [rows]."""
        ...

    def is_noisiest(self, timesteps: Tensor, share: float, tokens: int) -> Tensor:
        """Tell which rows are in the noisiest `share` of the schedule, [rows] of bool."""
        ...

    def timestep_at(self, level: float) -> float:
        """Compute the timestep at a share of the schedule: 0 is clean, 1 is pure noise."""
        ...


def objective_of(
    scheduler: Any, family: Family, options: ImageOptions | None = None
) -> Diffusion | Flow:
    """Choose the objective that a pipeline's scheduler is configured for.

    Args:
        scheduler: the pipeline's.
        family: gives the shift of a flow's timesteps.
        options: density of timesteps and Min-SNR; None: the defaults without Min-SNR.

    Raises:
        ConfigError: the scheduler's prediction type is unknown, or it inverts its sigmas.
    """
    config = scheduler.config
    flow = type(scheduler).__name__.startswith("FlowMatch")
    if flow or config.get("prediction_type") == "flow_prediction":
        if config.get("invert_sigmas", False):
            raise ConfigError(
                f"the base's scheduler {type(scheduler).__name__} inverts its sigmas",
                "use a base whose scheduler_config.json doesn't set invert_sigmas",
            )
        return Flow(config, family, options)
    return Diffusion(scheduler, None if options is None else options.min_snr)


def training_schedule(scheduler: Any) -> Any:
    """Convert a pipeline's scheduler to a DDPMScheduler with the same noise schedule.

    Samplers such as EulerDiscrete scale noise in their own way. Betas, prediction type and zero
    terminal SNR are in every scheduler's config.

    Raises:
        ConfigError: the prediction type is unknown.
    """
    from diffusers import DDPMScheduler

    kind = scheduler.config.get("prediction_type")
    if kind not in ("epsilon", "v_prediction", "sample"):
        raise ConfigError(
            f"the base's scheduler {type(scheduler).__name__} has prediction_type {kind!r}",
            "use a base with epsilon, v_prediction, sample or flow matching",
        )
    return DDPMScheduler.from_config(scheduler.config)


class Diffusion:
    """Denoising diffusion that predicts noise, velocity (arXiv 2202.00512) or the clean latent.

    Timesteps are integers and uniform. With `min_snr` they are weighted by Min-SNR-gamma
    (arXiv 2303.09556, sec. 3.4), which has a formula for each of the three.
    """

    def __init__(self, scheduler: Any, min_snr: float | None) -> None:
        self.schedule = training_schedule(scheduler)
        self.kind = str(self.schedule.config.prediction_type)
        self.steps = int(self.schedule.config.num_train_timesteps)
        self.min_snr = min_snr

    def draw_timestep(self, draw: Draw, tokens: int) -> int:
        """Draw a timestep uniformly over the schedule."""
        return draw.integer("timestep", self.steps)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Add noise by the schedule's forward process."""
        noisy: Tensor = self.schedule.add_noise(latents, noise, timesteps)
        return noisy

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return noise, clean latents or velocity, whichever the denoiser predicts."""
        if self.kind == "epsilon":
            return noise
        if self.kind == "sample":
            return latents
        velocity: Tensor = self.schedule.get_velocity(latents, noise, timesteps)
        return velocity

    def loss_weights(self, timesteps: Tensor) -> Tensor:
        """Compute the Min-SNR weight of each timestep; all are 1 without `min_snr`."""
        from diffusers.training_utils import compute_snr

        if self.min_snr is None:
            return torch.ones_like(timesteps, dtype=torch.float32)
        snr: Tensor = compute_snr(self.schedule, timesteps)
        clipped: Tensor = snr.clamp(max=self.min_snr)
        if self.kind == "sample":
            return clipped
        if self.kind == "v_prediction":
            return clipped / (snr + 1)
        # At zero terminal SNR the ratio's limit is 1.
        return torch.where(snr > 0, clipped / snr.clamp(min=1e-12), 1.0)

    def is_noisiest(self, timesteps: Tensor, share: float, tokens: int) -> Tensor:
        """Tell which timesteps are among the last `share` of the schedule."""
        return timesteps >= self.steps - round(share * self.steps)

    def timestep_at(self, level: float) -> int:
        """Round the share to an integer timestep."""
        return round(level * self.steps)


class Flow:
    """Flow matching (arXiv 2210.02747) along straight lines, as in SD3 (arXiv 2403.03206).

    A latent x and noise e are mixed as (1 - s) x + s e. The target is e - x, and every row has
    weight 1. The share s is drawn from 1/N, 2/N, …, 1 with the density of the settings, as in
    `diffusers.training_utils.compute_density_for_timestep_sampling`. It is then shifted as the
    scheduler's config says: by `shift`, or by the image's size as the pipeline does in sampling.
    The timestep is s x N.
    """

    kind = "flow"

    def __init__(self, config: Any, family: Family, options: ImageOptions | None) -> None:
        self.config = config
        self.family = family
        self.steps = int(config.get("num_train_timesteps", 1000))
        self.density = "logit_normal" if options is None else options.timesteps
        self.mean = 0.0 if options is None else options.logit_mean
        self.std = 1.0 if options is None else options.logit_std

    def draw_timestep(self, draw: Draw, tokens: int) -> float:
        """Draw a timestep by the density, and shift it."""
        # u = 0 is pure noise, where the scheduler's own list of timesteps begins.
        index = min(int(self._uniform(draw) * self.steps), self.steps - 1)
        return self.shifted(1 - index / self.steps, tokens) * self.steps

    def _uniform(self, draw: Draw) -> float:
        if self.density == "logit_normal":
            normal = float(draw.normal("timestep", (1,)))
            return 1 / (1 + math.exp(-(self.mean + self.std * normal)))
        u = draw.uniform("timestep")
        if self.density == "mode":
            return 1 - u - MODE_SCALE * (math.cos(math.pi * u / 2) ** 2 - 1 + u)
        return u

    def shifted(self, sigma: float, tokens: int) -> float:
        """Shift a noise share as the sampler does for an image of so many tokens.

        Args:
            sigma: in (0, 1]; 1 is pure noise.
            tokens: tokens of the denoiser; they count only with dynamic shifting.
        """
        if not self.config.get("use_dynamic_shifting", False):
            shift = float(self.config.get("shift", self.config.get("flow_shift", 1.0)))
            return shift * sigma / (1 + (shift - 1) * sigma)
        mu = self.family.mu(self.config, tokens)
        if self.config.get("time_shift_type", "exponential") == "exponential":
            mu = math.exp(mu)
        return mu / (mu + (1 / sigma - 1))

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Mix latents and noise on the straight line between them."""
        sigmas = self._sigmas(timesteps, latents)
        return (1.0 - sigmas) * latents + sigmas * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the line's direction, noise - latents."""
        return noise - latents

    def _sigmas(self, timesteps: Tensor, like: Tensor) -> Tensor:
        return (timesteps / self.steps).view(-1, *[1] * (like.ndim - 1))

    def loss_weights(self, timesteps: Tensor) -> Tensor:
        """Return 1 for every row."""
        return torch.ones_like(timesteps, dtype=torch.float32)

    def is_noisiest(self, timesteps: Tensor, share: float, tokens: int) -> Tensor:
        """Tell which timesteps are in the first `share` of a sampler's steps.

        These steps are evenly spaced before the shift.
        """
        if share <= 0:
            return torch.zeros_like(timesteps, dtype=torch.bool)
        return timesteps >= self.shifted(1 - share, tokens) * self.steps

    def timestep_at(self, level: float) -> float:
        """Scale the share to a timestep, without the shift."""
        return level * self.steps
