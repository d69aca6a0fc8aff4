"""Optimizers by name, each from a library; a name that can't be used is an error at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from mmtune.config import TrainOptions
from mmtune.errors import ConfigError

Groups = Sequence[dict[str, Any]]
LEAST_FACTOR = 0.1  # a smaller lr for Prodigy was meant for AdamW


@dataclass(frozen=True)
class NamedOptimizer:
    """An optimizer that `train.optimizer` names.

    Attributes:
        make: makes it of parameter groups and the run's settings.
        package: the module that has it, and its name on PyPI; empty: PyTorch or transformers.
        states: numbers that it keeps for each trainable parameter.
    """

    make: Callable[[Groups, TrainOptions], Any]
    package: str = ""
    states: int = 2


def _adamw(groups: Groups, options: TrainOptions) -> Any:
    return torch.optim.AdamW(groups, lr=options.lr, weight_decay=options.weight_decay)


def _adafactor(groups: Groups, options: TrainOptions) -> Any:
    from transformers.optimization import Adafactor

    # The step size is the run's own, with its schedule, and not relative to the weights.
    fixed = {"scale_parameter": False, "relative_step": False, "warmup_init": False}
    return Adafactor(groups, lr=options.lr, weight_decay=options.weight_decay, **fixed)


def _lion(groups: Groups, options: TrainOptions) -> Any:
    from pytorch_optimizer import Lion

    return Lion(groups, lr=options.lr, weight_decay=options.weight_decay)


def _prodigy(groups: Groups, options: TrainOptions) -> Any:
    from pytorch_optimizer import Prodigy

    # Its authors advise this where the learning rate is warmed up.
    decay = options.weight_decay
    return Prodigy(groups, lr=options.lr, weight_decay=decay, safeguard_warmup=options.warmup > 0)


def _adamw_8bit(groups: Groups, options: TrainOptions) -> Any:
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, lr=options.lr, weight_decay=options.weight_decay)


OPTIMIZERS: Mapping[str, NamedOptimizer] = {
    "adamw": NamedOptimizer(_adamw),
    "adafactor": NamedOptimizer(_adafactor, states=1),
    "lion": NamedOptimizer(_lion, "pytorch_optimizer", states=1),
    "prodigy": NamedOptimizer(_prodigy, "pytorch_optimizer", states=4),
    "adamw_8bit": NamedOptimizer(_adamw_8bit, "bitsandbytes"),
}


def require_optimizer(options: TrainOptions) -> None:
    """Check that the optimizer can be used, without loading its package.

    Raises:
        ConfigError: its package isn't installed, it needs a GPU, or the learning rate is one for
            AdamW.
    """
    name = options.optimizer
    known = OPTIMIZERS[name]
    if known.package and find_spec(known.package) is None:
        raise ConfigError(
            f"train.optimizer is {name}, which needs the package {known.package}; it is not "
            "installed",
            f"pip install {known.package}, or choose adamw or adafactor",
        )
    if name == "adamw_8bit" and not torch.cuda.is_available():
        raise ConfigError(
            "train.optimizer is adamw_8bit, which needs an NVIDIA GPU; there is none",
            "choose adafactor, which needs little memory too, or adamw",
        )
    if name == "prodigy" and options.lr < LEAST_FACTOR:
        raise ConfigError(
            f"train.lr is {options.lr:g}, but prodigy finds the step size itself: lr is a factor "
            "on it, and so small a factor would train almost nothing",
            "give --lr 1",
        )


def make_optimizer(groups: Groups, options: TrainOptions) -> Any:
    """Make the optimizer that the settings name."""
    return OPTIMIZERS[options.optimizer].make(groups, options)
