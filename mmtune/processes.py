"""The processes of one run: which this one is, and its device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    return PartialState(cpu=launched and not torch.accelerator.is_available())


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
