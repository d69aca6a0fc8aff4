"""What the denoiser learns: which noise is added, which target it has, what a row weighs.

Read from the scheduler that the base came with. All randomness comes from the row's `Draw`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from mmtune.errors import ConfigError
from mmtune.train.randomness import Draw

if TYPE_CHECKING:
    from mmtune.image.diffusion.families import Family
    from mmtune.image.image_options import ImageOptions

MIN_DIVISOR = 1e-4  # of a share that is divided by
MODE_SCALE = 1.29  # s of arXiv 2403.03206, eq. 20, as in diffusers' scripts


class Objective(Protocol):
    """Implemented by `Diffusion` and `Flow`. Timesteps are [rows], latents [rows, ..., h, w]."""

    kind: str

    def draw(self, draw: Draw, tokens: int) -> float:
        """A row's timestep, for an image of that many tokens."""
        ...

    def noisy(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents with noise added."""
        ...

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser should predict."""
        ...

    def clean(self, predicted: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The latents that a prediction means."""
        ...

    def towards(self, latents: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The prediction that means these latents."""
        ...

    def weights(self, timesteps: Tensor) -> Tensor:
        """Of each row's loss, [rows]."""
        ...

    def noisiest(self, timesteps: Tensor, share: float, tokens: int) -> Tensor:
        """Which rows are in the noisiest `share` of the schedule, [rows] of bool."""
        ...

    def at(self, level: float) -> float:
        """The timestep at a share of the schedule: 0 is clean, 1 noise."""
        ...


def objective_of(
    scheduler: Any, family: Family, options: ImageOptions | None = None
) -> Diffusion | Flow:
    """The objective that a pipeline's scheduler is configured for.

    Raises:
        ConfigError: one that isn't known.
    """
    config = scheduler.config
    flow = type(scheduler).__name__.startswith("FlowMatch")
    if flow or config.get("prediction_type") == "flow_prediction":
        if config.get("invert_sigmas", False):
            raise ConfigError(
                f"the base's scheduler {type(scheduler).__name__} inverts its sigmas",
                "use a base without invert_sigmas",
            )
        return Flow(config, family, options)
    return Diffusion(scheduler, None if options is None else options.min_snr)


def training_schedule(scheduler: Any) -> Any:
    """The noise schedule that a pipeline's sampler was configured for, as a DDPMScheduler.

    Samplers such as EulerDiscrete add noise in units of their own; betas, prediction type and
    zero terminal SNR are in every scheduler's config.

    Raises:
        ConfigError: an unknown objective.
    """
    from diffusers import DDPMScheduler

    kind = scheduler.config.get("prediction_type")
    if kind not in ("epsilon", "v_prediction", "sample"):
        raise ConfigError(
            f"the base's scheduler {type(scheduler).__name__} has prediction_type {kind!r}",
            "epsilon, v_prediction, sample and flow matching can be trained: use another base",
        )
    return DDPMScheduler.from_config(scheduler.config)


class Diffusion:
    """Denoising diffusion: the noise, the velocity (arXiv 2202.00512) or the clean latent.

    Timesteps are whole and uniform. With `min_snr` they are weighted as Min-SNR-gamma
    (arXiv 2303.09556, sec. 3.4) says for each of the three.
    """

    def __init__(self, scheduler: Any, min_snr: float | None) -> None:
        self.schedule = training_schedule(scheduler)
        self.kind = str(self.schedule.config.prediction_type)
        self.steps = int(self.schedule.config.num_train_timesteps)
        self.min_snr = min_snr

    def draw(self, draw: Draw, tokens: int) -> int:
        """Uniform over the schedule."""
        return draw.integer("timestep", self.steps)

    def noisy(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The forward process of the schedule."""
        noisy: Tensor = self.schedule.add_noise(latents, noise, timesteps)
        return noisy

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Noise, latents or velocity."""
        if self.kind == "epsilon":
            return noise
        if self.kind == "sample":
            return latents
        velocity: Tensor = self.schedule.get_velocity(latents, noise, timesteps)
        return velocity

    def clean(self, predicted: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """From noise or velocity; arXiv 2202.00512, appendix D."""
        alpha, sigma = self._mix(timesteps, noisy)
        if self.kind == "sample":
            return predicted
        if self.kind == "epsilon":
            return (noisy - sigma * predicted) / alpha.clamp(min=MIN_DIVISOR)
        return alpha * noisy - sigma * predicted

    def towards(self, latents: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The inverse of `clean`."""
        alpha, sigma = self._mix(timesteps, noisy)
        if self.kind == "sample":
            return latents
        if self.kind == "epsilon":
            return (noisy - alpha * latents) / sigma.clamp(min=MIN_DIVISOR)
        return (alpha * noisy - latents) / sigma.clamp(min=MIN_DIVISOR)

    def _mix(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Shares of latents and of noise in a noisy latent, [rows, 1, 1, 1]."""
        signal = self.schedule.alphas_cumprod.to(timesteps.device)[timesteps.long()]
        signal = signal.view(-1, *[1] * (like.ndim - 1))
        return signal.sqrt(), (1 - signal).sqrt()

    def weights(self, timesteps: Tensor) -> Tensor:
        """Min-SNR weight of each timestep; ones without `min_snr`."""
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

    def noisiest(self, timesteps: Tensor, share: float, tokens: int) -> Tensor:
        """The last `share` of the timesteps."""
        return timesteps >= self.steps - round(share * self.steps)

    def at(self, level: float) -> int:
        """A whole step."""
        return round(level * self.steps)


class Flow:
    """Flow matching (arXiv 2210.02747) along straight lines, as in SD3 (arXiv 2403.03206).

    A latent x and noise e are mixed as (1 - s) x + s e; the target is e - x; every row weighs 1.
    s is first drawn from the steps 1/N, ..., 1 with the density of the settings, as
    `diffusers.training_utils.compute_density_for_timestep_sampling` has it, and then shifted as
    the scheduler's config says: by `shift`, or by the size of the image as the pipeline does when
    it samples. The timestep is s x N.
    """

    kind = "flow"

    def __init__(self, config: Any, family: Family, options: ImageOptions | None) -> None:
        self.config = config
        self.family = family
        self.steps = int(config.get("num_train_timesteps", 1000))
        self.density = "logit_normal" if options is None else options.timesteps
        self.mean = 0.0 if options is None else options.logit_mean
        self.std = 1.0 if options is None else options.logit_std

    def draw(self, draw: Draw, tokens: int) -> float:
        """By the density, then shifted."""
        # u = 0 is noise: the scheduler's own list of timesteps begins there.
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
        """`sigma` in (0, 1] as the sampler shifts it for an image of that many tokens."""
        if not self.config.get("use_dynamic_shifting", False):
            shift = float(self.config.get("shift", self.config.get("flow_shift", 1.0)))
            return shift * sigma / (1 + (shift - 1) * sigma)
        mu = self.family.mu(self.config, tokens)
        if self.config.get("time_shift_type", "exponential") == "exponential":
            mu = math.exp(mu)
        return mu / (mu + (1 / sigma - 1))

    def noisy(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """On the line between them."""
        sigmas = self._sigmas(timesteps, latents)
        return (1.0 - sigmas) * latents + sigmas * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The line's direction."""
        return noise - latents

    def clean(self, predicted: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The line's other end."""
        return noisy - self._sigmas(timesteps, noisy) * predicted

    def towards(self, latents: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The inverse of `clean`."""
        return (noisy - latents) / self._sigmas(timesteps, noisy).clamp(min=MIN_DIVISOR)

    def _sigmas(self, timesteps: Tensor, like: Tensor) -> Tensor:
        return (timesteps / self.steps).view(-1, *[1] * (like.ndim - 1))

    def weights(self, timesteps: Tensor) -> Tensor:
        """Ones."""
        return torch.ones_like(timesteps, dtype=torch.float32)

    def noisiest(self, timesteps: Tensor, share: float, tokens: int) -> Tensor:
        """The first `share` of a sampler's steps, which are even before the shift."""
        if share <= 0:
            return torch.zeros_like(timesteps, dtype=torch.bool)
        return timesteps >= self.shifted(1 - share, tokens) * self.steps

    def at(self, level: float) -> float:
        """Without the shift."""
        return level * self.steps
