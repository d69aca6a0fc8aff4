"""Silence the libraries' progress bars and warnings."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from mmtune.system.memory import guarded
from mmtune.system.storage_errors import translated


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and warnings of diffusers and transformers inside the context."""
    from transformers.utils import logging as transformers_logging

    logs = [transformers_logging]
    if "diffusers" in sys.modules:
        from diffusers.utils import logging as diffusers_logging

        logs.append(diffusers_logging)
    kept = []
    for log in logs:
        kept.append((log, log.get_verbosity(), log.is_progress_bar_enabled()))
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, verbosity, bars in kept:
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()


def quiet_libraries() -> None:
    """Silence warnings that a user can't act upon: of deprecation, of two adapters, of widgets."""
    # Without ipywidgets, bars are text in a notebook too (`mmtune.system.progress`).
    warnings.filterwarnings("ignore", message="IProgress not found")
    # An export is loaded beside its source, to be compared: two adapters of one model are meant.
    warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


@contextmanager
def public_call(name: str) -> Iterator[None]:
    """What a public function does its work in: the libraries' warnings are silent, memory that runs
    out is an `OutOfMemory` error, and errors of the operating system become `MmtuneError`s.

    Args:
        name: of the function.
    """
    with translated(), warnings.catch_warnings(), guarded(f"mmtune {name}", list):
        quiet_libraries()
        yield
