"""What the verdict of an adapter's own run says against the adapter."""

from __future__ import annotations

from pathlib import Path

from mmtune.errors import ConfigError
from mmtune.evaluation.verdict import AGAINST, VERDICT_FILE, Decision, read_verdict


def verdict_against(adapter: Path) -> Decision | None:
    """The decision on an adapter, if it is one against it.

    Args:
        adapter: its folder; the folder above is its run's.

    Returns:
        The decision; None: it isn't against the adapter, or there is none that can be read
        (`mmtune verify` reports a damaged one).
    """
    run = adapter.resolve().parent
    if not (run / VERDICT_FILE).is_file():
        return None
    try:
        verdict = read_verdict(run)
    except ConfigError:
        return None
    return verdict.decision if verdict is not None and verdict.decision in AGAINST else None
