"""The files by which a run folder is known."""

from __future__ import annotations

from pathlib import Path

CONFIG_FILE, LOG_FILE, COMPARISON_FILE = "config.yaml", "log.jsonl", "comparison.json"


def is_run(folder: Path) -> bool:
    """Whether a folder is a run folder, also one that is damaged.

    An adapter/ or checkpoints/ alone says nothing: folders of other programs hold them too.
    """
    return any((folder / name).exists() for name in (CONFIG_FILE, LOG_FILE, COMPARISON_FILE))


def begun(folder: Path) -> bool:
    """Whether a run has begun in this folder: its log exists."""
    # A command that failed before training, such as on a wrong path, must not occupy the name.
    return (folder / LOG_FILE).exists()
