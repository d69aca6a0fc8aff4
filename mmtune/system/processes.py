"""The processes of a distributed run: this process's rank, its device and its accelerator."""

from __future__ import annotations

import atexit
import os
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator


def this_process() -> Any:
    """Make `accelerate.PartialState` so that a launcher's processes find each other on CPUs too.

    On a machine without an accelerator, Accelerate takes each process for a single main process
    unless it is told to use the CPU. Its state is a singleton that the first call configures. So
    only this function makes it, and `make_accelerator` calls this function first.
    """
    import torch
    from accelerate import PartialState

    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    on_cpus = launched and not torch.accelerator.is_available()
    if on_cpus:
        _leave_group_at_exit()
    return PartialState(cpu=on_cpus)


@cache
def _leave_group_at_exit() -> None:
    # Gloo's threads must end before Python exits. Otherwise the process sometimes aborts after all
    # work is done ("terminate called without an active exception"), and the launcher reports a
    # failure. NCCL isn't closed, because it may wait for a process that has died.
    atexit.register(_leave_group)


def _leave_group() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def make_accelerator(precision: str, **given: Any) -> Accelerator:
    """Make an `accelerate.Accelerator`, even if this process used another precision before.

    Accelerate refuses a second precision in one process, so the second run of a notebook would
    end with "restart your runtime". This function resets that state.

    Args:
        precision: "fp32", "bf16" or "fp16".
        given: further arguments of `Accelerator`.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    this_process()
    mixed = "no" if precision == "fp32" else precision
    # Asking through the public interface would set the precision. The process group is kept.
    if AcceleratorState._shared_state.get("_mixed_precision", mixed) != mixed:
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=mixed, **given)


def pick_device() -> torch.device:
    """Return this process's GPU if there is one, otherwise the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
