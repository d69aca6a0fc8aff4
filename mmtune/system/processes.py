"""The processes of one run: which this one is, and its device."""

from __future__ import annotations

import atexit
import os
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator


def this_process() -> Any:
    """`accelerate.PartialState`, made so that a launcher's processes find each other on CPUs too.

    By itself it takes processes on a machine without an accelerator for single ones, each the main
    one, unless it is told that the CPU is meant; and it is what its first maker says. So nothing
    else makes it, and before an `Accelerator` is made this is called.
    """
    import torch
    from accelerate import PartialState

    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    on_cpus = launched and not torch.accelerator.is_available()
    if on_cpus:
        _part_at_exit()
    return PartialState(cpu=on_cpus)


@cache
def _part_at_exit() -> None:
    # Gloo's threads must have ended when Python takes the process down: else it now and then
    # aborts ("terminate called without an active exception") after all is done, and the launcher
    # reports a failure. NCCL may wait for a process that has died, and is left to itself.
    atexit.register(_part)


def _part() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def make_accelerator(precision: str, **given: Any) -> Accelerator:
    """`accelerate.Accelerator`, also after another run of this Python process in another precision.

    Accelerate holds the precision once a process and refuses to change it, so that the second run
    of a notebook would end in "restart your runtime".

    Args:
        precision: "fp32", "bf16" or "fp16".
        given: what else the accelerator is made with.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    this_process()
    mixed = "no" if precision == "fp32" else precision
    # Its public way to ask would itself set the precision. The processes' group stays.
    if AcceleratorState._shared_state.get("_mixed_precision", mixed) != mixed:
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=mixed, **given)


def pick_device() -> torch.device:
    """This process's accelerator if there is one, otherwise the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
