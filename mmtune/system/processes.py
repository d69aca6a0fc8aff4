"""The processes of a distributed run: this process's rank, its device and its accelerator."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from mmtune.errors import ConfigError, TrainingError, first_line

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator


TIMEOUT = "MMTUNE_RANK_TIMEOUT"  # environment variable: seconds
DEFAULT_TIMEOUT = 3600.0
"""Seconds that a process waits for the others of its run before it counts them as hung.

The main process validates and chooses a strength alone while the others wait, so the time must
exceed that.
"""


LOST = ("connection closed by peer", "connection reset by peer", "timed out waiting", "gloo")


def this_process() -> Any:
    """Make `accelerate.PartialState` so that a launcher's processes find each other on CPUs too.

    On a machine without an accelerator, Accelerate takes each process for a single main process
    unless it is told to use the CPU. Its state is a singleton that the first call configures. So
    only this function makes it, and `make_accelerator` calls this function first.

    Raises:
        ConfigError: `MMTUNE_RANK_TIMEOUT` is no number above 0.
    """
    import torch
    from accelerate import PartialState

    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    on_cpus = launched and not torch.accelerator.is_available()
    if on_cpus:
        _leave_group_at_exit()
    return PartialState(cpu=on_cpus, timeout=_timeout())


def _timeout() -> timedelta:
    given = os.environ.get(TIMEOUT, "")
    try:
        seconds = float(given) if given else DEFAULT_TIMEOUT
        if seconds > 0:
            return timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        pass
    raise ConfigError(f"{TIMEOUT} is {given!r}", f"give seconds above 0: {TIMEOUT}=3600")


@contextmanager
def together() -> Iterator[None]:
    """Turn the end of another process of this run into an error that says so.

    Gloo tells a process at once that the one it waits for has died; else the launcher ends it. For
    one that hangs it waits `MMTUNE_RANK_TIMEOUT` seconds.

    Raises:
        TrainingError: another process of the run has died or hangs.
    """
    try:
        yield
    except RuntimeError as error:
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not _is_lost(error):
            raise
        raise TrainingError(
            f"another process of this run has ended, or gave no answer for "
            f"{_timeout().total_seconds():g} s: {first_line(error)}",
            "see that process's own error; then repeat the command, which resumes the run. If it "
            f"only needs longer, set {TIMEOUT} to more seconds",
        ) from error


def _is_lost(error: RuntimeError) -> bool:
    import torch

    # Gloo's are bare RuntimeErrors.
    known = isinstance(error, torch.distributed.DistError)
    return known or any(words in str(error).lower() for words in LOST)


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
