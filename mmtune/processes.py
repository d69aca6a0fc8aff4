"""The processes of one run: which this one is, and its device."""

from __future__ import annotations

import os
from typing import Any


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
